"""Captures: multi-view videos of one person with their cameras, masks, head poses and splits, behind
`open_capture`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from raf_lite._lazy import attach
from raf_lite.captures.annotate import annotate, attach_head_poses
from raf_lite.captures.cameras import Camera
from raf_lite.captures.capture import Capture, Split, composite_white
from raf_lite.captures.formats.encoding import VIDEOS
from raf_lite.captures.formats.gha import is_gha, parse_gha
from raf_lite.captures.formats.images import open_parsed
from raf_lite.captures.formats.imavatar import is_imavatar, parse_imavatar
from raf_lite.captures.formats.insta import is_insta, parse_insta
from raf_lite.captures.formats.nersemble import is_nersemble, open_nersemble
from raf_lite.captures.formats.plain import is_images, open_video, parse_images
from raf_lite.captures.formats.vhap import is_vhap, parse_vhap
from raf_lite.captures.head_pose import fit_head_poses, triangulate
from raf_lite.captures.scaling import block_mean, shrink_factor
from raf_lite.captures.video import iter_video, read_video, write_video

if TYPE_CHECKING:
    from raf_lite.captures.check import camera_problem, check_capture, common_target, contact_sheet
    from raf_lite.captures.matting import matte_video

__all__ = [
    "FORMATS",
    "Camera",
    "Capture",
    "Split",
    "annotate",
    "attach_head_poses",
    "block_mean",
    "camera_problem",
    "check_capture",
    "common_target",
    "composite_white",
    "contact_sheet",
    "detect_format",
    "fit_head_poses",
    "iter_video",
    "matte_video",
    "open_capture",
    "read_video",
    "shrink_factor",
    "triangulate",
    "write_video",
]

# Asked for later: its tables need pandas.
__getattr__, __dir__ = attach(
    __name__,
    {
        "camera_problem": "check",
        "check_capture": "check",
        "common_target": "check",
        "contact_sheet": "check",
        "matte_video": "matting",
    },
)

# name -> (is a folder in it, reader). The order of asking: a folder of images comes last, since most formats
# hold images.
_FOLDERS = {
    "vhap": (is_vhap, parse_vhap),
    "insta": (is_insta, parse_insta),
    "gha": (is_gha, parse_gha),
    "imavatar": (is_imavatar, parse_imavatar),
    "images": (is_images, parse_images),
}
FORMATS = ("nersemble", *_FOLDERS, "video")
_SIGNS = (
    "a NeRSemble participant has calibration/camera_params.json, VHAP and INSTA have transforms_train.json,"
    " GHA has images/, cameras/ and params/, IMavatar has */flame_params.json; otherwise give a video file or"
    " a folder of images"
)


def detect_format(path: str | os.PathLike) -> str:
    """Which of FORMATS a capture is in. FileNotFoundError for a path that is not there, ValueError for one
    that is in none.

    >>> from raf_lite.manifest import find_data
    >>> detect_format(find_data() / "mini_nersemble" / "001")
    'nersemble'
    """
    path = Path(path)
    if path.is_file():
        if path.suffix.lower() in VIDEOS:
            return "video"
        raise ValueError(
            f"{path} is neither a folder nor a video ({', '.join(VIDEOS)}); give the folder of a capture"
        )
    if not path.is_dir():
        raise FileNotFoundError(
            f"there is no folder {path}; give the folder of one participant of a capture, or a video"
        )
    if is_nersemble(path):
        return "nersemble"
    participants = sorted(child.name for child in path.iterdir() if child.is_dir() and is_nersemble(child))
    if participants:
        raise ValueError(
            f"{path} holds several participants ({', '.join(participants[:8])}); open one of them"
        )
    for name, (detected, _) in _FOLDERS.items():
        if detected(path):
            return name
    raise ValueError(f"{path} is in no format known here: {_SIGNS}")


def open_capture(
    path: str | os.PathLike,
    *,
    format: str | None = None,
    downscale: int = 1,
    crop: tuple[int, int, int, int] | None = None,
    cache_bytes: int = 2 << 30,
    held_out: float = 0.0,
) -> Capture:
    """Open a capture: a folder in one of FORMATS, or a video file.

    format: one of FORMATS (default: detected from what the folder holds).
    downscale: whole factor by which frames, masks and cameras are reduced (each pixel the mean of a block).
    crop: (left, top, width, height) in the files' pixels, applied to every camera before the downscale.
    cache_bytes: how much decoded video is kept in memory.
    held_out: of a video file, the last share of its frames, which becomes a sequence of its own, `held-out`,
    that is not trained on.

    Raises FileNotFoundError (no such folder, missing files) or ValueError (unknown format; faulty calibration
    or descriptors: which file, which frame, which camera, which field; crop or downscale that leave no
    picture).

    Conventions: docs/conventions.md#axes-and-cameras, docs/conventions.md#descriptors.

    >>> from raf_lite.manifest import find_data
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001", downscale=2)
    >>> capture.frames("FREE", capture.encoder_camera).shape
    (105, 128, 128, 3)
    """
    path = Path(path)
    if downscale < 1:
        raise ValueError(f"cannot open {path} with downscale {downscale}; give a whole factor of at least 1")
    if format is not None and format not in FORMATS:
        raise ValueError(f"there is no capture format '{format}'; choose one of {', '.join(FORMATS)}")
    found = detect_format(path) if format is None else format
    if (found == "video") != path.is_file():
        raise FileNotFoundError(
            f"{path} is not there as the '{found}' format needs it; check the path and the format"
        )
    if found == "video":
        return open_video(path, downscale, crop, cache_bytes, held_out)
    if held_out:
        raise ValueError(
            f"{path} is no video file, so no share of its frames can be held out; its format names what is"
        )
    if found == "nersemble":
        return open_nersemble(path, downscale, crop, cache_bytes)
    return open_parsed(path, _FOLDERS[found][1](path), downscale, crop, cache_bytes)
