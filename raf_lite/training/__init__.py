"""Training: settings, losses, the loop with progress, logs and resume.

The settings come at once and the rest when it is asked for (PEP 562), so that the command line shows them
without torch."""

from typing import TYPE_CHECKING

from raf_lite._lazy import attach
from raf_lite.training.config import PRESETS, TrainConfig

if TYPE_CHECKING:
    from raf_lite.training.losses import reconstruction_loss
    from raf_lite.training.structural_similarity import ssim
    from raf_lite.training.trainer import Trainer
    from raf_lite.training.training_set import TrainingSet

__all__ = ["PRESETS", "TrainConfig", "Trainer", "TrainingSet", "reconstruction_loss", "ssim"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Trainer": "trainer",
        "TrainingSet": "training_set",
        "reconstruction_loss": "losses",
        "ssim": "structural_similarity",
    },
)
