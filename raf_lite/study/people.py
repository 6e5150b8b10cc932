"""The people of the study, rendered on demand: subjects with training frames and exact answers, drivers, and
a panel.

Everyone here is rendered by the rig from a seed; selection and confirmation share nobody, and nobody is in
the bank. Frames go from the renderer straight to the encoder, without a video codec between. Results are
cached under a fingerprint of the settings and of the code that makes them, a file a person, so that a stopped
preparation goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

import raf_lite
from raf_lite._files import cache_dir, read_npz, sha256_file, write_npz
from raf_lite.captures.scaling import shrink
from raf_lite.descriptors import LandmarkPCA, MediaPipeEncoder
from raf_lite.evaluation.regions import face_regions
from raf_lite.manifest import find_data
from raf_lite.rig.build import SETTINGS
from raf_lite.rig.expressions import Style, units
from raf_lite.rig.head import BakedHead, HeadModel, head_pose_matrix
from raf_lite.rig.pack import find_pack, load_pack
from raf_lite.rig.scripts import HOLDOUT_SEQUENCES, Performance, perform_random
from raf_lite.rig.studio import CAMERA_ANGLES, FRONTAL, Person, camera

SUBJECTS = {"selection": tuple(range(5001, 5005)), "confirmation": tuple(range(6001, 6011))}
DRIVERS = {"selection": tuple(range(7001, 7007)), "confirmation": tuple(range(8001, 8007))}
PANEL = tuple(
    range(9001, 9013)
)  # identities that all make the same faces: what a descriptor says of who it is
SEEN_DONORS = tuple(range(30_000, 30_110))  # of the second bank, who never make a face that training lacks
TRAIN_CAMERAS = (FRONTAL, "220700191", "222200036", "222200048")
ENCODED_SIZE = 256  # pixels of the frames that the encoder reads
TRAIN_SIZE = 128
GRADED_SIZE = 192
CROSS_SEQUENCES = SETTINGS.cross_sequences
TURNED = "FREE-turned"  # FREE with the head turned seven times as far: up to 21, 35 and 17 degrees
TURN = 7.0
SELF_STEP, CROSS_STEP = 2, 4  # every how many frames are graded
PANEL_EXPRESSIONS = 24
REGION_BITS = {"face": 1, "mouth": 2, "eyes": 4}


def role_of(subject: int) -> str:
    """ "selection" or "confirmation"; ValueError for nobody's seed."""
    for role, seeds in SUBJECTS.items():
        if subject in seeds:
            return role
    raise ValueError(f"{subject} is no subject of the study; choose from {SUBJECTS}")


@cache
def study_cache() -> Path:
    """The cache folder of these settings and this version of the code that renders and encodes, with the
    shipped bank's landmark basis and the rig. What the study itself sets (people, sizes, steps) stands in
    this file, which is hashed as code.
    """
    package = Path(raf_lite.__file__).parent
    digest = hashlib.sha256(repr(asdict(SETTINGS)).encode())
    for name in (
        "_kernels.py",
        "captures/scaling.py",
        "rig/appearance.py",
        "rig/expressions.py",
        "rig/head.py",
        "rig/raster.py",
        "rig/scripts.py",
        "rig/studio.py",
        "descriptors/mediapipe.py",
        "descriptors/landmarks.py",
        "evaluation/regions.py",
        "study/people.py",
    ):
        digest.update((package / name).read_bytes())
    for file in (find_data() / "bank" / "landmark_pca.npz", find_pack()):
        digest.update(sha256_file(file).encode() if file else b"no rig")
    return cache_dir("study", digest.hexdigest()[:16])


@cache
def _model() -> HeadModel:
    return HeadModel(load_pack())


@cache
def _encoder() -> MediaPipeEncoder:
    return MediaPipeEncoder()


@cache
def _landmark_pca() -> LandmarkPCA:
    return LandmarkPCA.load(find_data() / "bank" / "landmark_pca.npz")


def _baked(seed: int) -> BakedHead:
    person = Person.from_seed(seed)
    return _model().bake(person.shape, person.look)


def neutral_landmarks(seed: int, weights: np.ndarray) -> np.ndarray:
    """Where the 68 landmarks of a person's head are at the neutral frame's weights, [68, 3] in head space."""
    return _baked(seed).landmarks68(weights).astype(np.float64)


