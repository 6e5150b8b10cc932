"""What people look at: comparison videos, reports, pictures with text alternatives."""

from raf_lite.viewing.driving import drive_video, driving_descriptors, frontal_camera
from raf_lite.viewing.explorer import Explorer, Own, explorer
from raf_lite.viewing.figures import show_figure, show_strip, show_video, strip_html
from raf_lite.viewing.live import LiveTraining
from raf_lite.viewing.maps import coverage, map_bank
from raf_lite.viewing.mirror import LiveDriver, Mirror, mirror
from raf_lite.viewing.player import Player, player
from raf_lite.viewing.report import write_report
from raf_lite.viewing.video import caption_panels, comparison_frames, comparison_video, error_map
from raf_lite.viewing.webcam import Webcam, webcam

__all__ = ["Explorer", "LiveDriver", "LiveTraining", "Mirror", "Own", "Player", "Webcam", "caption_panels", "comparison_frames",
           "comparison_video", "coverage", "drive_video", "driving_descriptors", "error_map", "explorer", "frontal_camera",
           "map_bank", "mirror", "player", "show_figure", "show_strip", "show_video", "strip_html", "webcam", "write_report"]
