"""Grades a study avatar: errors by region and group of frames, and what else there is to say of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from raf_lite.captures import block_mean
from raf_lite.descriptors.mediapipe import BLENDSHAPE_NAMES, NUM_LANDMARKS
from raf_lite.rig.expressions import ARCHETYPE_INDEX
from raf_lite.rig.scripts import seen_archetypes
from raf_lite.study.people import REGION_BITS, TURNED, Training

REGIONS = tuple(REGION_BITS)
MEASURES = ("landmarks", "mae", "psnr", "ssim", "flip", "aed")
GROUPS = ("self", "self-seen", "self-unseen", "self-strong", "cross", "cross-turned")
# MediaPipe's mesh: both lips' outer and inner rims; both eyes' rims with the brows.
_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409, 78, 95, 88, 178, 87, 14, 317,
         402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415)
_EYES = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 263, 249, 390, 373, 374, 380, 381, 382, 362,
         398, 384, 385, 386, 387, 388, 466, 46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293,
         334, 296, 336)
POINTS = {"face": np.arange(NUM_LANDMARKS), "mouth": np.array(_LIPS), "eyes": np.array(_EYES)}
SCORES = {"face": np.arange(len(BLENDSHAPE_NAMES)),
          "mouth": np.array([i for i, n in enumerate(BLENDSHAPE_NAMES) if n.startswith(("mouth", "jaw"))]),
          "eyes": np.array([i for i, n in enumerate(BLENDSHAPE_NAMES) if n.startswith(("eye", "brow"))])}
_SSIM_BORDER = 6  # pixels that the window reaches beyond the face


def group_members(answers: Mapping[str, np.ndarray], training: Training) -> dict[str, np.ndarray]:
    """For each of GROUPS the rows [n] of the answers that it holds; seen and unseen follow from what this training had."""
    seen = [ARCHETYPE_INDEX[name] for name in seen_archetypes(training.sequences())]
    own, acting = answers["driver"] < 0, answers["archetype"] >= 0
    known, turned = np.isin(answers["archetype"], seen), answers["sequence"] == TURNED
    members = {"self": own, "self-seen": own & acting & known, "self-unseen": own & acting & ~known,
               "self-strong": own & acting & known & (answers["amplitude"] >= 1), "cross": ~own & ~turned,
               "cross-turned": ~own & turned}
    return {name: np.flatnonzero(rows) for name, rows in members.items()}


def code_errors(points: np.ndarray, scores: np.ndarray, answers: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Landmark error (pixels) and AED of what the encoder sees, by region: measure -> region -> [T]; NaN without a face."""
    distance = np.linalg.norm(points - answers["points"], axis=-1)
    difference = np.abs(scores - answers["scores"])
    return {"landmarks": {r: distance[:, POINTS[r]].mean(1) for r in REGIONS},
            "aed": {r: difference[:, SCORES[r]].mean(1) for r in REGIONS}}


def _crops(faces: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Windows of one size round every face (masks [T, H, W]): top left corners [T, 2], height, width."""
    height, width = faces.shape[1:]
    rows, columns = np.any(faces, axis=2), np.any(faces, axis=1)
    top, left = rows.argmax(1), columns.argmax(1)
    bottom, right = height - rows[:, ::-1].argmax(1), width - columns[:, ::-1].argmax(1)
    h = min(height, int((bottom - top).max()) + 2 * _SSIM_BORDER)
    w = min(width, int((right - left).max()) + 2 * _SSIM_BORDER)
    y = np.clip((top + bottom - h) // 2, 0, height - h)
    x = np.clip((left + right - w) // 2, 0, width - w)
    return np.stack([y, x], 1), h, w


def picture_errors(images: np.ndarray, answers: Mapping[str, np.ndarray], only_mae: bool = False) -> dict:
    """Errors of pictures float32 [T, H, W, 3] in [0, 1] by region: measure -> region -> [T].

    Pictures are compared at half their size, below the resolution of training: finer texture is the same blur in every
    variant and would only drown what the face does.
    mae in grey levels of 255 and psnr in dB; ssim (11x11 Gaussian window) and FLIP, which are slow, of every second picture.
    """
    halves = {r: block_mean((answers["regions"] & REGION_BITS[r]) > 0, 2) >= 0.5 for r in REGIONS}
    corners, h, w = _crops(halves["face"])
    cut = lambda x: np.stack([x[t, y:y + h, c:c + w] for t, (y, c) in enumerate(corners)])  # noqa: E731
    truth = cut(block_mean(answers["image"], 2).astype(np.float32) / 255)
    shown = cut(block_mean(images, 2).astype(np.float32))
    masks = {r: cut(mask) for r, mask in halves.items()}

    def mean(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        counts = mask.sum((1, 2))
        return np.where(counts > 0, np.einsum("thw,thw->t", values, mask) / np.maximum(counts, 1), np.nan)

    absolute = np.abs(shown - truth).mean(-1) * 255
    out = {"mae": {r: mean(absolute, masks[r]) for r in REGIONS}}
    if only_mae:
        return out
    squared = np.square(shown - truth).mean(-1)
    import flip_evaluator  # here, since not every system has it and grades of regions alone do without

    out["psnr"] = {r: -10 * np.log10(np.maximum(mean(squared, masks[r]), 1e-10)) for r in REGIONS}
    similar, perceived = (np.full(absolute.shape, np.nan, np.float32) for _ in range(2))
    for t in range(0, len(shown), 2):
        a, b = (torch.from_numpy(x[t:t + 1]).permute(0, 3, 1, 2) for x in (shown, truth))
        _, full = structural_similarity_index_measure(a, b, data_range=1.0, kernel_size=11, sigma=1.5, reduction="none",
                                                      return_full_image=True)
        similar[t] = full[0].mean(0)
        perceived[t] = flip_evaluator.evaluate(truth[t], shown[t], "LDR", applyMagma=False, computeMeanError=False)[0][..., 0]
    return out | {"ssim": {r: mean(similar, masks[r]) for r in REGIONS}, "flip": {r: mean(perceived, masks[r]) for r in REGIONS}}


def pooled(errors: Mapping[str, Mapping[str, np.ndarray]], members: Mapping[str, np.ndarray]) -> dict:
    """Means over frames: group -> measure -> region -> number, with `frames`; None where nothing could be measured."""
    out: dict = {}
    for group, rows in members.items():
        if len(rows) == 0:
            continue
        out[group] = {"frames": len(rows)}
        for measure, regions in errors.items():
            out[group][measure] = {r: round(float(np.nanmean(v[rows])), 5) if np.isfinite(v[rows]).any() else None
                                   for r, v in regions.items()}
    return out
