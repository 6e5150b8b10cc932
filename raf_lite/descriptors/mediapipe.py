"""MediaPipe's Face Landmarker as an expression encoder: 52 blendshape scores, 478 landmarks and a pose in one
pass."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from raf_lite._mediapipe import closed_with, open_task
from raf_lite.descriptors.detections import Detections, frame_list
from raf_lite.descriptors.mediapipe_model import face_landmarker_path

if TYPE_CHECKING:
    from raf_lite.descriptors.landmarks import LandmarkPCA

# Names the model file, on which the numbers depend; stored with everything that was encoded.
ENCODER = "mediapipe-face_landmarker-float16-1"
NUM_LANDMARKS = 478

# The model's own order. "Left" and "Right" are the subject's.
BLENDSHAPE_NAMES = (
    "_neutral",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "eyeLookDownLeft",
    "eyeLookDownRight",
    "eyeLookInLeft",
    "eyeLookInRight",
    "eyeLookOutLeft",
    "eyeLookOutRight",
    "eyeLookUpLeft",
    "eyeLookUpRight",
    "eyeSquintLeft",
    "eyeSquintRight",
    "eyeWideLeft",
    "eyeWideRight",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthFunnel",
    "mouthLeft",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "noseSneerLeft",
    "noseSneerRight",
)


class MediaPipeEncoder:
    """Encoder around MediaPipe's Face Landmarker, one image at a time (no tracking: a frame's result is its
    own).

    num_faces: how many faces to look for; of several, the one with the largest box of landmarks is taken.
    kind: "blendshapes" (D = 52) or "landmarks" (aligned, then `landmark_pca`'s coefficients).
    landmark_pca: the fitted LandmarkPCA; needed for kind "landmarks" only.

    About 20 ms a frame on one core. Use it as a context manager, or call `close()`: MediaPipe complains when
    its objects outlive the interpreter, so one that was forgotten is closed at exit.
    Raises ImportError where mediapipe or the system's EGL library is missing, FileNotFoundError where the
    model is.

    Conventions: docs/conventions.md#descriptors, docs/conventions.md#head-pose.

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001")
    >>> with MediaPipeEncoder() as encoder:
    ...     seen = encoder.encode(capture.frames("FREE", capture.encoder_camera)[:2])
    >>> seen.descriptors.shape, seen.face_found.tolist()
    ((2, 52), [True, True])
    """

    def __init__(
        self, num_faces: int = 1, kind: str = "blendshapes", landmark_pca: LandmarkPCA | None = None
    ) -> None:
        if kind not in ("blendshapes", "landmarks"):
            raise ValueError(f"kind must be 'blendshapes' or 'landmarks', not {kind!r}")
        if (kind == "landmarks") != (landmark_pca is not None):
            raise ValueError(
                "kind='landmarks' needs landmark_pca, and kind='blendshapes' takes none; for raw landmarks to"
                " fit one on, call detect()"
            )
        if landmark_pca is not None and landmark_pca.encoder != ENCODER:
            raise ValueError(
                f"landmark_pca was fitted on landmarks of {landmark_pca.encoder!r}, not {ENCODER!r}; fit it"
                " again"
            )
        self.kind = kind
        self.landmark_pca = landmark_pca
        self._landmarker, self._image = _make_landmarker(num_faces)
        self._finalizer = closed_with(self, self._landmarker)

    @property
    def name(self) -> str:
        """The model behind the descriptors, which banks and captures store as their `encoder`."""
        return ENCODER

    @property
    def descriptor(self) -> str:
        """Which of the model's descriptors: "blendshapes" or "landmarks_pca", a column's name in banks and
        captures."""
        return "landmarks_pca" if self.landmark_pca else "blendshapes"

    @property
    def dim(self) -> int:
        """D, the length of one descriptor."""
        return self.landmark_pca.dim if self.landmark_pca else len(BLENDSHAPE_NAMES)

    def detect(self, frames: np.ndarray | Iterable[np.ndarray], *, progress: bool = False) -> Detections:
        """Find the face in each frame.

        frames: [N, H, W, 3], or an iterable of [H, W, 3] that is read one at a time (a long video need not
            fit in memory); sRGB, uint8 or float in [0, 1] (renderings that overshoot a little are clipped).
        Raises ValueError for another shape, dtype or range, naming the frame, and when the encoder is closed.
        """
        self._check_open()
        if isinstance(frames, np.ndarray) and frames.ndim != 4:
            raise ValueError(
                f"frames must be [N, H, W, 3], not {list(frames.shape)}; add an axis to a single image"
            )
        if progress:
            from tqdm.auto import tqdm

            frames = tqdm(frames, desc="encoding", unit="frame")
        rows = [self._detect_one(frame, number) for number, frame in enumerate(frames)]
        found = np.array([row is not None for row in rows], bool)
        blendshapes = np.full((len(rows), len(BLENDSHAPE_NAMES)), np.nan, np.float32)
        landmarks = np.full((len(rows), NUM_LANDMARKS, 3), np.nan, np.float32)
        poses = np.full((len(rows), 4, 4), np.nan, np.float32)
        for number, row in enumerate(rows):
            if row is not None:
                blendshapes[number], landmarks[number], poses[number] = row
        return Detections(blendshapes, landmarks, poses, found, self.landmark_pca)

    def faces(self, frame: np.ndarray, number: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All faces in one picture, up to `num_faces`: blendshapes [M, 52], landmarks [M, 478, 3] and encoder
        poses [M, 4, 4].

        frame: as one of `detect`'s; units as in Detections. number: what errors call it. M is 0 where there
        is no face.
        """
        self._check_open()
        image = _to_uint8(frame, number)
        result = self._landmarker.detect(self._image(image))
        height, width = image.shape[:2]
        landmarks = np.array([[(p.x, p.y, p.z) for p in face] for face in result.face_landmarks], np.float32)
        # MediaPipe's z is on the scale of its normalised x.
        landmarks = landmarks.reshape(-1, NUM_LANDMARKS, 3) * np.array([width, height, width], np.float32)
        scores = [{c.category_name: c.score for c in face} for face in result.face_blendshapes]
        blendshapes = np.array([[face[name] for name in BLENDSHAPE_NAMES] for face in scores], np.float32)
        poses = np.array(result.facial_transformation_matrixes, np.float32)
        return blendshapes.reshape(-1, len(BLENDSHAPE_NAMES)), landmarks, poses.reshape(-1, 4, 4)

    def encode(self, frames: np.ndarray | Iterable[np.ndarray], *, progress: bool = False) -> Detections:
        """`detect` with a warning that names the frames without a face, whose descriptors are NaN."""
        seen = self.detect(frames, progress=progress)
        if len(seen.missing):
            warnings.warn(
                f"no face found in {len(seen.missing)} of {len(seen)} frames (frames"
                f" {frame_list(seen.missing)}); their descriptors are NaN",
                stacklevel=2,
            )
        return seen

    def close(self) -> None:
        """Free MediaPipe's graph; calling it again does nothing."""
        self._finalizer()

    def __enter__(self) -> MediaPipeEncoder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise ValueError("this MediaPipeEncoder is closed; make a new one")

    def _detect_one(self, frame: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Blendshapes [52], landmarks [478, 3] and encoder pose [4, 4] of the largest face in a picture; None
        without one."""
        blendshapes, landmarks, poses = self.faces(frame, number)
        if not len(landmarks):
            return None
        largest = int(np.ptp(landmarks[..., :2], axis=1).prod(-1).argmax())
        return blendshapes[largest], landmarks[largest], poses[largest]


def encoder_if_possible() -> MediaPipeEncoder | None:
    """An encoder to grade pictures with; where MediaPipe cannot be loaded, None, and the reason is
    printed."""
    try:
        return MediaPipeEncoder()
    except (ImportError, FileNotFoundError, ValueError) as error:
        print(f"landmark errors are left out: {error}")
        return None


def _make_landmarker(num_faces: int) -> tuple[Any, Any]:
    """A Face Landmarker in IMAGE mode, and a function from a uint8 image to MediaPipe's image type."""

    def make(vision: Any, base_options: Any) -> Any:
        options = vision.FaceLandmarkerOptions(
            base_options=base_options,
            running_mode=vision.RunningMode.IMAGE,
            num_faces=num_faces,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        return vision.FaceLandmarker.create_from_options(options)

    return open_task(face_landmarker_path, make)


def _to_uint8(frame: np.ndarray, number: int) -> np.ndarray:
    """One frame as contiguous uint8 [H, W, 3]; ValueError naming the frame for anything that is not an RGB
    image."""
    frame = np.asarray(frame)
    if frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ValueError(
            f"frame {number} must be [H, W, 3], not {list(frame.shape)}; pass RGB without an alpha channel"
        )
    if frame.dtype == np.uint8:
        return np.ascontiguousarray(frame)
    if not np.issubdtype(frame.dtype, np.floating):
        raise ValueError(f"frame {number} has dtype {frame.dtype}; pass uint8, or float in [0, 1]")
    if not np.isfinite(frame).all() or frame.max() > 2:
        raise ValueError(
            f"frame {number} has values that are not finite or far above 1; pass float images in [0, 1]"
        )
    return np.ascontiguousarray(np.rint(frame.clip(0, 1) * 255).astype(np.uint8))
