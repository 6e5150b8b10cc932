"""How well a bank covers expressions, and how much of its descriptors is identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from raf_lite.bank.bank import ExpressionBank

_SAMPLE = 4096  # rows whose neighbours are looked up: enough for quantiles to a percent, also in a bank of millions
_QUANTILES = (5, 25, 50, 75, 95)


def bank_statistics(bank: ExpressionBank) -> dict:
    """Statistics of a bank, as plain numbers (None where the bank is too small for one).

    `donors`, `rows`, `dim`, `rows_per_donor` (min, median, max), `neutral_rows`, `thumbnails`: sizes.

    `coverage`: how far a row's nearest other row is (`nearest`) and its nearest row of another donor
    (`nearest_other_donor`), as quantiles {"5": ..., "95": ...} of the Euclidean distance. The second is the distance that
    retrieval bridges for a subject outside the bank; a bank covers its expressions well when it is small.

    `leakage`: how much identity is in the descriptors. `variance_share` is the share of the variance explained by donor
    means, sum n_d |m_d - m|^2 / sum |x - m|^2 (eta squared), with (M - 1) / (N - 1), what M donors explain of N rows by
    chance, as `variance_share_chance`. `nearest_same_donor` is how often the nearest other row is of the same donor, with
    the rate of a random other row as `nearest_same_donor_chance`.

    `sampled_rows` evenly spaced rows (4096 at most) serve as queries for coverage and nearest_same_donor.
    """
    rows, sizes = len(bank), np.unique(bank.donors, return_counts=True)[1]
    queries = np.unique(np.linspace(0, rows - 1, min(rows, _SAMPLE)).astype(np.int64))
    nearest = other = same = None
    if rows > 1:
        distances, found = bank.search(bank.descriptors[queries], 2)
        # The row itself comes first, unless a duplicate of it does or an approximate index missed it.
        pick = (found[:, 0] == queries).astype(int)
        nearest = np.take_along_axis(distances, pick[:, None], axis=1)[:, 0]
        neighbour = np.take_along_axis(found, pick[:, None], axis=1)[:, 0]
        same = float(np.mean(bank.donors[neighbour] == bank.donors[queries]))
    if len(sizes) > 1:
        other = np.empty(len(queries))
        for donor in np.unique(bank.donors[queries]):
            mine = bank.donors[queries] == donor
            other[mine] = bank.search(bank.descriptors[queries[mine]], 1, [donor]).distances[:, 0]
    return {
        "donors": len(sizes),
        "rows": rows,
        "dim": bank.dim,
        "rows_per_donor": {"min": int(sizes.min()), "median": float(np.median(sizes)), "max": int(sizes.max())},
        "neutral_rows": int(bank.neutral.sum()),
        "thumbnails": len(bank.thumbnail_rows),
        "sampled_rows": len(queries),
        "coverage": {"nearest": _quantiles(nearest), "nearest_other_donor": _quantiles(other)},
        "leakage": {
            "variance_share": _variance_share(bank),
            "variance_share_chance": (len(sizes) - 1) / (rows - 1) if rows > 1 else None,
            "nearest_same_donor": same,
            "nearest_same_donor_chance": float((sizes * (sizes - 1.0)).sum() / (rows * (rows - 1.0))) if rows > 1 else None,
        },
    }


def _quantiles(distances: np.ndarray | None) -> dict[str, float] | None:
    if distances is None:
        return None
    return {str(q): float(value) for q, value in zip(_QUANTILES, np.percentile(distances, _QUANTILES))}


def _variance_share(bank: ExpressionBank) -> float | None:
    means = bank.donor_means()[1]
    sizes = np.unique(bank.donors, return_counts=True)[1]
    mean = bank.descriptors.mean(axis=0, dtype=np.float64)
    total = float(((bank.descriptors - mean) ** 2).sum())
    return float((sizes[:, None] * (means - mean) ** 2).sum()) / total if total > 0 else None
