"""Which runs the study consists of. A plan is a list of runs; every run that is done, in whatever plan, is
done for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from raf_lite._files import read_json
from raf_lite.study.descriptors import TRUTH
from raf_lite.study.people import SUBJECTS
from raf_lite.study.runs import AVATARS, CONTROLS, UNDER, RunSpec
from raf_lite.study.variants import matched_noise

SELECTION_FILE = "selection.json"
RAW, RELATIVE = "blendshapes", "landmarks-neutral"
LABEL_FREE = "landmarks-mean"  # needs no frame that somebody called neutral
SELECT, CONFIRM = SUBJECTS["selection"], SUBJECTS["confirmation"]
DONE = "6x"  # done training: ten times the steps of 1x are no 5 % better than six
LIMITED = (*SELECT, *CONFIRM[:2])  # whom it is asked of what limits an avatar

# What the selection subjects try: descriptor -> (variant, p).
CANDIDATES = {
    RAW: [
        ("paper", 0.2),
        ("paper-k16", 0.2),
        ("centred", 0.1),
        ("centred", 0.2),
        ("centred-residual", 0.2),
        ("weighted", 0.1),
        ("weighted", 0.2),
        ("blended", 0.3),
        ("weighted-blended", 0.3),
    ],
    RELATIVE: [
        ("paper-k16", 0.2),
        ("centred", 0.1),
        ("paper-k16-residual", 0.2),
        ("centred-residual", 0.2),
        ("blended", 0.2),
        ("weighted-blended", 0.2),
    ],
}


def baselines(subjects: Iterable[int], descriptor: str, **fields: Any) -> list[RunSpec]:
    """A run without retrieval a subject."""
    return [RunSpec(s, descriptor, "none", **fields) for s in subjects]


def selection() -> list[RunSpec]:
    """Every candidate on the selection subjects."""
    out = []
    for descriptor, candidates in CANDIDATES.items():
        out += baselines(SELECT, descriptor)
        out += [RunSpec(s, descriptor, variant, p) for variant, p in candidates for s in SELECT]
    return out


def read_selection(folder: Path) -> dict:
    """The committed choice. ValueError where it was not made: confirmation must not start before it."""
    path = folder / SELECTION_FILE
    if not path.is_file():
        raise ValueError(
            f"{path} is not there; run the plan 'selection' and then `raf-lite study select`, which writes"
            " it, before anything is confirmed"
        )
    mend = "delete it and run `raf-lite study select`, which writes it again"
    choice = read_json(path, dict, mend)
    candidates = [
        c for name in (RAW, RELATIVE) for c in (choice.get(name), *_listed(choice.get(name), "candidates"))
    ]
    rates = [choice.get("p"), *(_entry(c, "p") for c in candidates)]
    if not all(isinstance(p, float) and 0 <= p <= 1 for p in rates) or not all(
        isinstance(_entry(c, "variant"), str) for c in candidates
    ):
        raise ValueError(f"{path} does not say which variant was chosen, and how often it retrieves; {mend}")
    return choice


def _entry(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _listed(value: object, name: str) -> list:
    found = _entry(value, name)
    return found if isinstance(found, list) else []


def _with_noise(run: tuple[str, float]) -> list[tuple[str, float]]:
    """A run (variant, p) and its matched noise."""
    noise = matched_noise(run[0])
    return [run] if noise is None else [run, (noise, run[1])]


def confirmed_variants(choice: dict, descriptor: str) -> list[tuple[str, float]]:
    """(variant, p) that the confirmation subjects get, each retrieval with its matched noise.

    On blendshapes that includes the best candidate of another kind than the chosen one: blending, which cost
    nothing.
    """
    best = choice[descriptor]["variant"], choice[descriptor]["p"]
    p = choice["p"]
    out = [
        ("paper", p),
        ("paper-k16", p),
        ("centred", p),
        *_with_noise(best),
        ("paper-k16-gaussian", p),
        ("centred-gaussian", p),
        ("paper-gaussian", p),
        ("paper-random", p),
    ]
    if descriptor == RAW:
        out += [("blended", 0.3), ("blended-gaussian", 0.3)]
    return list(dict.fromkeys(out))


def confirmation(choice: dict) -> list[RunSpec]:
    """All confirmation subjects, one after the other, blendshapes first: a part of the plan is a smaller
    study."""
    out = []
    for descriptor in (RAW, RELATIVE):
        for s in CONFIRM:
            out += baselines([s], descriptor)
            out += [
                RunSpec(s, descriptor, variant, p) for variant, p in confirmed_variants(choice, descriptor)
            ]
    return out


def seeds(choice: dict) -> list[RunSpec]:
    """Two more seeds for two confirmation subjects: how much of a difference is the seed."""
    out = []
    for seed in (1, 2):
        for descriptor in (RAW, RELATIVE):
            for s in CONFIRM[:2]:
                best = choice[descriptor]
                variants = [
                    ("paper-k16", choice["p"]),
                    ("centred", choice["p"]),
                    (best["variant"], best["p"]),
                ]
                out += baselines([s], descriptor, seed=seed)
                out += [RunSpec(s, descriptor, v, p, seed=seed) for v, p in dict.fromkeys(variants)]
    return out


def rates(choice: dict) -> list[RunSpec]:
    """How often: p up to one half."""
    return baselines(SELECT, RAW) + [
        RunSpec(s, RAW, v, p)
        for v in ("paper", "paper-k16", "centred", "blended")
        for p in (0.2, 0.5)
        for s in SELECT
    ]


def descriptors(choice: dict) -> list[RunSpec]:
    """Every descriptor without retrieval and with two retrievals, on the selection subjects."""
    from raf_lite.study.descriptors import DESCRIPTORS

    return [
        RunSpec(s, d, v)
        for d in DESCRIPTORS
        for v in ("none", "paper-k16", "centred", "centred-residual")
        for s in SELECT
    ]


def bank(choice: dict) -> list[RunSpec]:
    """Bank size, and a bank that has not seen the exam."""
    out = baselines(SELECT, RAW)
    for variant in ("paper-k16", "centred"):
        out += [RunSpec(s, RAW, variant, bank_rows=n) for n in (1000, 3000) for s in SELECT]
        out += [RunSpec(s, RAW, variant) for s in SELECT]
        out += [RunSpec(s, RAW, variant, bank="seen") for s in SELECT]
    return out


def coverage(choice: dict) -> list[RunSpec]:
    """How much of the scripts, or of the frames, the subject's own recording has."""
    return [
        RunSpec(s, RAW, v, scripts=scripts, frames=frames)
        for scripts, frames in ((1, 1), (0.65, 1), (0.35, 1), (1, 0.25))
        for v in ("none", "paper-k16", "centred")
        for s in SELECT
    ]


