"""One's own film into an avatar, in one call: encode, matte, cut out, train, grade on what was held out.

Every step leaves its result on disk, with what it was made from, and is not done twice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from raf_lite.avatar import GaussianAvatar
from raf_lite.bank import ExpressionBank
from raf_lite.captures import Capture
from raf_lite.captures.formats.encoding import encoding_file, found_encoding
from raf_lite.captures.formats.plain import HELD_OUT as HELD_OUT_SEQUENCE
from raf_lite.captures.formats.plain import SEQUENCE, open_video
from raf_lite.captures.matting import Matting, matte_video
from raf_lite.course.film_frames import (
    HIDES,
    MISSES,
    FilmFrames,
    check_film,
    film_frames,
    find_cuts,
    hidden_faces,
    missed_faces,
    probe_film,
    require_both,
)
from raf_lite.course.frames_file import FramesFile
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
    them, and the capture of the frames that were used: its sequences `video` and `held-out`.

    >>> [field for field in OwnAvatar.__annotations__]
    ['avatar', 'path', 'table', 'film', 'capture']
    """

    avatar: GaussianAvatar
    path: Path
    table: pd.DataFrame
    film: Path
    capture: Capture


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


def open_own(
    video: Path, encoding: VideoDetections, size: int, frames: FilmFrames | float = HELD_OUT
) -> Capture:
    """A film as a capture of the head alone, its pictures about `size` pixels high or wide, of which none is
    kept in memory. frames: which are trained on and which held out, or the share of the film, its end, that
    is held out."""
    if isinstance(frames, FilmFrames):
        crop, factor = _framing(encoding, size, frames.used)
        sequences = {SEQUENCE: frames.trained, HELD_OUT_SEQUENCE: frames.held_out}
        return open_video(video, factor, crop, cache_bytes=0, frames=sequences)
    crop, factor = _framing(encoding, size, range(len(encoding)))
    return open_video(video, factor, crop, cache_bytes=0, held_out=frames)


def _framing(
    encoding: VideoDetections, size: int, frames: Sequence[int]
) -> tuple[tuple[int, int, int, int], int]:
    """The part of the pictures in which the head is in some frames, and the whole factor by which it is
    reduced to about `size` pixels."""
    kept = np.zeros(len(encoding), bool)
    kept[list(frames)] = True
    left, top, width, height = head_box(replace(encoding, face_found=encoding.face_found & kept))
    factor = max(1, round(max(width, height) / size))
    return (left, top, width // factor * factor, height // factor * factor), factor


def used_frames(
    video: Path,
    encoding: VideoDetections,
    out: Path,
    size: int,
    *,
    held_out: float = HELD_OUT,
    matting: Matting = "selfie",
    progress: bool = True,
) -> FilmFrames:
    """Which frames of an encoded film are used, by `raf_lite.course.film_frames`; matted on the way, where
    they are not yet.

    What out/frames.json has found of this film with these settings is not looked for again; the file is
    written. Raises as `film_frames`, `matte_video`, `missed_faces` and `require_both`.
    """
    settings = {"held_out_share": held_out, "size": size}
    kept = FramesFile(
        out / "frames.json", video, found_encoding(video) or encoding_file(video), len(encoding), settings
    )
    cuts = kept.frames("cuts", lambda: find_cuts(video, progress=progress))
    frames = film_frames(video, encoding, held_out, cuts=cuts)
    whole = frames.used
    crop, factor = _framing(encoding, size, whole)
    hidden = kept.frames(HIDES, lambda: hidden_faces(video, encoding, whole, crop, factor, progress=progress))
    frames = frames.without(hidden, HIDES)
    kept.write(frames)  # a run that is stopped while it mattes loses none of it
    # Much more than is needed would take long; about as much serves other settings too.
    shown = frames.used
    few = len(shown) < len(encoding) / 2
    matte = matte_video(video, shown if few else None, matting=matting, progress=progress)
    missed = kept.frames(MISSES, lambda: missed_faces(encoding, shown, matte), matte)
    frames = frames.without(missed, MISSES)
    require_both(frames, video)
    kept.write(frames)
    return frames


def train_video(
    video: str | os.PathLike,
    out: str | os.PathLike,
    settings: TrainConfig,
    *,
    bank: ExpressionBank | None = None,
    held_out: float = HELD_OUT,
    matting: Matting = "selfie",
    progress: bool = True,
) -> OwnAvatar:
    """Train an avatar on a film of one person, into `out`: avatar.safetensors, metrics.json and held_out.mp4.

    Encoding and matte lie beside the film. held_out: the share of the frames, its end, that is not trained
    on but graded, as tracked and with the head moved to where it fits best ("aligned"), and filmed. matting:
    which segmenter finds the person; with `multiclass` clothes are no part of the head.
    `raf_lite.course.film_frames` says which frames are used; out/frames.json lists them. Raises ValueError
    for a film of no face, of several people, or of a still picture before anything takes minutes, and where
    most frames have a face that runs out of the picture or a matte that misses it.

    >>> from raf_lite.captures import open_capture, write_video
    >>> from raf_lite.manifest import find_data
    >>> from raf_lite.training import PRESETS
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001")
    >>> frame = capture.first_frame("FREE", capture.encoder_camera)
    >>> write_video("still.mp4", [frame] * 12, fps=24)
    >>> train_video("still.mp4", "out/still", PRESETS["video"], progress=False)
    Traceback (most recent call last):
    ...
    ValueError: still.mp4 shows a still picture: nothing in it moves; film the face as it speaks
    """
    video, out = Path(video), Path(out)
    print(CONSENT)
    if found_encoding(video) is None:
        probe_film(video)
    encoding = find_encoding(video, progress=progress)
    check_film(encoding, video)
    frames = used_frames(
        video, encoding, out, settings.size, held_out=held_out, matting=matting, progress=progress
    )
    print(frames.report(video, encoding.fps))
    capture = open_own(video, encoding, settings.size, frames)
    data = TrainingSet.from_capture(capture, settings, progress=progress)
    avatar = Trainer(data, settings, out, bank=bank, progress=progress).train(resume=True)
    size = max(data.images.shape[2:4])
    del data  # a long film's pictures, which make room for those that are graded
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
    return OwnAvatar(avatar, out / "avatar.safetensors", table, film, capture)
