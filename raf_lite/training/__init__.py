"""Training: settings, losses, the loop with progress, logs and resume."""

from raf_lite.training.config import PRESETS, TrainConfig
from raf_lite.training.losses import reconstruction_loss
from raf_lite.training.ssim import ssim
from raf_lite.training.trainer import Trainer
from raf_lite.training.training_set import TrainingSet

__all__ = ["PRESETS", "TrainConfig", "Trainer", "TrainingSet", "reconstruction_loss", "ssim"]
