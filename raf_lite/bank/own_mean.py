"""What a person's mean descriptor is expected to be after few frames, given how other people's means and
frames vary."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh

from raf_lite._arrays import descriptor_array
from raf_lite._forms import parts
from raf_lite.bank.bank import ExpressionBank
from raf_lite.bank.statistics import donor_means
from raf_lite.manifest import find_data

LEAST = 0.2  # of how frames vary: real people differ in directions too in which a bank's donors do not
RIDGE = 0.01  # of a dimension's mean variance: what hardly varies in a bank would weigh without bounds


@dataclass(frozen=True)
class OwnMean:
    """Expects the mean descriptor of somebody of whom few frames were seen.

    A relative form (`landmarks-mean`) takes the person's own mean out. Live that mean is not known yet, and
    the mean of one frame or of a second holds the expression that is made in it. How much of it to believe
    follows from other people: where their means differ more than one person's frames do, a frame tells much
    about the person, elsewhere little. This is the best linear unbiased prediction of a random effect
    (Henderson 1975, "Best linear unbiased estimation and prediction under a selection model"): from
    everybody's mean at no frame to the person's own after many.

    mean: everybody's, [D]. directions: [D, D], columns in which frames vary by one (W-orthonormal). images:
    [D, D], what a step along each adds to a descriptor. ratios: [D], the variance of people's means over that
    of one person's frames in each.

    >>> rng = np.random.default_rng(0)
    >>> people = rng.normal(0, 3, 50).repeat(20)  # means differ by 3, frames by 1
    >>> own = OwnMean.of((people + rng.normal(0, 1, 1000))[:, None], np.arange(1000) // 20)
    >>> [round(float(own.expected([4.0], count)[0]), 1) for count in (1, 10)]
    [3.6, 4.0]
    """

    mean: np.ndarray
    directions: np.ndarray
    images: np.ndarray
    ratios: np.ndarray

    @classmethod
    def of(cls, descriptors: ArrayLike, donors: ArrayLike) -> OwnMean:
        """From raw descriptors [N, D] of many people, donors [N] of whom. Raises ValueError for fewer than
        two people, and where nobody has two rows that differ."""
        rows = descriptor_array(descriptors).astype(np.float64)
        names, means, member = donor_means(rows, np.asarray(donors))
        if len(names) < 2 or len(rows) == len(names):
            raise ValueError(
                f"{len(rows)} rows of {len(names)} people do not tell how people and frames vary; give"
                " several rows each of several people"
            )
        residuals = rows - means[member]
        if not residuals.any():
            raise ValueError(
                "every person's rows are the same, so nothing tells how frames vary; give videos"
            )
        within = residuals.T @ residuals / (len(rows) - len(names))
        frames = np.bincount(member)
        between = np.atleast_2d(np.cov(means.T)) - within * np.mean(1 / frames)
        within += np.eye(len(within)) * (RIDGE * np.trace(within) / len(within))
        ratios, directions = eigh(between, within)
        return cls(means.mean(0), directions, within @ directions, np.maximum(ratios, LEAST))

    def expected(self, seen: ArrayLike, count: int) -> np.ndarray:
        """The person's mean, float32 [D]. seen: the mean of the frames so far, [D]. count: how many, each
        taken as a look of its own. Raises ValueError for another dimension and for no frame."""
        if count < 1:
            raise ValueError(f"{count} frames tell nothing; give at least one")
        row, whose = np.asarray(seen)[None], "the descriptors of those it was learned from"
        (away,) = descriptor_array(row, "what was seen", dim=len(self.mean), whose=whose) - self.mean
        believed = self.ratios / (self.ratios + 1 / count)
        return (self.mean + self.images @ (believed * (self.directions.T @ away))).astype(np.float32)


@cache
def _shipped(encoded: str) -> OwnMean | None:
    """Of the donors of `data/bank`; None where data/ is not there."""
    try:
        bank = ExpressionBank.load(find_data() / "bank", descriptor=encoded)
    except FileNotFoundError:
        return None
    return OwnMean.of(bank.descriptors, bank.donors)


def expected_mean(descriptor: str, seen: ArrayLike, count: int) -> np.ndarray:
    """`OwnMean.expected`, float32 [D], as the donors of the shipped bank have it, for what MediaPipe's
    descriptors encode, in whatever form ("landmarks-mean"); without data/ the mean of what was seen.

    >>> first = np.full(52, 0.1, np.float32)
    >>> away = [float(np.abs(expected_mean("blendshapes-mean", first, n) - first).max()) for n in (1, 10_000)]
    >>> away[0] > 0.05 > 0.001 > away[1]
    True
    """
    own = _shipped(parts(descriptor)[0])
    return np.asarray(seen, np.float32) if own is None else own.expected(seen, count)
