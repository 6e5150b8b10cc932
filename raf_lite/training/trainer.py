"""The training loop: random frames and cameras, retrieval in one line, resumable, and loud when something
breaks."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import math
import time
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from tqdm.auto import tqdm

import raf_lite
from raf_lite._files import atomic_path, locked, named_in_errors
from raf_lite._forms import parts
from raf_lite._interrupts import held_back
from raf_lite.avatar import FIELDS, GaussianAvatar, MotionPrior, ViewRange, frontal_camera
from raf_lite.avatar.prior import PRIOR
from raf_lite.avatar.unseen import fill_unseen, pixels_made
from raf_lite.avatar.views import view_angles
from raf_lite.bank import ExpressionBank
from raf_lite.captures import Camera
from raf_lite.manifest import find_data
from raf_lite.retrieval import Augmentation, RetrievalAugmentation
from raf_lite.retrieval.augmentation import same_people
from raf_lite.training.checkpoint import MEND, read_checkpoint, write_checkpoint
from raf_lite.training.config import TrainConfig
from raf_lite.training.film_corrections import ExposureCorrections, FocalCorrection, PoseCorrections
from raf_lite.training.losses import counted, reconstruction_loss
from raf_lite.training.training_set import TrainingSet

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
AVATAR = "avatar.safetensors"
TOLD_BY = 64  # views that tell which Gaussians nobody saw, and which lie where nothing counts
PRIOR_EVERY = 50  # first steps, or as many later ones as move Gaussians as far: then the prior is asked anew
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what Adam keeps of each parameter


def _halve(
    images: torch.Tensor, masks: torch.Tensor, counts: torch.Tensor | None, Ks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Pictures [C, H, W, 3], masks and counts [C, H, W] and intrinsics [C, 3, 3] at half the size, by
    averaging 2x2 blocks."""
    planes = [images, masks[..., None]] + ([] if counts is None else [counts[..., None]])
    pooled = F.avg_pool2d(torch.cat(planes, -1).permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    half = Ks * Ks.new_tensor([[0.5], [0.5], [1.0]])
    return pooled[..., :3], pooled[..., 3], None if counts is None else pooled[..., 4], half


def _first_views(data: TrainingSet) -> tuple[np.ndarray, np.ndarray, list[Camera], np.ndarray]:
    """What the first Gaussians are carved from: pictures [C, H, W, 3] and masks [C, H, W] in [0, 1], cameras
    and head pose.

    All cameras at the neutral moment, and the one camera where landmarks of the face are known. One camera
    alone sees the head from several sides as it turns: without landmarks it is taken at up to 16 moments, the
    neutral one first, each as a camera of its own about a head that stays. Raises ValueError where the head
    then hardly turns.
    """
    if len(data.cameras) > 1 or data.landmarks is not None:
        n = data.neutral
        seen = np.ones(len(data.cameras), bool) if data.seen is None else data.seen[n]
        cameras = [camera for camera, filmed in zip(data.cameras, seen, strict=True) if filmed]
        return (
            data.images[n][seen] / np.float32(255),
            data.masks[n][seen] / np.float32(255),
            cameras,
            data.head_poses[n],
        )
    rotations = Rotation.from_matrix(data.head_poses[:, :3, :3])
    rows, nearest = [data.neutral], (rotations * rotations[data.neutral].inv()).magnitude()
    while len(rows) < min(16, len(rotations)) and nearest.max() > np.deg2rad(3):
        rows.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, (rotations * rotations[rows[-1]].inv()).magnitude())
    widest = float((rotations[rows] * rotations[data.neutral].inv()).magnitude().max())
    if widest < np.deg2rad(15):
        raise ValueError(
            f"one camera and a head that turns by {np.rad2deg(widest):.0f} degrees do not show its shape;"
            " record it turning by at least 15 degrees, use several cameras, or give landmarks68"
        )
    (camera,) = data.cameras
    cameras = [
        replace(
            camera,
            serial=f"{camera.serial} frame {r}",
            world_to_camera=camera.world_to_camera @ data.head_poses[r],
        )
        for r in rows
    ]
    return data.images[rows, 0] / np.float32(255), data.masks[rows, 0] / np.float32(255), cameras, np.eye(4)


