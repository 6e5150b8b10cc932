"""One's own film into an avatar, in one call: encode, matte, cut out, train, grade on what was held out.

Every step leaves its result on disk, with what it was made from, and is not done twice.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from raf_lite.avatar import GaussianAvatar
from raf_lite.bank import ExpressionBank
from raf_lite.captures import Capture, open_capture
from raf_lite.captures.matting import matte_video
from raf_lite.descriptors.encode_video import VideoDetections, find_encoding
from raf_lite.descriptors.mediapipe import encoder_if_possible
from raf_lite.evaluation import evaluate, networks_at_hand
from raf_lite.training import TrainConfig, Trainer, TrainingSet
from raf_lite.viewing import held_out_video

HELD_OUT = 0.2  # of a film, its end: frames next to each other are nearly the same, so not every fifth one
GRADED = 30  # held-out frames, at most
NAME = "avatar"
CONSENT = (
    "raf_lite: an avatar shows a person saying what they never said; train it on your own face, or on"
    " somebody's who agreed to it. Films of it carry 'synthetic' in their metadata."
)
# How far a head reaches beyond its landmarks, in heights of the face: hair above, ears aside, neck below.
ABOVE, ASIDE, BELOW = 0.55, 0.4, 0.4


@dataclass(frozen=True)
class OwnAvatar:
    """What came of a film: the avatar and its file, errors on held-out frames (`evaluate`'s table), a film of
    them.

    >>> [field for field in OwnAvatar.__annotations__]
    ['avatar', 'path', 'table', 'film']
    """

    avatar: GaussianAvatar
    path: Path
    table: pd.DataFrame
    film: Path


def head_box(encoding: VideoDetections) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the part of the pictures that the head keeps to, in pixels.

    The box round the landmarks of every frame, grown by as much as a head is larger than its face.
    """
    seen = encoding.landmarks[encoding.face_found][..., :2]
    low, high = seen.min(1), seen.max(1)
    height = (high - low)[:, 1]
    aside, above, below = ASIDE * height, ABOVE * height, BELOW * height
    left, top = (low[:, 0] - aside).min(), (low[:, 1] - above).min()
    right, bottom = (high[:, 0] + aside).max(), (high[:, 1] + below).max()
    width, tall = encoding.size
    x0, y0 = int(np.clip(left, 0, width - 2)), int(np.clip(top, 0, tall - 2))
    x1, y1 = int(np.clip(np.ceil(right), x0 + 2, width)), int(np.clip(np.ceil(bottom), y0 + 2, tall))
    return x0, y0, x1 - x0, y1 - y0


def check_film(encoding: VideoDetections, video: Path) -> None:
    """ValueError for a film of which no avatar comes: several people, or one still picture."""
    crowd = int((encoding.faces > 1).sum())
    if crowd > 0.1 * len(encoding):
        raise ValueError(
            f"{video}: {crowd} of {len(encoding)} frames show several faces, and a matte would keep them all;"
            " give a film of one person, or a folder of images with masks of your own"
        )
    seen = encoding.landmarks[encoding.face_found]
    if len(seen) < 10:
        raise ValueError(f"{video}: a face was found in {len(seen)} frames only; film the face for longer")
    if float(seen.std(0).max()) < 0.5:
        raise ValueError(
            f"{video} shows a still picture: its face does not move by a pixel; film it as it speaks"
        )


def open_own(video: Path, encoding: VideoDetections, size: int, held_out: float = HELD_OUT) -> Capture:
    """A film as a capture of the head alone, its pictures about `size` pixels high or wide."""
    left, top, width, height = head_box(encoding)
    factor = max(1, round(max(width, height) / size))
    return open_capture(
        video,
        crop=(left, top, width // factor * factor, height // factor * factor),
        downscale=factor,
        held_out=held_out,
    )


def train_video(
    video: str | os.PathLike,
    out: str | os.PathLike,
    settings: TrainConfig,
    *,
    bank: ExpressionBank | None = None,
    held_out: float = HELD_OUT,
    progress: bool = True,
) -> OwnAvatar:
    """Train an avatar on a film of one person, into `out`: avatar.safetensors, metrics.json and held_out.mp4.

    Encoding and matte lie beside the film. held_out: the share of the frames, its end, that is not trained
    on but graded, as tracked and with the head moved to where it fits best ("aligned"), and filmed. Raises
    ValueError for a film of no face, of several, or of a still picture, before anything takes minutes.

    >>> from raf_lite.captures import write_video
    >>> from raf_lite.manifest import find_data
    >>> from raf_lite.training import PRESETS
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001")
    >>> frame = capture.first_frame("FREE", capture.encoder_camera)
    >>> write_video("still.mp4", [frame] * 12, fps=24)
    >>> train_video("still.mp4", "out/still", PRESETS["video"], progress=False)
    Traceback (most recent call last):
    ...
    ValueError: still.mp4 shows a still picture: its face does not move by a pixel; film it as it speaks
    """
    video, out = Path(video), Path(out)
    print(CONSENT)
    encoding = find_encoding(video, progress=progress)
    check_film(encoding, video)
    matte_video(video, progress=progress)
    capture = open_own(video, encoding, settings.size, held_out)
    data = TrainingSet.from_capture(capture, settings, progress=progress)
    avatar = Trainer(data, settings, out, bank=bank, progress=progress).train(resume=True)
    size = max(data.images.shape[2:4])
    (unseen,) = capture.split().holdout_sequences
    with encoder_if_possible() or nullcontext() as encoder:
        table = evaluate(
            {NAME: avatar},
            capture,
            {},
            size=size,
            out=out / "metrics.json",
            encoder=encoder,
            networks=networks_at_hand(),
            frame_step=max(1, capture.n_frames(unseen) // GRADED),
            align=True,
            progress=progress,
        )
    film = held_out_video(out / "held_out.mp4", avatar, capture, unseen)
    return OwnAvatar(avatar, out / "avatar.safetensors", table, film)
