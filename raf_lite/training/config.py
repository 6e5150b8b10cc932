"""`TrainConfig`: every number that decides a training run, with presets for tests, CPUs and GPUs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run. Two runs that differ in `retrieval` alone see the same frames and cameras in the same order."""

    steps: int = 1800
    """Optimiser steps; each renders one frame from `views` cameras."""
    size: int = 256
    """Longest side of the training pictures in pixels; frames are scaled down to it, never up."""
    coarse_steps: int = 1400
    """First steps that see pictures of half that size: cheaper, and enough while everything is still blurred."""
    views: int = 2
    """Cameras a step."""
    gaussians: int = 10000
    field: str = "basis"
    """Deformation field: 'basis' (LearnedBasis) or 'mlp' (FieldMLP). In the same minutes on a CPU the basis is the better one on
    expressions (self and cross), the MLP from cameras that training never saw; the basis can be played in a browser too."""
    descriptor: str = "blendshapes"
    """Which stored descriptor drives the avatar."""
    retrieval: str | None = None
    """A named setting of `raf_lite.retrieval` ('paper', 'paper-k16', 'centred', a control), or None for the baseline."""
    retrieval_p: float = 0.2
    """Probability that a frame's descriptor is replaced."""
    seed: int = 0
    lr_means: float = 1.5e-3
    """Learning rates of Adam; lengths in head radii."""
    lr_quats: float = 2e-3
    lr_scales: float = 8e-3
    lr_opacities: float = 3e-2
    lr_colors: float = 2e-2
    lr_basis: float = 6e-3
    """The learned basis, or the output layer of the MLP field."""
    lr_network: float = 1e-3
    """All other layers of the field."""
    lr_final: float = 0.05
    """Every rate falls exponentially to this fraction of its start."""
    ssim_weight: float = 0.2
    mask_weight: float = 0.2
    offset_weight: float = 1e-3
    checkpoint_every: int = 500
    """Steps between checkpoints, from which a killed run resumes."""

    def with_(self, **changes) -> TrainConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


PRESETS = {
    "fast": TrainConfig(steps=60, size=64, coarse_steps=0, gaussians=1500, checkpoint_every=20),
    "cpu": TrainConfig(),
    "gpu": TrainConfig(steps=15000, size=512, coarse_steps=5000, views=4, gaussians=60000, checkpoint_every=1000),
}
"""`fast` for tests (its numbers mean nothing), `cpu` for two cores in about a minute, `gpu` for CUDA."""
