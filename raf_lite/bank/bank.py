"""`ExpressionBank`: build, add, search, save, load."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import ArrayLike

from raf_lite._arrays import descriptor_array
from raf_lite._files import locked
from raf_lite._forms import FORMS, column, in_form, likely_neutral, named, parts
from raf_lite.bank import storage
from raf_lite.bank.checks import donor_array, neutral_array, pose_array, thumbnail_dict
from raf_lite.bank.statistics import bank_statistics, donor_means

_BLOCK = 4096  # queries searched at a time: bounds the memory of the exact distances to BLOCK * k * D floats


class SearchResult(NamedTuple):
    """What `ExpressionBank.search` finds for Q queries, nearest first."""

    distances: np.ndarray
    """float32 [Q, k], Euclidean."""
    rows: np.ndarray
    """int64 [Q, k], rows of the bank."""


class ExpressionBank:
    """Expression descriptors of many donors, searched by Euclidean distance.

    Make one with `from_arrays` or `load`. Rows keep their number for good; `add` appends.

    Attributes
    ----------
    descriptors : float32 [N, D], read-only
    donors : int or str [N], whose recording each row comes from
    neutral : bool [N], the row is its donor's neutral frame (all False where nobody marked them)
    encoder_pose : float32 [N, 4, 4] as the encoder saw it, or None
    encoder : str, what made the descriptors ("unknown" is compatible with all)
    descriptor : str, the name of the descriptor column
    raw : float32 [N, D], read-only, the descriptors as the encoder gave them, where `in_form` made this bank
        of them; else None
    index : faiss.Index over `descriptors`; its search-time settings (`index.nprobe` of "IVF...",
        `index.efSearch` of "HNSW...") may be changed, its rows may not

    Conventions: docs/conventions.md#descriptors.

    >>> from raf_lite.manifest import find_data
    >>> ExpressionBank.load(find_data() / "bank")
    ExpressionBank(18480 rows of 'blendshapes' [52] from 220 donors, encoder
    'mediapipe-face_landmarker-float16-1', index 'Flat')"""

    def __init__(
        self,
        descriptors: ArrayLike,
        donors: ArrayLike,
        *,
        encoder: str,
        descriptor: str,
        factory: str = "Flat",
        index: faiss.Index | None = None,
        neutral: ArrayLike | None = None,
        encoder_pose: ArrayLike | None = None,
        thumbnails: Mapping[int, bytes] | None = None,
    ) -> None:
        self.descriptors = descriptor_array(descriptors, "the bank's descriptors").copy()
        rows = len(self.descriptors)
        if rows == 0:
            raise ValueError("the bank is empty; give it at least one descriptor")
        self.descriptors.flags.writeable = False  # the index holds a copy, which must not go out of step
        self.donors = donor_array(donors, rows)
        self.neutral = neutral_array(neutral, rows)
        self.encoder_pose = pose_array(encoder_pose, rows)
        self.encoder, self.descriptor, self.factory = encoder, descriptor, factory
        self.raw: np.ndarray | None = None
        self._thumbnails = thumbnail_dict(thumbnails, rows)
        self.index = centred_index(_build_index(self.descriptors, factory) if index is None else index)

    @classmethod
    def from_arrays(
        cls,
        descriptors: ArrayLike,  # [N, D]
        donors: ArrayLike,  # [N]
        *,
        encoder: str = "unknown",
        descriptor: str = "descriptors",
        index: str = "Flat",
        neutral: ArrayLike | None = None,  # bool [N]
        encoder_pose: ArrayLike | None = None,  # [N, 4, 4]
        thumbnails: Mapping[int, bytes] | None = None,
    ) -> ExpressionBank:
        """A bank of these descriptors (copied).

        descriptors: finite numbers, one row per frame. donors: an integer or string per row. encoder,
        descriptor: names kept with the bank. index: a FAISS factory string with the L2 metric; "Flat" is
        exact, "IVF1024,Flat" or "HNSW32" trade exactness for speed in banks of millions. neutral,
        encoder_pose: see the class. thumbnails: `{row: WebP bytes}`.

        Raises ValueError for NaN (naming the row), an empty bank, arrays of differing lengths, or an unusable
        index string.

        >>> rng = np.random.default_rng(0)
        >>> ExpressionBank.from_arrays(
        ...     rng.normal(size=(300, 52)), np.repeat(np.arange(10), 30), encoder="mine"
        ... )
        ExpressionBank(300 rows of 'descriptors' [52] from 10 donors, encoder 'mine', index 'Flat')
        """
        return cls(
            descriptors,
            donors,
            encoder=encoder,
            descriptor=descriptor,
            factory=index,
            neutral=neutral,
            encoder_pose=encoder_pose,
            thumbnails=thumbnails,
        )

    def __len__(self) -> int:
        return len(self.descriptors)

    def __repr__(self) -> str:
        return (
            f"ExpressionBank({len(self)} rows of '{self.descriptor}' [{self.dim}] from"
            f" {len(np.unique(self.donors))} donors, encoder '{self.encoder}', index '{self.factory}')"
        )

    @property
    def dim(self) -> int:
        """D, the length of a descriptor."""
        return self.descriptors.shape[1]

    @property
    def thumbnail_rows(self) -> np.ndarray:
        """int64 `[M]`: the rows that have a thumbnail, ascending."""
        return np.fromiter(self._thumbnails, dtype=np.int64)

    def thumbnail(self, row: int) -> np.ndarray | None:
        """uint8 RGB `[h, w, 3]` of the row's frame, or None where none was stored."""
        data = self._thumbnails.get(int(row))
        return None if data is None else storage.decode_thumbnail(data)

    def check_descriptors(
        self, descriptors: ArrayLike, *, encoder: str | None = None, what: str = "descriptors"
    ) -> np.ndarray:
        """Return `descriptors` as float32 `[N, D]`; ValueError unless they are finite, of this bank's D and
        of its encoder."""
        array = descriptor_array(descriptors, what, dim=self.dim, whose=f"the bank's '{self.descriptor}'")
        if encoder is not None and encoder != self.encoder and "unknown" not in (encoder, self.encoder):
            raise ValueError(
                f"{what} come from encoder '{encoder}' and the bank from '{self.encoder}', so distances"
                " between them mean nothing; encode both with the same"
            )
        return array

    def add(
        self,
        descriptors: ArrayLike,
        donors: ArrayLike,
        *,
        encoder: str | None = None,
        neutral: ArrayLike | None = None,
        encoder_pose: ArrayLike | None = None,
        thumbnails: Mapping[int, bytes] | None = None,
    ) -> None:
        """Append rows. Arguments as in `from_arrays`; `thumbnails` counts rows from the first added one.

        An index that was trained (IVF, PQ) keeps the training of the first rows, as FAISS does. Raises
        ValueError as `from_arrays` does, also when only one side has encoder poses; the bank is then
        unchanged.

        >>> bank = ExpressionBank.from_arrays([[0.0, 1.0], [4.0, 4.0]], donors=["ann", "bo"])
        >>> bank.add([[2.0, 2.0]], donors=["cy"])
        >>> len(bank), bank.search([[2.0, 2.5]], k=1).rows.tolist()
        (3, [[2]])
        """
        if self.raw is not None:
            raise ValueError(
                f"the bank holds '{self.descriptor}', and nobody knows what to take out of added rows; add"
                " raw ones to the bank as it is stored, and take its form then"
            )
        new = self.check_descriptors(descriptors, encoder=encoder, what="added descriptors")
        donors, neutral = donor_array(donors, len(new)), neutral_array(neutral, len(new))
        encoder_pose, thumbnails = pose_array(encoder_pose, len(new)), thumbnail_dict(thumbnails, len(new))
        self._check_kind(donors)
        if (encoder_pose is None) != (self.encoder_pose is None):
            raise ValueError(
                "either the bank or the added rows lack encoder poses; "
                "give encoder_pose [N, 4, 4] for all rows or for none"
            )
        first = len(self)
        self.index.add(new)
        self.descriptors = np.concatenate([self.descriptors, new])
        self.descriptors.flags.writeable = False
        # NumPy would join signed and unsigned integers as floats.
        ids = [ids if ids.dtype.kind == "U" else ids.astype(np.int64) for ids in (self.donors, donors)]
        self.donors = np.concatenate(ids)
        self.neutral = np.concatenate([self.neutral, neutral])
        if encoder_pose is not None and self.encoder_pose is not None:
            self.encoder_pose = np.concatenate([self.encoder_pose, encoder_pose])
        self._thumbnails |= {first + row: data for row, data in thumbnails.items()}

    def _check_kind(self, donors: np.ndarray) -> None:
        # NumPy would compare 3 with "3", find them different, and exclude nobody.
        if donors.size and (donors.dtype.kind == "U") != (self.donors.dtype.kind == "U"):
            raise ValueError(
                f"donor {donors.ravel()[0]!r} is not of the type of the bank's donors ({self.donors[0]!r}); "
                "name donors as the bank does"
            )

    def allowed_rows(self, exclude_donors: Iterable = ()) -> np.ndarray:
        """int64 rows of all donors but these, ascending. ValueError where none is left; donors the bank lacks
        are no error."""
        single = isinstance(exclude_donors, (str, int, np.integer))
        excluded = np.asarray([exclude_donors] if single else list(exclude_donors))
        self._check_kind(excluded)
        rows = np.flatnonzero(~np.isin(self.donors, excluded))
        if len(rows) == 0:
            raise ValueError(
                f"the bank holds only the excluded donors {excluded.tolist()}; add other donors to it"
            )
        return rows

    def search(
        self,
        queries: ArrayLike,  # [Q, D]
        k: int,
        exclude_donors: Iterable = (),
        *,
        encoder: str | None = None,
    ) -> SearchResult:
        """The k nearest rows of each query, nearest first.

        >>> bank = ExpressionBank.from_arrays(
        ...     [[0.0, 1.0], [4.0, 4.0], [3.0, 0.0]], donors=["ann", "bo", "ann"]
        ... )
        >>> bank.search([[3.0, 3.0]], k=2).rows
        array([[1, 2]])
        >>> distances, rows = bank.search([[3.0, 3.0]], k=1, exclude_donors=["bo"])
        >>> distances
        array([[3.]], dtype=float32)

        exclude_donors: donors none of whose rows may be returned, whatever the index. encoder: what made the
        queries, where known. Exact with "Flat". With an approximate index the rows are approximate and their
        distances exact; queries for which it finds fewer than k allowed rows are searched exactly.

        Raises ValueError for NaN, a wrong dimension or encoder, and k larger than the rows that are left.
        """
        queries = self.check_descriptors(queries, encoder=encoder, what="queries")
        allowed = self.allowed_rows(exclude_donors)
        if not 1 <= k <= len(allowed):
            raise ValueError(
                f"k = {k}, but the bank has {len(allowed)} rows to choose from; use k from 1 to"
                f" {len(allowed)}"
            )
        params = None
        if len(allowed) < len(self):
            mask = np.ones(len(self), dtype=bool)
            mask[allowed] = False
            params = _search_parameters(
                self.index, faiss.IDSelectorNot(faiss.IDSelectorBatch(np.flatnonzero(mask)))
            )
        distances = np.empty((len(queries), k), dtype=np.float32)
        rows = np.empty((len(queries), k), dtype=np.int64)
        for start in range(0, len(queries), _BLOCK):
            block = slice(start, start + _BLOCK)
            distances[block], rows[block] = self._search_block(queries[block], k, allowed, params)
        return SearchResult(distances, rows)

    def _search_block(
        self, queries: np.ndarray, k: int, allowed: np.ndarray, params: faiss.SearchParameters | None
    ) -> tuple[np.ndarray, np.ndarray]:
        try:
            _, rows = self.index.search(queries, k, params=params)
        except RuntimeError as error:
            raise ValueError(
                f"the index '{self.factory}' cannot leave donors out of a search ({_reason(error)}); use"
                " another, such as 'Flat', 'IVF...,Flat' or 'HNSW...'"
            ) from error
        short = (rows < 0).any(axis=1)
        if short.any():
            mean = self.descriptors.mean(axis=0)  # taken off for the same reason as in _build_index
            _, found = faiss.knn(queries[short] - mean, self.descriptors[allowed] - mean, k)
            rows[short] = allowed[found]
        # FAISS gives squared distances, of compressed vectors in some indexes and by |x|^2 + |y|^2 - 2xy in
        # others.
        distances = np.linalg.norm(queries[:, None] - self.descriptors[rows], axis=2)
        order = np.lexsort((rows, distances), axis=1)
        return np.take_along_axis(distances, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def donor_means(self) -> tuple[np.ndarray, np.ndarray]:
        """(donors [M] in ascending order, float64 means of their descriptors [M, D])."""
        names, means, _ = donor_means(self.descriptors, self.donors)
        return names, means

    def centred(self, scale: np.ndarray | float = 1.0) -> ExpressionBank:
        """A bank of the same rows, each minus its own donor's mean: what is left is mostly expression, not
        identity.

        Two people's frames are then near each other when both depart from their own average in the same way;
        no label is needed. scale: [D] or a number, by which the offsets are divided.
        """
        _, means, member = donor_means(self.descriptors, self.donors)
        offsets = self.descriptors - means[member]
        return ExpressionBank.from_arrays(
            offsets / scale,
            self.donors,
            encoder=f"{self.encoder} minus donor mean",
            descriptor=self.descriptor,
            index=self.factory,
        )

    def in_form(self, form: str) -> ExpressionBank:
        """A bank of the same rows in a form: "raw" (this one), "mean", each minus its own donor's mean, or
        "neutral", each minus the mean of its donor's neutral frames.

        It is named so ("landmarks-mean") and keeps the rows as they were (`raw`). For a donor of whom no row
        is marked as neutral, the one nearest to the donor's mean stands for it, with a warning. Raises
        ValueError for another form, and for a bank that has a relative form already.

        >>> bank = ExpressionBank.from_arrays([[0.0, 2.0], [2.0, 4.0]], ["ann", "ann"], neutral=[True, False])
        >>> bank.in_form("mean").descriptors.tolist(), bank.in_form("neutral").descriptors.tolist()
        ([[-1.0, -1.0], [1.0, 1.0]], [[0.0, 0.0], [2.0, 2.0]])
        """
        encoded, has = parts(self.descriptor)
        if form not in FORMS:
            raise ValueError(f"unknown form '{form}'; choose one of {', '.join(FORMS)}")
        if form == has:
            return self
        if has != "raw":
            raise ValueError(
                f"the bank holds '{self.descriptor}', of which no other form can be made; load its raw"
                " descriptors"
            )
        names, member = np.unique(self.donors, return_inverse=True)
        rows = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
        formed, unmarked = np.empty_like(self.descriptors), []
        for name, own in zip(names, rows, strict=True):
            video = self.descriptors[own]
            neutral = video[self.neutral[own]]
            if form == "neutral" and not len(neutral):
                neutral = video[likely_neutral(video)]
                unmarked.append(str(name))
            formed[own] = in_form(video, form, neutral, video)
        if unmarked:
            more = ", ..." if len(unmarked) > 5 else ""
            warnings.warn(
                f"no row of donor(s) {', '.join(unmarked[:5])}{more} is marked as neutral: the one nearest to"
                " the donor's mean expression is taken",
                stacklevel=2,
            )
        bank = ExpressionBank.from_arrays(
            formed,
            self.donors,
            encoder=self.encoder,
            descriptor=named(encoded, form),
            index=self.factory,
            neutral=self.neutral,
            encoder_pose=self.encoder_pose,
            thumbnails=self._thumbnails,
        )
        bank.raw = self.descriptors
        return bank

    def stats(self) -> dict:
        """Size, coverage and identity leakage; see `raf_lite.bank.statistics.bank_statistics`."""
        return bank_statistics(
            self.descriptors, self.donors, self.neutral, self.search, len(self._thumbnails)
        )

    def save(self, folder: str | os.PathLike) -> Path:
        """Write the bank with its index to `folder` (format: `raf_lite.bank.storage`), replacing a bank of
        the same column.

        Raises ValueError where the folder holds a bank with other columns or with ground truth, which would
        be lost, and TimeoutError where another process has been writing there for too long.
        """
        contents = storage.bank_contents(
            folder,
            columns={self.descriptor: self.descriptors},
            donors=self.donors,
            encoder=self.encoder,
            neutral=self.neutral,
            encoder_pose=self.encoder_pose,
            thumbnails=self._thumbnails,
            index=(self.descriptor, self.factory, self.index),
        )
        with locked(folder):
            if Path(folder, storage.MANIFEST).exists():
                old = storage.read_manifest(folder)
                if list(old["descriptors"]) != [self.descriptor] or storage.has_part(old, "truth.npz"):
                    raise ValueError(
                        f"{folder} holds a bank with columns {', '.join(old['descriptors'])} that this one"
                        " would replace; save to a folder of its own"
                    )
            storage.commit(folder, *contents)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike, descriptor: str | None = None) -> ExpressionBank:
        """Read a bank folder. descriptor: the column to search on, such as "blendshapes" (default: the first
        that was written), or a form of one, such as "landmarks-mean" (see `in_form`).

        Raises FileNotFoundError for a missing file and ValueError for a damaged one (its sha256 is checked),
        another format version or an unknown column. The ground truth is not opened.
        """
        stored = storage.read_bank(folder, None if descriptor is None else _stored(folder, descriptor))
        try:
            bank = cls(**stored)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"the bank {folder} holds what no bank can ({error}); restore it or write it again"
            ) from error
        if descriptor is None or bank.descriptor == descriptor:
            return bank
        encoded, form = parts(descriptor)
        bank.descriptor = encoded
        return bank.in_form(form)


