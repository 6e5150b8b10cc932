"""Retrieval-augmented training (RAF, arXiv 2603.08645): the idea of the paper, its variants and its controls.

An avatar learns to turn an expression descriptor of its subject into the subject's frame. RAF replaces some descriptors by
their nearest neighbours in a bank of *other people's* descriptors and keeps the frame: the avatar learns that descriptors
which mean the same expression, but come from other faces, must give the same picture. In any training loop:

    raf = RetrievalAugmentation(bank, p=0.2)                # once
    codes, _ = raf.augment(codes, generator)                # every step; the loss still compares with the same frames

Training alone changes; the avatar's architecture and its use don't.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from raf_lite.bank import ExpressionBank

KEYS = ("raw", "centred", "weighted")
CONTROLS = ("random", "gaussian", "residual", "mean_shift")
STRATEGIES = ("nearest", *CONTROLS)

# The settings by name, and every control of each ("centred-gaussian"): it has the key and k of the setting that it controls.
# The k = 1 of "paper" is our reading of its nearest neighbour; k = 16, centred and weighted keys, and blending are ours.
SETTINGS: dict[str, dict] = {
    "paper": {"key": "raw", "k": 1, "strategy": "nearest"},
    "paper-k16": {"key": "raw", "k": 16, "strategy": "nearest"},
    "centred": {"key": "centred", "k": 16, "strategy": "nearest"},
    "weighted": {"key": "weighted", "k": 16, "strategy": "nearest"},
    "blended": {"key": "centred", "k": 16, "strategy": "nearest", "blend": True},
}
SETTINGS |= {f"{name}-{control}": {**setting, "strategy": control}
             for name, setting in SETTINGS.items() for control in CONTROLS}


class RetrievalAugmentation:
    """Maps a batch of descriptors to a batch of descriptors, some of them replaced with the help of a bank.

    bank: the `ExpressionBank` to retrieve from. p: the chance of each descriptor to be replaced, 0.2 unless told (sources on
    the paper disagree about its rate). k: how many nearest rows one is drawn from: 1 is the nearest neighbour of the paper, more
    give a frame more than one partner. subject: a donor of the bank of whom nothing is ever taken; name the avatar's own subject
    if the bank holds it.

    key: what neighbours are searched on. "raw" (the paper's) compares descriptors as they are. "centred" (ours) compares
    descriptors minus the mean of their own person, so that neighbours share the expression rather than the face shape. "weighted"
    (ours) also divides each dimension by the deviation of the donors' means, so that what differs from person to person anyway
    counts less. Whatever the key, the donor's raw descriptor is what is put in.

    blend: put in only a share of the way from the old descriptor to the new one, drawn evenly from 0 to 1 each time; gentler on
    what the person does themselves.

    strategy: "nearest" is RAF. The others are controls that use the same bank without retrieving by similarity:
        random      a random row of the bank is put in
        gaussian    zero-mean noise is added, with the covariance of the retrieval residuals of this key and k
        residual    another training frame's retrieval residual (its neighbour minus itself) is added
        mean_shift  a random donor's mean minus the subject's mean is added

    After `fit`: `subject_mean` float64 [D]; `neighbours` int64 [T, k], rows of the bank; `residuals` float32 [T, k, D],
    neighbour minus training descriptor, both raw; `residual_covariance` float64 [D, D], over all T * k of them.

    Raises ValueError for p outside [0, 1], an unknown key or strategy, k larger than the bank, or a bank of only the subject.
    """

    def __init__(self, bank: ExpressionBank, p: float = 0.2, k: int = 1, key: str = "raw", strategy: str = "nearest",
                 subject=None, blend: bool = False):
        if not 0 <= p <= 1:
            raise ValueError(f"p = {p} is not a probability; use a number from 0 to 1")
        if key not in KEYS:
            raise ValueError(f"unknown key '{key}'; choose one of {', '.join(KEYS)}")
        if strategy not in STRATEGIES:
            raise ValueError(f"unknown strategy '{strategy}'; choose one of {', '.join(STRATEGIES)}")
        self.bank, self.p, self.k, self.key, self.strategy, self.subject = bank, p, k, key, strategy, subject
        self.blend = blend
        self._exclude = () if subject is None else (subject,)
        rows = bank.allowed_rows(self._exclude)
        if not 1 <= k <= len(rows):
            raise ValueError(f"k = {k}, but the bank has {len(rows)} rows to choose from; use k from 1 to {len(rows)}")
        self.neighbours = None

    @classmethod
    def named(cls, bank: ExpressionBank, name: str, p: float = 0.2, subject=None) -> RetrievalAugmentation:
        """One of `SETTINGS`: "paper", "paper-k16", "centred", or a control of one of them such as "centred-gaussian"."""
        if name not in SETTINGS:
            raise ValueError(f"unknown setting '{name}'; choose one of {', '.join(SETTINGS)}")
        return cls(bank, p, subject=subject, **SETTINGS[name])

    def fit(
        self,
        train_descriptors,  # [T, D]
        *,
        encoder: str | None = None,
    ) -> RetrievalAugmentation:
        """Learn from the subject's training descriptors all that is not in the bank: mean, neighbours, residuals. Returns self.

        train_descriptors: NumPy or torch, all training frames of the subject. encoder: what made them, where known.
        Fit again after `bank.add`. Raises ValueError for NaN, a dimension or encoder other than the bank's, or too few frames.
        """
        if isinstance(train_descriptors, torch.Tensor):
            train_descriptors = train_descriptors.detach().cpu().double().numpy()
        train = self.bank.check_descriptors(train_descriptors, encoder=encoder, what="training descriptors")
        needed = 2 if self.strategy in ("gaussian", "residual") else 1
        if len(train) < needed:
            raise ValueError(f"strategy '{self.strategy}' needs at least {needed} training descriptors, not {len(train)}; "
                             "fit it on all training frames")
        self.subject_mean = train.mean(axis=0, dtype=np.float64)
        self._key_scale = self._identity_scale() if self.key == "weighted" else 1.0
        self._keys = self.bank if self.key == "raw" else self.bank.centred(scale=self._key_scale)
        self._allowed = self.bank.allowed_rows(self._exclude)
        self.neighbours = self._search(train)
        self.residuals = self.bank.descriptors[self.neighbours] - train[:, None]
        flat = self.residuals.reshape(-1, self.bank.dim).astype(np.float64)
        self.residual_covariance = np.atleast_2d(np.cov(flat, rowvar=False, bias=True))
        variances, axes = np.linalg.eigh(self.residual_covariance)
        self._noise_scale = axes * np.sqrt(variances.clip(0))  # [D, D]; unit noise times its transpose has that covariance
        donors, means = self.bank.donor_means()
        self._mean_shifts = means[np.isin(donors, self.bank.donors[self._allowed])] - self.subject_mean  # [M, D]
        return self

    def augment(self, descriptors, generator, index=None):
        """Replace each descriptor with probability p. Returns (descriptors, info); the input is not modified.

        descriptors: floating NumPy array or torch tensor [B, D] of the subject; the output has its type, dtype and device.
        generator: `numpy.random.Generator` or `torch.Generator`, to match. index: int [B], which rows of the fitted training
        set these are; their neighbours are then looked up instead of searched for, and "residual" takes no frame's own.

        info, of the same type: `replaced` bool [B]; `rows` int64 [B], the row of the bank that was put in (with `blend`,
        gone towards), or -1; `distances` float32 [B], Euclidean, from the old to the new descriptor.

        Every call draws the same amount from the generator, whatever p and strategy: runs that differ only in those
        replace the same descriptors, so that a control is paired with what it controls.

        No gradient flows back through a replaced descriptor. No statistic is ever taken from the batch. Raises ValueError for
        NaN, a wrong dimension, an index out of range, or (all but the raw nearest neighbour) when `fit` was not called.
        """
        if isinstance(descriptors, torch.Tensor) and isinstance(generator, torch.Generator):
            batch = descriptors.detach().cpu().double().numpy() if descriptors.is_floating_point() else None
            source = {"generator": generator, "device": generator.device}
            chances = torch.rand(len(descriptors), dtype=torch.float64, **source).cpu().numpy()
            seed = torch.randint(2**62, (), **source).item()
            index = index.cpu().numpy() if isinstance(index, torch.Tensor) else index
        elif isinstance(descriptors, np.ndarray) and isinstance(generator, np.random.Generator):
            batch = descriptors.astype(np.float64) if descriptors.dtype.kind == "f" else None
            chances, seed = generator.random(len(descriptors)), int(generator.integers(2**62))
        else:
            raise ValueError(f"descriptors are {type(descriptors).__name__} and the generator {type(generator).__name__}; pass a "
                             "NumPy array with a numpy.random.Generator, or a tensor with a torch.Generator")
        if batch is None:
            raise ValueError(f"descriptors must be floating point, not {descriptors.dtype}; convert them first")

        replaced, rows, values = self._replace(batch, chances < self.p, np.random.default_rng(seed), index)
        distances = np.zeros(len(batch), dtype=np.float32)
        distances[replaced] = np.linalg.norm(values - batch[replaced], axis=1)
        info = {"replaced": replaced, "rows": rows, "distances": distances}
        if isinstance(descriptors, torch.Tensor):
            info = {name: torch.from_numpy(array).to(descriptors.device) for name, array in info.items()}
            out = descriptors.clone()
            out[info["replaced"]] = torch.from_numpy(values).to(descriptors)
        else:
            out = descriptors.copy()
            out[replaced] = values
        return out, info

    def _replace(self, batch, replaced, rng, index):
        """What both kinds of array share: (replaced bool [B], rows int64 [B], the new descriptors float64 [n, D])."""
        self.bank.check_descriptors(batch)
        if self.neighbours is None and (index is not None or (self.key, self.strategy) != ("raw", "nearest")):
            raise ValueError(f"key '{self.key}' with strategy '{self.strategy}'{' and index' if index is not None else ''} needs "
                             "the subject's training descriptors; call fit(train_descriptors) first")
        if index is not None:
            index = self._checked_index(index, len(batch))[replaced]
        old, count = batch[replaced], int(replaced.sum())
        taken = np.full(count, -1, dtype=np.int64)
        if self.strategy == "nearest":
            near = self._search(old) if index is None else self.neighbours[index]
            taken = near[np.arange(count), rng.integers(self.k, size=count)]
            new = self.bank.descriptors[taken]
        elif self.strategy == "random":
            taken = rng.choice(self._allowed, size=count)
            new = self.bank.descriptors[taken]
        elif self.strategy == "gaussian":
            new = old + rng.standard_normal(old.shape) @ self._noise_scale.T
        elif self.strategy == "residual":
            frames = len(self.residuals)
            if index is None:
                other = rng.integers(frames, size=count)
            else:
                other = (index + rng.integers(1, frames, size=count)) % frames
            new = old + self.residuals[other, rng.integers(self.k, size=count)]
        else:
            new = old + rng.choice(self._mean_shifts, size=count)
        if self.blend:
            new = old + rng.random((count, 1)) * (new - old)
        rows = np.full(len(batch), -1, dtype=np.int64)
        rows[replaced] = taken
        return replaced, rows, new.astype(np.float64)

    def _search(self, descriptors: np.ndarray) -> np.ndarray:
        """Rows of the bank [B, k] nearest to the subject's descriptors [B, D] in the space of the key."""
        if self.key == "raw":
            return self.bank.search(descriptors, self.k, self._exclude)[1]
        return self._keys.search((descriptors - self.subject_mean) / self._key_scale, self.k, self._exclude)[1]

    def _identity_scale(self) -> np.ndarray:
        """How far people differ on average in each dimension, [D], with a floor: a tenth of the variance inside a person."""
        means = self.bank.donor_means()[1]
        inside = self.bank.centred().descriptors.var(axis=0, dtype=np.float64)
        return np.sqrt(means.var(axis=0) + 0.1 * inside + 1e-6 * inside.mean() + np.finfo(float).tiny)

    def _checked_index(self, index, batch: int) -> np.ndarray:
        index, frames = np.asarray(index), len(self.neighbours)
        if index.shape != (batch,) or index.dtype.kind not in "iu":
            raise ValueError(f"index must be {batch} integers, one per descriptor, not {index.dtype} {list(index.shape)}")
        if batch and not 0 <= index.min() <= index.max() < frames:
            raise ValueError(f"index goes from {index.min()} to {index.max()}, but {frames} training descriptors were fitted; "
                             "pass the rows of the array given to fit")
        return index.astype(np.int64)
