"""How far one picture is from another: PSNR, SSIM, FLIP; and how far two faces are from each other, as an encoder sees them.

Every masked error is normalised by the mask's own area, and every function says what it averages over.
"""

from __future__ import annotations

import flip_evaluator
import numpy as np
import torch
from scipy.ndimage import shift
from torchmetrics.functional.image import structural_similarity_index_measure


def psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB of [H, W, 3] pictures in [0, 1], over the mask [H, W] (weights) or the whole frame.

    -10 log10 of the mean squared error; infinite for equal pictures, NaN for an empty mask.
    """
    error = ((image - truth) ** 2).mean(-1)
    if mask is None:
        mse = error.mean()
    else:
        mse = (error * mask).sum() / mask.sum() if mask.sum() else np.nan
    return float(-10 * np.log10(mse)) if mse > 0 else float("nan" if np.isnan(mse) else "inf")


def mean_absolute_error(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute difference in 8-bit grey levels (0 to 255) over a mask [H, W]; NaN for an empty one."""
    return float((np.abs(image - truth).mean(-1) * mask).sum() / mask.sum() * 255) if mask.sum() else float("nan")


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity of [H, W, 3] pictures in [0, 1] over the whole frame: torchmetrics, 11x11 window, sigma 1.5."""
    a, b = (torch.as_tensor(np.ascontiguousarray(x), dtype=torch.float32).permute(2, 0, 1)[None] for x in (image, truth))
    return float(structural_similarity_index_measure(a, b, data_range=1.0, kernel_size=11, sigma=1.5))


def flip(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """FLIP (Andersson et al. 2020), a perceptual error in [0, 1], averaged over a mask [H, W]; NaN for an empty one.

    Computed on the mask's bounding box; NVIDIA's implementation at its default viewing distance (67 pixels a degree).
    """
    if not (mask > 0.5).any():
        return float("nan")
    rows, columns = np.flatnonzero((mask > 0.5).any(1)), np.flatnonzero((mask > 0.5).any(0))
    box = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    crop = [np.ascontiguousarray(x[box], np.float32) for x in (truth, image)]
    error, _, _ = flip_evaluator.evaluate(*crop, "LDR", applyMagma=False, computeMeanError=False)
    return float((error[..., 0] * mask[box]).sum() / mask[box].sum())


def landmark_error(landmarks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean distance in pixels between landmarks [T, L, 2 or 3] and their truth, in the picture plane: [T]; NaN rows stay NaN."""
    return np.linalg.norm(landmarks[..., :2] - truth[..., :2], axis=-1).mean(-1)


def descriptor_distance(descriptors: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Average expression distance (AED): L1 distance between descriptors [T, D], averaged over D: [T].

    It shares its encoder with whatever drove the avatar, so it can be fooled where the encoder is blind.
    """
    return np.abs(descriptors - truth).mean(-1)


def half_pixel_shift(images: np.ndarray) -> np.ndarray:
    """Pictures [T, H, W, 3] moved by half a pixel right and down (bilinear): what a metric says of them is its noise floor."""
    return shift(images, (0, 0.5, 0.5, 0), order=1, mode="nearest")
