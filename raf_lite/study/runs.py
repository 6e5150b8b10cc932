"""One run of the study: train one avatar, grade it, and say everything in one line of JSON."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial.transform import Rotation

import raf_lite
from raf_lite.bank import OwnMean
from raf_lite.captures import Camera
from raf_lite.descriptors import Detections
from raf_lite.descriptors.forms import landmark_displacements
from raf_lite.evaluation.identity import FaceIdentity, cosines
from raf_lite.evaluation.metrics import Errors, encoder_errors, picture_errors
from raf_lite.evaluation.networks import Networks, perceptual_errors
from raf_lite.retrieval import Augmentation, RetrievalAugmentation
from raf_lite.rig.studio import CAMERA_ANGLES, camera
from raf_lite.study.augmentations import PairAugmentation, PoseAugmentation
from raf_lite.study.descriptors import (
    BANKS,
    TRUTH,
    graded_descriptors,
    graded_weights,
    in_form,
    panel_descriptors,
    parts,
    reference_of,
    study_bank,
)
from raf_lite.study.grading import ASKED_STEP, SLOW_STEP, group_members, pooled, region_masks
from raf_lite.study.people import (
    GRADED_SIZE,
    PANEL,
    REGION_BITS,
    TRAIN_CAMERAS,
    TRAIN_SIZE,
    Training,
    load_person,
    neutral_landmarks,
    panel_weights,
    role_of,
)
from raf_lite.study.priors import LEARNED, TrueMotion, control_prior
from raf_lite.study.variants import POSE_VARIANTS, setting_of
from raf_lite.training import TrainConfig, Trainer, TrainingSet

if TYPE_CHECKING:
    from raf_lite.avatar import GaussianAvatar, MotionPrior
    from raf_lite.descriptors import MediaPipeEncoder

PRESET = TrainConfig(
    steps=2400,
    size=TRAIN_SIZE,
    coarse_steps=1600,
    views=1,
    gaussians=4000,
    lr_network=2e-3,
    lr_basis=1e-2,
    checkpoint_every=10**9,
)
"""A study run, the same for all variants: the `cpu` preset with fewer pixels and Gaussians and one camera a
step. One camera buys twice the steps in the same time, and it is expressions, not views, that the study asks
about."""

_LONG = {"steps": 7200, "coarse_steps": 4800}
_SIX = {"steps": 14_400, "coarse_steps": 9_600}
_SLOW = {"lr_network": 1e-3, "lr_basis": 5e-3}
AVATARS: dict[str, tuple[dict, dict]] = {
    "standard": ({}, {}),
    "1x": ({}, {}),
    "3x": (_LONG, {}),
    "1x-slow": (_SLOW, {}),
    "3x-slow": (_LONG | _SLOW, {}),
    "3x-fast": (_LONG | {"lr_network": 4e-3, "lr_basis": 2e-2}, {}),
    "6x": (_SIX, {}),
    **{f"6x-mlp-{hidden}": (_SIX | {"field": "mlp"}, {"hidden": hidden}) for hidden in (64, 128, 256)},
    "10x": ({"steps": 24_000, "coarse_steps": 16_000}, {}),
    "10x-coarse": ({"steps": 24_000, "coarse_steps": 21_600}, {}),
    "3x-12k": (_LONG | {"gaussians": 12_000}, {}),
    "3x-48-bases": (_LONG, {"bases": 48}),
    "3x-mlp": (_LONG | {"field": "mlp"}, {}),
}
"""In what an avatar differs from PRESET, and its field from the default one. 1x is the standard one, trained
anew beside the others: most lines of the standard one are of earlier stages of the code."""

LIVE_FRAMES = (1, 12, 60)  # of 12 a second: a frame, a second, five
UNDER = ("nothing", "ride", "prior", "both")
CONTROLS = (*LEARNED, "untaught", "truth")
"""Of the prior. untaught: nothing under the field, which has as many more motions of its own to learn as a
prior has."""
UNTAUGHT = {"bases": 48}  # 24 as ever, and the prior's 24
PRIORS = ("prior", "both", *LEARNED, "truth")


@dataclass(frozen=True)
class RunSpec:
    """What one run is. Two runs that differ in `variant`, `p` and bank alone see the same frames and cameras
    in the same order.

    variant: the name of a setting, or one of STUDY_VARIANTS (`raf_lite.study.variants`). under: what moves
    the Gaussians under the field: nothing, the landmarks near them (ride), what other people's faces do
    (prior), the two at once (both), or one of CONTROLS; landmarks and priors are placed by the neutral head's
    exact 68 landmarks.
    avatar: one of AVATARS.
    tolerance: also grade with coarse and noisy driving descriptors, and (as the baseline always is) driven
    relative to the neutral. live: also grade with what is known of a driver's own mean after LIVE_FRAMES
    frames.
    """

    subject: int
    descriptor: str
    variant: str
    p: float = 0.2
    seed: int = 0
    scripts: float = 1.0
    frames: float = 1.0
    bank: str = "shipped"
    bank_rows: int | None = None
    tolerance: bool = False
    under: str = "nothing"
    avatar: str = "standard"
    live: bool = False

    def __post_init__(self) -> None:
        role_of(self.subject)
        parts(self.descriptor)
        setting_of(self.variant)  # or says that there is none of that name
        if self.bank not in BANKS:
            raise ValueError(f"unknown bank '{self.bank}'; choose one of {', '.join(BANKS)}")
        if self.under not in UNDER + CONTROLS:
            raise ValueError(
                f"'{self.under}' moves no Gaussians; choose one of {', '.join(UNDER + CONTROLS)}"
            )
        if self.avatar not in AVATARS:
            raise ValueError(f"unknown avatar '{self.avatar}'; choose one of {', '.join(AVATARS)}")
        if self.descriptor == TRUTH and self.variant != "none":
            raise ValueError(f"no bank knows '{TRUTH}', so nothing is retrieved; use the variant 'none'")
        if self.live and parts(self.descriptor)[1] != "mean":
            raise ValueError(
                f"'{self.descriptor}' takes no own mean out, so live it is the same; name one that does"
            )
        if self.under in ("ride", *PRIORS) and parts(self.descriptor)[0] != "landmarks":
            raise ValueError(
                f"'{self.descriptor}' says nothing of where landmarks go, so '{self.under}' moves nothing;"
                " name a form of landmarks"
            )

    @property
    def key(self) -> str:
        """Names the run; what does not matter to a baseline (p, bank) is left out."""
        bank = (
            ""
            if self.variant == "none"
            else f" p{self.p:g} {self.bank}{'' if self.bank_rows is None else self.bank_rows}"
        )
        return (
            f"{self.subject} {self.descriptor} {self.variant}{bank} seed{self.seed} scripts{self.scripts:g} "
            f"frames{self.frames:g}{' tolerance' if self.tolerance else ''}"
            f"{'' if self.under == 'nothing' else f' {self.under}'}"
            f"{'' if self.avatar == 'standard' else f' {self.avatar}'}{' live' if self.live else ''}"
        )

    def needs(self) -> list[tuple[str, int]]:
        """Recordings (kind, person) that must be rendered first; drivers come before the answers that use
        them."""
        from raf_lite.study.people import DRIVERS, SEEN_DONORS

        kinds = [("driver", d) for d in DRIVERS[role_of(self.subject)]] + [
            ("training", self.subject),
            ("answers", self.subject),
        ]
        kinds += [("panel", seed) for seed in PANEL]
        if self.variant == "pairs":
            kinds.append(("pairs", self.subject))
        if self.bank == "seen" and self.variant != "none":
            kinds += [("seen", seed) for seed in SEEN_DONORS]
        return kinds


@lru_cache(maxsize=2)  # one subject's pictures at a time: runs come in the order of subjects
def _recording(kind: str, subject: int) -> dict[str, np.ndarray]:
    return load_person(kind, subject)


def training_set(spec: RunSpec) -> tuple[TrainingSet, np.ndarray, np.ndarray]:
    """(training set, own neutral descriptor [D], own video's [F, D]); these as the encoder gave them."""
    recording = _recording("training", spec.subject)
    encoded, form = parts(spec.descriptor)
    rows = Training(spec.scripts, spec.frames).rows(recording)
    neutral, video = recording[encoded][0], recording[encoded][rows]
    descriptors = in_form(video, form, neutral, video).astype(np.float32)
    cameras = [camera(*CAMERA_ANGLES[serial], TRAIN_SIZE, serial) for serial in TRAIN_CAMERAS]
    names = [(str(recording["sequence"][r]), int(recording["frame"][r])) for r in rows]
    landmarks = displacements = None
    if spec.under in ("ride", *PRIORS):
        landmarks = neutral_landmarks(spec.subject, recording["weights"][0])
        if spec.under in ("ride", "both"):
            displacements = landmark_displacements(landmarks, spec.descriptor)
    data = TrainingSet(
        recording["images"][rows],
        recording["masks"][rows],
        descriptors,
        recording["head_pose"][rows],
        cameras,
        names,
        0,
        landmarks=landmarks,
        displacements=displacements,
    )
    return data, neutral, video


def make_augmentation(spec: RunSpec, descriptors: np.ndarray) -> Augmentation | None:
    """What changes the training descriptors in this run, fitted; None for the baseline."""
    if spec.variant == "none":
        return None
    bank = study_bank(spec.descriptor, spec.bank, spec.bank_rows)
    if spec.variant == "pairs":
        encoded, form = parts(spec.descriptor)
        if form != "raw":
            raise ValueError(
                f"true pairs are rendered for raw descriptors only, not for '{spec.descriptor}'; drop its"
                " ending"
            )
        rows = Training(spec.scripts, spec.frames).rows(_recording("training", spec.subject))
        return PairAugmentation(load_person("pairs", spec.subject)[encoded][rows], spec.p)
    setting = POSE_VARIANTS[spec.variant] if spec.variant in POSE_VARIANTS else setting_of(spec.variant)
    retrieval = (
        None if setting is None else RetrievalAugmentation.of(bank, setting, p=spec.p).fit(descriptors)
    )
    return (
        PoseAugmentation(bank, _bank_rotations(), p=0.5, inner=retrieval)
        if spec.variant in POSE_VARIANTS
        else retrieval
    )


@cache
def _bank_rotations() -> np.ndarray:
    """Rotation vectors [N, 3] (radians) that the encoder reports for the shipped bank's rows."""
    from raf_lite.bank import ExpressionBank
    from raf_lite.manifest import find_data

    pose = ExpressionBank.load(find_data() / "bank", descriptor="blendshapes").encoder_pose
    if pose is None:
        raise ValueError(
            "the shipped bank has no encoder poses to turn descriptors by; build it with `raf-lite data"
            " build`"
        )
    return Rotation.from_matrix(pose[:, :3, :3]).as_rotvec()


def _front(size: int) -> Camera:
    return camera(0, 0, size)


def _milliseconds_per_call(augmentation: Augmentation, descriptors: np.ndarray, calls: int = 200) -> float:
    generator = torch.Generator().manual_seed(0)
    rows = torch.from_numpy(descriptors)
    started = time.perf_counter()
    for i in range(calls):
        row = i % len(descriptors)
        augmentation.augment(rows[row : row + 1], generator, index=torch.tensor([row]))
    return (time.perf_counter() - started) / calls * 1e3


def _reach(
    descriptors: np.ndarray, augmentation: Augmentation | None, asked: np.ndarray, draws: int = 8
) -> float:
    """Mean distance from what drives to the nearest descriptor seen in training, with its replacements."""
    shown = [torch.from_numpy(descriptors)]
    if augmentation is not None:
        generator, index = torch.Generator().manual_seed(0), torch.arange(len(descriptors))
        shown += [augmentation.augment(shown[0], generator, index=index)[0] for _ in range(draws)]
    return float(torch.cdist(torch.from_numpy(asked), torch.cat(shown)).min(1).values.mean())


def coarser(descriptors: np.ndarray, bits: int, training: np.ndarray) -> np.ndarray:
    """Descriptors rounded to 2^bits levels over the range of each dimension in training."""
    low, span = training.min(0), np.maximum(np.ptp(training, axis=0), 1e-9)
    levels = 2**bits - 1
    return (np.round(np.clip((descriptors - low) / span, 0, 1) * levels) / levels * span + low).astype(
        np.float32
    )


def drives(
    spec: RunSpec, answers: dict, data: TrainingSet, descriptors: np.ndarray, own: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """name -> descriptors [T, D] that drive the same avatar in other ways, none of which needs training of
    its own."""
    out: dict[str, np.ndarray] = {}
    if spec.variant == "none":
        nearest = (
            torch.cdist(torch.from_numpy(descriptors), torch.from_numpy(data.descriptors)).argmin(1).numpy()
        )
        out["nearest training code"] = data.descriptors[nearest]
    encoded, form = parts(spec.descriptor)
    if form == "raw" and spec.descriptor != TRUTH and (spec.variant == "none" or spec.tolerance):
        relative = graded_descriptors(spec.subject, answers, f"{encoded}-neutral", *own)
        out["neutral-relative"] = np.where(
            answers["driver"][:, None] < 0, descriptors, relative + own[0]
        ).astype(np.float32)
    return out


def tolerance_drives(descriptors: np.ndarray, training: np.ndarray) -> dict[str, np.ndarray]:
    """Descriptors with 4 or 2 bits, and with noise of a quarter of each dimension's training deviation."""
    noise = np.random.default_rng(0).standard_normal(descriptors.shape) * 0.25 * training.std(0)
    return {
        "4 bits": coarser(descriptors, 4, training),
        "2 bits": coarser(descriptors, 2, training),
        "noise": (descriptors + noise).astype(np.float32),
    }


def live_drives(
    spec: RunSpec, answers: dict, descriptors: np.ndarray, frames: Sequence[int] = LIVE_FRAMES
) -> dict[str, np.ndarray]:
    """Descriptors as they are while only so many of a driver's frames were seen, one after the other from a
    random one on: their mean taken out, and the mean that other people's make of them (`OwnMean`)."""
    encoded = parts(spec.descriptor)[0]
    bank = study_bank(encoded, spec.bank)
    own_mean = OwnMean.of(bank.descriptors, bank.donors)
    out = {}
    for count in frames:
        plain, expected = descriptors.copy(), descriptors.copy()
        for driver in np.unique(answers["driver"][answers["driver"] >= 0]).tolist():
            rows = answers["driver"] == driver
            _, video = reference_of(load_person("driver", driver), encoded)
            start = np.random.default_rng([driver, count]).integers(len(video) - count + 1)
            seen = video[start : start + count].mean(0)
            plain[rows] += video.mean(0) - seen
            expected[rows] += video.mean(0) - own_mean.expected(seen, count)
        frames_of = f"{count} frame{'s' if count > 1 else ''}"
        out |= {f"{frames_of}: their mean": plain, f"{frames_of}: expected": expected}
    return out


def decoupling(spec: RunSpec, avatar: GaussianAvatar, recording: dict, answers: dict) -> dict[str, float]:
    """What the avatar's picture owes to who drives it and what to how: spreads in grey levels over the face.

    identity_spread: deviation over the panel's identities that make the same face, averaged over faces.
    expression_spread: deviation over faces of the mean over identities. neutral_mae: pictures for the panel's
    neutral faces against
    the subject's own neutral.
    """
    panel = panel_descriptors(spec.descriptor)
    identities, faces, dim = panel.shape
    pictures = avatar.render(
        panel.reshape(-1, dim), np.broadcast_to(np.eye(4), (identities * faces, 4, 4)), [_front(TRAIN_SIZE)]
    )[:, 0]
    pictures = pictures.reshape(identities, faces, TRAIN_SIZE, TRAIN_SIZE, 3) * 255
    first = np.flatnonzero((answers["driver"] < 0) & (answers["frame"] == 0))[0]
    step = GRADED_SIZE / TRAIN_SIZE  # nearest pixels of the graded face mask at training size
    grid = (np.arange(TRAIN_SIZE) * step + step / 2).astype(int)
    face = (answers["regions"][first][np.ix_(grid, grid)] & REGION_BITS["face"]) > 0
    neutral = recording["images"][0, 0].astype(np.float32)
    inside = pictures[:, :, face]
    return {
        "identity_spread": float(inside.std(0).mean()),
        "expression_spread": float(inside.mean(0).std(0).mean()),
        "neutral_mae": float(np.abs(inside[:, 0] - neutral[face]).mean()),
    }


def _true_motion(spec: RunSpec, data: TrainingSet, own: Sequence[np.ndarray]) -> TrueMotion:
    """What every descriptor that this run trains on or is driven by stands for."""
    recording, answers = _recording("training", spec.subject), _recording("answers", spec.subject)
    rows = Training(spec.scripts, spec.frames).rows(recording)
    panel = panel_descriptors(spec.descriptor)
    graded = graded_weights(spec.subject, answers)
    driving = graded_descriptors(spec.subject, answers, spec.descriptor, *own)
    descriptors = [data.descriptors, driving, *panel]
    weights = [recording["weights"][rows], graded, *[panel_weights()] * len(panel)]
    return TrueMotion(
        np.concatenate(descriptors) - data.descriptors[data.neutral],
        np.concatenate(weights) - recording["weights"][0],
    )


def _prior(spec: RunSpec, data: TrainingSet, own: Sequence[np.ndarray]) -> MotionPrior | None:
    """What stands in the shipped prior's place."""
    if spec.under == "truth":
        return _true_motion(spec, data, own)
    if spec.under in LEARNED:
        return control_prior(spec.under, Training(spec.scripts, spec.frames))
    return None


def _seen_errors(seen: Detections, answers: dict) -> Errors:
    return encoder_errors(seen.landmarks, seen.blendshapes, answers["points"], answers["scores"])


@lru_cache(maxsize=2)
def _identities(subject: int, network: FaceIdentity) -> np.ndarray:
    """Whose face each ASKED_STEP-th answer shows, [T, 128]."""
    answers = _recording("answers", subject)
    return network.descriptors(answers["image"][::ASKED_STEP], answers["points"][::ASKED_STEP])


def _networks_errors(
    networks: Networks, subject: int, images: np.ndarray, seen: Detections, faces: np.ndarray
) -> Errors:
    """LPIPS by AlexNet, and the cosine to the answer's identity, of every ASKED_STEP-th picture; NaN for the
    others. What is not at hand is left out."""
    errors: Errors = {}

    def spread(values: np.ndarray) -> np.ndarray:
        out = np.full(len(images), np.nan)
        out[::ASKED_STEP] = values
        return out

    asked = images[::ASKED_STEP]
    if "alex" in networks.lpips:
        truth = _recording("answers", subject)["image"][::ASKED_STEP]
        alex = {"alex": networks.lpips["alex"]}
        found = perceptual_errors(alex, asked, truth, faces[::ASKED_STEP])
        errors["lpips"] = {"frame": spread(found["lpips_alex"]), "face": spread(found["lpips_alex_face"])}
    if networks.identity is not None:
        theirs = networks.identity.descriptors(asked, seen.landmarks[::ASKED_STEP])
        errors["identity"] = {"face": spread(cosines(theirs, _identities(subject, networks.identity)))}
    return errors


def run(spec: RunSpec, encoder: MediaPipeEncoder, networks: Networks | None = None) -> dict:
    """Train and grade; returns the line. encoder: a MediaPipeEncoder for what is seen in the avatar's
    pictures. networks: those that are asked as well (`networks_at_hand`)."""
    data, *own = training_set(spec)
    answers, recording = _recording("answers", spec.subject), _recording("training", spec.subject)
    augmentation = make_augmentation(spec, data.descriptors)
    config = PRESET.with_(
        seed=spec.seed,
        descriptor=spec.descriptor,
        landmark_motion=spec.under in ("ride", "both"),
        prior=spec.under in PRIORS,
        **AVATARS[spec.avatar][0],
    )
    prior = _prior(spec, data, own)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            data,
            config,
            Path(folder),
            augmentation=augmentation,
            prior=prior,
            field_settings=UNTAUGHT if spec.under == "untaught" else AVATARS[spec.avatar][1],
            device="cpu",
            progress=False,
        )
        started = time.perf_counter()
        avatar = trainer.train()
        trained = time.perf_counter() - started
    started = time.perf_counter()
    members = group_members(answers, Training(spec.scripts, spec.frames))
    descriptors = graded_descriptors(spec.subject, answers, spec.descriptor, *own).astype(np.float32)

    def rendered(driving: np.ndarray) -> np.ndarray:
        return avatar.render(driving, answers["head_pose"], [_front(GRADED_SIZE)])[:, 0]

    truth, regions = answers["image"], region_masks(answers)
    images = rendered(descriptors)
    seen = encoder.detect(images)
    errors = _seen_errors(seen, answers) | picture_errors(images, truth, regions, slow_step=SLOW_STEP)
    errors |= _networks_errors(networks or Networks(), spec.subject, images, seen, regions["face"])
    outcomes = {"direct": pooled(errors, members)}
    driven = drives(spec, answers, data, descriptors, own)
    if spec.live:
        driven |= live_drives(spec, answers, descriptors)
    for name, driving in driven.items():
        images = rendered(driving)
        errors = _seen_errors(encoder.detect(images), answers) | picture_errors(
            images, truth, regions, ["mae"]
        )
        outcomes[name] = pooled(errors, members)
    if spec.tolerance:
        for name, driving in tolerance_drives(descriptors, data.descriptors).items():
            outcomes[name] = pooled(picture_errors(rendered(driving), truth, regions, ["mae"]), members)
    extras = decoupling(spec, avatar, recording, answers)
    extras["reach"] = _reach(data.descriptors, augmentation, descriptors[members["cross"]])
    extras["missed"] = int((~seen.face_found).sum())
    if augmentation is not None:
        extras["augment_ms"] = _milliseconds_per_call(augmentation, data.descriptors)
    extras["step_ms"] = trained / config.steps * 1e3
    return {
        "key": spec.key,
        "role": role_of(spec.subject),
        "spec": asdict(spec),
        "outcomes": outcomes,
        "extras": {k: round(v, 5) for k, v in extras.items()},
        "training_frames": len(data.names),
        "seconds": {"training": round(trained, 1), "grading": round(time.perf_counter() - started, 1)},
        "raf_lite": raf_lite.__version__,
        "preset": config.as_dict(),
    }


def noise_floor(subject: int) -> dict:
    """What landmark error and AED say of the answers against themselves moved by half a pixel: group ->
    measure -> region."""
    answers = load_person("answers", subject)
    errors = encoder_errors(
        answers["points_shifted"], answers["scores_shifted"], answers["points"], answers["scores"]
    )
    return {
        "key": f"{subject} noise floor",
        "role": role_of(subject),
        "subject": subject,
        "outcomes": pooled(errors, group_members(answers, Training())),
    }


__all__ = [
    "CONTROLS",
    "PRESET",
    "UNDER",
    "RunSpec",
    "coarser",
    "make_augmentation",
    "noise_floor",
    "run",
    "training_set",
]
