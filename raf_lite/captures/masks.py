"""Whether masks are what they should be, 255 the head and 0 all else: asked by `raf-lite check`, and before
an avatar is trained.

Headers are read of every frame: size, and where masks are the pictures' own transparency, whether each
picture has it. Pixels are looked at in SAMPLE frames of each sequence and camera, evenly spread from the
first to the last (of a film: over the frames that can be decoded alone); training looks at every other one as
it reads it. Frames without a face are left out, as in training."""

from __future__ import annotations

import numpy as np

from raf_lite.captures.capture import Capture

SAMPLE = 16
_LANDMARKS_ON_MASK = (
    0.8  # less is a wrong camera, frame or mask; a head turned aside hides none of its own landmarks' pixels
)


def mask_problem(mask: np.ndarray) -> str | None:
    """Why a mask uint8 [H, W] can be no head's, as the end of a sentence that says how to mend it; None where
    it can.

    >>> head = np.zeros((8, 8), np.uint8)
    >>> head[2:, 2:6] = 255
    >>> mask_problem(head) is None, mask_problem(255 - head)
    (True, 'is white around the head and black within: it is inverted; write 255 minus each value')
    """
    brightest, white = int(mask.max(initial=0)), mask > 127
    if brightest == 0:
        return "is empty; matte that frame again, or leave it out"
    if brightest < 127:  # half of the most, and less
        return (
            f"goes up to {brightest} of 255 only: it is empty, or was saved on another scale (0 and 1, 12"
            " bit); write 255 where the head is"
        )
    if white.all():
        return "is white everywhere (as the alpha of a picture that nobody cut out is); matte that frame"
    # A head leaves the upper corners free, unless the picture is too close to show its outline; no mask of
    # one has holes.
    height, width = mask.shape
    rows, columns = max(1, height // 20), max(1, width // 20)
    upper = white[: height // 2 + 1]
    edge = np.concatenate(
        [white[:rows].ravel(), upper[:, :columns].ravel(), upper[:, -columns:].ravel()]
    ).mean()
    middle = white[3 * height // 10 : 7 * height // 10 + 1, 3 * width // 10 : 7 * width // 10 + 1].mean()
    if edge > 0.5 and edge - middle > 0.2:
        return "is white around the head and black within: it is inverted; write 255 minus each value"
    return None


def judge_masks(capture: Capture, sequence: str, serials: tuple[str, ...] | list[str]) -> None:
    """Raise a ValueError that names sequence, camera, frame and mend for the first mask of these cameras that
    can't be right.

    See the module for which frames are looked at. Cameras without masks are passed over.
    """
    landmarks = capture.landmarks68(sequence)
    found = capture.annotations(sequence).get("face_found")
    for serial in serials:
        capture.check_headers(sequence, serial)
        if capture.source.mask_shape(sequence, serial) is None:
            continue
        for frame, mask in capture.source.sample_masks(sequence, serial, SAMPLE):
            if found is not None and not found[frame]:
                continue
            require_mask(mask, capture, sequence, serial, frame)
            if landmarks is None:
                continue
            share = landmarks_on_mask(capture, serial, landmarks[frame], mask)
            if share < _LANDMARKS_ON_MASK:
                raise ValueError(
                    f"only {100 * share:.0f} % of the landmarks of {sequence} frame {frame} fall on the mask"
                    f" of camera {serial}; cameras, landmarks or masks do not belong together: correct them"
                )


def require_mask(mask: np.ndarray, capture: Capture, sequence: str, serial: str, frame: int) -> None:
    """Raise a ValueError of the same words where one mask can be no head's."""
    problem = mask_problem(mask)
    if problem:
        raise ValueError(
            f"{capture.root}: the mask of sequence {sequence}, camera {serial}, frame {frame} {problem}"
        )


def landmarks_on_mask(capture: Capture, serial: str, landmarks: np.ndarray, mask: np.ndarray) -> float:
    """The share of a frame's landmarks [L, 3] that a camera sees on its mask [H, W]: where it has half of its
    largest value."""
    camera = capture.cameras[serial]
    pixels = np.floor(camera.project(landmarks)[0])
    x, y = pixels[(pixels >= 0).all(1) & (pixels < [camera.width, camera.height]).all(1)].astype(int).T
    return float((mask[y, x] > mask.max() / 2).sum() / len(pixels))