def _stored(folder: str | os.PathLike, descriptor: str) -> str:
    """The column that a descriptor, or a form of it, is made of."""
    made_of = column(descriptor)
    if made_of == descriptor or descriptor in storage.read_manifest(Path(folder))["descriptors"]:
        return descriptor
    return made_of


class CentredIndex(faiss.IndexPreTransform):
    """FAISS's index behind the transform that takes the mean off, with the inner one's search settings within
    reach."""

    @property
    def nprobe(self) -> int:
        """How many cells of an IVF index are looked into."""
        return self._ivf().nprobe

    @nprobe.setter
    def nprobe(self, cells: int) -> None:
        self._ivf().nprobe = cells

    @property
    def efSearch(self) -> int:  # noqa: N802, FAISS's name
        """How many candidates an HNSW index keeps."""
        return self._hnsw().efSearch

    @efSearch.setter
    def efSearch(self, candidates: int) -> None:  # noqa: N802
        self._hnsw().efSearch = candidates

    def _ivf(self) -> faiss.IndexIVF:
        index = faiss.try_extract_index_ivf(self)
        if index is None:
            raise AttributeError("nprobe is a setting of 'IVF...' indexes, and this is none")
        return index

    def _hnsw(self) -> faiss.HNSW:
        index = faiss.downcast_index(self.index)
        while not isinstance(index, faiss.IndexHNSW):
            inner = {faiss.IndexPreTransform: "index", faiss.IndexRefine: "base_index"}
            name = next((name for kind, name in inner.items() if isinstance(index, kind)), None)
            if name is None:
                raise AttributeError("efSearch is a setting of 'HNSW...' indexes, and this is none")
            index = faiss.downcast_index(getattr(index, name))
        return index.hnsw


