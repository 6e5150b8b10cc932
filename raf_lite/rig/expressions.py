"""Expression units, archetypes and personal style: the vocabulary from which performances are written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# ICT-FaceKit's units in the pack's order; FACS/ARKit-like, _L and _R are the subject's own left and right.
EXPRESSION_UNITS = (
    "PupilDilate_L",
    "PupilDilate_R",
    "browDown_L",
    "browDown_R",
    "browInnerUp_L",
    "browInnerUp_R",
    "browOuterUp_L",
    "browOuterUp_R",
    "cheekPuff_L",
    "cheekPuff_R",
    "cheekRaiser_L",
    "cheekRaiser_R",
    "cheekSquint_L",
    "cheekSquint_R",
    "eyeBlink_L",
    "eyeBlink_R",
    "eyeLookDown_L",
    "eyeLookDown_R",
    "eyeLookIn_L",
    "eyeLookIn_R",
    "eyeLookOut_L",
    "eyeLookOut_R",
    "eyeLookUp_L",
    "eyeLookUp_R",
    "eyeSquint_L",
    "eyeSquint_R",
    "eyeWide_L",
    "eyeWide_R",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthDimple_L",
    "mouthDimple_R",
    "mouthFrown_L",
    "mouthFrown_R",
    "mouthFunnel",
    "mouthLeft",
    "mouthLowerDown_L",
    "mouthLowerDown_R",
    "mouthPress_L",
    "mouthPress_R",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthSmile_L",
    "mouthSmile_R",
    "mouthStretch_L",
    "mouthStretch_R",
    "mouthUpperUp_L",
    "mouthUpperUp_R",
    "noseSneer_L",
    "noseSneer_R",
)
UNIT_INDEX = {name: i for i, name in enumerate(EXPRESSION_UNITS)}

# What a face does in one gesture. A unit without _L or _R stands for both sides.
ARCHETYPES: dict[str, dict[str, float]] = {
    # emotions
    "smile": {"mouthSmile": 0.9, "cheekSquint": 0.5, "eyeSquint": 0.3},
    "smile_open": {
        "mouthSmile": 1.0,
        "cheekSquint": 0.6,
        "mouthUpperUp": 0.4,
        "jawOpen": 0.3,
        "eyeSquint": 0.3,
    },
    "laugh": {"mouthSmile": 0.9, "jawOpen": 0.7, "cheekSquint": 0.8, "eyeSquint": 0.7, "mouthUpperUp": 0.5},
    "shout": {
        "jawOpen": 0.9,
        "mouthLowerDown": 0.7,
        "mouthUpperUp": 0.6,
        "browDown": 0.6,
        "noseSneer": 0.4,
        "mouthStretch": 0.4,
    },
    "frown": {"mouthFrown": 0.9, "browDown": 0.5, "mouthShrugLower": 0.4},
    "frown_open": {"mouthFrown": 0.8, "jawOpen": 0.5, "mouthLowerDown": 0.6, "browInnerUp": 0.4},
    "anger": {"browDown": 1.0, "noseSneer": 0.6, "mouthPress": 0.6, "eyeSquint": 0.4},
    "snarl": {"noseSneer": 0.9, "mouthUpperUp": 0.9, "browDown": 0.6, "jawOpen": 0.15},
    "disgust": {"noseSneer": 1.0, "mouthUpperUp": 0.5, "mouthShrugLower": 0.6, "eyeSquint": 0.5},
    "sad": {"browInnerUp": 1.0, "mouthFrown": 0.7, "eyeBlink": 0.25},
    "cry": {"browInnerUp": 0.8, "mouthFrown": 0.6, "mouthStretch": 0.6, "eyeSquint": 0.8, "jawOpen": 0.2},
    "surprise": {"browInnerUp": 1.0, "browOuterUp": 1.0, "eyeWide": 1.0, "jawOpen": 0.6},
    "fear": {"browInnerUp": 0.9, "browDown": 0.4, "eyeWide": 0.9, "mouthStretch": 0.9, "jawOpen": 0.25},
    "contempt": {"mouthDimple_R": 0.8, "mouthSmile_R": 0.4, "eyeSquint": 0.3, "browOuterUp_L": 0.3},
    # cheeks and nose
    "puff": {"cheekPuff": 1.0, "mouthPress": 0.4},
    "cheek_raise": {"cheekRaiser": 0.9, "cheekSquint": 0.8, "eyeSquint": 0.4},
    "nose_wrinkle": {"noseSneer": 0.9, "browDown": 0.3},
    "sneer_left": {"noseSneer_L": 1.0, "mouthUpperUp_L": 1.0},
    "sneer_right": {"noseSneer_R": 1.0, "mouthUpperUp_R": 0.9},
    "dimple": {"mouthDimple": 1.0, "mouthPress": 0.5},
    # eyes and brows
    "blink": {"eyeBlink": 1.0},
    "squint": {"eyeSquint": 1.0, "cheekSquint": 0.7, "browDown": 0.3},
    "wide": {"eyeWide": 1.0},
    "brow_up": {"browInnerUp": 0.9, "browOuterUp": 0.9},
    "brow_down": {"browDown": 1.0},
    "brow_left": {"browOuterUp_L": 1.0, "browInnerUp_L": 0.6, "browDown_R": 0.5},
    "wink_left": {"eyeBlink_L": 1.0, "cheekSquint_L": 0.7, "mouthSmile_L": 0.4},
    "wink_right": {"eyeBlink_R": 1.0, "cheekSquint_R": 0.7, "mouthSmile_R": 0.4},
    # mouth and lips
    "pucker": {"mouthPucker": 1.0},
    "kiss_blink": {"mouthPucker": 0.9, "eyeBlink": 0.9, "browInnerUp": 0.3},
    "funnel": {"mouthFunnel": 1.0, "jawOpen": 0.25},
    "roll": {"mouthRollLower": 1.0, "mouthRollUpper": 1.0},
    "shrug": {"mouthShrugLower": 1.0, "mouthShrugUpper": 0.8, "browInnerUp": 0.5},
    "press": {"mouthPress": 1.0},
    "stretch": {"mouthStretch": 1.0, "mouthLowerDown": 0.3},
    "grin": {"mouthStretch": 0.6, "mouthSmile": 0.7, "mouthUpperUp": 0.6, "mouthLowerDown": 0.6},
    "mouth_left": {"mouthLeft": 1.0, "browOuterUp_L": 0.6},
    "mouth_right": {"mouthRight": 1.0},
    "smirk_left": {"mouthSmile_L": 1.0, "mouthDimple_L": 0.6, "browOuterUp_R": 0.5},
    "smirk_right": {"mouthSmile_R": 1.0, "mouthDimple_R": 0.6, "browOuterUp_L": 0.5},
    "lower_lip": {"mouthLowerDown": 1.0, "jawOpen": 0.15},
    "upper_lip": {"mouthUpperUp": 1.0},
    "bite": {"mouthRollLower": 0.8, "mouthSmile": 0.3, "eyeSquint": 0.3},
    # jaw
    "jaw_open": {"jawOpen": 1.0},
    "jaw_half": {"jawOpen": 0.5, "mouthClose": 0.1},
    "jaw_left": {"jawLeft": 0.9, "mouthLeft": 0.4},
    "jaw_right": {"jawRight": 0.9, "mouthRight": 0.4},
    "jaw_forward": {"jawForward": 1.0, "mouthShrugLower": 0.3},
    "jaw_open_left": {"jawOpen": 0.5, "jawLeft": 0.7},
    "yawn": {"jawOpen": 1.0, "eyeBlink": 0.8, "browInnerUp": 0.5, "mouthFunnel": 0.3},
    # visemes
    "viseme_A": {"jawOpen": 0.7, "mouthLowerDown": 0.5, "mouthUpperUp": 0.3},
    "viseme_E": {"mouthStretch": 0.6, "mouthSmile": 0.4, "jawOpen": 0.25, "mouthLowerDown": 0.4},
    "viseme_I": {
        "mouthSmile": 0.6,
        "mouthStretch": 0.4,
        "jawOpen": 0.12,
        "mouthLowerDown": 0.3,
        "mouthUpperUp": 0.2,
    },
    "viseme_O": {"mouthFunnel": 0.7, "mouthPucker": 0.4, "jawOpen": 0.5},
    "viseme_U": {"mouthPucker": 0.7, "mouthFunnel": 0.4, "jawOpen": 0.15},
    "viseme_M": {"mouthPress": 0.7, "mouthRollLower": 0.5, "mouthRollUpper": 0.5},
    "viseme_F": {"mouthRollLower": 0.9, "mouthUpperUp": 0.5, "jawOpen": 0.1},
    "viseme_L": {"jawOpen": 0.35, "mouthLowerDown": 0.3, "mouthStretch": 0.2},
    "viseme_S": {"mouthStretch": 0.5, "mouthLowerDown": 0.5, "mouthUpperUp": 0.3, "jawOpen": 0.05},
    "viseme_W": {"mouthPucker": 0.9, "mouthFunnel": 0.2, "jawOpen": 0.1},
    "viseme_SH": {"mouthFunnel": 0.8, "mouthUpperUp": 0.3, "jawOpen": 0.08},
}
ARCHETYPE_NAMES = tuple(ARCHETYPES)
ARCHETYPE_INDEX = {name: i for i, name in enumerate(ARCHETYPE_NAMES)}


def units(**weights: float) -> np.ndarray:
    """Weights [57] from unit names; a name without _L or _R sets both sides. Raises ValueError for an unknown
    unit."""
    out = np.zeros(len(EXPRESSION_UNITS), np.float32)
    for name, value in weights.items():
        hits = [UNIT_INDEX[n] for n in (name, f"{name}_L", f"{name}_R") if n in UNIT_INDEX]
        if not hits:
            raise ValueError(
                f"there is no expression unit '{name}'; the units are {', '.join(EXPRESSION_UNITS)}"
            )
        out[hits] = value
    return out


def archetype_weights(name: str) -> np.ndarray:
    """Weights [57] of an archetype at amplitude 1. Raises ValueError for an unknown name."""
    if name not in ARCHETYPES:
        raise ValueError(f"there is no archetype '{name}'; choose from {', '.join(ARCHETYPES)}")
    return units(**ARCHETYPES[name])


# Units that a resting face may show a little of, and by how much at most.
_RESTING = {
    "mouthSmile": 0.12,
    "mouthFrown": 0.12,
    "browInnerUp": 0.12,
    "browDown": 0.15,
    "eyeSquint": 0.15,
    "eyeBlink": 0.12,
    "mouthPress": 0.15,
    "jawOpen": 0.04,
    "cheekSquint": 0.10,
}
_GAZE_AND_PUPIL = np.array([n.startswith(("eyeLook", "Pupil")) for n in EXPRESSION_UNITS])
MAX_WEIGHT = 1.25


@dataclass(frozen=True)
class Style:
    """How one person uses their face. gains: [57], units done strongly or weakly. resting: [57], tone of the
    relaxed face."""

    gains: np.ndarray
    resting: np.ndarray

    @classmethod
    def random(cls, rng: np.random.Generator) -> Style:
        """Gains about 1 with a deviation of 0.2, tilted to the left or right side; a resting tone in two or
        three units."""
        gains = rng.normal(1, 0.2, len(EXPRESSION_UNITS))
        tilt = rng.normal(0, 0.08)
        for i, name in enumerate(EXPRESSION_UNITS):
            gains[i] *= 1 + (tilt if name.endswith("_L") else -tilt if name.endswith("_R") else 0)
        gains = np.where(_GAZE_AND_PUPIL, 1, np.clip(gains, 0.4, 1.6))
        resting = np.zeros(len(EXPRESSION_UNITS))
        for name in rng.choice(list(_RESTING), rng.integers(2, 4), replace=False):
            resting += units(**{str(name): rng.uniform(0.2, 1.0) * _RESTING[str(name)]})
        return cls(gains.astype(np.float32), resting.astype(np.float32))

    def apply(self, activation: np.ndarray) -> np.ndarray:  # [T, 57] -> [T, 57]
        """Weights for the rig: the person's gains on what they do, over their resting tone, within [0, 1.25].

        At activation 0 the result is `resting`: that is this person's neutral face.
        """
        return np.clip(self.resting + self.gains * activation, 0, MAX_WEIGHT).astype(np.float32)
