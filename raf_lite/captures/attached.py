"""Arrays that anyone may add to a capture of any format: one file a sequence, `annotations/{SEQ}.npz` in the
capture's folder.

    head_pose    [T, 4, 4]   rigid head-to-world transforms
    blendshapes  [T, 52], or any descriptors [T, D] under a name of your own
    landmarks    [T, 478, 3], MediaPipe's, in pixels; descriptors by the shipped basis
    face_found   bool [T]    frames to train on; the others are left out
    landmarks68  [T, 68, 3]  in the world
    encoder                  what made the descriptors of this file (text)

For a film `clip.mp4` it is `annotations/clip.mp4.npz` beside it. A field that the format has as well is
replaced. What `raf-lite encode` wrote also keeps which pictures it was made from, and is refused once they
are others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from raf_lite._files import read_npz
from raf_lite.captures.origin import ORIGIN, is_made_from

TEXT = ("encoder", *ORIGIN)  # of the file and not of a frame
_MOST_BYTES = 256 << 20  # of one array: strangers write such files


def read_all(file: Path) -> dict[str, np.ndarray]:
    """Everything in a file; empty where it is not there."""
    return read_npz(file, most_bytes=_MOST_BYTES) if file.is_file() else {}


def read_attached(file: Path, pictures: Sequence[Path]) -> dict[str, np.ndarray]:
    """The arrays of a file, one row a frame; empty where it is not there.

    pictures: of the camera that descriptors come from. ValueError where the file was made from others.
    """
    arrays = read_all(file)
    if all(name in arrays for name in ORIGIN) and pictures and not is_made_from(pictures, arrays):
        raise ValueError(
            f"{file} was made from other pictures than those that lie there now; encode the capture again"
        )
    return {name: array for name, array in arrays.items() if name not in TEXT}


def attached_encoder(file: Path, descriptor: str) -> str | None:
    """What made the descriptors of this name in a file; None where it is not there or does not say."""
    arrays = (
        read_npz(file, (), optional=("encoder", descriptor), most_bytes=_MOST_BYTES) if file.is_file() else {}
    )
    return str(arrays["encoder"]) if "encoder" in arrays and descriptor in arrays else None


def attached_poses(files: Iterable[Path]) -> str | None:
    """What to name as the source of a capture's head poses where some of these files hold any; else None."""
    return (
        "annotations/"
        if any(file.is_file() and read_npz(file, (), optional=("head_pose",)) for file in files)
        else None
    )
