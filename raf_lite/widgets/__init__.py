"""What lives in a notebook: the bank's explorer, the avatar's player, the webcam and the mirror, training that is watched."""

from raf_lite._install import needs

with needs("lessons"):
    from raf_lite.widgets.explorer import Explorer, Own, explorer
    from raf_lite.widgets.live import LiveTraining
    from raf_lite.widgets.mirror import LiveDriver, Mirror, mirror
    from raf_lite.widgets.player import Player, player
    from raf_lite.widgets.webcam import Webcam, webcam

__all__ = ["Explorer", "LiveDriver", "LiveTraining", "Mirror", "Own", "Player", "Webcam", "explorer", "mirror", "player",
           "webcam"]
