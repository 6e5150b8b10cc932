"""What lives in a notebook: the bank's explorer, the avatar's player, the webcam and the mirror, training
that is watched."""

from typing import TYPE_CHECKING

from raf_lite._install import needs
from raf_lite._lazy import attach

with needs("lessons"):
    from raf_lite.widgets.explorer import Explorer, Own, Search, explorer
    from raf_lite.widgets.live import LiveTraining
    from raf_lite.widgets.mirror import LiveDriver, Mirror, mirror
    from raf_lite.widgets.player import Player, player
    from raf_lite.widgets.webcam import Webcam, webcam

if TYPE_CHECKING:
    from raf_lite.widgets.blinded import BlindTest, Trial, analyse, draw_trials, simulate

__all__ = [
    "BlindTest",
    "Explorer",
    "LiveDriver",
    "LiveTraining",
    "Mirror",
    "Own",
    "Player",
    "Search",
    "Trial",
    "Webcam",
    "analyse",
    "draw_trials",
    "explorer",
    "mirror",
    "player",
    "simulate",
    "webcam",
]

# Asked for later: pandas and scipy.stats take seconds.
__getattr__, __dir__ = attach(
    __name__, dict.fromkeys(("BlindTest", "Trial", "analyse", "draw_trials", "simulate"), "blinded")
)
