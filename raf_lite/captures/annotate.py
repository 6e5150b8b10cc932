"""Writes what `raf_lite.captures.attached` reads: head poses, descriptors and other arrays beside a sequence
of any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from raf_lite._files import locked_place, write_npz
from raf_lite.captures.attached import TEXT, read_all
from raf_lite.captures.capture import Capture
from raf_lite.captures.origin import origin


def annotate(
    capture: Capture,
    sequence: str,
    arrays: Mapping[str, np.ndarray],
    *,
    encoder: str | None = None,
    pictures: Sequence[Path] = (),
) -> Path:
    """Add arrays, one row a frame of `sequence`, to what is attached to it; returns the file. What is open
    already has been read: open the capture again.

    encoder: what made the descriptors among them. pictures: the files that they were made from, where a
    change of those makes them void. Fields of the same names are replaced. ValueError for arrays of other
    lengths than the sequence.

    >>> from raf_lite import open_capture
    >>> from raf_lite.captures import write_video
    >>> write_video("me.mp4", np.full((2, 64, 64, 3), 128, np.uint8), fps=24)
    >>> annotate(open_capture("me.mp4"), "video", {"head_pose": np.tile(np.eye(4), (2, 1, 1))}).name
    'me.mp4.npz'
    >>> open_capture("me.mp4").head_poses("video").shape
    (2, 4, 4)
    """
    file, frames = capture.source.annotation_file(sequence), capture.n_frames(sequence)
    for name, array in arrays.items():
        if name in TEXT or np.ndim(array) == 0 or len(array) != frames:
            raise ValueError(
                f"{file}: '{name}' has shape {list(np.shape(array))}; give a row for each of the {frames}"
                f" frames of {sequence}"
            )
    with locked_place(file):  # who adds to it at the same time is not to be lost
        kept = read_all(file)
        if pictures:
            kept |= origin(pictures)
        if encoder is not None:
            kept["encoder"] = np.array(encoder)
        write_npz(file, **{**kept, **arrays})
    return file


def attach_head_poses(capture: Capture, sequence: str, poses: np.ndarray) -> Path:  # [T, 4, 4]
    """Attach head poses as `fit_head_poses` makes them; returns the file.

    A frame whose pose is NaN gets that of the nearest frame and counts as one without a face, which training
    leaves out. ValueError for poses of another shape or length, and where all are NaN.

    >>> from raf_lite import open_capture
    >>> from raf_lite.captures import write_video
    >>> write_video("turn.mp4", np.full((3, 64, 64, 3), 128, np.uint8), fps=24)
    >>> poses = np.tile(np.eye(4), (3, 1, 1))
    >>> poses[2] = np.nan
    >>> attach_head_poses(open_capture("turn.mp4"), "video", poses).name
    'turn.mp4.npz'
    >>> open_capture("turn.mp4").face_found("video").tolist()
    [True, True, False]
    """
    poses = np.array(poses, np.float64)
    if poses.shape != (capture.n_frames(sequence), 4, 4):
        raise ValueError(
            f"head poses of {sequence} have shape {list(poses.shape)}; give"
            f" {[capture.n_frames(sequence), 4, 4]}"
        )
    arrays = {"head_pose": nearest_poses(poses, sequence)}
    known = np.isfinite(poses).all((1, 2))
    if not known.all():
        arrays["face_found"] = capture.face_found(sequence) & known
    return annotate(capture, sequence, arrays)


def nearest_poses(poses: np.ndarray, sequence: str) -> np.ndarray:
    """Poses [T, 4, 4] with that of the nearest frame where one is NaN. ValueError, naming the sequence, where
    all are."""
    known = np.flatnonzero(np.isfinite(poses).all((1, 2)))
    if not len(known):
        raise ValueError(f"no head pose of {sequence} is finite; give landmarks in which the head is seen")
    return poses[known[np.abs(known[None] - np.arange(len(poses))[:, None]).argmin(1)]]
