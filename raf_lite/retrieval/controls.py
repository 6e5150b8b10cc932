"""The controls of retrieval: the same bank, without the search for what is similar, so that a gain can be
told from chance.

A control is a function of what `RetrievalAugmentation.fit` has learned, the n descriptors to be replaced,
which training frames they are (where that is known), and a generator. It returns what is put in, [n, D], and
the rows of the bank that this is, int64 [n], or None where it is no row of the bank. The generator is this
call's own: `RetrievalAugmentation.augment` draws its seed from the caller's. So whatever a control draws, the
caller's generator moves on as it does for retrieval, and runs stay paired."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Learned:
    """What `RetrievalAugmentation.fit` knows of a bank of N rows and of the subject's T training
    descriptors."""

    descriptors: np.ndarray
    """float32 [N, D], the bank's."""
    allowed: np.ndarray
    """int64 [A], the rows of the bank that are not of the subject."""
    residuals: np.ndarray
    """float32 [T, k, D], neighbour minus training descriptor."""
    noise_scale: np.ndarray
    """float64 [D, D]; unit noise times its transpose has the residuals' covariance."""
    mean_shifts: np.ndarray
    """float64 [M, D], each other donor's mean minus the subject's."""


class Control(Protocol):
    """What `CONTROLS` holds; see the top of this file."""

    def __call__(
        self,
        learned: Learned,
        old: np.ndarray,  # float64 [n, D]
        index: np.ndarray | None,  # int64 [n]
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray | None]: ...


def random_row(
    learned: Learned, old: np.ndarray, index: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """A random row of the bank is put in. Draws a row for each descriptor."""
    rows = rng.choice(learned.allowed, size=len(old))
    return learned.descriptors[rows], rows


def gaussian(
    learned: Learned, old: np.ndarray, index: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Zero-mean noise is added, with the covariance of the residuals. Draws D normal numbers for each
    descriptor."""
    return old + rng.standard_normal(old.shape) @ learned.noise_scale.T, None


def residual(
    learned: Learned, old: np.ndarray, index: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Another training frame's residual is added. Draws a frame and one of its k residuals for each
    descriptor.

    The frame is never the descriptor's own where `index` says which that is.
    """
    frames, k = learned.residuals.shape[:2]
    if index is None:
        other = rng.integers(frames, size=len(old))
    else:
        other = (index + rng.integers(1, frames, size=len(old))) % frames
    return old + learned.residuals[other, rng.integers(k, size=len(old))], None


def mean_shift(
    learned: Learned, old: np.ndarray, index: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Another donor's mean minus the subject's is added. Draws a donor for each descriptor."""
    return old + rng.choice(learned.mean_shifts, size=len(old)), None


CONTROLS: dict[str, Control] = {
    "random": random_row,
    "gaussian": gaussian,
    "residual": residual,
    "mean_shift": mean_shift,
}
FRAMES_NEEDED = {"gaussian": 2, "residual": 2}  # training descriptors; one is enough for the others