def _settings(
    config: TrainConfig, augmentation: Augmentation | None, field_settings: Mapping[str, int]
) -> dict:
    """What runs on the same data differ in: `config`, `field_settings` where there are any, and
    `augmentation` where it is not the config that names it."""
    settings: dict = {"config": config.as_dict()}
    if field_settings:
        settings["field_settings"] = dict(field_settings)
    if augmentation is not None and config.retrieval is None:
        kind = type(augmentation)
        plain = kind.__repr__ is object.__repr__  # it says an address, which is another each time
        settings["augmentation"] = f"{kind.__module__}.{kind.__qualname__}" if plain else repr(augmentation)
    return settings


def _provenance(
    data: TrainingSet,
    config: TrainConfig,
    augmentation: Augmentation | None,
    prior: MotionPrior | None,
    field_settings: Mapping[str, int],
) -> dict:
    """What decides the result: settings, version, and a checksum of training frames, cameras, bank and
    prior."""
    pictures = (
        [np.frombuffer(data.fingerprint.encode(), np.uint8)]
        if data.fingerprint
        else [data.images, data.masks]
    )
    cameras = repr(
        [(c.serial, c.width, c.height, c.K.tolist(), c.world_to_camera.tolist()) for c in data.cameras]
    )
    rest = repr((cameras, data.names, data.neutral, data.front))
    arrays = [*pictures, data.descriptors, data.head_poses, np.frombuffer(rest.encode(), np.uint8)]
    own_counts = None if data.fingerprint else data.counts
    parts_known = (data.seen, data.landmarks, data.displacements, own_counts)
    arrays += [part for part in parts_known if part is not None]
    if prior is not None:
        arrays += [tensor.cpu().numpy() for tensor in prior.state_dict().values()]
    if isinstance(augmentation, RetrievalAugmentation):
        bank = augmentation.bank
        arrays += [
            bank.descriptors,
            bank.donors,
            np.frombuffer(f"{bank.encoder} {bank.descriptor}".encode(), np.uint8),
        ]
        arrays += (
            []
            if augmentation.subject is None
            else [np.frombuffer(str(augmentation.subject).encode(), np.uint8)]
        )
        # Of an exact index the neighbours follow from all this; of another they hang on its kind and nprobe.
        if bank.factory != "Flat" and (found := getattr(augmentation, "neighbours", None)) is not None:
            arrays.append(found)
    checksum = functools.reduce(
        lambda crc, array: zlib.crc32(np.ascontiguousarray(array).data, crc), arrays, 0
    )
    return {
        **_settings(config, augmentation, field_settings),
        "raf_lite": raf_lite.__version__,
        "training_frames": len(data.names),
        "checksum": checksum,
        **({} if data.reference is None else {"reference": data.reference.tolist()}),
    }


def _asked_prior(config: TrainConfig, own: MotionPrior | str | Path | None) -> MotionPrior | None:
    """The prior that a run stands on: `own`, or the shipped one. ValueError where the config asks for none
    and one is given."""
    if not config.prior:
        if own is not None:
            raise ValueError(
                "a motion prior was given, and TrainConfig.prior is False; set prior=True, or give none"
            )
        return None
    return own if isinstance(own, MotionPrior) else MotionPrior.load(own or find_data() / PRIOR)


def _prior_landmarks(data: TrainingSet, prior: MotionPrior) -> np.ndarray:
    """The landmarks [L, 3] that the prior is placed by. ValueError where there are none, and for descriptors
    of another encoder than the prior's."""
    if data.landmarks is None:
        raise ValueError(
            "this capture does not say where landmarks are on the neutral head, so the motion prior cannot be"
            " placed on it; give it landmarks (`raf-lite encode`, or landmarks68), or train with prior=False"
        )
    if "unknown" not in (data.encoder or "unknown", prior.encoder) and data.encoder != prior.encoder:
        raise ValueError(
            f"the capture's landmarks come from encoder '{data.encoder}', and the motion prior reads those of"
            f" '{prior.encoder}'; encode the capture again, or train with prior=False"
        )
    return data.landmarks


