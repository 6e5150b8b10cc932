"""How far one picture is from another: PSNR, SSIM, FLIP; and how far two faces are from each other, as an encoder sees them.

Every masked error is normalised by the mask's own area, and every function says what it averages over.
"""

from __future__ import annotations

import functools
import warnings
from types import ModuleType

import numpy as np
import torch
from torchmetrics.functional.image import structural_similarity_index_measure


def _masked_mean(values: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean of [T, H, W] over each mask's own area, [T]; NaN for an empty mask."""
    area = masks.sum((1, 2))
    with np.errstate(invalid="ignore"):
        return np.einsum("thw,thw->t", values, masks) / np.where(area > 0, area, np.nan)


def psnr(images: np.ndarray, truth: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, [T], of pictures [T, H, W, 3] in [0, 1], over masks [T, H, W] (weights) or whole frames.

    -10 log10 of the mean squared error; infinite for equal pictures, NaN for an empty mask.
    """
    difference = images - truth
    squared = np.einsum("thwc,thwc->thw", difference, difference) / 3
    mse = squared.mean((1, 2), dtype=np.float64) if masks is None else _masked_mean(squared, masks)
    with np.errstate(divide="ignore"):
        return -10 * np.log10(mse)


def mean_absolute_error(images: np.ndarray, truth: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean absolute difference in 8-bit grey levels (0 to 255), [T], over masks [T, H, W]; NaN for an empty one."""
    return _masked_mean(np.abs(images - truth) @ np.full(3, 255 / 3, np.float32), masks)


def ssim(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity, [T], of pictures [T, H, W, 3] in [0, 1], whole frames: torchmetrics, 11x11 window, sigma 1.5."""
    a, b = (torch.as_tensor(np.ascontiguousarray(x, np.float32)).permute(0, 3, 1, 2) for x in (images, truth))
    values = structural_similarity_index_measure(a, b, data_range=1.0, kernel_size=11, sigma=1.5, reduction="none")
    return values.numpy()  # pyright: ignore[reportAttributeAccessIssue] (a pair only where a full image is asked for)


@functools.cache
def flip_evaluator() -> ModuleType | None:
    """NVIDIA's module, or None, told once, where it is not installed: Linux on ARM has no wheel of it."""
    try:
        import flip_evaluator
    except ModuleNotFoundError:
        warnings.warn("FLIP is left out of what is graded, since flip-evaluator is not installed; it has wheels for every system "
                      "that is supported but Linux on ARM: pip install flip-evaluator", stacklevel=3)
        return None
    return flip_evaluator


def flip(images: np.ndarray, truth: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """FLIP (Andersson et al. 2020), a perceptual error in [0, 1], averaged over masks [T, H, W]: [T]; NaN for an empty one
    and where NVIDIA's implementation is not installed.

    Computed on each mask's bounding box; NVIDIA's implementation at its default viewing distance (67 pixels a degree).
    """
    errors, evaluator = np.full(len(images), np.nan), flip_evaluator()
    if evaluator is None:
        return errors
    for t, mask in enumerate(masks):
        inside = mask > 0.5
        if not inside.any():
            continue
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        box = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        answer, shown = (np.ascontiguousarray(x[t][box], np.float32) for x in (truth, images))
        error, _, _ = evaluator.evaluate(answer, shown, "LDR", applyMagma=False, computeMeanError=False)
        errors[t] = (error[..., 0] * mask[box]).sum() / mask[box].sum()
    return errors


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
    p = np.pad(images, ((0, 0), (1, 0), (1, 0), (0, 0)), mode="edge")
    return (p[:, 1:, 1:] + p[:, :-1, 1:] + p[:, 1:, :-1] + p[:, :-1, :-1]) / 4
