"""Paired comparisons over subjects: percent changes with intervals, sign counts, and what many comparisons
ask for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

HIGHER_IS_BETTER = ("psnr", "ssim", "identity")


@dataclass(frozen=True)
class Effect:
    """A paired change over subjects, in percent of the reference (dB for PSNR, points for SSIM and identity);
    negative errors are gains.

    mean; low, high: 95 % t-interval over subjects; boot_low, boot_high: 95 % percentile bootstrap over
    subjects; better: subjects in whom it improved; subjects; p: two-sided paired t-test. With one subject the
    intervals and p are NaN.
    """

    mean: float
    low: float
    high: float
    boot_low: float
    boot_high: float
    better: int
    subjects: int
    p: float


def paired_effect(
    values: np.ndarray, reference: np.ndarray, *, measure: str = "mae", draws: int = 5000
) -> Effect:
    """The effect of `values` against `reference`, one number a subject each, [S].

    >>> effect = paired_effect(np.array([3.0, 3.6, 4.5]), np.array([4.0, 4.0, 5.0]))
    >>> round(effect.mean, 1), effect.better, effect.subjects
    (-15.0, 3, 3)
    """
    values, reference = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    if values.shape != reference.shape or values.ndim != 1 or not len(values):
        raise ValueError(
            f"paired values must be two lists of one number a subject, not {values.shape} and"
            f" {reference.shape}"
        )
    if measure == "psnr":
        change = values - reference
    elif measure in HIGHER_IS_BETTER:
        change = 100 * (values - reference)
    else:
        change = 100 * (values / reference - 1)
    n, mean = len(change), float(change.mean())
    better = int((change > 0).sum() if measure in HIGHER_IS_BETTER else (change < 0).sum())
    if n == 1:
        unknown = float("nan")
        return Effect(mean, unknown, unknown, unknown, unknown, better, 1, unknown)
    half = float(stats.t.ppf(0.975, n - 1) * change.std(ddof=1) / np.sqrt(n))
    rng = np.random.default_rng(0)
    boot = np.percentile(change[rng.integers(n, size=(draws, n))].mean(1), [2.5, 97.5])
    p = float(stats.ttest_1samp(change, 0).pvalue) if np.ptp(change) > 0 else float("nan")
    return Effect(mean, mean - half, mean + half, float(boot[0]), float(boot[1]), better, n, p)


def holm(p_values: Iterable[float]) -> np.ndarray:
    """p-values adjusted for their number by Holm's step-down rule (1979); NaN stays NaN and is not counted.

    >>> holm([0.01, 0.04, 0.03]).round(2)
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(list(p_values), np.float64)
    out = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, p[i] * (len(order) - rank)))
        out[i] = running
    return out
