"""Captures: multi-view videos of one person with their cameras, masks, head poses and splits, behind `open_capture`."""

from __future__ import annotations

import os
from pathlib import Path

from raf_lite.captures.cameras import Camera
from raf_lite.captures.capture import Capture, Split
from raf_lite.captures.head_pose import fit_head_poses, triangulate
from raf_lite.captures.nersemble import is_nersemble, open_nersemble
from raf_lite.captures.scaling import block_mean, shrink_factor
from raf_lite.captures.video import read_video, write_video

__all__ = ["Camera", "Capture", "Split", "block_mean", "fit_head_poses", "open_capture", "read_video", "shrink_factor",
           "triangulate", "write_video"]


def open_capture(path: str | os.PathLike, *, downscale: int = 1, crop: tuple[int, int, int, int] | None = None,
                 cache_bytes: int = 2 << 30) -> Capture:
    """Open a capture; the format on disk is detected (so far: a NeRSemble participant folder, raw, benchmark or rendered).

    downscale: whole factor by which frames, masks and cameras are reduced (each pixel the mean of a block).
    crop: (left, top, width, height) in the files' pixels, applied to every camera before the downscale.
    cache_bytes: how much decoded video is kept in memory.

    Raises FileNotFoundError (no such folder, no videos) or ValueError (unknown format; faulty calibration: which file, which
    camera, which field; crop or downscale that leave no picture).
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}; give the folder of one participant of a capture")
    if downscale < 1:
        raise ValueError(f"cannot open {path} with downscale {downscale}; give a whole factor of at least 1")
    if is_nersemble(path):
        return open_nersemble(path, downscale, crop, cache_bytes)
    participants = sorted(child.name for child in path.iterdir() if child.is_dir() and is_nersemble(child))
    if participants:
        raise ValueError(f"{path} holds several participants ({', '.join(participants[:8])}); open one of them")
    raise ValueError(f"{path} is in no format known here: a NeRSemble participant has calibration/camera_params.json and "
                     "sequences/*/images/cam_*.mp4")
