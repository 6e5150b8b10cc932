"""Pictures at a fraction of their size: whole blocks averaged, which no filter can tilt or ring."""

from __future__ import annotations

import numpy as np

from raf_lite.captures.cameras import Camera


def shrink_factor(camera: Camera, size: int) -> int:
    """Whole factor by which a camera's pictures shrink so that their longest side is at least `size` pixels;
    never below 1.

    >>> shrink_factor(Camera("front", np.eye(4), np.diag([500.0, 500, 1]), width=1604, height=2200), size=512)
    4
    """
    return max(1, max(camera.width, camera.height) // size)


def block_mean(frames: np.ndarray, factor: int) -> np.ndarray:
    """Mean of each factor x factor block of [T, H, W] or [T, H, W, 3], in floating point; rows and columns
    left over are cut.

    >>> block_mean(np.arange(16).reshape(1, 4, 4), 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """
    t, height, width = frames.shape[:3]
    height, width = height // factor, width // factor
    blocks = np.asarray(frames)[:, : height * factor, : width * factor]
    return blocks.reshape(t, height, factor, width, factor, *frames.shape[3:]).mean((2, 4))


def shrink(image: np.ndarray, factor: int) -> np.ndarray:
    """A uint8 picture [H, W] or [H, W, 3] at 1/factor of its size: its `block_mean` rounded to nearest, as
    uint8.

    In whole numbers, which takes a quarter of the time: every frame that is read passes here.
    """
    if factor == 1:
        return image
    height, width = image.shape[0] // factor, image.shape[1] // factor
    total = np.full((height, width, *image.shape[2:]), factor * factor // 2, np.uint32)
    for y in range(factor):
        for x in range(factor):
            total += image[y : height * factor : factor, x : width * factor : factor]
    return (total // (factor * factor)).astype(np.uint8)
