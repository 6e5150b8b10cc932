"""Expression descriptors: encoders that turn frames into vectors [N, D], and what is done to those vectors.

    with MediaPipeEncoder() as encoder:
        seen = encoder.encode(frames).require_all()    # frames [N, H, W, 3] -> seen.descriptors [N, 52]

MediaPipe (extra `encode`) is imported when an encoder is made, and not before: stored descriptors can be read
without it."""

from raf_lite._forms import NAMED_FORMS, in_form, relative_to
from raf_lite.descriptors.detections import Detections
from raf_lite.descriptors.encode_video import VideoDetections, encode_video, report
from raf_lite.descriptors.forms import capture_descriptors
from raf_lite.descriptors.landmarks import LandmarkPCA, align_landmarks, mean_template
from raf_lite.descriptors.mediapipe import BLENDSHAPE_NAMES, ENCODER, MediaPipeEncoder
from raf_lite.descriptors.mediapipe_model import face_landmarker_path

__all__ = [
    "BLENDSHAPE_NAMES",
    "ENCODER",
    "NAMED_FORMS",
    "Detections",
    "LandmarkPCA",
    "MediaPipeEncoder",
    "VideoDetections",
    "align_landmarks",
    "capture_descriptors",
    "encode_video",
    "face_landmarker_path",
    "in_form",
    "mean_template",
    "relative_to",
    "report",
]
