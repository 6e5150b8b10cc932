"""What an encoder saw in pictures: one face a frame, and an honest note of the frames without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from raf_lite.descriptors.landmarks import LandmarkPCA


@dataclass(frozen=True)
class Detections:
    """What MediaPipe saw in N frames.

    blendshapes: float32 [N, 52] in [0, 1], in the order of BLENDSHAPE_NAMES.
    landmarks: float32 [N, 478, 3] in pixels: x to the right, y down, z away from the camera on the scale of
    x. encoder_pose: float32 [N, 4, 4], MediaPipe's canonical face model (cm) to its virtual camera (OpenGL
        axes: y up, z towards the viewer; 63 degrees vertical field of view, so the distance is right only up
        to the true camera's focal length).
    face_found: bool [N]. The rows of other frames are NaN, so that no one takes them for a neutral face.
    landmark_pca: the basis of `descriptors`, where they are made of landmarks.

    Raises ValueError for arrays that do not fit together, and where a frame with a face has numbers that are
    not finite.

    Conventions: docs/conventions.md#descriptors.

    >>> seen = Detections(
    ...     np.zeros((2, 52), np.float32),
    ...     np.zeros((2, 478, 3), np.float32),
    ...     np.tile(np.eye(4), (2, 1, 1)),
    ...     face_found=np.array([True, False]),
    ... )
    >>> seen.descriptors.shape, seen.missing
    ((2, 52), array([1]))
    """

    blendshapes: np.ndarray  # [N, 52]
    landmarks: np.ndarray  # [N, 478, 3]
    encoder_pose: np.ndarray  # [N, 4, 4]
    face_found: np.ndarray  # [N]
    landmark_pca: LandmarkPCA | None = None

    def __post_init__(self) -> None:
        frames = len(self)
        for name, shape in (("blendshapes", (52,)), ("landmarks", (478, 3)), ("encoder_pose", (4, 4))):
            array = getattr(self, name)
            if array.shape != (frames, *shape):
                raise ValueError(
                    f"{name} of {frames} frames must be {[frames, *shape]}, not {list(array.shape)}; give a"
                    " row for each frame"
                )
            finite = np.isfinite(array).reshape(frames, -1).all(1) if frames else self.face_found
            wrong = np.flatnonzero(self.face_found & ~finite)
            if len(wrong):
                raise ValueError(
                    f"{name} of frames {frame_list(wrong)} are not finite although a face was found there;"
                    " encode those frames again"
                )

    def __len__(self) -> int:
        return len(self.face_found)

    @property
    def descriptors(self) -> np.ndarray:
        """float32 [N, D]: the blendshapes, or `landmark_pca`'s coefficients of the landmarks."""
        return (
            self.blendshapes
            if self.landmark_pca is None
            else self.landmark_pca.encode_landmarks(self.landmarks)
        )

    @property
    def missing(self) -> np.ndarray:
        """Numbers of the frames without a face, int64 [M]."""
        return np.flatnonzero(~self.face_found)

    def require_all(self, where: str = "the frames") -> Self:
        """Return self if every frame has a face; else raise a ValueError that names the frames and `where`
        they are."""
        if len(self.missing):
            raise ValueError(
                f"no face found in {len(self.missing)} of {len(self)} frames of {where} (frames"
                f" {frame_list(self.missing)}); leave those frames out or use a camera that sees the face"
            )
        return self


def frame_list(numbers: np.ndarray, limit: int = 12) -> str:
    """'3, 7, 8, ...': frame numbers for a message, cut after `limit`."""
    return ", ".join(str(int(n)) for n in numbers[:limit]) + (", ..." if len(numbers) > limit else "")
