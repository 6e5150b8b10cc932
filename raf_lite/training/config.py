"""`TrainConfig`: every number that decides a training run, with presets for tests, CPUs and GPUs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run. Two runs that differ in `retrieval` alone see the same frames and cameras in the
    same order.

    >>> TrainConfig(steps=300, retrieval="centred").with_(seed=1).seed
    1
    """

    steps: int = 1800
    """Optimiser steps; each renders one frame from `views` cameras."""
    size: int = 256
    """Longest side of the training pictures in pixels; frames are scaled down to it, never up."""
    coarse_steps: int = 1400
    """First steps that see pictures of half that size: cheaper, and enough while everything is still
    blurred."""
    views: int = 2
    """Cameras a step."""
    gaussians: int = 10000
    """How many Gaussians the head is made of."""
    # In the same minutes on a CPU the basis is the better one on expressions (self and cross), the MLP from
    # cameras that training never saw; the basis can be played in a browser too.
    field: Literal["basis", "mlp"] = "basis"
    """Deformation field: 'basis' (LearnedBasis: better on expressions, plays in a browser) or 'mlp'
    (FieldMLP: on new views)."""
    descriptor: str = "blendshapes"
    """Which descriptor drives the avatar: blendshapes or landmarks, each as it is or with -mean or -neutral
    behind it (the person's own taken out), or any array that the capture stores, in the same three forms."""
    landmark_motion: bool = False
    """Whether Gaussians go with the landmarks near them from the start, and the field learns the rest. It
    asks for a descriptor of landmarks and a capture that knows where they are on the neutral head; others
    train without."""
    prior: bool = False
    """Whether Gaussians move as other people's faces do (`data/prior.safetensors`) from the start, and the
    field learns the rest; with landmark_motion, landmarks go where the descriptor says, and other people
    say what lies between them. It asks for a descriptor of landmarks and a capture that knows where landmarks
    are on the neutral head."""
    retrieval: str | None = None
    """A named setting of `raf_lite.retrieval` ('paper', 'paper-k16', 'centred', a control), or None for the
    baseline."""
    retrieval_p: float = 0.2
    """Probability that a frame's descriptor is replaced."""
    seed: int = 0
    """Of everything random: where Gaussians start, which frames and cameras a step sees, what is
    retrieved."""
    lr_means: float = 1.5e-3
    """Adam's learning rate of the Gaussians' positions, in head radii."""
    lr_quats: float = 2e-3
    """Learning rate of their rotations (quaternions)."""
    lr_scales: float = 8e-3
    """Learning rate of their extents, as logarithms of head radii."""
    lr_opacities: float = 3e-2
    """Learning rate of their opacities, as logits."""
    lr_colors: float = 2e-2
    """Learning rate of their colours, as logits."""
    lr_basis: float = 6e-3
    """Learning rate of the learned basis, or of the output layer of the MLP field."""
    lr_network: float = 1e-3
    """Learning rate of all other layers of the field."""
    lr_poses: float = 1e-3
    """Learning rate of what each frame's head pose is corrected by, in radians and head radii, where one
    camera films; 0 leaves poses as they were tracked. Several cameras leave them too."""
    lr_exposure: float = 0.0
    """How far a frame's gain and offset of each colour go, each time it is seen, to those that fit it best,
    where one camera films; 0 compares the avatar with the film as it is. Several cameras do that too."""
    lr_focal: float = 0.0
    """Learning rate of one factor of the focal length, as a logarithm, where one camera films; 0 leaves the
    camera as it was given. Several cameras leave theirs too."""
    lr_final: float = 0.05
    """Every rate falls exponentially to this fraction of its start."""
    ssim_weight: float = 0.2
    """Share of structural similarity in the loss of the picture; the rest is the mean absolute difference."""
    mask_weight: float = 0.2
    """Weight of the mask's mean absolute difference, added to that."""
    offset_weight: float = 1e-3
    """Weight of the mean squared offset from the canonical Gaussians, added to that."""
    checkpoint_every: int = 500
    """Steps between checkpoints, from which a killed run resumes."""

    def __post_init__(self) -> None:
        """Raises ValueError for a number with which nothing can be trained."""
        for name in ("steps", "size", "views", "gaussians", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"nothing can be trained with {name} = {getattr(self, name)}; give a whole number of at"
                    " least 1"
                )
        if self.prior:
            from raf_lite._forms import parts  # here: it loads numpy, for which no help text should wait

            if parts(self.descriptor)[0] != "landmarks":
                raise ValueError(
                    f"the motion prior reads landmarks, and '{self.descriptor}' says nothing of where they"
                    " go; give descriptor='landmarks-neutral', or prior=False"
                )
        if not 0 <= self.lr_poses < 1:
            raise ValueError(f"poses cannot be learned at rate {self.lr_poses}; give lr_poses in [0, 1)")
        if not 0 <= self.lr_exposure < 1:
            raise ValueError(
                f"exposures cannot be learned at rate {self.lr_exposure}; give lr_exposure in [0, 1)"
            )
        if not 0 <= self.lr_focal < 1:
            raise ValueError(
                f"a focal length cannot be learned at rate {self.lr_focal}; give lr_focal in [0, 1)"
            )
        if not 0 < self.lr_final <= 1:
            raise ValueError(
                f"learning rates cannot fall to {self.lr_final} of their start; give lr_final in (0, 1]"
            )

    def with_(self, **changes: Any) -> TrainConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


PRESETS = {
    "fast": TrainConfig(steps=60, size=64, coarse_steps=0, gaussians=1500, checkpoint_every=20),
    "cpu": TrainConfig(),
    "video": TrainConfig(
        steps=1400, coarse_steps=1050, views=1, descriptor="landmarks-mean", landmark_motion=True
    ),
    "gpu": TrainConfig(
        steps=15000, size=512, coarse_steps=5000, views=4, gaussians=60000, checkpoint_every=1000
    ),
}
"""`fast` for tests (its numbers mean nothing), `cpu` for two cores in about a minute, `video` for the film of
one camera there, `gpu` for CUDA."""
