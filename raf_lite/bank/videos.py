"""A video of one more person into a bank folder: the columns that the bank has, from the video's encoding.

The one file of this room that knows encoders; the room does not import it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from raf_lite.bank import add_donor, encode_thumbnail
from raf_lite.bank.storage import MANIFEST, read_manifest
from raf_lite.descriptors import LandmarkPCA
from raf_lite.descriptors.encode_video import VideoDetections, face_crops, find_encoding


class AddedVideo(NamedTuple):
    """What became of a video's frames. donor: the person's id in the bank. added: rows. dropped: frames that
    repeat others. without_face: frames in which nobody was found."""

    donor: str
    added: int
    dropped: int
    without_face: int


def add_video(
    folder: str | os.PathLike,
    video: str | os.PathLike,
    *,
    donor: str | None = None,
    out: str | os.PathLike | None = None,
    progress: bool = True,
) -> AddedVideo:
    """Add the frames of a video to the bank in `folder`, or begin a bank there; the video is encoded first,
    unless it is.

    donor: the person's id (default: that of the donor who has most of these frames already, or else the next
    number). out: where the grown bank goes (default: `folder`). Every fifth frame with a face leaves a
    thumbnail.

    Raises ValueError for a bank with a column that a video does not give, and as `encode_video` and
    `add_donor`.
    """
    folder = Path(folder)
    encoding = find_encoding(video, progress=progress)
    names = list(read_manifest(folder)["descriptors"]) if (folder / MANIFEST).exists() else ["blendshapes"]
    columns = _columns(folder, names, encoding)
    thumbnails = {
        row: encode_thumbnail(face, quality=72) for row, face in face_crops(video, encoding).items()
    }
    added = add_donor(
        folder,
        columns,
        encoder=encoding.encoder,
        donor=donor,
        out=out,
        encoder_pose=encoding.encoder_pose[encoding.face_found],
        thumbnails=thumbnails,
        source=str(encoding.origin["source"]) if encoding.origin else None,
    )
    return AddedVideo(*added, len(encoding.missing))


def _columns(folder: Path, names: Sequence[str], encoding: VideoDetections) -> Mapping[str, np.ndarray]:
    """{name: [M, D]} of the M frames with a face."""
    found, columns = encoding.face_found, {}
    for name in names:
        if name == "blendshapes":
            columns[name] = encoding.blendshapes[found]
        elif name == "landmarks_pca":
            columns[name] = LandmarkPCA.load(folder / "landmark_pca.npz").encode_landmarks(
                encoding.landmarks[found]
            )
        else:
            raise ValueError(
                f"the bank {folder} has a column '{name}', which a video does not give; use another bank"
            )
    return columns