def _check_encoder(bank: ExpressionBank, data: TrainingSet, descriptor: str) -> None:
    """ValueError where bank and capture come from two encoders or have two forms, a warning where one of them
    does not say its encoder."""
    if parts(bank.descriptor)[1] != parts(descriptor)[1]:
        raise ValueError(
            f"the bank holds '{bank.descriptor}' and training has '{descriptor}', so distances between them"
            f" mean nothing; load it with ExpressionBank.load(..., descriptor='{descriptor}')"
        )
    bank.check_descriptors(data.descriptors, encoder=data.encoder, what="the capture's descriptors")
    if data.subject and (data.encoder or "unknown") == "unknown":
        warnings.warn(
            f"the capture of {data.subject} does not say which encoder made its descriptors, so nobody can"
            f" tell whether it is the bank's ('{bank.encoder}'); neighbours mean nothing if it is not",
            stacklevel=3,
        )
    elif data.subject and bank.encoder == "unknown":
        warnings.warn(
            "the bank does not say which encoder made it, so nobody can tell whether it is the capture's "
            f"('{data.encoder}'); neighbours mean nothing if it is not",
            stacklevel=3,
        )


def _donor_of(bank: ExpressionBank, subject: str) -> int | str | None:
    """The donor of a bank who bears the subject's id; None where nobody does."""
    named = np.unique(bank.donors)
    return (
        next((donor.item() for donor in named if str(donor).strip() == subject.strip()), None)
        if subject
        else None
    )


def _check_excluded(augmentation: RetrievalAugmentation, data: TrainingSet) -> None:
    """ValueError where an augmentation may take from a donor who is the subject."""
    bank, frames = augmentation.bank, data.descriptors
    own = frames if data.held_out is None else np.concatenate([frames, data.held_out])
    named = _donor_of(bank, data.subject)
    for donor in (*([] if named is None else [named]), *same_people(bank, own, data.reference)):
        if donor not in augmentation.excluded:
            raise ValueError(
                f"donor {donor} of the bank is the subject by name or frames, and the augmentation may take"
                f" of them; make it with subject={donor!r}, and fit it"
            )


