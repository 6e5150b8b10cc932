"""Parts of the face as masks, drawn from the 68 landmarks (iBUG order) projected into the picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt
from scipy.spatial import ConvexHull

REGIONS = ("face", "mouth", "eyes", "cheeks+nose")


def _hull(points: np.ndarray, height: int, width: int, margin: float | np.floating) -> np.ndarray:
    """Filled convex hull of points [K, 2] (pixels), grown by `margin` pixels: bool [H, W]."""
    image = Image.new("1", (width, height))
    corners = points[ConvexHull(points).vertices] - 0.5  # PIL counts pixel centres from 0, we from 0.5
    ImageDraw.Draw(image).polygon([tuple(p) for p in corners], fill=1, outline=1)
    filled = np.array(image)
    return distance_transform_edt(~filled) <= margin if filled.any() else filled


def face_regions(landmarks: np.ndarray, height: int, width: int) -> dict[str, np.ndarray]:
    """Masks float32 [H, W] of each of REGIONS from projected landmarks [68, 2] in pixels. s = distance of the
    outer eye corners.

    face: hull of all landmarks, grown by 0.08 s. mouth: hull of the lips, grown by 0.10 s. eyes: hulls of
    each eye with its brow, grown by 0.04 s. cheeks+nose: hull of nose, jaw line and lower lids down to the
    mouth's height, without mouth and eyes. A landmark that is not finite makes all masks empty.

    Conventions: docs/conventions.md#axes-and-cameras.

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001")
    >>> camera = capture.cameras[capture.encoder_camera]
    >>> landmarks, _ = camera.project(capture.landmarks68("FREE")[0])
    >>> masks = face_regions(landmarks, camera.height, camera.width)
    >>> masks["mouth"].shape, bool(masks["mouth"].sum() < masks["face"].sum())
    ((256, 256), True)
    """
    if not np.isfinite(landmarks).all():
        return {name: np.zeros((height, width), np.float32) for name in REGIONS}
    s = np.linalg.norm(landmarks[36] - landmarks[45])
    face = _hull(landmarks, height, width, 0.08 * s)
    mouth = _hull(landmarks[48:60], height, width, 0.10 * s)
    eyes = _hull(landmarks[[*range(36, 42), *range(17, 22)]], height, width, 0.04 * s) | _hull(
        landmarks[[*range(42, 48), *range(22, 27)]], height, width, 0.04 * s
    )
    cheeks = (
        _hull(landmarks[[1, 2, 3, 4, 12, 13, 14, 15, *range(27, 36), 40, 41, 46, 47]], height, width, 0)
        & ~mouth
        & ~eyes
    )
    return {
        "face": face.astype(np.float32),
        "mouth": (mouth & face).astype(np.float32),
        "eyes": (eyes & face).astype(np.float32),
        "cheeks+nose": cheeks.astype(np.float32),
    }
