"""What the lessons share: the two avatars that several of them look at, trained in lessons 05 and 06 or
shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from raf_lite.avatar import GaussianAvatar
from raf_lite.course.setup import Session
from raf_lite.manifest import find_data, update_manifest
from raf_lite.retrieval import RetrievalAugmentation
from raf_lite.training import PRESETS, TrainConfig, Trainer, TrainingSet

# name -> setting of raf_lite.retrieval (None: no retrieval)
AVATARS = {"baseline": None, "centred": "centred"}
SUBJECT = "001"
OUT = Path("out")  # beside the notebooks, which run in their folder
CHECKPOINTS = "checkpoints"


def lesson_config(session: Session, name: str = "baseline") -> TrainConfig:
    """The settings with which lessons 05 and 06 train "baseline" and "centred": a minute each on two CPU
    cores.

    >>> from raf_lite import Session
    >>> config = lesson_config(Session("cpu", fast=False), "centred")
    >>> config.retrieval, config.size
    ('centred', 192)
    """
    if name not in AVATARS:
        raise ValueError(f"the lessons have no avatar '{name}'; choose one of {', '.join(AVATARS)}")
    config = (
        PRESETS["fast"] if session.fast else PRESETS["cpu"].with_(size=192, coarse_steps=1200, gaussians=5000)
    )
    return config.with_(retrieval=AVATARS[name])


def avatar_folder(name: str, session: Session) -> Path:
    """Where lessons 05 and 06 keep an avatar; what was trained with RAF_FAST=1 has a folder of its own.

    >>> from raf_lite import Session
    >>> avatar_folder("baseline", Session("cpu", fast=True)).parts
    ('out', 'avatars_fast', 'baseline')
    """
    lesson_config(session, name)
    return OUT / ("avatars_fast" if session.fast else "avatars") / name


def trained_avatar(name: str, session: Session) -> GaussianAvatar:
    """The avatar "baseline" or "centred" of subject 001: the one that lesson 05 or 06 has trained here, else
    the shipped one.

    Prints which. One that is damaged or half written is named and passed over. With RAF_FAST=1 it is always
    the shipped one, since one of 60 steps shows nothing. Raises FileNotFoundError where nothing is shipped
    either.

    >>> from raf_lite import Session
    >>> trained_avatar("centred", Session("cpu", fast=True)).descriptor
    centred: the shipped one (...)
    'blendshapes'
    """
    path = avatar_folder(name, session) / "avatar.safetensors"
    if path.is_file() and not session.fast:
        try:
            avatar = GaussianAvatar.load(path, session.device)
            print(f"{name}: the one that you trained, {path}")
            return avatar
        except ValueError as error:
            print(f"{name}: passed over, {error}")
    shipped = find_data() / CHECKPOINTS / f"{SUBJECT}-{name}.safetensors"
    avatar = GaussianAvatar.load(shipped, session.device)
    print(f"{name}: the shipped one ({avatar.provenance['config']['steps']} steps)")
    return avatar


def train_landmark_net(
    descriptors: np.ndarray,
    landmarks: np.ndarray,
    augmentation: RetrievalAugmentation | None,
    *,
    steps: int,
    seed: int,
) -> Callable[[np.ndarray], np.ndarray]:
    """Lesson 06's stand-in for an avatar: a small network from descriptors [N, D] to landmarks [N, L],
    trained in a second.

    Runs of one seed see the same rows in the same order whatever the augmentation. Returns a function from
    descriptors [T, D] to landmarks [T, L].

    >>> descriptors = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    >>> predict = train_landmark_net(descriptors, descriptors[:, :2], None, steps=10, seed=0)
    >>> predict(descriptors[:5]).shape
    (5, 2)
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = torch.nn.Sequential(
            torch.nn.Linear(descriptors.shape[1], 128),
            torch.nn.ReLU(),
            torch.nn.Linear(128, 128),
            torch.nn.ReLU(),
            torch.nn.Linear(128, landmarks.shape[1]),
        )
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    targets = torch.as_tensor(landmarks, dtype=torch.float32)
    rng, augmentation_rng = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    for _ in range(steps):
        rows = rng.integers(len(descriptors), size=64)
        inputs = descriptors[rows]
        if augmentation is not None:
            inputs, _ = augmentation.augment(inputs, augmentation_rng, index=rows)
        loss = (net(torch.as_tensor(inputs, dtype=torch.float32)) - targets[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return lambda values: net(torch.as_tensor(values, dtype=torch.float32)).detach().numpy()


def build_checkpoints(data_dir: Path, work: Path) -> None:
    """Train the lessons' avatars on `data_dir`'s capture and put them there in half precision; `work` keeps
    training resumable.

    Takes about three minutes on two cores. Equal runs on one machine give equal files; another machine rounds
    differently."""
    from raf_lite.bank import ExpressionBank
    from raf_lite.captures import open_capture

    session = Session("cpu", fast=False)
    capture, bank = (
        open_capture(data_dir / "mini_nersemble" / SUBJECT),
        ExpressionBank.load(data_dir / "bank", "blendshapes"),
    )
    training_set = TrainingSet.from_capture(capture, lesson_config(session))
    for name in AVATARS:
        avatar = Trainer(
            training_set, lesson_config(session, name), work / name, bank=bank, device=session.device
        ).train(resume=True)
        target = data_dir / CHECKPOINTS / f"{SUBJECT}-{name}.safetensors"
        target.parent.mkdir(exist_ok=True)
        avatar.save(target, half=True)
    update_manifest(
        data_dir, CHECKPOINTS, "trained by `raf-lite data checkpoints` on mini_nersemble/001, half precision"
    )