def acted(seed: int, sequence: str) -> Performance:
    """How a person acts a sequence; a turned one is the same performance with the head turned further."""
    performance = Person.from_seed(seed).perform(sequence.removesuffix("-turned"), SETTINGS.frames)
    if sequence == TURNED:
        return Performance(**{**performance.__dict__, "head_rotation": performance.head_rotation * TURN})
    return performance


def _poses(performance: Performance) -> np.ndarray:
    return head_pose_matrix(performance.head_rotation, performance.head_translation)


def _encode(images: np.ndarray) -> dict[str, np.ndarray]:
    """Both descriptors of frames uint8 [T, H, W, 3], and which had a face."""
    seen = _encoder().detect(images)
    return {
        "blendshapes": seen.blendshapes,
        "landmarks": _landmark_pca().encode_landmarks(seen.landmarks),
        "found": seen.face_found,
        "encoder_pose": seen.encoder_pose,
    }


def _front(head: BakedHead, weights: np.ndarray, poses: np.ndarray, size: int) -> np.ndarray:
    """Frontal pictures uint8 [T, size, size, 3]."""
    view = [camera(0, 0, size)]
    return np.stack([head.render(w, view, pose)[0][0] for w, pose in zip(weights, poses, strict=True)])


def render_driver(seed: int) -> dict[str, np.ndarray]:
    """A driver's recording as the encoder saw it: rows of CROSS_SEQUENCES and TURNED one after the other."""
    head, parts = _baked(seed), []
    for sequence in (*CROSS_SEQUENCES, TURNED):
        performance = acted(seed, sequence)
        poses = _poses(performance)
        parts.append(
            _encode(_front(head, performance.weights, poses, ENCODED_SIZE))
            | {"sequence": np.full(len(poses), sequence), "frame": np.arange(len(poses))}
        )
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def render_training(seed: int) -> dict[str, np.ndarray]:
    """A subject's training frames: images [F, C, S, S, 3], masks, both descriptors of the frontal view,
    poses, truth."""
    head, parts = _baked(seed), []
    views = [camera(*CAMERA_ANGLES[s], TRAIN_SIZE, s) for s in TRAIN_CAMERAS[1:]]
    front = [camera(0, 0, ENCODED_SIZE)]
    for sequence in SETTINGS.train_sequences:
        performance = acted(seed, sequence)
        poses = _poses(performance)
        images, masks, frontal = [], [], []
        for weights, pose in zip(performance.weights, poses, strict=True):
            (large,), (alpha,) = head.render(weights, front, pose)
            others, alphas = head.render(weights, views, pose)
            frontal.append(large)
            images.append(np.concatenate([shrink(large, ENCODED_SIZE // TRAIN_SIZE)[None], others]))
            masks.append(np.concatenate([shrink(alpha, ENCODED_SIZE // TRAIN_SIZE)[None], alphas]))
        parts.append(
            _encode(np.stack(frontal))
            | {
                "images": np.stack(images),
                "masks": np.stack(masks),
                "head_pose": poses,
                "weights": performance.weights,
                "archetype": performance.archetype,
                "head_rotation": performance.head_rotation,
                "sequence": np.full(len(poses), sequence),
                "frame": np.arange(len(poses)),
            }
        )
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def render_answers(seed: int, drivers: Sequence[int]) -> dict[str, np.ndarray]:
    """What a subject's avatar is asked for, and the exact answers, all from the front at GRADED_SIZE.

    Rows [T]: `driver` (-1: the subject's own hold-out frames), `sequence`, `frame`, `archetype`, `amplitude`,
    `head_pose`, `blendshapes` and `landmarks` that drive (of the subject's or the driver's own frame, never
    of the answer), `image`, `regions` (bits), `points` [T, 478, 2] and `scores` [T, 52] as the encoder sees
    the answer, and the same of the answer moved by half a pixel (`points_shifted`, `scores_shifted`): the
    noise floor.
    """
    from raf_lite.evaluation.metrics import half_pixel_shift

    head, view, parts = _baked(seed), camera(0, 0, GRADED_SIZE), []
    cases = [(-1, sequence, SELF_STEP) for sequence in HOLDOUT_SEQUENCES]
    cases += [(d, sequence, CROSS_STEP) for d in drivers for sequence in CROSS_SEQUENCES]
    cases += [(d, TURNED, CROSS_STEP) for d in drivers[:2]]
    for driver, sequence, step in cases:
        performance = acted(seed if driver < 0 else driver, sequence)
        poses = _poses(performance)
        if driver < 0:
            encoded = _encode(_front(head, performance.weights[::step], poses[::step], ENCODED_SIZE))
            encoded = {name: encoded[name] for name in ("blendshapes", "landmarks", "found")}
        else:
            recorded = load_person("driver", driver)
            rows = recorded["sequence"] == sequence
            encoded = {name: recorded[name][rows][::step] for name in ("blendshapes", "landmarks", "found")}
        weights, poses = performance.weights[::step], poses[::step]
        images = _front(head, weights, poses, GRADED_SIZE)
        regions = np.zeros(images.shape[:3], np.uint8)
        for t, (w, pose) in enumerate(zip(weights, poses, strict=True)):
            masks = face_regions(view.project(head.landmarks68(w, pose))[0], GRADED_SIZE, GRADED_SIZE)
            for name, bit in REGION_BITS.items():
                regions[t] |= (masks[name] > 0.5).astype(np.uint8) * np.uint8(bit)
        floats = images.astype(np.float32) / 255
        seen, shifted = _encoder().detect(images), _encoder().detect(half_pixel_shift(floats))
        part = encoded | {
            "driver": np.full(len(poses), driver),
            "sequence": np.full(len(poses), sequence),
            "frame": np.arange(len(performance.weights))[::step],
            "archetype": performance.archetype[::step],
            "amplitude": performance.amplitude[::step],
            "head_pose": poses,
            "image": images,
            "regions": regions,
            "points": seen.landmarks[..., :2],
            "scores": seen.blendshapes,
            "points_shifted": shifted.landmarks[..., :2] - np.float32(0.5),
            "scores_shifted": shifted.blendshapes,
        }
        usable = encoded["found"] & seen.face_found & shifted.face_found
        parts.append({name: value[usable] for name, value in part.items()})
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def render_pairs(seed: int) -> dict[str, np.ndarray]:
    """Descriptors of other identities with exactly a subject's weights and head pose, frame by frame: two a
    frame, [F, 2, D].

    What retrieval tries to find, made by the renderer: the upper bound. The other identities are seeds of
    their own.
    """
    weights, poses = [], []
    for sequence in SETTINGS.train_sequences:
        performance = acted(seed, sequence)
        weights.append(performance.weights)
        poses.append(_poses(performance))
    weights, poses = np.concatenate(weights), np.concatenate(poses)
    heads = [_baked(40_000 + 100 * (seed % 100) + other) for other in range(16)]
    out = []
    for other in range(2):
        images = np.concatenate(
            [
                _front(
                    heads[(2 * f + other) % len(heads)], weights[f : f + 1], poses[f : f + 1], ENCODED_SIZE
                )
                for f in range(len(weights))
            ]
        )
        out.append(_encode(images))
    return {name: np.stack([o[name] for o in out], 1) for name in out[0]}


def render_panel(seed: int) -> dict[str, np.ndarray]:
    """One identity of the panel making the panel's faces (row 0 is neutral), in a head pose of rest."""
    weights = panel_weights()
    images = _front(_baked(seed), weights, np.broadcast_to(np.eye(4), (len(weights), 4, 4)), ENCODED_SIZE)
    return _encode(images)


def panel_weights() -> np.ndarray:
    """The panel's faces [1 + PANEL_EXPRESSIONS, 57]: neutral, then the strongest frames of a random
    performance."""
    plain = Style(np.ones(len(units()), np.float32), np.zeros(len(units()), np.float32))
    performance = perform_random(plain, np.random.default_rng(9000), 7 * PANEL_EXPRESSIONS + 1)
    middles = 4 + 7 * np.arange(PANEL_EXPRESSIONS)
    return np.concatenate(
        [np.zeros((1, performance.weights.shape[1]), np.float32), performance.weights[middles]]
    )


def render_seen_donor(seed: int) -> dict[str, np.ndarray]:
    """A donor of the second bank: performs the training scripts' gestures only, so the bank has not seen the
    exam either."""
    head, rng = _baked(seed), np.random.default_rng([seed, 7])
    sequences = rng.permutation(SETTINGS.train_sequences)[
        :4
    ]  # about 84 frames, as a donor of the shipped bank has
    parts = []
    for sequence in sequences:
        performance = acted(seed, str(sequence))
        parts.append(
            _encode(_front(head, performance.weights, _poses(performance), ENCODED_SIZE))
            | {"weights": performance.weights, "neutral": np.arange(len(performance.weights)) == 0}
        )
    return {name: np.concatenate([p[name] for p in parts])[:84] for name in parts[0]}


RENDERERS = {
    "driver": render_driver,
    "training": render_training,
    "answers": render_answers,
    "pairs": render_pairs,
    "panel": render_panel,
    "seen": render_seen_donor,
}


def person_file(kind: str, seed: int) -> Path:
    """Where a kind of recording of a person is cached."""
    return study_cache() / f"{kind}-{seed}.npz"


# What each kind of recording holds: the shape of a row of every array.
_ENCODED = {
    "blendshapes": (52,),
    "landmarks": (SETTINGS.pca_components,),
    "found": (),
    "encoder_pose": (4, 4),
}
_MOMENT = {"sequence": (), "frame": ()}
_WEIGHTS = {"weights": (len(units()),)}
_SEEN = {"points": (478, 2), "scores": (52,)}
_VIEWS = (len(TRAIN_CAMERAS), TRAIN_SIZE, TRAIN_SIZE)
ROWS: dict[str, dict[str, tuple[int, ...]]] = {
    "driver": _ENCODED | _MOMENT,
    "training": _ENCODED
    | _MOMENT
    | _WEIGHTS
    | {"images": (*_VIEWS, 3), "masks": _VIEWS, "head_pose": (4, 4), "archetype": (), "head_rotation": (3,)},
    "answers": {name: _ENCODED[name] for name in ("blendshapes", "landmarks", "found")}
    | _MOMENT
    | _SEEN
    | {f"{name}_shifted": shape for name, shape in _SEEN.items()}
    | {"driver": (), "archetype": (), "amplitude": (), "head_pose": (4, 4)}
    | {"image": (GRADED_SIZE, GRADED_SIZE, 3), "regions": (GRADED_SIZE, GRADED_SIZE)},
    "pairs": {name: (2, *shape) for name, shape in _ENCODED.items()},
    "panel": _ENCODED,
    "seen": _ENCODED | _WEIGHTS | {"neutral": ()},
}


def is_rendered(kind: str, seed: int) -> bool:
    """Whether one recording is in the cache, whole; prints what is wrong with a damaged one."""
    try:
        load_person(kind, seed)
    except FileNotFoundError:
        return False
    except ValueError as error:
        print(error)
        return False
    return True


def prepare(kind: str, seed: int) -> None:
    """Render one recording into the cache, unless it is there."""
    if is_rendered(kind, seed):
        return
    arguments = (DRIVERS[role_of(seed)],) if kind == "answers" else ()
    arrays = RENDERERS[kind](seed, *arguments)
    write_npz(
        person_file(kind, seed),
        **{
            name: a.astype(np.float32) if a.dtype == np.float64 and name != "head_pose" else a
            for name, a in arrays.items()
        },
    )


def load_person(kind: str, seed: int) -> dict[str, np.ndarray]:
    """A cached recording. FileNotFoundError tells to prepare it, ValueError that it is damaged."""
    path = person_file(kind, seed)
    if not path.is_file():
        raise FileNotFoundError(
            f"the study's {kind} of person {seed} is not rendered yet; run `raf-lite study run`, which "
            "renders what it needs"
        )
    mend = "run `raf-lite study run`, which renders it again"
    arrays = read_npz(path, tuple(ROWS[kind]), mend=mend)
    rows = arrays["blendshapes"].shape[:1]
    for name, shape in ROWS[kind].items():
        if arrays[name].shape != (*rows, *shape) or rows == (0,):
            raise ValueError(
                f"{path}: '{name}' has shape {list(arrays[name].shape)}, which no {kind} has; {mend}"
            )
    return arrays


@dataclass(frozen=True)
class Training:
    """Which part of a subject's recording trains: a share of the scripts, and of the frames of those."""

    scripts: float = 1.0
    frames: float = 1.0

    def sequences(self) -> tuple[str, ...]:
        """The training scripts of this share: EXP-1-head, which has the neutral, and others spread over the
        list."""
        names = SETTINGS.train_sequences
        count = max(1, round(self.scripts * len(names)))
        chosen = np.unique(np.round(np.linspace(0, len(names) - 1, count)).astype(int))
        return tuple(names[i] for i in chosen)

    def rows(self, recording: dict[str, np.ndarray]) -> np.ndarray:
        """Row numbers of a training recording, frames without a face left out; row 0, the neutral, is always
        in."""
        kept = np.isin(recording["sequence"], self.sequences()) & recording["found"]
        kept = np.flatnonzero(kept)
        return kept[:: round(1 / self.frames)]
