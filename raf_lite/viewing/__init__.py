"""What people look at: comparison videos, reports, pictures with text alternatives. What lives in a notebook
is in `widgets`."""

from raf_lite.viewing.driving import drive_video
from raf_lite.viewing.figures import show_figure, show_strip, show_video, strip_html
from raf_lite.viewing.maps import coverage, map_bank
from raf_lite.viewing.report import write_report
from raf_lite.viewing.video import (
    caption_panels,
    comparison_frames,
    comparison_video,
    error_map,
    held_out_video,
)

__all__ = [
    "caption_panels",
    "comparison_frames",
    "comparison_video",
    "coverage",
    "drive_video",
    "error_map",
    "held_out_video",
    "map_bank",
    "show_figure",
    "show_strip",
    "show_video",
    "strip_html",
    "write_report",
]
