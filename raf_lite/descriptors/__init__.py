"""Expression descriptors: encoders that turn frames into vectors [N, D], and what is done to those vectors.

    with MediaPipeEncoder() as encoder:
        encoding = encoder.encode(frames).require_all()    # frames [N, H, W, 3] -> encoding.descriptors [N, 52]

MediaPipe itself (extra `encode`) is imported only when an encoder is made; stored descriptors need it not.
"""

from raf_lite.descriptors.encode_video import VideoEncoding, encode_video, report
from raf_lite.descriptors.encoder import Encoding
from raf_lite.descriptors.landmarks import LandmarkPCA, align_landmarks, mean_template
from raf_lite.descriptors.mediapipe import BLENDSHAPE_NAMES, ENCODER, FaceDetections, MediaPipeEncoder
from raf_lite.descriptors.mediapipe_model import face_landmarker_path
from raf_lite.descriptors.normalise import relative_to

__all__ = ["BLENDSHAPE_NAMES", "ENCODER", "Encoding", "FaceDetections", "LandmarkPCA", "MediaPipeEncoder", "VideoEncoding",
           "align_landmarks", "encode_video", "face_landmarker_path", "mean_template", "relative_to", "report"]
