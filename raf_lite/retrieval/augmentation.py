"""`RetrievalAugmentation`: some of a batch's descriptors are replaced by other people's, and the frames are
kept."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypedDict, TypeVar, overload, runtime_checkable

import numpy as np
import torch

from raf_lite.retrieval.controls import CONTROLS, FRAMES_NEEDED, Learned
from raf_lite.retrieval.settings import Setting

if TYPE_CHECKING:
    from raf_lite.bank import ExpressionBank

Array = TypeVar("Array", np.ndarray, torch.Tensor)


@runtime_checkable
class Augmentation(Protocol):
    """Whatever changes descriptors in training; `RetrievalAugmentation` is one, and
    `raf_lite.training.Trainer` takes any.

    >>> class Noise:
    ...     def augment(self, descriptors, generator, index=None):
    ...         return descriptors + 0.1 * torch.randn(descriptors.shape, generator=generator), {}
    >>> isinstance(Noise(), Augmentation)
    True
    """

    def augment(
        self,
        descriptors: torch.Tensor,  # [B, D]
        generator: torch.Generator,
        index: torch.Tensor | None = None,  # int64 [B]
    ) -> tuple[torch.Tensor, Mapping[str, object]]:
        """The descriptors to train with, [B, D], and what there is to say of them.

        index: which training frames these are. Whatever is drawn comes from `generator`, so that a seed
        decides a run, and is as much in every call, so that runs which differ only in their augmentation stay
        paired. The input is not modified.
        """
        ...


class Replacements(TypedDict, Generic[Array]):
    """What `RetrievalAugmentation.augment` has done to B descriptors, in arrays of their kind."""

    replaced: Array
    """bool [B]."""
    rows: Array
    """int64 [B], the row of the bank that was put in (with `blend`, gone towards), or -1."""
    distances: Array
    """float32 [B], Euclidean, from the old to the new descriptor."""


class RetrievalAugmentation:
    """Maps a batch of descriptors to a batch of descriptors, some of them replaced with the help of a bank.

    >>> from raf_lite.bank import ExpressionBank
    >>> bank = ExpressionBank.from_arrays([[0.0, 1.0], [4.0, 4.0]], donors=["ann", "bo"])
    >>> raf = RetrievalAugmentation(bank, p=1)
    >>> raf.augment(np.array([[3.0, 4.0]]), np.random.default_rng(0))[0]
    array([[4., 4.]])

    bank: the `ExpressionBank` to retrieve from. p: the chance of each descriptor to be replaced, 0.2 unless
    told (sources on the paper disagree about its rate). k: how many nearest rows one is drawn from: 1 is the
    nearest neighbour of the paper, more give a frame more than one partner. subject: a donor of the bank of
    whom nothing is ever taken; name the avatar's own subject if the bank holds it.

    key: what neighbours are searched on. "raw" (the paper's) compares descriptors as they are. "centred"
    (ours) compares descriptors minus the mean of their own person, so that neighbours share the expression
    rather than the face shape. "weighted" (ours) also divides each dimension by the deviation of the donors'
    means, so that what differs from person to person anyway counts less. Whatever the key, the donor's raw
    descriptor is what is put in.

    blend: put in only a share of the way from the old descriptor to the new one, drawn evenly from 0 to 1
    each time; gentler on what the person does themselves.

    strategy: "nearest" is RAF. The others are controls that use the same bank without retrieving by
    similarity:
        random      a random row of the bank is put in
        gaussian    zero-mean noise is added, with the covariance of the retrieval residuals of this key and k
        residual    another training frame's retrieval residual (its neighbour minus itself) is added
        mean_shift  a random donor's mean minus the subject's mean is added

    `excluded`: the donors of whom nothing is taken. After `fit`: `subject_mean` float64 [D]; `neighbours`
    int64 [T, k], rows of the bank; `residuals` float32 [T, k, D], neighbour minus training descriptor, both
    raw; `residual_covariance` float64 [D, D], over all T * k of them.

    Raises ValueError for p outside [0, 1], an unknown key or strategy, k larger than the bank, or a bank of
    only the subject."""

    def __init__(
        self,
        bank: ExpressionBank,
        p: float = 0.2,
        k: int = 1,
        key: str = "raw",
        strategy: str = "nearest",
        subject: int | str | None = None,
        blend: bool = False,
    ) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p = {p} is not a probability; use a number from 0 to 1")
        self.bank, self.p, self.subject = bank, p, subject
        self.setting = Setting(key, k, strategy, blend)
        self.excluded = () if subject is None else (subject,)
        rows = bank.allowed_rows(self.excluded)
        if not 1 <= k <= len(rows):
            raise ValueError(
                f"k = {k}, but the bank has {len(rows)} rows to choose from; use k from 1 to {len(rows)}"
            )
        self._learned: Learned | None = None

    @classmethod
    def of(
        cls, bank: ExpressionBank, setting: Setting, p: float = 0.2, subject: int | str | None = None
    ) -> Self:
        """With a `Setting`; the other arguments are the class's."""
        return cls(bank, p, subject=subject, **asdict(setting))

    @classmethod
    def named(cls, bank: ExpressionBank, name: str, p: float = 0.2, subject: int | str | None = None) -> Self:
        """One of `SETTINGS`: "paper", "paper-k16", "centred", or a control of one of them such as
        "centred-gaussian"."""
        return cls.of(bank, Setting.named(name), p, subject)

    def __repr__(self) -> str:
        return f"RetrievalAugmentation({self.bank}, p={self.p}, subject={self.subject!r}, {self.setting})"

    def fit(
        self,
        train_descriptors: np.ndarray | torch.Tensor,  # [T, D]
        *,
        encoder: str | None = None,
        held_out: np.ndarray | None = None,  # [M, D]
        reference: np.ndarray | None = None,  # [D]
    ) -> Self:
        """Learn from the subject's training descriptors all that is not in the bank: mean, neighbours,
        residuals. Returns self.

        train_descriptors: NumPy or torch, all training frames of the subject. encoder: what made them, where
        known. held_out: further frames of the subject, of which nothing is learned: who has them in the bank
        is the subject as well. reference: what was taken out of all of these, where they are relative to the
        own mean or neutral. Fit again after `bank.add`. Donors who have the subject's very frames are left
        out as `subject` is, with a warning. Raises ValueError for NaN, a dimension or encoder other than the
        bank's, too few frames, or a bank of only the subject."""
        if isinstance(train_descriptors, torch.Tensor):
            train_descriptors = train_descriptors.detach().cpu().double().numpy()
        train = self.bank.check_descriptors(train_descriptors, encoder=encoder, what="training descriptors")
        strategy, key = self.setting.strategy, self.setting.key
        needed = FRAMES_NEEDED.get(strategy, 1)
        if len(train) < needed:
            raise ValueError(
                f"strategy '{strategy}' needs at least {needed} training descriptors, not {len(train)}; "
                "fit it on all training frames"
            )
        self.excluded = self._not_the_subject(
            train if held_out is None else np.concatenate([train, held_out]), reference
        )
        self.subject_mean = train.mean(axis=0, dtype=np.float64)
        self._key_scale = self._identity_scale() if key == "weighted" else 1.0
        self._keys = self.bank if key == "raw" else self.bank.centred(scale=self._key_scale)
        self.neighbours = self._search(train)
        self.residuals = self.bank.descriptors[self.neighbours] - train[:, None]
        flat = self.residuals.reshape(-1, self.bank.dim).astype(np.float64)
        self.residual_covariance = np.atleast_2d(np.cov(flat, rowvar=False, bias=True))
        variances, axes = np.linalg.eigh(self.residual_covariance)
        allowed = self.bank.allowed_rows(self.excluded)
        donors, means = self.bank.donor_means()
        self._learned = Learned(
            self.bank.descriptors,
            allowed,
            self.residuals,
            noise_scale=axes * np.sqrt(variances.clip(0)),
            mean_shifts=means[np.isin(donors, self.bank.donors[allowed])] - self.subject_mean,
        )
        return self

    @overload
    def augment(
        self, descriptors: np.ndarray, generator: np.random.Generator, index: np.ndarray | None = None
    ) -> tuple[np.ndarray, Replacements[np.ndarray]]: ...

    @overload
    def augment(
        self,
        descriptors: torch.Tensor,
        generator: torch.Generator,
        index: torch.Tensor | np.ndarray | None = None,
    ) -> tuple[torch.Tensor, Replacements[torch.Tensor]]: ...

    def augment(
        self,
        descriptors: np.ndarray | torch.Tensor,
        generator: np.random.Generator | torch.Generator,
        index: torch.Tensor | np.ndarray | None = None,
    ) -> tuple[np.ndarray | torch.Tensor, Replacements]:
        """Replace each descriptor with probability p. Returns (descriptors, info); the input is not modified.

        descriptors: floating NumPy array or torch tensor [B, D] of the subject; the output has its type,
        dtype and device. generator: `numpy.random.Generator` or `torch.Generator`, to match. index: int [B],
        which rows of the fitted training set these are; their neighbours are then looked up instead of
        searched for, and "residual" takes no frame's own.

        info, of the same type, is a dictionary as `Replacements` says: `replaced`, `rows` and `distances`.

        Every call draws the same amount from the generator, whatever p and strategy: runs that differ only in
        those
        replace the same descriptors, so that a control is paired with what it controls.

        No gradient flows back through a replaced descriptor. No statistic is ever taken from the batch.
        Raises ValueError for NaN, a wrong dimension, an index out of range, or (all but the raw nearest
        neighbour) when `fit` was not called.
        """
        known = index.cpu().numpy() if isinstance(index, torch.Tensor) else index
        if isinstance(descriptors, torch.Tensor) and isinstance(generator, torch.Generator):
            _check_floating(descriptors.dtype, descriptors.dtype.is_floating_point)
            chances = torch.rand(
                len(descriptors), dtype=torch.float64, generator=generator, device=generator.device
            )
            seed = torch.randint(2**62, (), generator=generator, device=generator.device)
            batch = descriptors.detach().cpu().double().numpy()
            values, info = self._replace(batch, chances.cpu().numpy(), int(seed), known)
            where = {name: torch.from_numpy(array).to(descriptors.device) for name, array in info.items()}
            out = descriptors.clone()
            out[where["replaced"]] = torch.from_numpy(values).to(descriptors)
            return out, Replacements(**where)
        if isinstance(descriptors, np.ndarray) and isinstance(generator, np.random.Generator):
            _check_floating(descriptors.dtype, descriptors.dtype.kind == "f")
            chances, seed = generator.random(len(descriptors)), int(generator.integers(2**62))
            values, info = self._replace(descriptors.astype(np.float64), chances, seed, known)
            out = descriptors.copy()
            out[info["replaced"]] = values
            return out, info
        raise ValueError(
            f"descriptors are {type(descriptors).__name__} and the generator {type(generator).__name__}; pass"
            " a NumPy array with a numpy.random.Generator, or a tensor with a torch.Generator"
        )

    def _replace(
        self,
        batch: np.ndarray,  # float64 [B, D]
        chances: np.ndarray,  # float64 [B], in [0, 1)
        seed: int,
        index: np.ndarray | None,
    ) -> tuple[np.ndarray, Replacements[np.ndarray]]:
        """What both kinds of array share: the new descriptors, float64 [n, D], of the n that are replaced,
        and the info."""
        self.bank.check_descriptors(batch)
        key, strategy = self.setting.key, self.setting.strategy
        if self._learned is None and (index is not None or (key, strategy) != ("raw", "nearest")):
            raise ValueError(
                f"key '{key}' with strategy '{strategy}'{' and index' if index is not None else ''} needs "
                "the subject's training descriptors; call fit(train_descriptors) first"
            )
        replaced, rng = chances < self.p, np.random.default_rng(seed)
        if index is not None:
            index = self._checked_index(index, len(batch))[replaced]
        old = batch[replaced]
        if strategy == "nearest":
            near = self._search(old) if index is None else self.neighbours[index]
            taken = near[np.arange(len(old)), rng.integers(self.setting.k, size=len(old))]
            new = self.bank.descriptors[taken]
        else:
            assert self._learned is not None  # or the check above had raised
            new, taken = CONTROLS[strategy](self._learned, old, index, rng)
        if self.setting.blend:
            new = old + rng.random((len(old), 1)) * (new - old)
        values = new.astype(np.float64)
        rows = np.full(len(batch), -1, dtype=np.int64)
        distances = np.zeros(len(batch), dtype=np.float32)
        rows[replaced] = -1 if taken is None else taken
        distances[replaced] = np.linalg.norm(values - old, axis=1)
        return values, Replacements(replaced=replaced, rows=rows, distances=distances)

    def _not_the_subject(self, own: np.ndarray, reference: np.ndarray | None) -> tuple[int | str, ...]:
        """Donors of whom nothing is taken: the one that was named, and any who has the subject's very frames,
        with a warning."""
        named = () if self.subject is None else (self.subject,)
        found = [donor for donor in same_people(self.bank, own, reference) if donor not in named]
        if not found:
            return named
        names = ", ".join(map(str, found))
        exclude = (*named, *found)
        left = len(self.bank.allowed_rows(exclude))
        if self.setting.k > left:
            raise ValueError(
                f"the bank holds frames of the subject itself, as donor {names}, and {left} rows of others,"
                f" fewer than k = {self.setting.k}; add other people to it"
            )
        warnings.warn(
            f"the bank holds frames of the subject itself, as donor {names}: nothing is taken of them",
            stacklevel=3,
        )
        return exclude

    def _search(self, descriptors: np.ndarray) -> np.ndarray:
        """Rows of the bank [B, k] nearest to the subject's descriptors [B, D] in the space of the key."""
        if self.setting.key == "raw":
            return self.bank.search(descriptors, self.setting.k, self.excluded).rows
        centred = (descriptors - self.subject_mean) / self._key_scale
        return self._keys.search(centred, self.setting.k, self.excluded).rows

    def _identity_scale(self) -> np.ndarray:
        """How far people differ on average in each dimension, [D], with a floor: a tenth of the variance
        inside a person."""
        means = self.bank.donor_means()[1]
        inside = self.bank.centred().descriptors.var(axis=0, dtype=np.float64)
        return np.sqrt(means.var(axis=0) + 0.1 * inside + 1e-6 * inside.mean() + np.finfo(float).tiny)

    def _checked_index(self, index: np.ndarray, batch: int) -> np.ndarray:
        index, frames = np.asarray(index), len(self.neighbours)
        if index.shape != (batch,) or index.dtype.kind not in "iu":
            raise ValueError(
                f"index must be {batch} integers, one per descriptor, not {index.dtype} {list(index.shape)}"
            )
        if batch and not 0 <= index.min() <= index.max() < frames:
            raise ValueError(
                f"index goes from {index.min()} to {index.max()}, but {frames} training descriptors were"
                " fitted; pass the rows of the array given to fit"
            )
        return index.astype(np.int64)


def same_people(bank: ExpressionBank, own: np.ndarray, reference: np.ndarray | None) -> list[int | str]:
    """Donors who have frames of `own` [T, D], as `same_frames`; compared as the encoder gave them where the
    bank and `reference` [D], which was taken out of `own`, tell that: a donor's mean is of other frames than
    the subject's, even where both are one person."""
    if bank.raw is None or reference is None:
        return same_frames(bank.descriptors, bank.donors, own)
    return same_frames(bank.raw, bank.donors, own + reference)


def same_frames(
    bank: np.ndarray,
    donors: np.ndarray,
    own: np.ndarray,  # [N, D]  # [N]  # [T, D]
) -> list[int | str]:
    """Donors who have frames of `own`: at least two different ones, or no others.

    Rows are equal if they are to the precision of float16, in which banks may be stored; one common row may
    be everyone's, such as the zeros of a neutral face.
    """
    largest = max(float(np.abs(bank).max()), float(np.abs(own).max()))
    stored = np.float16 if largest < np.finfo(np.float16).max else np.float32
    own = own.astype(stored)
    rows = np.flatnonzero(np.isin(bank[:, 0].astype(stored), own[:, 0]))
    known = {row.tobytes() for row in own + stored(0)}  # + 0: -0.0 is 0.0 in other bytes
    found: dict[int | str, dict[bytes, int]] = {}
    for row, values in zip(rows.tolist(), bank[rows].astype(stored) + stored(0), strict=True):
        if (key := values.tobytes()) in known:
            counts = found.setdefault(donors[row].item(), {})
            counts[key] = counts.get(key, 0) + 1
    return [
        donor
        for donor, counts in found.items()
        if len(counts) > 1 or sum(counts.values()) == (donors == donor).sum()
    ]


def _check_floating(dtype: np.dtype | torch.dtype, floating: bool) -> None:
    if not floating:
        raise ValueError(f"descriptors must be floating point, not {dtype}; convert them first")