def bounds(choice: dict) -> list[RunSpec]:
    """True pairs (what perfect retrieval would give) and augmentation of the pose."""
    return baselines(SELECT, RAW) + [
        RunSpec(s, RAW, v, p)
        for v, p in (("pairs", 0.2), ("pairs", 0.5), ("pose", 0.5), ("centred+pose", 0.2))
        for s in SELECT
    ]


def tolerance(choice: dict) -> list[RunSpec]:
    """Driving descriptors of 4 bits, 2 bits, and with noise."""
    return [
        RunSpec(s, RAW, v, tolerance=True)
        for v in ("none", "paper-k16", "paper-k16-gaussian", "centred", "centred-gaussian")
        for s in SELECT
    ]


def relative(choice: dict) -> list[RunSpec]:
    """Does retrieval still help once the driver's neutral is taken out? Asked after the confirmation runs
    were seen, as the report says."""
    best = choice[RAW]["variant"], choice[RAW]["p"]
    variants = [("paper-k16", choice["p"]), ("centred", choice["p"]), *_with_noise(best)]
    return [RunSpec(s, RAW, v, p, tolerance=True) for s in CONFIRM for v, p in dict.fromkeys(variants)]


def label_free(choice: dict) -> list[RunSpec]:
    """Does retrieval help where nobody says which frame is neutral? The one gain that the selection subjects
    showed on a descriptor relative to the own mean, and its noise. Asked after the other confirmation runs
    had been seen; before this plan no confirmation subject was trained on this descriptor."""
    variants = [("centred-residual", choice["p"]), ("centred-gaussian", choice["p"])]
    return [
        run
        for s in CONFIRM
        for run in (*baselines([s], LABEL_FREE), *(RunSpec(s, LABEL_FREE, v, p) for v, p in variants))
    ]


def motion(choice: dict) -> list[RunSpec]:
    """What moves the Gaussians under the field, on the selection subjects."""
    return [RunSpec(s, RELATIVE, "none", under=under) for s in SELECT for under in UNDER]


def motion_controls(choice: dict) -> list[RunSpec]:
    """What the prior's gain comes from, on the selection subjects: priors that lack something, as many more
    motions that nobody taught, and the true motion. Written down before any run of it."""
    return [RunSpec(s, RELATIVE, "none", under=under) for s in SELECT for under in CONTROLS]


def motion_confirmed(choice: dict) -> list[RunSpec]:
    """The same on the confirmation subjects, and over the prior RAF's retrieval and its matched noise."""
    variants = [("centred", choice["p"]), ("centred-gaussian", choice["p"])]
    return [
        run
        for s in CONFIRM
        for run in (
            *(RunSpec(s, RELATIVE, "none", under=under) for under in UNDER),
            *(RunSpec(s, RELATIVE, v, p, under="prior") for v, p in variants),
        )
    ]


