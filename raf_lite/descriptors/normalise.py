"""What is done to descriptors before they are compared or learned from: standardising, and taking a person's neutral out."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from raf_lite._arrays import descriptor_array
from raf_lite._files import read_npz, write_npz


@dataclass(frozen=True)
class Standardizer:
    """(descriptors - mean) / scale, each dimension by its own scale: fitted on a bank, then applied to everything.

    mean, scale: float32 [D]. A dimension's scale is its standard deviation, but at least `floor` times the root mean square
    of all standard deviations. MediaPipe leaves several blendshapes dead (scores of about 0), and a PCA's last components
    carry little: without a floor their noise would weigh as much as the jaw.
    """

    mean: np.ndarray  # [D]
    scale: np.ndarray  # [D]

    @classmethod
    def fit(cls, descriptors: np.ndarray, floor: float = 0.1) -> Standardizer:
        """Fit on descriptors [N, D]. Raises ValueError where they are not finite, or where all rows are the same."""
        descriptor_array(descriptors)
        descriptors = np.asarray(descriptors, np.float64)
        deviation = descriptors.std(0)
        size = np.sqrt((deviation ** 2).mean())
        if not size > 0:
            raise ValueError(f"all {len(descriptors)} descriptors are the same, so they have no scale; fit on varied frames")
        return cls(descriptors.mean(0).astype(np.float32), np.maximum(deviation, floor * size).astype(np.float32))

    def transform(self, descriptors: np.ndarray) -> np.ndarray:
        """Standardised descriptors, float32 [N, D]; NaN rows stay NaN."""
        return ((self._match(descriptors) - self.mean) / self.scale).astype(np.float32)

    def inverse(self, standardised: np.ndarray) -> np.ndarray:
        """The descriptors behind standardised ones, float32 [N, D]."""
        return (self._match(standardised) * self.scale + self.mean).astype(np.float32)

    def save(self, path: str | os.PathLike) -> None:
        """Write an npz, atomically."""
        write_npz(path, mean=self.mean, scale=self.scale)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Standardizer:
        """Read what `save` wrote. Raises FileNotFoundError, or ValueError for a damaged file."""
        mean, scale = read_npz(path, ("mean", "scale"), mend="write it again with Standardizer.save()").values()
        proper = all(a.dtype.kind in "fiu" and a.ndim == 1 and np.isfinite(a).all() for a in (mean, scale))
        if not proper or len(mean) != len(scale):
            raise ValueError(f"{path} holds no finite mean and scale of one length; write it again with save()")
        return cls(mean, scale)

    def _match(self, descriptors: np.ndarray) -> np.ndarray:
        return descriptor_array(descriptors, dim=len(self.mean), whose="the rows that this Standardizer was fitted on", gaps=True)


def relative_to(descriptors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Descriptors minus a reference of the *same person*, float32 [N, D]; NaN rows stay NaN.

    descriptors: [N, D]. reference: [D], the descriptor of a neutral frame, or [M, D], whose mean is subtracted (a few neutral
    frames, or the whole video when no frame is known to be neutral). What is left is mostly expression: identity's share of
    the variance fell from about 0.2 to 0.05 on rendered heads encoded by MediaPipe.
    Raises ValueError for another dimension and for a reference that is not finite.
    """
    reference = np.atleast_2d(reference)
    dim = descriptor_array(reference, "the reference").shape[1]
    if not len(reference):
        raise ValueError("the reference has no row; give at least one descriptor of the same person")
    descriptors = descriptor_array(descriptors, dim=dim, whose="the reference's", gaps=True)
    return descriptors - reference.mean(0, dtype=np.float64).astype(np.float32)
