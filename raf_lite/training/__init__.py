"""Training: settings, losses, the loop with progress, logs and resume.

The settings come at once and the rest when it is asked for (PEP 562), so that the command line shows them without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raf_lite.training.config import PRESETS, TrainConfig

if TYPE_CHECKING:
    from raf_lite.training.losses import reconstruction_loss
    from raf_lite.training.structural_similarity import ssim
    from raf_lite.training.trainer import Trainer
    from raf_lite.training.training_set import TrainingSet

__all__ = ["PRESETS", "TrainConfig", "Trainer", "TrainingSet", "reconstruction_loss", "ssim"]

# No module may bear the name of what it holds: once imported, it would stand here in its stead.
_MODULES = {"Trainer": "trainer", "TrainingSet": "training_set", "reconstruction_loss": "losses", "ssim": "structural_similarity"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
