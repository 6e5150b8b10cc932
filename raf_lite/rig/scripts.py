"""Performances over time: NeRSemble's sequences as scripts of archetypes, acted with a personal style and
head motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raf_lite.rig.expressions import ARCHETYPE_INDEX, ARCHETYPE_NAMES, Style, archetype_weights, units

MIN_SEGMENT_FRAMES = 4
NEUTRAL_BELOW = 0.15  # an envelope under this counts as no expression
NORMAL, STRONG = (0.55, 0.95), (1.0, 1.25)  # ranges of a gesture's peak amplitude


@dataclass(frozen=True)
class Gesture:
    """One archetype in a script, as strong as a draw from `amplitude` says."""

    archetype: str
    amplitude: tuple[float, float] = NORMAL


@dataclass(frozen=True)
class Script:
    """What happens in a sequence. overlap: how far a gesture reaches into its neighbours' time
    (coarticulation of speech).

    head: largest turn in degrees (pitch, yaw, roll).
    """

    gestures: tuple[Gesture, ...]
    overlap: float = 0.0
    head: tuple[float, float, float] = (3.0, 5.0, 2.5)


def _script(*names: str, overlap: float = 0.0, head: tuple[float, float, float] = (3.0, 5.0, 2.5)) -> Script:
    """A script from archetype names; a name that ends in '!' is done strongly."""
    return Script(
        tuple(Gesture(n.rstrip("!"), STRONG if n.endswith("!") else NORMAL) for n in names), overlap, head
    )


def _sentence(sounds: str) -> Script:
    return _script(*(f"viseme_{s}" for s in sounds.split()), overlap=0.6)


SCRIPTS: dict[str, Script] = {
    "EXP-1-head": _script("smile", "blink", "viseme_A", head=(12.0, 20.0, 10.0)),
    "EXP-2-eyes": _script("squint", "wide", "brow_up", "brow_down", "blink", "wink_right"),
    "EXP-3-cheeks+nose": _script("puff", "nose_wrinkle", "cheek_raise", "sneer_right", "dimple"),
    "EXP-4-lips": _script("pucker", "roll", "press", "upper_lip", "funnel", "shrug"),
    "EXP-5-mouth": _script("stretch", "mouth_right", "smile_open", "jaw_half", "frown"),
    "EXP-6-tongue-1": _script("jaw_half", "viseme_L", "viseme_E"),
    "EXP-7-tongue-2": _script("jaw_open", "viseme_L", "viseme_A"),
    "EXP-8-jaw-1": _script("jaw_open", "jaw_left", "jaw_right"),
    "EXP-9-jaw-2": _script("jaw_forward", "jaw_half", "jaw_right", "jaw_open"),
    "EMO-1-shout+laugh": _script("shout", "laugh", "smile_open!", "shout", "laugh", "smile"),
    "EMO-2-surprise+fear": _script("surprise", "fear", "brow_up", "surprise"),
    "EMO-3-angry+sad": _script("anger", "sad", "frown", "anger"),
    "EMO-4-disgust+happy": _script("disgust", "smile", "smile_open", "disgust"),
    "SEN-01-cramp_small_danger": _sentence("A M S M O L E I"),
    "SEN-02-same_phrase_thirty_times": _sentence("S E M F E S L I M S"),
    "SEN-03-pluck_bright_rose": _sentence("M L A I O U S"),
    "SEN-04-two_plus_seven": _sentence("U M L A S E F E M"),
    "SEN-05-glow_eyes_sweet_girl": _sentence("L O I S I U L"),
    "SEN-06-problems_wise_chief": _sentence("M O L M U I S I F"),
    "SEN-07-fond_note_friend": _sentence("F O M O F E M"),
    "SEN-08-clothes_and_lodging": _sentence("L O S A M O I"),
    "SEN-09-frown_events_bad": _sentence("F W A E F E S M A SH"),
    "SEN-10-port_strong_smokey": _sentence("M O W S O SH S M U I"),
    "FREE": _script(
        "frown_open",
        "smirk_left",
        "surprise!",
        "snarl",
        "wink_left",
        "yawn",
        "anger!",
        "contempt",
        "kiss_blink",
        "smile_open!",
        "mouth_left",
        "cry",
        "jaw_left!",
        "brow_left",
        "grin",
        "pucker!",
        "jaw_open_left",
        "bite",
        "fear!",
        "smirk_right",
        "lower_lip",
        "sneer_left",
        "disgust",
        "smile",
        "jaw_open",
        "brow_up",
    ),
}
"""By NeRSemble's names. What is said in a sentence is only roughly in its name's sounds."""

HOLDOUT_SEQUENCES = ("EMO-1-shout+laugh", "SEN-09-frown_events_bad", "SEN-10-port_strong_smokey", "FREE")
TRAIN_SEQUENCES = tuple(name for name in SCRIPTS if name not in HOLDOUT_SEQUENCES)


def seen_archetypes(sequences: tuple[str, ...] | list[str] = TRAIN_SEQUENCES) -> frozenset[str]:
    """The archetypes that occur in these sequences."""
    return frozenset(g.archetype for name in sequences for g in _lookup(name).gestures)


def frames_needed(sequence: str) -> int:
    """The fewest frames in which a sequence can be acted."""
    return 1 + MIN_SEGMENT_FRAMES * len(_lookup(sequence).gestures)


def _lookup(sequence: str) -> Script:
    if sequence not in SCRIPTS:
        raise ValueError(f"there is no script for sequence '{sequence}'; choose from {', '.join(SCRIPTS)}")
    return SCRIPTS[sequence]


@dataclass(frozen=True)
class Performance:
    """T frames of acting; frame 0 is the person's neutral.

    weights: float32 [T, 57] for the rig. archetype: int16 [T], index into ARCHETYPE_NAMES of the strongest
    gesture, -1 for neutral. amplitude: float32 [T], that gesture's amplitude now; peak: float32 [T], at its
    strongest. head_rotation: [T, 3] radians (pitch, yaw, roll about the neck). head_translation: [T, 3] cm.
    """

    weights: np.ndarray
    archetype: np.ndarray
    amplitude: np.ndarray
    peak: np.ndarray
    head_rotation: np.ndarray
    head_translation: np.ndarray


def envelope(t: np.ndarray) -> np.ndarray:
    """Rise, hold and fall over t in [0, 1], zero outside; the flanks are minimum-jerk curves (Flash and Hogan
    1985)."""
    x = np.clip(np.minimum(t, 1 - t) / 0.36, 0, 1)
    return x**3 * (10 - 15 * x + 6 * x**2)


def _act(
    gestures: list[tuple[str, float, str | None]],
    overlap: float,
    head: tuple[float, float, float],
    style: Style,
    rng: np.random.Generator,
    frames: int,
) -> Performance:
    """gestures: (archetype, peak amplitude, archetype mixed in or None) in order, sharing the time about
    evenly."""
    shares = rng.uniform(0.8, 1.2, len(gestures))
    slots = 1 + np.concatenate([[0], np.cumsum(shares) / shares.sum()]) * (frames - 1)
    time = np.arange(frames, dtype=np.float64)
    start = envelope(np.clip(time / 22, 0, 0.5))  # everything that drifts starts from nothing, over 8 frames
    activation = np.zeros((frames, len(style.gains)))
    strength = np.zeros((len(gestures), frames))
    for k, (name, peak, mixed) in enumerate(gestures):
        middle, half = (slots[k] + slots[k + 1]) / 2, (slots[k + 1] - slots[k]) / 2 * (1 + overlap)
        now = envelope((time - middle + half) / (2 * half))
        now[0] = 0
        strength[k] = now * peak
        activation = np.maximum(activation, strength[k][:, None] * archetype_weights(name))
        if mixed is not None:
            late = np.minimum(
                now, envelope((time - middle + 0.4 * half) / (1.6 * half))
            )  # over when its gesture is
            activation = np.maximum(
                activation, late[:, None] * rng.uniform(0.3, 0.7) * archetype_weights(mixed)
            )
        # People never move one muscle alone.
        for unit in rng.choice(_CO_ACTIVE, 2, replace=False):
            activation[:, unit] = np.maximum(activation[:, unit], now * rng.uniform(0, 0.15))
    activation = activation + _blinks(rng, frames) + start[:, None] * _gaze(rng, frames)
    strongest = strength.argmax(0)
    amplitude = strength.max(0)
    peaks = np.array([peak for _, peak, _ in gestures])[strongest]
    acting = amplitude / peaks >= NEUTRAL_BELOW
    label = np.where(acting, np.array([ARCHETYPE_INDEX[name] for name, _, _ in gestures])[strongest], -1)
    swing = np.deg2rad(np.array(head)) * rng.uniform(0.6, 1.0, 3)
    return Performance(
        weights=style.apply(activation),
        archetype=label.astype(np.int16),
        amplitude=np.where(acting, amplitude, 0).astype(np.float32),
        peak=np.where(acting, peaks, 0).astype(np.float32),
        head_rotation=start[:, None] * _sway(rng, frames, 3) * swing,
        head_translation=start[:, None] * _sway(rng, frames, 3) * 0.6,
    )


def perform(sequence: str, style: Style, rng: np.random.Generator, frames: int) -> Performance:
    """Act a sequence in `frames` frames. Raises ValueError for an unknown one or too few frames, with how
    many it needs."""
    script = _lookup(sequence)
    if frames < frames_needed(sequence):
        raise ValueError(
            f"sequence {sequence} has {len(script.gestures)} gestures and needs {frames_needed(sequence)}"
            f" frames, not {frames}; give it more"
        )
    gestures: list[tuple[str, float, str | None]] = [
        (g.archetype, float(rng.uniform(*g.amplitude)), None) for g in script.gestures
    ]
    return _act(gestures, script.overlap, script.head, style, rng, frames)


def perform_random(style: Style, rng: np.random.Generator, frames: int) -> Performance:
    """A bank donor's recording: gestures drawn from the whole library, now and then two at once, of amplitude
    0.55 to 1.1."""
    count = max(1, (frames - 1) // 7)
    names = rng.choice(ARCHETYPE_NAMES, count, replace=count > len(ARCHETYPE_NAMES))
    gestures = [
        (
            str(name),
            float(rng.uniform(0.55, 1.1)),
            str(rng.choice(ARCHETYPE_NAMES)) if rng.random() < 0.3 else None,
        )
        for name in names
    ]
    return _act(gestures, 0.2, (5.0, 8.0, 4.0), style, rng, frames)


def _sway(rng: np.random.Generator, frames: int, channels: int) -> np.ndarray:
    """Slow drift [T, channels] within [-1, 1]: two sines of random phase, a period of 20 to 60 frames."""
    time = np.arange(frames)[:, None]
    out = np.zeros((frames, channels))
    for share in (0.65, 0.35):
        out += share * np.sin(2 * np.pi * (time / rng.uniform(20, 60, channels) + rng.random(channels)))
    return out


def _gaze(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Eye rotation [T, 57], both eyes together, drifting to the sides and up and down."""
    sideways, upwards = (_sway(rng, frames, 2) * [0.35, 0.25]).T
    left, right = np.maximum(sideways, 0)[:, None], np.maximum(-sideways, 0)[:, None]
    up, down = np.maximum(upwards, 0)[:, None], np.maximum(-upwards, 0)[:, None]
    return (
        left * units(eyeLookOut_L=1.0, eyeLookIn_R=1.0)
        + right * units(eyeLookIn_L=1.0, eyeLookOut_R=1.0)
        + up * units(eyeLookUp=1.0)
        + down * units(eyeLookDown=1.0)
    )


def _blinks(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Natural blinks [T, 57], one in about 25 frames, two or three frames each."""
    out = np.zeros(frames)
    for _ in range(rng.poisson(frames / 25)):
        out = np.maximum(out, envelope((np.arange(frames) - rng.uniform(2, frames) + 1.5) / 3))
    out[0] = 0
    return out[:, None] * units(eyeBlink=0.9)


_CO_ACTIVE = np.flatnonzero(
    units(
        browDown=1.0,
        browInnerUp=1.0,
        cheekSquint=1.0,
        eyeSquint=1.0,
        jawOpen=1.0,
        mouthDimple=1.0,
        mouthPress=1.0,
        mouthStretch=1.0,
        mouthLowerDown=1.0,
        mouthUpperUp=1.0,
        noseSneer=1.0,
    )
)
