"""What an expression encoder returns: one descriptor a frame, and an honest note of the frames without a face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Encoding:
    """Descriptors of N frames.

    descriptors: float32 [N, D]; the rows of frames without a face are NaN, so that no one takes them for a neutral face.
    found: bool [N], whether a face was found.
    landmarks: float32 [N, 478, 3] in pixels (z on the same scale), or None. blendshapes: float32 [N, 52] or None.
    pose: float32 [N, 4, 4], face to camera, or None. All three are NaN where no face was found.
    """

    descriptors: np.ndarray  # [N, D]
    found: np.ndarray  # [N]
    landmarks: np.ndarray | None = None  # [N, 478, 3]
    blendshapes: np.ndarray | None = None  # [N, 52]
    pose: np.ndarray | None = None  # [N, 4, 4]

    def __post_init__(self) -> None:
        if self.descriptors.ndim != 2 or self.found.shape != self.descriptors.shape[:1]:
            raise ValueError(f"an Encoding needs descriptors [N, D] and found [N], not {self.descriptors.shape} and "
                             f"{self.found.shape}")
        wrong = np.flatnonzero(self.found & ~np.isfinite(self.descriptors).all(1))
        if len(wrong):
            raise ValueError(f"descriptors of frames {frame_list(wrong)} are not finite although a face was found there; "
                             "encode those frames again")

    def __len__(self) -> int:
        return len(self.found)

    @property
    def missing(self) -> np.ndarray:
        """Numbers of the frames without a face, int64 [M]."""
        return np.flatnonzero(~self.found)

    def require_all(self, where: str = "the frames") -> Encoding:
        """Return self if every frame has a face; else raise a ValueError that names the frames and `where` they are."""
        if len(self.missing):
            raise ValueError(f"no face found in {len(self.missing)} of {len(self)} frames of {where} "
                             f"(frames {frame_list(self.missing)}); leave those frames out or use a camera that sees the face")
        return self


def frame_list(numbers: np.ndarray, limit: int = 12) -> str:
    """'3, 7, 8, ...': frame numbers for a message, cut after `limit`."""
    return ", ".join(str(int(n)) for n in numbers[:limit]) + (", ..." if len(numbers) > limit else "")