class Trainer:
    """Trains one avatar on one capture, writing to `folder`: avatar.safetensors, log.jsonl and a checkpoint.

    bank: needed when `config.retrieval` names a setting. augmentation: any other object that changes
    descriptors, fitted where it has to be; instead of `config.retrieval`, never beside it. It is asked on the
    CPU, and one run is told from another by its `repr`, so let that say its settings, as a dataclass's does.
    prior: where `config.prior` asks for one, a MotionPrior of your own or the file of one; without it the
    one that ships. field_settings: sizes of the field other than its own, as {"bases": 48}.
    device: where it runs (default: CUDA if usable, else CPU).

    Nothing is retrieved from a donor who bears the subject's id or has the subject's very frames; a warning
    says so.

    Raises ValueError for retrieval without a bank or beside an augmentation, for an augmentation that has no
    `augment`, for a bank or a prior of another encoder than the capture's descriptors, for a prior that the
    config does not ask for, and for a setting that the field does not have; FileNotFoundError for a prior's
    file that is not there.

    >>> from dataclasses import replace
    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> capture = replace(open_capture(find_data() / "mini_nersemble" / "001"), sequences=("EXP-1-head",))
    >>> config = TrainConfig(steps=3, size=64, coarse_steps=0, gaussians=200)
    >>> data = TrainingSet.from_capture(capture, config, progress=False)
    >>> avatar = Trainer(data, config, "out", progress=False).train()
    >>> len(avatar.means), sorted(path.name for path in Path("out").glob("[a-z]*"))
    (200, ['avatar.safetensors', 'log.jsonl'])
    """

    def __init__(
        self,
        data: TrainingSet,
        config: TrainConfig,
        folder: str | Path,
        *,
        bank: ExpressionBank | None = None,
        augmentation: Augmentation | None = None,
        prior: MotionPrior | str | Path | None = None,
        field_settings: Mapping[str, int] | None = None,
        device: str | None = None,
        progress: bool = True,
    ) -> None:
        self.data, self.config, self.folder, self.progress = data, config, Path(folder), progress
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        with named_in_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        if augmentation is not None and not isinstance(augmentation, Augmentation):
            raise ValueError(
                f"the augmentation is {augmentation!r}, which has no augment(descriptors, generator, index);"
                " name a setting in TrainConfig.retrieval, or pass an object that has it"
            )
        self.augmentation = augmentation
        if config.retrieval is not None:
            if augmentation is not None:
                raise ValueError(
                    f"retrieval '{config.retrieval}' and an augmentation were both asked for; give one of"
                    " them"
                )
            if bank is None:
                raise ValueError(
                    f"retrieval '{config.retrieval}' needs an expression bank; pass"
                    " bank=ExpressionBank.load(...)"
                )
            _check_encoder(bank, data, config.descriptor)
            subject = _donor_of(bank, data.subject)
            if subject is not None:
                warnings.warn(
                    f"the bank has a donor {subject}, as the subject is called: nothing is taken of them",
                    stacklevel=2,
                )
            self.augmentation = RetrievalAugmentation.named(
                bank, config.retrieval, p=config.retrieval_p, subject=subject
            ).fit(data.descriptors, encoder=data.encoder, held_out=data.held_out, reference=data.reference)
        elif isinstance(augmentation, RetrievalAugmentation):
            _check_encoder(augmentation.bank, data, config.descriptor)
            _check_excluded(augmentation, data)
        prior = _asked_prior(config, prior)
        field_settings = dict(field_settings or {})
        known = list(inspect.signature(FIELDS[config.field]).parameters)[2:]  # after its own two sizes
        if unknown := sorted(field_settings.keys() - known):
            raise ValueError(
                f"the field '{config.field}' has no setting '{unknown[0]}'; give {' or '.join(known)}"
            )
        # Two streams, so that the baseline and RAF draw the same frames and cameras.
        self.generator = torch.Generator().manual_seed(config.seed)
        self.augmentation_generator = torch.Generator().manual_seed(config.seed + 1)
        # The network's random start is torch's global stream: seeded here, put back after.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            deviation = data.descriptors.std(0).mean()
            self.avatar = GaussianAvatar.from_capture(
                *_first_views(data),
                gaussians=config.gaussians,
                rng=np.random.default_rng(config.seed),
                descriptor=config.descriptor,
                descriptor_mean=data.descriptors.mean(0),
                descriptor_scale=2.5 * max(float(deviation), 1e-6),
                neutral_descriptor=data.descriptors[data.neutral],
                front=data.front,
                provenance=_provenance(data, config, self.augmentation, prior, field_settings),
                field=config.field,
                field_settings=field_settings,
                landmarks=data.landmarks if len(data.cameras) == 1 else None,
            ).to(self.device)
        if config.landmark_motion and data.displacements is not None and data.landmarks is not None:
            self.avatar.ride(data.landmarks, data.displacements, data.descriptors)
        if prior is not None:
            self.avatar.lean_on(prior, _prior_landmarks(data, prior), data.descriptors)
        one, frames = len(data.cameras) == 1, len(data.names)
        self.poses = self.exposure = self.focal = None
        if one and config.lr_poses > 0:
            self.poses = PoseCorrections(frames, config.lr_poses, self.device)
        if one and config.lr_exposure > 0:
            self.exposure = ExposureCorrections(frames, config.lr_exposure, self.device)
        if one and config.lr_focal > 0:
            self.focal = FocalCorrection(config.lr_focal, self.device)
        self._given_front = self.avatar.front
        self._corrections = [c for c in (self.poses, self.exposure, self.focal) if c is not None]
        self.optimizer = torch.optim.Adam(self._parameter_groups(), eps=1e-15, fused=True)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(
            self.optimizer, config.lr_final ** (1 / config.steps)
        )
        self.step = 0
        self.images = torch.from_numpy(data.images)
        self.masks = torch.from_numpy(data.masks)
        self.counts = None if data.counts is None else torch.from_numpy(data.counts)
        self.descriptors = torch.from_numpy(data.descriptors)
        self.views = torch.as_tensor(
            np.stack([[self.avatar.view(c, pose) for c in data.cameras] for pose in data.head_poses]),
            dtype=torch.float32,
        )
        front = self.avatar.view(frontal_camera(self.avatar, config.size), np.eye(4))
        filmed = self.views if data.seen is None else self.views[torch.from_numpy(data.seen)]
        self.avatar.views = ViewRange.of(view_angles(filmed.reshape(-1, 4, 4).numpy(), front))
        self.Ks = torch.as_tensor(
            np.stack([c.K for c in data.cameras]), dtype=torch.float32, device=self.device
        )

    def _parameter_groups(self) -> list[dict]:
        a, c = self.avatar, self.config
        output = [a.field.basis] if c.field == "basis" else list(a.field.head.parameters())
        network = [p for p in a.field.parameters() if not any(p is o for o in output)]
        return [
            {"params": [a.means], "lr": c.lr_means},
            {"params": [a.quats], "lr": c.lr_quats},
            {"params": [a.log_scales], "lr": c.lr_scales},
            {"params": [a.opacity_logits], "lr": c.lr_opacities},
            {"params": [a.color_logits], "lr": c.lr_colors},
            {"params": output, "lr": c.lr_basis},
            {"params": network, "lr": c.lr_network},
        ]

    def train(
        self, resume: bool = False, watch: Callable[[Trainer, dict], None] | None = None
    ) -> GaussianAvatar:
        """Run all steps and write the avatar.

        resume: go on from the folder's checkpoint, to the same result; an avatar that the same settings and
        data have already given is read instead of trained again. A trainer that was interrupted goes on where
        it stopped either way.
        watch: called with this trainer and each line of the log (every 50 steps and at the end: step,
        seconds, psnr and the terms of the loss); it may look, and must not change anything.

        Ctrl-C, a notebook's interrupt and SIGTERM let the step end and write a checkpoint before they stop
        it.

        Raises TimeoutError where another process trains into the folder, ValueError for a checkpoint of
        another run, and FloatingPointError naming step, frame and camera when the loss or a gradient is not
        finite; the last checkpoint stays."""
        if self.step == 0 and resume and (self.folder / CHECKPOINT).exists():
            self._load_checkpoint()
        elif self.step == 0 and resume and self._is_finished():
            print(f"{self.folder / AVATAR} is trained already; delete it to train again")
            return self.avatar
        with locked(self.folder, 0), held_back() as stopped:
            self._run(watch, stopped)
            if self.step == self.config.steps:
                self.avatar.follow()
                self._fill_unseen()
                self.avatar.follow()  # what was filled is turned now
                self._fade_uncounted()
                if self.focal is not None and self._given_front is not None:
                    self.avatar.front = self.focal.camera(self._given_front)
                self.avatar.save(self.folder / AVATAR)
                (self.folder / CHECKPOINT).unlink(missing_ok=True)
        return self.avatar

    def _run(self, watch: Callable[[Trainer, dict], None] | None, stopped: Callable[[], bool]) -> None:
        """The steps that are left, logged and checkpointed, until they are done or `stopped`."""
        before = self._keep_log()
        clock = time.perf_counter()
        kind = (
            "baseline"
            if self.augmentation is None
            else self.config.retrieval or type(self.augmentation).__name__
        )
        with (
            tqdm(total=self.config.steps, initial=self.step, desc=kind, disable=not self.progress) as bar,
            open(self.folder / LOG, "a", encoding="utf-8", newline="\n") as log,
        ):
            while self.step < self.config.steps:
                mse, terms = self._take_step()
                bar.update()
                if self.step % 50 == 0 or self.step == self.config.steps:
                    psnr = -10 * math.log10(max(float(mse), 1e-12))
                    bar.set_postfix(psnr=f"{psnr:.1f} dB")
                    line = {
                        "step": self.step,
                        "seconds": round(before + time.perf_counter() - clock, 2),
                        "psnr": round(psnr, 3),
                    }
                    line |= {k: round(float(v.detach()), 6) for k, v in terms.items()}
                    log.write(json.dumps(line) + "\n")
                    log.flush()
                    if watch is not None:
                        self._show(watch, line)
                if stopped() and self.step < self.config.steps:
                    self._save_checkpoint()
                    bar.write(
                        f"stopped at step {self.step} of {self.config.steps}; training with the same settings"
                        f" and data goes on from {self.folder / CHECKPOINT}"
                    )
                    return
                if self.step % self.config.checkpoint_every == 0 and self.step < self.config.steps:
                    self._save_checkpoint()

    def _told(self) -> np.ndarray:
        """Up to TOLD_BY views [V, 2], row and camera, spread over all that were filmed."""
        seen = (
            np.ones((len(self.data.names), len(self.data.cameras)), bool)
            if self.data.seen is None
            else self.data.seen
        )
        views = np.argwhere(seen)
        return views[np.unique(np.linspace(0, len(views) - 1, TOLD_BY).round().astype(int))]

    def _fill_unseen(self) -> None:
        """Fill what one camera alone has never seen from what is beside it."""
        if len(self.data.cameras) > 1 or self.data.landmarks is None:
            return
        rows, device = self._told()[:, 0], self.device
        counts = [
            torch.ones(self.images.shape[2:4], device=device)
            if self.counts is None
            else self.counts[row, 0].to(device).float() / 255
            for row in rows
        ]
        made = pixels_made(
            self.avatar,
            self.descriptors[rows].to(device),
            self.views[rows, 0].to(device),
            self.Ks[[0] * len(rows)],
            counts,
        )
        fill_unseen(self.avatar, made)

    @torch.no_grad()
    def _fade_uncounted(self) -> None:
        """Let Gaussians be as opaque as the pixels count on which they lie, the mean of up to TOLD_BY views:
        what does not count has taught them nothing."""
        if self.counts is None:
            return
        # A long one reaches where its middle is not: the ends of its longest axis are asked too.
        a, (height, width) = self.avatar, self.counts.shape[2:]
        longest, axis = a.log_scales.exp().max(1)
        turn = Rotation.from_quat(a.quats[:, [1, 2, 3, 0]].cpu().numpy()).as_matrix()
        along = torch.as_tensor(turn, dtype=torch.float32, device=self.device)
        reach = 2 * longest[:, None] * along[torch.arange(len(axis)), :, axis]
        points = torch.stack([a.means - reach, a.means, a.means + reach])
        views = self._told()
        share = torch.zeros(points.shape[:2], device=self.device)
        for row, camera in views.tolist():
            view = self.views[row, camera].to(self.device)
            pixels = (points @ view[:3, :3].T + view[:3, 3]) @ self.Ks[camera].T
            x, y = (pixels[..., :2] / pixels[..., 2:]).floor().long().unbind(-1)
            counts = self.counts[row, camera].to(self.device).float() / 255
            share += counts[y.clamp(0, height - 1), x.clamp(0, width - 1)] / len(views)
        opacities = torch.sigmoid(a.opacity_logits) * share.min(0).values
        a.opacity_logits.copy_(torch.logit(opacities, eps=1e-6))

    def asks_prior(self, step: int) -> bool:
        """Whether the motion prior, where there is one, is asked anew before this step: the learning rates
        fall, so Gaussians go ever less far a step."""
        gamma = self.schedule.gamma
        done, before = (  # each step counted as the part of a first one that its rate is
            s if gamma == 1 else (1 - gamma**s) / (1 - gamma) for s in (step, step - 1)
        )
        return step == 0 or done // PRIOR_EVERY > before // PRIOR_EVERY

    def _show(self, watch: Callable[[Trainer, dict], None], line: dict) -> None:
        """Let `watch` look; whatever it raises, the steps so far are kept."""
        try:
            watch(self, line)
        except BaseException:
            self._save_checkpoint()
            raise

    def _take_step(self) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """One optimiser step on one frame: the mean squared error of its pictures, and the terms of its
        loss."""
        # Two draws a step before anything else happens, so the order of frames is independent of what
        # training does.
        row = int(torch.randint(len(self.descriptors), (1,), generator=self.generator))
        if self.asks_prior(self.step):
            self.avatar.follow()
        cameras = torch.randperm(len(self.data.cameras), generator=self.generator)
        if self.data.seen is not None:
            cameras = cameras[torch.from_numpy(self.data.seen[row])[cameras]]
        cameras = cameras[: self.config.views]
        descriptor = self.descriptors[row : row + 1]
        if self.augmentation is not None:
            descriptor, _ = self.augmentation.augment(
                descriptor, self.augmentation_generator, index=torch.tensor([row])
            )
        target = self.images[row, cameras].to(self.device).float() / 255
        mask = self.masks[row, cameras].to(self.device).float() / 255
        counts = None
        if self.counts is not None:
            counts = self.counts[row, cameras].to(self.device).float() / 255
            mask = mask + (1 - counts)  # all of the person, as the pictures show them
        Ks = self.Ks[cameras]
        if self.step < self.config.coarse_steps:
            target, mask, counts, Ks = _halve(target, mask, counts, Ks)
        viewmats = self.views[row, cameras].to(self.device)
        if self.poses is not None:
            viewmats = self.poses.view(row, viewmats)
        if self.focal is not None:
            viewmats = self.focal.view(viewmats)
        try:
            image, alpha, offsets = self.avatar.splat(
                descriptor[0].to(self.device), viewmats, Ks, mask.shape[2], mask.shape[1]
            )
        except ValueError as error:  # the rasteriser refuses Gaussians that are not finite
            raise self._broken(row, cameras) from error
        if self.exposure is not None:
            self.exposure.look(row, image, alpha, target, counts)
            image = self.exposure.shown(row, image, alpha)
        if counts is not None:
            image, alpha = counted(image, target, counts), counted(alpha, mask[..., None], counts)
        c = self.config
        terms = reconstruction_loss(
            image,
            alpha,
            offsets,
            target,
            mask,
            ssim_weight=c.ssim_weight,
            mask_weight=c.mask_weight,
            offset_weight=c.offset_weight,
        )
        if self.focal is not None:
            terms["focal"] = self.focal.cost()
            terms["total"] = terms["total"] + terms["focal"]
        descended = [correction for correction in (self.poses, self.focal) if correction is not None]
        optimizers = [self.optimizer, *(correction.optimizer for correction in descended)]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        self._guard(terms["total"], row, cameras)
        for optimizer in optimizers:
            optimizer.step()
        self.schedule.step()
        self.step += 1
        mse = (image.detach() - target).square().mean()
        return mse if counts is None else mse / counts.mean().clamp(min=1e-6), terms

    def _keep_log(self) -> float:
        """Cut the log to the steps that are done, each once; the seconds that they took."""
        path, kept = self.folder / LOG, []
        if self.step > 0 and path.exists():
            for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
                # A line that a kill cut short.
                with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError, RecursionError):
                    line = json.loads(text)
                    if (kept[-1]["step"] if kept else 0) < line["step"] <= self.step and math.isfinite(
                        line["seconds"]
                    ):
                        kept.append(line)
        with atomic_path(path) as tmp:
            tmp.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8", newline="\n")
        return kept[-1]["seconds"] if kept else 0.0

    def _is_finished(self) -> bool:
        """Whether the folder holds the avatar of this very run; if so it becomes `self.avatar`."""
        try:
            done = GaussianAvatar.load(self.folder / AVATAR, self.device)
        except (FileNotFoundError, ValueError):
            return False
        theirs, mine = done.origin(), self.avatar.origin()
        if self.focal is not None:  # its lens was learned
            theirs, mine = ({k: v for k, v in origin.items() if k != "front"} for origin in (theirs, mine))
        if theirs == mine:
            self.avatar, self.step = done, self.config.steps
            return True
        return False

    def _guard(self, loss: torch.Tensor, row: int, cameras: torch.Tensor) -> None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.avatar.parameters() if p.grad is not None])
        if not torch.isfinite(loss + norm):
            raise self._broken(row, cameras)

    def _broken(self, row: int, cameras: torch.Tensor) -> FloatingPointError:
        sequence, frame = self.data.names[row]
        serials = ", ".join(self.data.cameras[c].serial for c in cameras.tolist())
        return FloatingPointError(
            f"step {self.step}: Gaussians, loss or gradient are not finite at {sequence} frame {frame}, "
            f"camera(s) {serials}; look at that frame, or lower the learning rates"
        )

    def _save_checkpoint(self) -> None:
        tensors = {f"avatar.{k}": v for k, v in self.avatar.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{k}": v for k, v in state.items()}
        for correction in self._corrections:
            tensors |= correction.state()
        tensors["generator"] = self.generator.get_state()
        tensors["augmentation_generator"] = self.augmentation_generator.get_state()
        write_checkpoint(
            self.folder / CHECKPOINT, {"step": self.step, "provenance": dict(self.avatar.provenance)}, tensors
        )

    def _load_checkpoint(self) -> None:
        """Become what the checkpoint holds, or raise ValueError and stay as it is."""
        path = self.folder / CHECKPOINT
        header, tensors = read_checkpoint(path)
        self._check_provenance(path, header.get("provenance"))
        step = header.get("step")
        if type(step) is not int or not 0 < step <= self.config.steps:
            raise ValueError(f"{path} is damaged (it says step {step!r} of {self.config.steps}); {MEND}")
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if not self._belong(tensors, parameters):
            raise ValueError(f"{path} is damaged (its tensors are not those of this avatar); {MEND}")
        state = {k.removeprefix("avatar."): v for k, v in tensors.items() if k.startswith("avatar.")}
        adam = {
            i: {moment: tensors[f"adam.{i}.{moment}"] for moment in _MOMENTS} for i in range(len(parameters))
        }
        try:
            for name in ("generator", "augmentation_generator"):
                torch.Generator().set_state(tensors[name])
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(f"{path} is damaged (its random state is none); {MEND}") from error
        self.avatar.load_state_dict(state)
        self.optimizer.load_state_dict(
            {"state": adam, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        for correction in self._corrections:
            correction.load(tensors)
        self.generator.set_state(tensors["generator"])
        self.augmentation_generator.set_state(tensors["augmentation_generator"])
        self.step = step
        # Multiplied as often as the schedule did: a power is another last bit.
        for group in self.optimizer.param_groups:
            for _ in range(step):
                group["lr"] *= self.schedule.gamma
        self.schedule.last_epoch = step

    def _belong(self, tensors: Mapping[str, torch.Tensor], parameters: list[torch.nn.Parameter]) -> bool:
        """Whether a checkpoint has the tensors that a run of this avatar has: names, shapes, kinds, signs."""
        wanted = {f"avatar.{k}": (v.shape, v.dtype) for k, v in self.avatar.state_dict().items()}
        for i, parameter in enumerate(parameters):
            shapes = {"step": torch.Size([]), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
            wanted |= {f"adam.{i}.{moment}": (shapes[moment], torch.float32) for moment in _MOMENTS}
        for correction in self._corrections:
            wanted |= {k: (v.shape, v.dtype) for k, v in correction.state().items()}
        random = {"generator", "augmentation_generator"}
        found = {name: (v.shape, v.dtype) for name, v in tensors.items() if name not in random}
        never_negative = [v for name, v in tensors.items() if name.endswith((".step", ".exp_avg_sq"))]
        return found == wanted and all((v >= 0).all() for v in never_negative)

    def _check_provenance(self, path: Path, theirs: object) -> None:
        """ValueError that says in what a checkpoint's run differs from this one, unless in nothing."""
        mine = json.loads(json.dumps(dict(self.avatar.provenance)))
        if not isinstance(theirs, dict):
            raise ValueError(f"{path} does not say what it was made from; {MEND}")
        if theirs == mine:
            return
        other = sorted(name for name in {*theirs, *mine} if theirs.get(name) != mine.get(name))
        mend = "use them, another folder, or delete it"
        if "config" in other and isinstance(theirs.get("config"), dict):
            fields = [
                name for name, value in mine["config"].items() if theirs["config"].get(name, value) != value
            ]
            raise ValueError(
                f"{path} belongs to a run with other settings ({', '.join(fields) or 'of another version'});"
                f" {mend}"
            )
        if "field_settings" in other:
            raise ValueError(f"{path} belongs to a run with other settings of the field; {mend}")
        if "augmentation" in other:
            raise ValueError(
                f"{path} belongs to a run with another augmentation; use it, another folder, or delete it"
            )
        if "raf_lite" in other:
            raise ValueError(
                f"{path} was written by raf_lite {theirs.get('raf_lite')}; go on with that version, or"
                " delete it"
            )
        raise ValueError(
            f"{path} belongs to a run on other frames, masks, cameras or another bank or index; {mend}"
        )
