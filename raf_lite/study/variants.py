"""What a run of the study changes in training: its variant, by the name that stands in its line, and what
controls it."""

from __future__ import annotations

from raf_lite.retrieval import SETTINGS, Setting, with_controls

TRIED = with_controls({"weighted-blended": Setting("weighted", k=16, blend=True)})
"""Settings that were tried and did not earn a name in `raf_lite.retrieval`."""
POSE_VARIANTS = {"pose": None, "centred+pose": SETTINGS["centred"]}
"""Variants that turn the head in the descriptor, and the retrieval before it."""
STUDY_VARIANTS = ("none", "pairs", *POSE_VARIANTS, *TRIED)
"""Variants beside the named settings."""

_SETTINGS = SETTINGS | TRIED
_NAMES = {setting: name for name, setting in _SETTINGS.items()}


def setting_of(variant: str) -> Setting | None:
    """The setting that a variant is; None for those that are none: "none", "pairs" and POSE_VARIANTS.

    Raises ValueError for an unknown variant.
    """
    if variant not in _SETTINGS and variant not in STUDY_VARIANTS:
        raise ValueError(
            f"unknown variant '{variant}'; choose one of {', '.join((*STUDY_VARIANTS, *SETTINGS))}"
        )
    return _SETTINGS.get(variant)


def strategy_of(variant: str) -> str | None:
    """The strategy of a variant's setting, None where it has no setting. ValueError for an unknown
    variant."""
    setting = setting_of(variant)
    return None if setting is None else setting.strategy


def matched_noise(variant: str) -> str | None:
    """The variant that adds Gaussian noise of the covariance of what this one changes: same key, k and blend.

    None for what is noise itself, takes random rows or has no setting. ValueError for an unknown variant.
    """
    setting = setting_of(variant)
    if setting is None or setting.strategy not in ("nearest", "residual", "mean_shift"):
        return None
    return _NAMES[setting.control("gaussian")]
