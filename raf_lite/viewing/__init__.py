"""What people look at: comparison videos, reports, pictures with text alternatives."""

from raf_lite.viewing.driving import drive_video, driving_descriptors, frontal_camera
from raf_lite.viewing.figures import show_strip, show_video, strip_html
from raf_lite.viewing.report import write_report
from raf_lite.viewing.video import caption_panels, comparison_frames, comparison_video, error_map

__all__ = ["caption_panels", "comparison_frames", "comparison_video", "drive_video", "driving_descriptors", "error_map",
           "frontal_camera", "show_strip", "show_video", "strip_html", "write_report"]
