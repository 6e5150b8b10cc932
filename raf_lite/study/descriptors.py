"""The study's descriptors: two encoder outputs, each as it is, minus the own neutral frame, or minus the own
video mean; and, as an upper reference, what the rig was told to do."""

from __future__ import annotations

from functools import cache

import numpy as np

from raf_lite.bank import ExpressionBank
from raf_lite.descriptors import ENCODER, NAMED_FORMS, forms
from raf_lite.descriptors.forms import in_form
from raf_lite.manifest import find_data
from raf_lite.study.people import (
    CROSS_SEQUENCES,
    PANEL,
    SEEN_DONORS,
    TURNED,
    acted,
    load_person,
    panel_weights,
)

DESCRIPTORS = NAMED_FORMS
TRUTH = "truth"
"""What a perfect encoder would say: the rig's own weights, the same for everybody who makes a face."""
BANKS = ("shipped", "seen")  # "seen": donors who make only the faces that the subject's training has


def parts(descriptor: str) -> tuple[str, str]:
    """("blendshapes" or "landmarks", "raw", "neutral" or "mean"), of TRUTH ("weights", "raw"); ValueError for
    another name."""
    if descriptor == TRUTH:
        return "weights", "raw"
    if descriptor not in DESCRIPTORS:
        known = ", ".join((*DESCRIPTORS, TRUTH))
        raise ValueError(f"unknown descriptor '{descriptor}'; choose one of {known}")
    return forms.parts(descriptor)


def reference_of(recording: dict[str, np.ndarray], encoded: str) -> tuple[np.ndarray, np.ndarray]:
    """(neutral [D], usable video [F, D]): descriptors of a driver's recording; frames turned on purpose are
    left out."""
    plain = np.isin(recording["sequence"], [s for s in CROSS_SEQUENCES if s != TURNED]) & recording["found"]
    neutral = (recording["sequence"] == "FREE") & (recording["frame"] == 0)
    return recording[encoded][neutral][0], recording[encoded][plain]


def graded_weights(subject: int, answers: dict[str, np.ndarray]) -> np.ndarray:
    """What the rig was told at each graded frame, [T, 57]."""
    play = cache(lambda who, sequence: acted(subject if who < 0 else who, sequence).weights)
    moments = zip(*(answers[name].tolist() for name in ("driver", "sequence", "frame")), strict=True)
    return np.stack([play(who, sequence)[frame] for who, sequence, frame in moments])


def panel_descriptors(descriptor: str) -> np.ndarray:
    """The panel's descriptors [identities, 1 + expressions, D]; each identity relative to itself."""
    encoded, form = parts(descriptor)
    if descriptor == TRUTH:
        return np.stack([panel_weights()] * len(PANEL)).astype(np.float32)
    people = [load_person("panel", seed)[encoded] for seed in PANEL]
    return np.stack([in_form(p, form, p[0], p) for p in people]).astype(np.float32)


def graded_descriptors(
    subject: int,
    answers: dict[str, np.ndarray],
    descriptor: str,
    own_neutral: np.ndarray,
    own_video: np.ndarray,
) -> np.ndarray:
    """What drives each graded frame of a subject [T, D]: every row relative to the person who acts in it, the
    subject or a driver."""
    encoded, form = parts(descriptor)
    if descriptor == TRUTH:
        return graded_weights(subject, answers)
    out = np.empty_like(answers[encoded])
    for driver in np.unique(answers["driver"]):
        rows = answers["driver"] == driver
        reference = (
            (own_neutral, own_video)
            if driver < 0
            else reference_of(load_person("driver", int(driver)), encoded)
        )
        out[rows] = in_form(answers[encoded][rows], form, *reference)
    return out


@cache
def study_bank(descriptor: str, bank: str = "shipped", rows: int | None = None) -> ExpressionBank:
    """The shipped bank, or the one whose donors make seen faces only, in a descriptor's form.

    rows: a random part of that many rows, the same for everyone (None: all). Donors keep their reference of
    the whole bank."""
    encoded, form = parts(descriptor)
    if descriptor == TRUTH:
        raise ValueError(f"the bank's donors were encoded, so it has no '{TRUTH}'; name another descriptor")
    if bank == "shipped":
        source = ExpressionBank.load(find_data() / "bank", descriptor=descriptor)
    elif bank == "seen":
        people = [load_person("seen", seed) for seed in SEEN_DONORS]
        source = ExpressionBank.from_arrays(
            np.concatenate([p[encoded][p["found"]] for p in people]),
            np.repeat(np.arange(len(people)), [int(p["found"].sum()) for p in people]),
            encoder=ENCODER,
            descriptor=encoded,
            neutral=np.concatenate([p["neutral"][p["found"]] for p in people]),
        ).in_form(form)
    else:
        raise ValueError(f"unknown bank '{bank}'; choose one of {', '.join(BANKS)}")
    kept = (
        np.arange(len(source))
        if rows is None
        else np.sort(np.random.default_rng(0).permutation(len(source))[:rows])
    )
    return ExpressionBank.from_arrays(
        source.descriptors[kept],
        source.donors[kept],
        encoder=ENCODER,
        descriptor=descriptor,
        neutral=source.neutral[kept],
    )
