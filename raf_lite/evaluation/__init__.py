"""Grading: metrics, face regions, the self- and cross-driving protocols."""

from raf_lite._install import needs

with needs("captures"):
    from raf_lite.evaluation.grading import NOISE_FLOOR, change_from_baseline, evaluate, frame_errors
    from raf_lite.evaluation.metrics import encoder_errors, picture_errors
    from raf_lite.evaluation.networks import Networks, networks_at_hand
    from raf_lite.evaluation.protocols import GROUPS, driving_cases
from raf_lite.evaluation.regions import REGIONS, face_regions

__all__ = [
    "GROUPS",
    "NOISE_FLOOR",
    "REGIONS",
    "Networks",
    "change_from_baseline",
    "driving_cases",
    "encoder_errors",
    "evaluate",
    "face_regions",
    "frame_errors",
    "networks_at_hand",
    "picture_errors",
]
