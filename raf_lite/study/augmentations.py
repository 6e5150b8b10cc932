"""Two ways to change training descriptors that need what only a rig or a pose estimate gives; the study's
bounds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from raf_lite.bank import ExpressionBank
from raf_lite.bank.statistics import donor_means
from raf_lite.retrieval import Augmentation


class PairAugmentation:
    """Replaces a descriptor, with probability p, by that of another identity rendered with the very same
    expression.

    partners: [F, P, D], for each training frame its P true partners. What retrieval would give if it never
    erred.
    """

    def __init__(self, partners: np.ndarray, p: float) -> None:
        self.p = p
        self.partners = torch.from_numpy(partners)
        self.usable = torch.from_numpy(np.isfinite(partners).all(-1))

    def augment(
        self, descriptors: torch.Tensor, generator: torch.Generator, index: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, dict]:
        """As `Augmentation.augment`; a partner in whom the encoder found no face replaces nothing. ValueError
        without `index`."""
        if index is None:
            raise ValueError("true pairs belong to training frames; pass index, the frame of each descriptor")
        chances = torch.rand(len(descriptors), dtype=torch.float64, generator=generator)
        which = torch.randint(self.partners.shape[1], (len(descriptors),), generator=generator)
        replaced = (chances < self.p) & self.usable[index, which]
        out = descriptors.clone()
        out[replaced] = self.partners[index, which][replaced].to(descriptors)
        return out, {"replaced": replaced}


class PoseAugmentation:
    """Adds, with probability p, what a turn of the head would do to a descriptor; retrieval may come first.

    The effect of a turn is the linear regression, within each donor of the bank, of descriptors on the
    rotation vector that the encoder itself reports: no label. Turns are normal with `degrees` about each
    axis. inner: what comes before, or None."""

    def __init__(
        self,
        bank: ExpressionBank,
        rotations: np.ndarray,
        p: float,
        degrees: float = 12.0,
        inner: Augmentation | None = None,
    ) -> None:
        self.p, self.inner = p, inner
        centred = []
        for values in (rotations, bank.descriptors):
            _, means, member = donor_means(values, bank.donors)
            centred.append(values - means[member])
        effect, *_ = np.linalg.lstsq(*centred, rcond=None)  # [3, D] per radian
        self.effect = torch.from_numpy(effect * np.deg2rad(degrees)).float()

    def augment(
        self, descriptors: torch.Tensor, generator: torch.Generator, index: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Mapping]:
        """As `Augmentation.augment`; what is said of them is what `inner` says."""
        info: Mapping = {}
        if self.inner is not None:
            descriptors, info = self.inner.augment(descriptors, generator, index=index)
        turned = torch.rand(len(descriptors), generator=generator) < self.p
        turns = torch.randn(len(descriptors), 3, generator=generator)
        return descriptors + turned[:, None] * (turns @ self.effect).to(descriptors), info