def centred_index(index: faiss.Index) -> faiss.Index:
    """The same index; what FAISS has read or made becomes a `CentredIndex` where it is one."""
    if type(index) is faiss.IndexPreTransform:
        index.__class__ = CentredIndex
    return index


def _build_index(descriptors: np.ndarray, factory: str) -> faiss.Index:
    dim = descriptors.shape[1]
    try:
        index = faiss.index_factory(dim, factory)
        # Distances don't change when the mean is taken off first, and FAISS's float32 products then lose far
        # fewer digits.
        index = faiss.IndexPreTransform(faiss.CenteringTransform(dim), index)
        index.train(descriptors)
        index.add(descriptors)
    except RuntimeError as error:
        raise ValueError(
            f"FAISS cannot build the index '{factory}' over {len(descriptors)} descriptors of {dim}"
            f" dimensions ({_reason(error)}); choose another factory string, such as 'Flat'"
        ) from error
    return index


def _search_parameters(index: faiss.Index, selector: faiss.IDSelector) -> faiss.SearchParameters:
    """FAISS wants the selector in the parameter class of each kind of index; the index's own settings are
    kept."""
    # FAISS adds these classes' keywords when it is imported, so its type stubs do not know them.
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=_search_parameters(index.index, selector))  # pyright: ignore[reportCallIssue]
    if isinstance(index, faiss.IndexRefine):
        return faiss.IndexRefineSearchParameters(
            k_factor=index.k_factor,  # pyright: ignore[reportCallIssue]
            base_index_params=_search_parameters(index.base_index, selector),  # pyright: ignore[reportCallIssue]
        )
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(sel=selector, nprobe=index.nprobe, max_codes=index.max_codes)  # pyright: ignore[reportCallIssue]
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(sel=selector, efSearch=index.hnsw.efSearch)  # pyright: ignore[reportAttributeAccessIssue]
    return faiss.SearchParameters(sel=selector)  # pyright: ignore[reportCallIssue]


def _reason(error: RuntimeError) -> str:
    """The sentence in FAISS's exception text, without the C++ signature before it."""
    return str(error).strip().splitlines()[-1].rsplit("Error: ", 1)[-1].strip()
