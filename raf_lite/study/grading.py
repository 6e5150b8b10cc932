"""The errors of a study avatar as means over groups of frames."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from raf_lite.evaluation.metrics import Errors
from raf_lite.rig.expressions import ARCHETYPE_INDEX
from raf_lite.rig.scripts import seen_archetypes
from raf_lite.study.people import REGION_BITS, TURNED, Training

SLOW_STEP = 2  # every how many answers ssim and FLIP are measured on
ASKED_STEP = 4  # every how many of them networks are asked about


def region_masks(answers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Masks bool [T, H, W] of each region of the face, from the bits in which answers store them."""
    return {name: (answers["regions"] & bit) > 0 for name, bit in REGION_BITS.items()}


def group_members(answers: Mapping[str, np.ndarray], training: Training) -> dict[str, np.ndarray]:
    """Names of groups with the rows [n] of the answers in each; seen and unseen follow from what this
    training had."""
    seen = [ARCHETYPE_INDEX[name] for name in seen_archetypes(training.sequences())]
    own, acting = answers["driver"] < 0, answers["archetype"] >= 0
    known, turned = np.isin(answers["archetype"], seen), answers["sequence"] == TURNED
    members = {
        "self": own,
        "self-seen": own & acting & known,
        "self-unseen": own & acting & ~known,
        "self-strong": own & acting & known & (answers["amplitude"] >= 1),
        "cross": ~own & ~turned,
        "cross-turned": ~own & turned,
    }
    return {name: np.flatnonzero(rows) for name, rows in members.items()}


def pooled(errors: Errors, members: Mapping[str, np.ndarray]) -> dict:
    """Means over frames: group -> measure -> region -> number, with `frames`; None where nothing could be
    measured."""
    out: dict = {}
    for group, rows in members.items():
        if len(rows) == 0:
            continue
        out[group] = {"frames": len(rows)}
        for measure, regions in errors.items():
            out[group][measure] = {
                r: round(float(np.nanmean(v[rows])), 5) if np.isfinite(v[rows]).any() else None
                for r, v in regions.items()
            }
    return out