def limits(choice: dict) -> list[RunSpec]:
    """What limits an avatar: the encoder (against a perfect one), the steps, the Gaussians, the field. On the
    selection subjects and two others; written down before any run of it, but for two things: half the field's
    rates were added when twice the rates had done worse on two of them, and 6x and 10x-coarse, on the
    selection subjects, when 3x was seen not to be done."""
    tried = {
        "1x": (LABEL_FREE, RELATIVE, TRUTH),
        "3x": (LABEL_FREE, RELATIVE, TRUTH),
        "3x-fast": (LABEL_FREE,),
        "1x-slow": (LABEL_FREE,),
        "3x-slow": (LABEL_FREE,),
        "3x-12k": (LABEL_FREE, TRUTH),
        "3x-48-bases": (LABEL_FREE,),
        "3x-mlp": (LABEL_FREE,),
        "10x": (LABEL_FREE, TRUTH),
    }
    schedules = [RunSpec(s, LABEL_FREE, "none", avatar=a) for a in ("6x", "10x-coarse") for s in SELECT]
    return schedules + [
        RunSpec(s, descriptor, "none", avatar=avatar)
        for s in LIMITED
        for avatar, descriptors in tried.items()
        for descriptor in descriptors
    ]


def done(choice: dict) -> list[RunSpec]:
    """Does retrieval help avatars that are done training? The ten confirmation people, the most telling runs
    first, everybody before the next run: what is done of it is balanced over people. Written down before any
    run of it."""
    first = [("paper-k16", 0.2), ("centred", 0.2)]
    stages = [(RAW, v) for run in first for v in _with_noise(run)] + [(RAW, ("paper-random", 0.2))]
    stages += [(LABEL_FREE, v) for v in _with_noise(first[1])]
    more = [("paper-k16", 0.5), ("centred", 0.5), ("paper", 0.2), ("weighted", 0.2)]
    stages += [
        (descriptor, v)
        for descriptor in (RAW, "landmarks", LABEL_FREE)
        for run in [*first, *more]
        for v in _with_noise(run)
    ]
    stages += [(d, ("paper-random", p)) for d in ("landmarks", LABEL_FREE, RAW) for p in (0.2, 0.5)]
    out, based = [], set()
    for descriptor, (variant, p) in dict.fromkeys(stages):
        if descriptor not in based:
            out += baselines(CONFIRM, descriptor, avatar=DONE)
            based.add(descriptor)
        out += [RunSpec(s, descriptor, variant, p, avatar=DONE) for s in CONFIRM]
    for variant in ("none", "centred", "centred-gaussian"):  # and with the prior, which needs landmarks
        out += [RunSpec(s, LABEL_FREE, variant, under="prior", avatar=DONE) for s in CONFIRM[:6]]
    return out


def family(choice: dict) -> list[RunSpec]:
    """How wide a `FieldMLP`, the paper's family of fields, has to be to be good, beside the learned basis: on
    the selection subjects, blendshapes, no retrieval. Written down before any run of it; the width goes into
    a plan of the ten others, with retrieval and its controls."""
    avatars = (DONE, *(name for name in AVATARS if name.startswith(f"{DONE}-mlp")))
    return [RunSpec(s, RAW, "none", avatar=avatar) for avatar in avatars for s in SELECT]


def live(choice: dict) -> list[RunSpec]:
    """A driver before a camera, whose own mean is not known yet. Written down before any run of it; what
    `OwnMean` takes for granted was chosen on descriptors of the twelve drivers and of real people, no
    avatar."""
    return [RunSpec(s, LABEL_FREE, "none", avatar="1x", live=True) for s in CONFIRM]


PLANS: dict[str, Callable[..., list[RunSpec]]] = {
    "selection": selection,
    "confirmation": confirmation,
    "seeds": seeds,
    "rates": rates,
    "bounds": bounds,
    "bank": bank,
    "coverage": coverage,
    "descriptors": descriptors,
    "tolerance": tolerance,
    "relative": relative,
    "label_free": label_free,
    "motion": motion,
    "motion_controls": motion_controls,
    "motion_confirmed": motion_confirmed,
    "limits": limits,
    "done": done,
    "family": family,
    "live": live,
}


def plan(name: str, folder: Path) -> list[RunSpec]:
    """The runs of a plan, each once, one subject after the other within a descriptor. ValueError for an
    unknown name, or a choice that is missing."""
    if name not in PLANS:
        raise ValueError(f"there is no plan '{name}'; choose one of {', '.join(PLANS)}")
    specs = selection() if name == "selection" else PLANS[name](read_selection(folder))
    return list({spec.key: spec for spec in specs}.values())
