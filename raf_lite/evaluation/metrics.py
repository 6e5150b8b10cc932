"""How far one picture is from another, region by region: grey levels, PSNR, SSIM, FLIP; and how far two faces
are from each other, as an encoder sees them.

Pictures are compared at half the size at which they are rendered. An avatar is about as fine as the pictures
that it was trained on; finer texture is the same blur in every variant, and would only drown what the face
does.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Collection, Mapping
from types import ModuleType

import numpy as np
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from raf_lite.captures import block_mean
from raf_lite.descriptors.landmarks import align_landmarks
from raf_lite.descriptors.mediapipe import BLENDSHAPE_NAMES, NUM_LANDMARKS

SHRINK = 2  # pictures are compared at 1/2 of their width and height
PSNR_LIMIT = 100.0  # dB, of equal pictures too
# MediaPipe's mesh: both lips' outer and inner rims; both eyes' rims with the brows.
_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270,
    409, 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310,
    415)  # fmt: skip
_EYES = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 263,
    249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466, 46, 53, 52, 65,
    55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293, 334, 296, 336)  # fmt: skip
LANDMARKS = {"face": np.arange(NUM_LANDMARKS), "mouth": np.array(_LIPS), "eyes": np.array(_EYES)}
BLENDSHAPES = {
    "face": np.arange(len(BLENDSHAPE_NAMES)),
    "mouth": np.array([i for i, n in enumerate(BLENDSHAPE_NAMES) if n.startswith(("mouth", "jaw"))]),
    "eyes": np.array([i for i, n in enumerate(BLENDSHAPE_NAMES) if n.startswith(("eye", "brow"))]),
}
_BORDER = 6  # pixels round the regions that SSIM's window, 11 wide, and FLIP's filters still see

Errors = dict[str, dict[str, np.ndarray]]  # measure -> region -> [T]


def picture_errors(
    images: np.ndarray,
    truth: np.ndarray,
    regions: Mapping[str, np.ndarray],
    measures: Collection[str] = ("mae", "psnr", "ssim", "flip"),
    slow_step: int = 1,
) -> Errors:
    """Errors of pictures, frame by frame: measure -> region -> [T]; NaN where a region is empty.

    images, truth: [T, H, W, 3], floats in [0, 1] or uint8. regions: masks bool [T, H, W]; at the smaller size
    (see above) a pixel belongs to a region if half of it does. Each measure is the mean over the pixels of
    the region of

    - mae: the absolute difference, in grey levels of 255;
    - psnr: the squared difference, as decibels: -10 log10, at most 100;
    - ssim: structural similarity (torchmetrics; Gaussian window of 11 pixels, sigma 1.5);
    - flip: FLIP (Andersson et al. 2020), a perceptual error in [0, 1], by NVIDIA's module at its default
      viewing distance (67 pixels a degree); NaN where that is not installed.

    ssim and flip are slow: they are measured on every `slow_step`-th picture, beginning with the first, and
    NaN on the others.

    >>> white, grey = np.ones((1, 8, 8, 3)), np.full((1, 8, 8, 3), 0.9)
    >>> left = np.zeros((1, 8, 8), bool)
    >>> left[..., :4] = True
    >>> errors = picture_errors(grey, white, {"left": left}, ["mae", "psnr"])
    >>> errors["mae"]["left"].round(2), errors["psnr"]["left"].round(2)
    (array([25.5]), array([20.]))
    """
    masks = {name: block_mean(mask, SHRINK) >= 0.5 for name, mask in regions.items()}
    windows = _windows(np.logical_or.reduce(list(masks.values())))
    shown, truth = (_cut(_compared(pictures), windows) for pictures in (images, truth))
    masks = {name: _cut(mask, windows) for name, mask in masks.items()}
    maps = {"mae": _absolute, "psnr": _squared, "ssim": _similarity, "flip": _flip}
    errors = {}
    for measure in measures:
        values, step = (
            np.full(shown.shape[:3], np.nan, np.float32),
            (slow_step if measure in ("ssim", "flip") else 1),
        )
        values[::step] = maps[measure](shown[::step], truth[::step])
        errors[measure] = {name: _masked_mean(values, mask) for name, mask in masks.items()}
    if "psnr" in errors:
        errors["psnr"] = {
            name: -10 * np.log10(np.maximum(mse, 10 ** (-PSNR_LIMIT / 10)))
            for name, mse in errors["psnr"].items()
        }
    return errors


def _compared(pictures: np.ndarray) -> np.ndarray:
    """Pictures at the size at which they are compared, float32 in [0, 1]."""
    small = block_mean(pictures, SHRINK).astype(np.float32)
    return small / 255 if pictures.dtype == np.uint8 else small


def _windows(masks: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Windows of one size round what each of the masks [T, H, W] holds: top left corners [T, 2], height,
    width."""
    height, width = masks.shape[1:]
    rows, columns = np.logical_or.reduce(masks, 2), np.logical_or.reduce(masks, 1)
    top, left = rows.argmax(1), columns.argmax(1)
    bottom, right = height - rows[:, ::-1].argmax(1), width - columns[:, ::-1].argmax(1)
    h = min(height, int((bottom - top).max()) + 2 * _BORDER)
    w = min(width, int((right - left).max()) + 2 * _BORDER)
    y = np.clip((top + bottom - h) // 2, 0, height - h)
    x = np.clip((left + right - w) // 2, 0, width - w)
    return np.stack([y, x], 1), h, w


def _cut(pictures: np.ndarray, windows: tuple[np.ndarray, int, int]) -> np.ndarray:
    corners, h, w = windows
    return np.stack(
        [picture[y : y + h, x : x + w] for picture, (y, x) in zip(pictures, corners, strict=True)]
    )


def _masked_mean(values: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean of [T, H, W] over each mask's own area, [T]; NaN for an empty mask."""
    counts = masks.sum((1, 2))
    return np.where(counts > 0, np.einsum("thw,thw->t", values, masks) / np.maximum(counts, 1), np.nan)


def _absolute(shown: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.abs(shown - truth).mean(-1) * 255


def _squared(shown: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.square(shown - truth).mean(-1)


def _similarity(shown: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """SSIM's map, mean over the channels: [T, H, W]."""
    out = np.empty(shown.shape[:3], np.float32)
    for t in range(len(shown)):  # one at a time: the maps of a whole sequence would need gigabytes
        a, b = (torch.from_numpy(x[t : t + 1]).permute(0, 3, 1, 2) for x in (shown, truth))
        _, full = structural_similarity_index_measure(
            a, b, data_range=1.0, kernel_size=11, sigma=1.5, reduction="none", return_full_image=True
        )
        out[t] = full[0].mean(0)
    return out


def _flip(shown: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """FLIP's map [T, H, W]; NaN where NVIDIA's module is not installed."""
    out, evaluator = np.full(shown.shape[:3], np.nan, np.float32), flip_evaluator()
    if evaluator is None:
        return out
    for t in range(len(shown)):
        out[t] = evaluator.evaluate(truth[t], shown[t], "LDR", applyMagma=False, computeMeanError=False)[0][
            ..., 0
        ]
    return out


@functools.cache
def flip_evaluator() -> ModuleType | None:
    """NVIDIA's module, or None, told once, where it is not installed: Linux on ARM has no wheel of it."""
    try:
        import flip_evaluator
    except ModuleNotFoundError:
        warnings.warn(
            "FLIP is left out of what is graded, since flip-evaluator is not installed; it has wheels for"
            " every system that is supported but Linux on ARM: pip install flip-evaluator",
            stacklevel=3,
        )
        return None
    return flip_evaluator


def encoder_errors(
    landmarks: np.ndarray, blendshapes: np.ndarray, true_landmarks: np.ndarray, true_blendshapes: np.ndarray
) -> Errors:
    """How far two faces are from each other as MediaPipe sees them: measure -> "face", "mouth" or "eyes" ->
    [T].

    landmarks: the distance of landmarks [T, 478, 2 or 3] in the picture plane, pixels, mean over those of the
    region. aed: average expression distance, the absolute difference of blendshapes [T, 52], mean over those
    of the region. It shares its encoder with what drove the avatar, so it can be fooled where the encoder is
    blind. Both are NaN where no face was found.

    >>> still, moved = np.zeros((1, 478, 2)), np.full((1, 478, 2), [3.0, 4.0])
    >>> errors = encoder_errors(moved, np.full((1, 52), 0.5), still, np.zeros((1, 52)))
    >>> float(errors["landmarks"]["mouth"][0]), float(errors["aed"]["eyes"][0])
    (5.0, 0.5)
    """
    distance = np.linalg.norm(landmarks[..., :2] - true_landmarks[..., :2], axis=-1)
    difference = np.abs(blendshapes - true_blendshapes)
    return {
        "landmarks": {region: distance[:, rows].mean(1) for region, rows in LANDMARKS.items()},
        "aed": {region: difference[:, rows].mean(1) for region, rows in BLENDSHAPES.items()},
    }


def shaking(landmarks: np.ndarray) -> dict[str, float]:
    """How a face shakes in frames in a row, by region of LANDMARKS: the length of the second difference of
    MediaPipe's landmarks [T, 478, 3], mean over them and the frames, in distances of the outer eye corners.

    In the picture plane and in the head's own frame (`align_landmarks`), so that how the head moves does not
    count. Where one of three frames has no face (NaN) nothing is counted; NaN without three in a row.

    >>> still = np.random.default_rng(0).normal(size=(478, 3))
    >>> shaking(np.stack([still] * 5))["face"] < 1e-6
    True
    """
    if not np.isfinite(landmarks).all((1, 2)).any():
        return dict.fromkeys(LANDMARKS, np.nan)
    second = np.linalg.norm(np.diff(align_landmarks(landmarks)[..., :2], 2, axis=0), axis=-1)
    second = second[np.isfinite(second).all(1)]
    return {
        region: float(second[:, rows].mean()) if len(second) else np.nan for region, rows in LANDMARKS.items()
    }


def half_pixel_shift(images: np.ndarray) -> np.ndarray:
    """Pictures [T, H, W, 3] moved by half a pixel right and down (bilinear): what a metric says of them is
    its noise floor."""
    p = np.pad(images, ((0, 0), (1, 0), (1, 0), (0, 0)), mode="edge")
    return (p[:, 1:, 1:] + p[:, :-1, 1:] + p[:, 1:, :-1] + p[:, :-1, :-1]) / 4
