"""Two-dimensional maps of a bank: one linear, one that keeps neighbourhoods; and what of a bank a person's
recording covers."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

import faiss
import numpy as np

from raf_lite._files import cache_dir, read_npz, write_npz
from raf_lite.bank import ExpressionBank

METHODS = ("pca", "tsne")
_TSNE = {"early_exaggeration_iter": 120, "n_iter": 300, "initialization": "pca"}


def map_bank(
    bank: ExpressionBank, own: np.ndarray | None = None, method: str = "pca", *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, str]:
    """Where the rows of a bank, and a person's own descriptors [T, D], lie on a map.

    method: "pca", the two directions of the bank's largest variance; or "tsne" (van der Maaten 2008, by
    openTSNE), on which neighbours stay neighbours and distances beyond them mean nothing. The bank alone
    makes the map; `own` is placed on it.

    Returns float32 [N, 2], [T, 2], and a sentence about what the map keeps. t-SNE of 18,000 rows takes about
    20 s on two cores, once: it is kept in the cache folder. Raises ValueError for an unknown method or an
    `own` of another dimension.

    >>> rng = np.random.default_rng(0)
    >>> bank = ExpressionBank.from_arrays(rng.normal(size=(300, 52)), np.repeat(np.arange(10), 30))
    >>> spots, own, sentence = map_bank(bank, rng.normal(size=(5, 52)))
    >>> spots.shape, own.shape
    ((300, 2), (5, 2))
    """
    own = (
        np.empty((0, bank.dim), np.float32)
        if own is None
        else bank.check_descriptors(own, what="own descriptors")
    )
    rows = bank.descriptors
    if method == "pca":
        mean = rows.mean(0, dtype=np.float64)
        _, _, axes = np.linalg.svd((rows - mean)[:: max(1, len(rows) // 20_000)], full_matrices=False)
        spots, own_spots = (rows - mean) @ axes[:2].T, (own - mean) @ axes[:2].T
        share = spots.var(0).sum() / rows.var(0, dtype=np.float64).sum()
        kept = f"PCA: two axes that keep {100 * share:.0f} % of the variance"
        return spots.astype(np.float32), own_spots.astype(np.float32), kept
    if method != "tsne":
        raise ValueError(f"there is no map '{method}'; choose one of {', '.join(METHODS)}")
    kept = cache_dir("maps") / f"{_key(rows, own, seed)}.npz"
    spots = _read(kept, len(rows), len(own))
    if spots is None:
        spots = _tsne(rows, own, seed)
        write_npz(kept, rows=spots[0], own=spots[1])
    return *spots, "t-SNE: neighbours lie together, but distances between groups mean nothing"


def _key(rows: np.ndarray, own: np.ndarray, seed: int) -> str:
    digest = hashlib.sha256(f"openTSNE {version('openTSNE')} {_TSNE} {seed} {rows.shape}".encode())
    for array in (rows, own):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:20]


def _read(path: Path, rows: int, own: int) -> tuple[np.ndarray, np.ndarray] | None:
    """A map that was kept, or None where there is none, or one that is damaged."""
    try:
        first, second = read_npz(path, ("rows", "own")).values()
    except (FileNotFoundError, ValueError):
        return None
    whole = all(
        array.shape == (count, 2) and array.dtype == np.float32 and np.isfinite(array).all()
        for array, count in ((first, rows), (second, own))
    )
    return (first, second) if whole else None


def _tsne(rows: np.ndarray, own: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from openTSNE import TSNE

    perplexity = min(30.0, max(2.0, (len(rows) - 1) / 3 - 1))
    embedding = TSNE(perplexity=perplexity, n_jobs=-1, random_state=seed, **_TSNE).fit(rows)
    placed = np.asarray(embedding.transform(own)) if len(own) else np.empty((0, 2))
    return np.asarray(embedding, np.float32), placed.astype(np.float32)


def coverage(bank: ExpressionBank, own: np.ndarray) -> tuple[np.ndarray, float]:
    """How far each row of a bank is from a person's nearest own descriptor, [N], and the share of rows that
    are holes.

    A hole is a row farther away than 95 % of the person's own frames are from their nearest other one.

    >>> bank = ExpressionBank.from_arrays([[0.0, 1.0], [3.0, 6.0]], donors=["ann", "bo"])
    >>> away, holes = coverage(bank, np.array([[0.0, 0.0], [0.0, 2.0]]))
    >>> away.tolist(), holes
    ([1.0, 5.0], 0.5)
    """
    own = np.ascontiguousarray(bank.check_descriptors(own, what="own descriptors"))
    inside = np.sqrt(faiss.knn(own, own, 2)[0][:, 1].clip(0))
    away = np.sqrt(faiss.knn(np.ascontiguousarray(bank.descriptors), own, 1)[0][:, 0].clip(0))
    return away, float((away > np.quantile(inside, 0.95)).mean())
