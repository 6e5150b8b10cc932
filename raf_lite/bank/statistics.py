"""How well a bank covers expressions, and how much of its descriptors is identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# Queries [Q, D], k, donors left out -> distances [Q, k] and rows [Q, k]: `ExpressionBank.search`.
Search = Callable[[np.ndarray, int, Sequence], tuple[np.ndarray, np.ndarray]]

_SAMPLE = (
    4096  # rows whose neighbours are looked up: enough for quantiles to a percent, also in a bank of millions
)
_QUANTILES = (5, 25, 50, 75, 95)


def donor_means(descriptors: np.ndarray, donors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(donors [M] in ascending order, float64 means of their rows [M, D], which of the M each row is of
    [N])."""
    names, member = np.unique(donors, return_inverse=True)
    sums = np.zeros((len(names), descriptors.shape[1]))
    np.add.at(sums, member, descriptors)
    return names, sums / np.bincount(member, minlength=len(names))[:, None], member


def bank_statistics(
    descriptors: np.ndarray,  # [N, D]
    donors: np.ndarray,  # [N]
    neutral: np.ndarray,  # bool [N]
    search: Search,
    thumbnails: int = 0,
) -> dict:
    """Statistics of a bank, as plain numbers (None where the bank is too small for one). search: over these
    rows.

    `donors`, `rows`, `dim`, `rows_per_donor` (min, median, max), `neutral_rows`, `thumbnails`: sizes.

    `coverage`: how far a row's nearest other row is (`nearest`) and its nearest row of another donor
    (`nearest_other_donor`), as quantiles {"5": ..., "95": ...} of the Euclidean distance. The second is the
    distance that retrieval bridges for a subject outside the bank; a bank covers its expressions well when it
    is small.

    `leakage`: how much identity is in the descriptors. `variance_share` is the share of the variance
    explained by donor means, sum n_d |m_d - m|^2 / sum |x - m|^2 (eta squared), with (M - 1) / (N - 1), what
    M donors explain of N rows by chance, as `variance_share_chance`. `nearest_same_donor` is how often the
    nearest other row is of the same donor, with the rate of a random other row as
    `nearest_same_donor_chance`.

    `sampled_rows` evenly spaced rows (4096 at most) serve as queries for coverage and nearest_same_donor.
    """
    rows, sizes = len(descriptors), np.unique(donors, return_counts=True)[1]
    queries = np.unique(np.linspace(0, rows - 1, min(rows, _SAMPLE)).astype(np.int64))
    nearest = other = same = None
    if rows > 1:
        distances, found = search(descriptors[queries], 2, ())
        # The row itself comes first, unless a duplicate of it does or an approximate index missed it.
        pick = (found[:, 0] == queries).astype(int)
        nearest = np.take_along_axis(distances, pick[:, None], axis=1)[:, 0]
        neighbour = np.take_along_axis(found, pick[:, None], axis=1)[:, 0]
        same = float(np.mean(donors[neighbour] == donors[queries]))
    if len(sizes) > 1:
        other = np.empty(len(queries))
        for donor in np.unique(donors[queries]):
            mine = donors[queries] == donor
            distances, _ = search(descriptors[queries[mine]], 1, [donor])
            other[mine] = distances[:, 0]
    return {
        "donors": len(sizes),
        "rows": rows,
        "dim": descriptors.shape[1],
        "rows_per_donor": {
            "min": int(sizes.min()),
            "median": float(np.median(sizes)),
            "max": int(sizes.max()),
        },
        "neutral_rows": int(neutral.sum()),
        "thumbnails": thumbnails,
        "sampled_rows": len(queries),
        "coverage": {"nearest": _quantiles(nearest), "nearest_other_donor": _quantiles(other)},
        "leakage": {
            "variance_share": _variance_share(descriptors, donors, sizes),
            "variance_share_chance": (len(sizes) - 1) / (rows - 1) if rows > 1 else None,
            "nearest_same_donor": same,
            "nearest_same_donor_chance": (
                float((sizes * (sizes - 1.0)).sum() / (rows * (rows - 1.0))) if rows > 1 else None
            ),
        },
    }


def _quantiles(distances: np.ndarray | None) -> dict[str, float] | None:
    if distances is None:
        return None
    return {str(q): float(value) for q, value in zip(_QUANTILES, np.percentile(distances, _QUANTILES))}


def _variance_share(descriptors: np.ndarray, donors: np.ndarray, sizes: np.ndarray) -> float | None:
    _, means, _ = donor_means(descriptors, donors)
    mean = descriptors.mean(axis=0, dtype=np.float64)
    total = float(((descriptors - mean) ** 2).sum())
    return float((sizes[:, None] * (means - mean) ** 2).sum()) / total if total > 0 else None
