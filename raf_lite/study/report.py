"""The study as a page for readers, HTML and Markdown, made from the JSON lines alone."""

from __future__ import annotations

import html
import json
import math
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raf_lite._files import atomic_path
from raf_lite.study.descriptors import TRUTH
from raf_lite.study.drawing import Figure, curves, forest, shares, shown
from raf_lite.study.execute import read_lines
from raf_lite.study.plans import (
    CONFIRM,
    DONE,
    LABEL_FREE,
    LIMITED,
    RAW,
    RELATIVE,
    SELECT,
    SELECTION_FILE,
    read_selection,
)
from raf_lite.study.runs import AVATARS, CONTROLS, LIVE_FRAMES, PRESET
from raf_lite.study.statistics import Effect, holm
from raf_lite.study.tables import BASELINE, Condition, effects, long_table, values_of
from raf_lite.study.variants import matched_noise, strategy_of
from raf_lite.viewing.report import STYLE

# (heading, group, measure, region)
OUTCOMES = [
    ("cross, landmarks", "cross", "landmarks", "face"),
    ("cross, mouth + eyes", "cross", "mae", "mouth+eyes"),
    ("cross, face", "cross", "mae", "face"),
    ("cross, FLIP", "cross", "flip", "face"),
    ("cross, AED", "cross", "aed", "face"),
    ("self-seen, face", "self-seen", "mae", "face"),
    ("self-seen, landmarks", "self-seen", "landmarks", "face"),
    ("self-unseen, face", "self-unseen", "mae", "face"),
    ("self-strong, face", "self-strong", "mae", "face"),
]
MAIN = OUTCOMES[:2]
MAIN_CROSS = OUTCOMES[1]
# The same of what moves under the field, which may move what training lacks.
MOTION = [
    *OUTCOMES[:3],
    ("self-seen, landmarks", "self-seen", "landmarks", "face"),
    ("self-seen, face", "self-seen", "mae", "face"),
    ("self-unseen, landmarks", "self-unseen", "landmarks", "face"),
    ("self-unseen, face", "self-unseen", "mae", "face"),
    ("self-strong, landmarks", "self-strong", "landmarks", "face"),
]
UNDER_NAMES = {
    "ride": "riding on landmarks",
    "prior": "motion prior",
    "both": "riding, and the prior between",
    "lacking": "prior without what training lacks",
    "linear": "prior, linear in the descriptor",
    "single": "prior of one donor",
    "shuffled": "prior of shuffled descriptors",
    "untaught": "as many more motions, untaught",
    "truth": "prior by the true expression",
}
# (under, outcome, at most, whether the interval must lie below zero)
MOTION_TARGETS = [
    ("prior", "cross, landmarks", -12, True),
    ("prior", "cross, mouth + eyes", -4, True),
    ("prior", "self-unseen, landmarks", -20, True),
    ("prior", "self-unseen, face", -5, True),
    ("prior", "self-seen, landmarks", 0, False),
    ("prior", "self-seen, face", 0, False),
    ("lacking", "self-unseen, landmarks", -10, True),
]
# What is changed: (name, descriptor, avatar, what it is set against).
LIMITS = [
    ("a perfect encoder", TRUTH, "1x", (LABEL_FREE, "1x")),
    ("a perfect encoder, both with three times the steps", TRUTH, "3x", (LABEL_FREE, "3x")),
    ("a frame that somebody called neutral, both so", RELATIVE, "3x", (LABEL_FREE, "3x")),
    ("three times the steps", LABEL_FREE, "3x", (LABEL_FREE, "1x")),
    ("ten times the steps", LABEL_FREE, "10x", (LABEL_FREE, "1x")),
    ("ten times, against three times", LABEL_FREE, "10x", (LABEL_FREE, "3x")),
    ("twice the field's learning rates, both so", LABEL_FREE, "3x-fast", (LABEL_FREE, "3x")),
    ("half the field's learning rates, both so", LABEL_FREE, "3x-slow", (LABEL_FREE, "3x")),
    ("half the field's learning rates, as few steps", LABEL_FREE, "1x-slow", (LABEL_FREE, "1x")),
    ("six times, against ten", LABEL_FREE, "6x", (LABEL_FREE, "10x")),
    (
        "ten times, nine tenths of them at half the size, against ten",
        LABEL_FREE,
        "10x-coarse",
        (LABEL_FREE, "10x"),
    ),
    ("12,000 Gaussians, not 4,000, both so", LABEL_FREE, "3x-12k", (LABEL_FREE, "3x")),
    ("48 motions to learn, not 24, both so", LABEL_FREE, "3x-48-bases", (LABEL_FREE, "3x")),
    ("an MLP of place and descriptor, both so", LABEL_FREE, "3x-mlp", (LABEL_FREE, "3x")),
    *(
        (f"blendshapes: an MLP of {hidden}, not the basis", RAW, f"{DONE}-mlp-{hidden}", (RAW, DONE))
        for hidden in (64, 128, 256)
    ),
    ("with a perfect encoder: three times the steps", TRUTH, "3x", (TRUTH, "1x")),
    ("with a perfect encoder: ten times, against three", TRUTH, "10x", (TRUTH, "3x")),
    ("with a perfect encoder: 12,000 Gaussians, at three", TRUTH, "3x-12k", (TRUTH, "3x")),
]
DONE_OUTCOMES = [
    *OUTCOMES[:3],
    ("cross, LPIPS", "cross", "lpips", "face"),
    ("cross, AED", "cross", "aed", "face"),
    ("cross, identity", "cross", "identity", "face"),
    ("self-unseen, landmarks", "self-unseen", "landmarks", "face"),
    ("self-unseen, LPIPS", "self-unseen", "lpips", "face"),
    ("self-seen, face", "self-seen", "mae", "face"),
]
LIVE = (("landmarks", "landmarks", "face"), ("mouth + eyes", "mae", "mouth+eyes"), ("face", "mae", "face"))
AFTERWARDS = {LABEL_FREE: " Asked after the other confirmation runs had been seen."}


@dataclass
class Section:
    """A heading, sentences, and tables and figures in order; `blocks` holds DataFrames of text, and
    Figures."""

    title: str
    text: list[str] = field(default_factory=list)
    blocks: list = field(default_factory=list)


def name_of(run: tuple[str, float]) -> str:
    """A run's name in tables."""
    return "no retrieval" if run == BASELINE else f"{run[0]}, p = {run[1]:g}"


def runs_in(table: pd.DataFrame, descriptor: str) -> list[tuple[str, float]]:
    """(variant, p) in a table, in a fixed order of reading: retrieval first, controls after it."""
    found = {
        (v, float(p))
        for v, p in table[table["descriptor"] == descriptor][["variant", "p"]].drop_duplicates().to_numpy()
    }
    return sorted(
        found - {BASELINE}, key=lambda r: (strategy_of(r[0]) not in (None, "nearest", "residual"), *r)
    )


def _matched(run: tuple[str, float]) -> tuple[str, float] | None:
    """The noise control of a retrieval setting: same key, k, p and covariance; None where there is none."""
    noise = matched_noise(run[0])
    return None if noise is None else (noise, run[1])


def _against_target(effect: Effect, bar: float, below_zero: bool) -> dict[str, str]:
    """A row of a table of targets: what was asked for, what came out, and whether that is enough."""
    met = effect.mean <= bar and (not below_zero or effect.high < 0)
    asked = f"{bar:+g} %{', interval below zero' if below_zero else ''}"
    return {
        "target": asked if bar or below_zero else "not worse",
        "reached": shown(effect),
        "met": "yes" if met else "no",
    }


def _texts(effects_of: dict[str, Effect | None]) -> dict[str, str]:
    """Effects as text, each with its bootstrap interval where there is one."""
    out = {}
    for heading, e in effects_of.items():
        out[heading] = shown(e)
        if e is not None and e.subjects > 1:
            out[heading] += f"; bootstrap [{e.boot_low:+.1f}, {e.boot_high:+.1f}]"
    return out


def _frame(rows: dict[str, dict[str, str]]) -> pd.DataFrame:
    """A table of text from its rows by name."""
    return pd.DataFrame.from_dict(rows, orient="index")


class Study:
    """All lines of a folder, and what the sections ask of them.

    >>> from raf_lite.manifest import find_data
    >>> study = Study(find_data().parent / "benchmarks" / "results" / "study")
    >>> study.best("blendshapes")
    ('weighted', 0.2)
    """

    def __init__(self, folder: Path) -> None:
        self.lines = list(read_lines(folder))
        if not any("spec" in line for line in self.lines):
            raise ValueError(f"{folder} holds no runs; start with `raf-lite study run selection`")
        self.choice = read_selection(folder) if (folder / SELECTION_FILE).is_file() else None
        self.table = long_table(self.lines)
        self.confirmed = self.table[self.table["role"] == "confirmation"]
        self.selected = self.table[self.table["role"] == "selection"]

    def best(self, descriptor: str) -> tuple[str, float]:
        """The chosen run. ValueError where none was chosen yet."""
        if self.choice is None:
            raise ValueError(
                f"no run was chosen yet, for lack of {SELECTION_FILE}; write it with `raf-lite study select`"
            )
        return self.choice[descriptor]["variant"], self.choice[descriptor]["p"]

    def overview(self, table: pd.DataFrame, descriptor: str, runs: list[tuple[str, float]]) -> pd.DataFrame:
        """These runs against the baseline of their descriptor, over all OUTCOMES."""
        rows = {}
        for run in runs:
            cells = {
                heading: shown(effects(table, descriptor, run, group=g, measure=m, region=r))
                for heading, g, m, r in OUTCOMES
            }
            if any(cell != "–" for cell in cells.values()):
                rows[name_of(run)] = cells
        return _frame(rows)

    def levels(self, table: pd.DataFrame, descriptor: str) -> pd.DataFrame:
        """What the baseline's errors are, in their own units."""
        units = {"landmarks": "px at 192", "mae": "grey levels", "flip": "", "aed": ""}
        out = {}
        for heading, g, m, r in OUTCOMES:
            values = values_of(table, descriptor, BASELINE, group=g, measure=m, region=r)
            if len(values):
                spread = f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else ""
                out[heading] = f"{values.mean():.3g}{spread} {units[m]}"
        return pd.DataFrame.from_dict({"no retrieval": out}, orient="index")

    # ---------------------------------------------------------------------------------------------- sections

    def main(self) -> Section:
        """Confirmation subjects: every run against the baseline."""
        section = Section(
            "What retrieval changes: confirmation subjects",
            [
                "Percent change of an error against the same subject's avatar without retrieval, same seed,"
                " frames and budget: mean over subjects [95 % t-interval], and in how many subjects it got"
                " better. Negative is better."
            ],
        )
        for descriptor in (RAW, RELATIVE, LABEL_FREE):
            overview = self.overview(self.confirmed, descriptor, runs_in(self.confirmed, descriptor))
            if overview.empty:
                continue
            n = self.confirmed[self.confirmed["descriptor"] == descriptor]["subject"].nunique()
            later = AFTERWARDS.get(descriptor, "")
            section.blocks += [
                f"Descriptor: {descriptor}; {n} subjects.{later} Mean errors without retrieval:",
                self.levels(self.confirmed, descriptor),
                "Changes:",
                overview,
            ]
            section.blocks += [
                forest(
                    [
                        (name_of(r), effects(self.confirmed, descriptor, r, group=g, measure=m, region=reg))
                        for r in runs_in(self.confirmed, descriptor)
                    ],
                    f"{descriptor}: {heading}",
                )
                for heading, g, m, reg in MAIN
            ]
        return section

    def against_noise(self) -> Section:
        """Retrieval against noise of the covariance of its own replacements."""
        section = Section(
            "Is it retrieval, or would noise do?",
            [
                "Each retrieval setting against its matched noise: Gaussian, with the covariance of what that"
                " setting changes, at the same rate. Negative: retrieval is better than the noise. p-values"
                " are paired t-tests, adjusted by Holm over the table."
            ],
        )
        for descriptor in (RAW, RELATIVE, LABEL_FREE):
            rows, found = [], runs_in(self.confirmed, descriptor)
            for run in found:
                noise = _matched(run)
                if noise in found:
                    for heading, g, m, r in MAIN:
                        e = effects(self.confirmed, descriptor, run, noise, group=g, measure=m, region=r)
                        if e is not None:
                            rows.append((run, heading, e))
            if rows:
                adjusted = holm([e.p for *_, e in rows])
                section.blocks += [
                    f"Descriptor: {descriptor}.",
                    pd.DataFrame.from_dict(
                        {
                            f"{name_of(run)}: {heading}": {
                                "against its matched noise": shown(e),
                                "p (Holm)": f"{p:.3f}",
                                "bootstrap": f"[{e.boot_low:+.1f}, {e.boot_high:+.1f}]",
                            }
                            for (run, heading, e), p in zip(rows, adjusted, strict=True)
                        },
                        orient="index",
                    ),
                ]
        return section

    def across_descriptors(self) -> Section:
        """Everything against landmarks minus the own neutral without retrieval: the strongest plain
        descriptor."""
        section = Section(
            "Against the strongest descriptor without retrieval",
            [f"Every run against `{RELATIVE}` without retrieval. Negative: better than it."],
        )
        rows = {}
        for descriptor in (RAW, RELATIVE, LABEL_FREE):
            for run in [BASELINE, *runs_in(self.confirmed, descriptor)]:
                if (descriptor, run) == (RELATIVE, BASELINE):
                    continue
                cells = {
                    heading: shown(
                        effects(
                            self.confirmed,
                            descriptor,
                            run,
                            BASELINE,
                            against_descriptor=RELATIVE,
                            group=g,
                            measure=m,
                            region=r,
                        )
                    )
                    for heading, g, m, r in OUTCOMES[:6]
                }
                if any(c != "–" for c in cells.values()):
                    rows[f"{descriptor}: {name_of(run)}"] = cells
        if rows:
            section.blocks.append(_frame(rows))
        return section

    def targets(self) -> Section:
        """The project's targets, met or not."""
        section = Section(
            "Targets",
            [
                "Set before the study. Met means that the mean reaches the figure and, where an interval "
                "is asked for, the 95 % t-interval lies below zero."
            ],
        )
        if self.choice is None:
            return section
        best, rows = self.best(RAW), {}
        noise = _matched(best)

        def row(name: str, effect: Effect | None, bar: float, below_zero: bool) -> None:
            if effect is not None:
                rows[name] = _against_target(effect, bar, below_zero)

        for heading, g, m, r in MAIN:
            change = partial(effects, self.confirmed, group=g, measure=m, region=r)
            row(f"paper-k16, blendshapes: {heading}", change(RAW, ("paper-k16", 0.2)), -8, True)
            row(f"best ({name_of(best)}), blendshapes: {heading}", change(RAW, best), -20, True)
            if noise is not None:
                row(f"best against its matched noise: {heading}", change(RAW, best, noise), 0, True)
            row(
                f"best on {RELATIVE} ({name_of(self.best(RELATIVE))}) against {RELATIVE} without retrieval:"
                f" {heading}",
                change(RELATIVE, self.best(RELATIVE)),
                -3,
                True,
            )
        row(
            "best, blendshapes: self-seen, face",
            effects(self.confirmed, RAW, best, group="self-seen", measure="mae", region="face"),
            2,
            False,
        )
        if rows:
            section.blocks.append(_frame(rows))
        return section

    def motion(self) -> Section:
        """What moves the Gaussians under the field: landmarks, the prior, and the prior's controls."""
        section = Section(
            "What moves under the field: the motion prior",
            [
                f"Descriptor: {RELATIVE}. Percent change against the same subject's avatar with nothing under"
                " the field and no retrieval: mean over subjects [95 % t-interval], in how many subjects it"
                " got better, and the 95 % interval of a bootstrap over subjects."
            ],
        )
        if self.table["under"].isin(CONTROLS).any():
            section.text.append(
                "The prior's controls, on the selection subjects: learned without the expressions that the"
                " subject's training lacks; with no hidden layer between descriptors and coefficients; from"
                " one donor on one head; from descriptors paired with what other frames did; no prior, but a"
                " field with as many more motions to learn (48, not 24); and, an upper reference, the"
                " prior's motions by the rig's true weights, of the answers too."
            )

        def row(
            table: pd.DataFrame, run: tuple[str, float], under: str, other: tuple[str, float], than: str
        ) -> dict[str, Effect | None]:
            """A run against another, by outcome, and what moves under either."""
            changed: dict[str, Condition] = {"under": than}
            pair = partial(effects, table, RELATIVE, run, other, under=under, against_conditions=changed)
            return {heading: pair(group=g, measure=m, region=r) for heading, g, m, r in MOTION}

        people = {"selection": self.selected, "confirmation": self.confirmed}
        targets = {}
        for role, table in people.items():
            changes = {
                label: row(table, BASELINE, under, BASELINE, "nothing")
                for under, label in UNDER_NAMES.items()
            }
            changes = {label: cells for label, cells in changes.items() if any(cells.values())}
            if not changes:
                continue
            section.blocks += [
                f"{role.capitalize()} subjects:",
                _frame({label: _texts(cells) for label, cells in changes.items()}),
                *(
                    forest([(label, cells[h]) for label, cells in changes.items()], f"{role} subjects: {h}")
                    for h in ("cross, landmarks", "self-unseen, landmarks")
                ),
            ]
            over = runs_in(table[table["under"] == "prior"], RELATIVE)
            pairs = [(run, BASELINE) for run in over]
            pairs += [(run, noise) for run in over if (noise := _matched(run)) in over]
            rows = {
                f"{name_of(run)}, against {name_of(other)}": _texts(row(table, run, "prior", other, "prior"))
                for run, other in pairs
            }
            if rows:
                section.blocks += ["Retrieval on top of the prior, both with the prior:", _frame(rows)]
            for under, heading, bar, below_zero in MOTION_TARGETS:
                effect = changes.get(UNDER_NAMES[under], {}).get(heading)
                if effect is not None:
                    name = f"{UNDER_NAMES[under]}, {role} subjects: {heading}"
                    targets[name] = _against_target(effect, bar, below_zero)
        if targets:
            section.blocks += [
                "Targets, set before these runs (two of the selection subjects chose the prior's sizes):",
                _frame(targets),
            ]
        return section

    def limits(self) -> Section:
        """What an avatar's error comes from: the encoder, the steps, the Gaussians, the field."""
        section = Section(
            "What limits an avatar",
            [
                f"No retrieval. Descriptor, where not said otherwise: {LABEL_FREE}; a perfect encoder says"
                " what the rig was told. Percent change, paired by subject: mean [95 % t-interval], in how"
                " many subjects it got better, and the 95 % interval of a bootstrap over subjects."
            ],
        )
        table = self.table[self.table["subject"].isin(LIMITED)]
        rows, levels = {}, {}
        for name, descriptor, avatar, (than, other) in LIMITS:
            change = partial(
                effects,
                table,
                descriptor,
                BASELINE,
                against_descriptor=than,
                against_conditions={"avatar": other},
                avatar=avatar,
            )
            cells = {heading: change(group=g, measure=m, region=r) for heading, g, m, r in MOTION}
            if any(cells.values()):
                rows[name] = cells
        if not rows:
            return section
        asked = dict.fromkeys(pair for _, d, a, than in LIMITS for pair in (than, (d, a)))
        for descriptor, avatar in asked:
            level = partial(values_of, table, descriptor, BASELINE, avatar=avatar)
            found = {h: level(group=g, measure=m, region=r) for h, g, m, r in MOTION}
            if any(len(v) for v in found.values()):
                levels[f"{descriptor}, {avatar}"] = {
                    h: f"{v.mean():.3g} (of {len(v)})" if len(v) else "–" for h, v in found.items()
                }
        section.blocks += [
            *self.shares(),
            "Mean errors (landmarks in pixels of 192, the others in grey levels), and of how many subjects:",
            _frame(levels),
            "Changes:",
            _frame({name: _texts(cells) for name, cells in rows.items()}),
            *(
                forest([(name, cells[h]) for name, cells in rows.items()], f"What limits: {h}")
                for h in ("cross, landmarks", "cross, mouth + eyes", "self-unseen, landmarks")
            ),
        ]
        return section

    def done(self) -> Section:
        """Retrieval for avatars that are done training."""
        steps = PRESET.with_(**AVATARS[DONE][0]).steps
        section = Section(
            "Does retrieval help avatars that are done training?",
            [
                f"Confirmation subjects, avatars of {steps:,} steps. Percent change against the same"
                " subject's avatar without retrieval, and against noise of the same covariance: mean [95 %"
                " t-interval], and in how many subjects it got better. Identity: points of the cosine,"
                " more is better."
                " Smallest effect: half the interval's width, which is what this many subjects can tell from"
                " nothing."
            ],
        )
        for descriptor in (RAW, "landmarks", LABEL_FREE):
            for under in ("nothing", "prior"):
                of: dict[str, Any] = {"avatar": DONE, "under": under}
                rows = {}
                for run in runs_in(self.confirmed, descriptor):
                    noise = _matched(run)
                    for name, against in (
                        (name_of(run), BASELINE),
                        (f"{name_of(run)} against its noise", noise),
                    ):
                        if against is None:
                            continue
                        cells = {
                            heading: effects(
                                self.confirmed, descriptor, run, against, group=g, measure=m, region=r, **of
                            )
                            for heading, g, m, r in DONE_OUTCOMES
                        }
                        if any(cells.values()):
                            rows[name] = cells
                if not rows:
                    continue
                over = ", over the prior" if under == "prior" else ""
                section.blocks += [
                    f"Descriptor: {descriptor}{over}.",
                    _frame({name: {h: shown(e) for h, e in cells.items()} for name, cells in rows.items()}),
                    "Smallest effect:",
                    _frame(
                        {
                            name: {
                                h: f"{(e.high - e.low) / 2:.1f}" if e is not None and e.subjects > 1 else "–"
                                for h, e in cells.items()
                            }
                            for name, cells in rows.items()
                        }
                    ),
                    *(
                        forest([(n, cells[h]) for n, cells in rows.items()], f"Done, {descriptor}{over}: {h}")
                        for h in ("cross, landmarks", "cross, mouth + eyes")
                    ),
                ]
        return section

    def shares(self) -> list[Any]:
        """Where the error goes, of the subjects that have all the runs it takes: differences that add up."""
        floors = {
            line["subject"]: line["outcomes"] for line in self.lines if line["key"].endswith(" noise floor")
        }
        table = self.table[self.table["subject"].isin(LIMITED)]
        bars: dict[str, dict[str, float]] = {}
        for heading, group, measure, region in MOTION:
            if group not in ("cross", "self-unseen"):
                continue
            of = partial(values_of, table, run=BASELINE, measure=measure, region=region)
            steps = pd.DataFrame(
                {
                    "standard": of(LABEL_FREE, group=group, avatar="1x"),
                    "trained": of(LABEL_FREE, group=group, avatar="10x"),
                    "perfect": of(TRUTH, group=group, avatar="10x"),
                    "rehearsed": of(TRUTH, group="self-seen", avatar="10x"),
                }
            ).dropna()
            if steps.empty:
                continue
            floor = 0.0
            if measure == "landmarks":
                floor = float(np.mean([floors[s][group][measure][region] for s in steps.index]))
            mean = {name: float(values.mean()) for name, values in steps.items()}
            bars[f"{heading} (of {len(steps)})"] = {
                "training: gone with ten times the steps": mean["standard"] - mean["trained"],
                "the encoder: gone, then, with a perfect one": mean["trained"] - mean["perfect"],
                "coverage: gone, then, on expressions of the training": mean["perfect"] - mean["rehearsed"],
                "what is left: Gaussians, field, pixels": mean["rehearsed"] - floor,
            } | ({"the ruler: answers moved by half a pixel": floor} if floor else {})
        if not bars:
            return []
        return [
            "Where the error of the standard avatar goes, one cause after the other taken away (in percent;"
            " what a cause takes depends on the order):",
            shares(bars, "Where the error goes"),
        ]

    def live(self) -> Section:
        """A driver whose own mean is not known yet."""
        section = Section(
            "A driver before a camera: the own mean while few frames were seen",
            [
                f"{LABEL_FREE}, no retrieval, confirmation subjects, cross-driving. What is taken out of the"
                " driver: the mean of all frames (known afterwards only), the mean of those so far, or the"
                " mean that is expected of somebody who shows these, as other people's means and frames vary"
                " (`OwnMean`). Six drivers, each from a random frame on, 12 frames a second."
            ],
        )
        of = partial(values_of, self.confirmed, LABEL_FREE, BASELINE, group="cross", avatar="1x")
        change = partial(effects, self.confirmed, LABEL_FREE, BASELINE, group="cross", avatar="1x")
        levels, changes = {}, {}
        for count in LIVE_FRAMES:
            name = f"{count} frame{'s' if count > 1 else ''}"
            drives = {"direct": "all", f"{name}: their mean": "so far", f"{name}: expected": "expected"}
            for heading, measure, region in LIVE:
                found = {label: of(measure=measure, region=region, drive=d) for d, label in drives.items()}
                if not len(found["expected"]):
                    continue
                known = found["all"].loc[found["expected"].index]
                levels[f"{name}: {heading}"] = {
                    label: f"{(known if label == 'all' else v).mean():.3g}" for label, v in found.items()
                }
                by = partial(change, measure=measure, region=region, drive=f"{name}: expected")
                changes[f"{name}: {heading}"] = {
                    "expected against so far": by(against_conditions={"drive": f"{name}: their mean"}),
                    "expected against all": by(against_conditions={"drive": "direct"}),
                }
        if levels:
            section.blocks += [
                "Mean errors (landmarks in pixels of 192, the others in grey levels):",
                _frame(levels),
                "Percent change:",
                _frame({name: _texts(cells) for name, cells in changes.items()}),
            ]
        return section

    def selection(self) -> Section:
        """What was tried on the selection subjects, and what was chosen."""
        section = Section(
            "What was tried, and the choice",
            [
                f"{len(SELECT)} selection subjects, none of whom is a confirmation subject. The mean is of"
                " landmark error and of the error in mouth and eyes, cross-driving."
            ],
        )
        if self.choice is None:
            return section
        section.text.append(f"Rule: {self.choice['rule']}")
        for descriptor in (RAW, RELATIVE):
            chosen = self.best(descriptor)
            section.blocks += [
                f"{descriptor}: chosen {name_of(chosen)}.",
                pd.DataFrame.from_dict(
                    {
                        name_of((c["variant"], c["p"])): {
                            "cross": f"{c['cross']:+.1f} %",
                            "self-seen": f"{c['self_seen']:+.1f} %",
                        }
                        for c in self.choice[descriptor]["candidates"]
                    },
                    orient="index",
                ),
            ]
        return section

    def seeds(self) -> Section:
        """How far the change of one subject moves from seed to seed."""
        section = Section(
            "How much is the seed?",
            [
                "Change against the baseline of the same seed, subject by subject: mean and "
                "standard deviation over three seeds."
            ],
        )
        many = self.confirmed[self.confirmed["seed"] > 0]
        rows = {}
        for descriptor in (RAW, RELATIVE):
            for run in runs_in(many, descriptor):
                for subject in sorted(many["subject"].unique()):
                    own = self.confirmed[self.confirmed["subject"] == subject]
                    cells = {}
                    for heading, g, m, r in OUTCOMES[:6]:
                        each = [
                            effects(own, descriptor, run, group=g, measure=m, region=r, seed=s)
                            for s in sorted(own["seed"].unique())
                        ]
                        means = pd.Series([e.mean for e in each if e is not None], dtype=float)
                        cells[heading] = (
                            "–"
                            if len(means) < 2
                            else f"{means.mean():+.1f} ± {means.std():.1f} % ({len(means)} seeds)"
                        )
                    if any(c != "–" for c in cells.values()):
                        rows[f"{descriptor}: {name_of(run)}, subject {subject}"] = cells
        if rows:
            section.blocks.append(_frame(rows))
        return section

    def drives(self) -> Section:
        """Changes at run time alone."""
        section = Section(
            "What can be had without training",
            [
                "The avatar without retrieval, driven otherwise: by the nearest training code, or by the"
                " driver's change from the own neutral put on the subject's neutral descriptor. Against"
                " driving it directly."
            ],
        )
        rows = {}
        for descriptor in (RAW, RELATIVE):
            for drive in ("nearest training code", "neutral-relative"):
                cells = {
                    heading: shown(
                        effects(
                            self.table,
                            descriptor,
                            BASELINE,
                            BASELINE,
                            group=g,
                            measure=m,
                            region=r,
                            drive=drive,
                            against_conditions={"drive": "direct"},
                        )
                    )
                    for heading, g, m, r in OUTCOMES
                    if m in ("mae", "landmarks")
                }
                if any(c != "–" for c in cells.values()):
                    rows[f"{descriptor}: {drive}"] = cells
        if rows:
            section.blocks.append(_frame(rows))
        relative = self.confirmed[self.confirmed["drive"] == "neutral-relative"]
        asked = (
            (
                (
                    "Confirmation subjects, driven relative to the neutral, with retrieval in training and"
                    " without, against the avatar without retrieval driven directly. Asked after the other"
                    " confirmation runs had been seen."
                ),
                "direct",
            ),
            (
                (
                    "The same against the avatar without retrieval, also driven relative to the neutral: what"
                    " retrieval adds then."
                ),
                "neutral-relative",
            ),
        )
        for text, against in asked:
            rows = {
                name_of(run): {
                    heading: shown(
                        effects(
                            self.confirmed,
                            RAW,
                            run,
                            group=g,
                            measure=m,
                            region=r,
                            drive="neutral-relative",
                            against_conditions={"drive": against},
                        )
                    )
                    for heading, g, m, r in OUTCOMES
                    if m in ("mae", "landmarks")
                }
                for run in [BASELINE, *runs_in(relative, RAW)]
                if run != BASELINE or against == "direct"
            }
            if len(rows) > (against == "direct"):
                section.blocks += [text, _frame(rows)]
        return section

    def identity(self) -> Section:
        """What the driver's identity does to the picture, always beside what their expression does."""
        section = Section(
            "Who drives, and how",
            [
                "Twelve identities make the same 24 faces, and their descriptors drive the avatar. Spread"
                " over identities: how far the pictures of one face differ; less is better only while the"
                " spread over faces, the expression, stays. Neutral error: pictures for the twelve neutral"
                " faces against the subject's own neutral. Reach: distance from a driver's descriptor to the"
                " nearest one that training showed. Grey levels; reach in the descriptor's units; percent"
                " change against no retrieval."
            ],
        )
        names = {
            "identity_spread": "spread over identities",
            "expression_spread": "spread over faces",
            "neutral_mae": "neutral error",
            "reach": "reach",
        }
        table = self.confirmed if len(self.confirmed) else self.table
        for descriptor in (RAW, RELATIVE):
            rows = {
                name_of(run): {
                    heading: shown(effects(table, descriptor, run, group="run", measure=m, region="all"))
                    for m, heading in names.items()
                }
                for run in runs_in(table, descriptor)
            }
            if rows:
                section.blocks += [f"Descriptor: {descriptor}.", _frame(rows)]
        return section

    def sweeps(self) -> Section:
        """Rates, bank sizes, coverage, bounds: selection subjects."""
        section = Section(
            "Sweeps on the selection subjects",
            ["Smaller comparisons, four subjects: read them as directions."],
        )
        table, (_, group, measure, region) = self.selected, MAIN_CROSS
        pick = lambda run, **c: effects(table, RAW, run, group=group, measure=measure, region=region, **c)  # noqa: E731
        sizes = [("1,000", 1000), ("3,000", 3000), ("all", 0)]
        bank = {
            v: [(label, e.mean) for label, n in sizes if (e := pick((v, 0.2), bank_rows=n)) is not None]
            for v in ("paper-k16", "centred")
        }
        if any(len(points) > 1 for points in bank.values()):
            section.blocks.append(
                curves(bank, "Rows in the bank: change of the cross-driving error in mouth and eyes", "%")
            )
        rows = {}
        for v in ("paper-k16", "centred"):
            for label, name in (
                ("shipped bank", "shipped"),
                ("bank without the faces that training lacks", "seen"),
            ):
                cells = {
                    h: shown(effects(table, RAW, (v, 0.2), group=g, measure=m, region=r, bank=name))
                    for h, g, m, r in OUTCOMES
                }
                if any(x != "–" for x in cells.values()):
                    rows[f"{v}, {label}"] = cells
        section.blocks += ["Has the bank seen the exam?", _frame(rows)] if rows else []
        rows = {}
        for scripts, frames, label in (
            (1, 1, "all scripts"),
            (0.65, 1, "65 % of the scripts"),
            (0.35, 1, "35 % of the scripts"),
            (1, 0.25, "a quarter of the frames"),
        ):
            for v in ("paper-k16", "centred"):
                cells = {
                    h: shown(
                        effects(
                            table, RAW, (v, 0.2), group=g, measure=m, region=r, scripts=scripts, frames=frames
                        )
                    )
                    for h, g, m, r in OUTCOMES
                }
                if any(x != "–" for x in cells.values()):
                    rows[f"{label}: {v}"] = cells
        if rows:
            section.blocks += ["How much the person's own recording covers:", _frame(rows)]
        overview = self.overview(
            table, RAW, [run for run in runs_in(table, RAW) if strategy_of(run[0]) != "gaussian"]
        )
        section.blocks += [
            (
                "All runs on blendshapes, selection subjects (with true pairs, the upper bound of retrieval,"
                " and pose augmentation where they were run):"
            ),
            overview,
        ]
        asked = (
            ("landmarks", "landmarks", "face"),
            ("mouth + eyes", "mae", "mouth+eyes"),
            ("face", "mae", "face"),
        )
        turned = {
            name_of(run): {
                h: shown(effects(table, RAW, run, group="cross-turned", measure=m, region=r))
                for h, m, r in asked
            }
            for run in runs_in(table, RAW)
        }
        section.blocks += [
            "Drivers with the head turned up to 21, 35 and 17 degrees (the limit that the paper states):",
            _frame(turned),
        ]
        return section

    def descriptor_table(self) -> Section:
        """Gain against leakage, descriptor by descriptor."""
        section = Section("Which descriptor, and what leaks", [])
        from raf_lite.study.descriptors import DESCRIPTORS

        leaks = {line["descriptor"]: line["leakage"] for line in self.lines if "leakage" in line}
        rows, points = {}, {}
        for d in DESCRIPTORS:
            base = values_of(self.selected, d, BASELINE, group="cross", measure="landmarks", region="face")
            gains = {
                v: effects(self.selected, d, (v, 0.2), group="cross", measure="landmarks", region="face")
                for v in ("paper-k16", "centred", "centred-residual")
            }
            if not len(base) and d not in leaks:
                continue
            leak = leaks.get(d)
            rows[d] = {
                "identity's share of variance": f"{leak['variance_share']:.2f}" if leak else "–",
                "linear probe of the donor": (
                    f"{leak['probe']:.2f} (chance {leak['probe_chance']:.3f})" if leak else "–"
                ),
                "cross landmarks, no retrieval (px)": f"{base.mean():.3f}" if len(base) else "–",
                **{v: shown(e) for v, e in gains.items()},
            }
            if leak:
                for v, e in gains.items():
                    if e is not None:
                        points.setdefault(v, []).append((leak["variance_share"], d, e.mean))
        if rows:
            section.text.append(
                "Leakage is measured on the shipped bank; gains are the change of cross-driving landmark"
                " error on the selection subjects."
            )
            section.blocks.append(_frame(rows))
        series = {
            v: [(f"{d} ({x:.2f})", y) for x, d, y in sorted(p)] for v, p in points.items() if len(p) > 1
        }
        if series:
            section.blocks.append(
                curves(series, "Gain by descriptor, ordered by the share of identity in it", "%")
            )
        return section

    def retrieval(self) -> Section:
        """Neighbours against the truth."""
        section = Section(
            "What retrieval finds",
            [
                "Error of the retrieved row's expression (mm over the face, resting tone taken off) and of"
                " its head rotation, for the training frames of the confirmation subjects."
            ],
        )
        for line in self.lines:
            if "retrieval" in line:
                frame = pd.DataFrame.from_dict(
                    {
                        name: {
                            "expression": f"{v['expression_mm']:.2f} mm",
                            "head rotation": (
                                "–" if v["rotation_degrees"] is None else f"{v['rotation_degrees']:.1f}°"
                            ),
                        }
                        for name, v in line["retrieval"].items()
                    },
                    orient="index",
                )
                section.blocks += [f"Descriptor: {line['descriptor']}.", frame]
        return section

    def tolerance(self) -> Section:
        """Coarse and noisy driving descriptors."""
        section = Section(
            "Coarse and noisy descriptors",
            [
                "Error in the face with driving descriptors of 4 bits, 2 bits, or with noise (a quarter of"
                " each dimension's deviation), against the same avatar without retrieval and the same"
                " descriptors. Selection subjects."
            ],
        )
        table = (
            self.selected[self.selected["tolerance"].astype(bool)] if len(self.selected) else self.selected
        )
        for group in ("self-seen", "cross"):
            series = {}
            for run in runs_in(table, RAW):
                points = [
                    (label, e.mean)
                    for label, drive in (
                        ("full", "direct"),
                        ("4 bits", "4 bits"),
                        ("2 bits", "2 bits"),
                        ("noise", "noise"),
                    )
                    if (e := effects(table, RAW, run, group=group, measure="mae", region="face", drive=drive))
                    is not None
                ]
                series[name_of(run)] = points
            if any(len(p) > 1 for p in series.values()):
                section.blocks.append(
                    curves(series, f"{group}: change against no retrieval with the same descriptors", "%")
                )
        return section

    def cost(self) -> Section:
        """Time, and how it was measured."""
        extras = self.table[
            (self.table["group"] == "run") & self.table["measure"].isin(["augment_ms", "step_ms"])
        ]
        means = extras.groupby("measure")["value"].median()
        spent = [
            line["seconds"]["training"] + line["seconds"]["grading"] for line in self.lines if "spec" in line
        ]
        section = Section(
            "Cost, and how it was measured",
            [
                f"{len(spent)} runs, {sum(spent) / 3600:.1f} hours of one core. Median run:"
                f" {pd.Series(spent).median():.0f} s on one of two cores, of which training is a step of"
                f" {means.get('step_ms', math.nan):.1f} ms (median) times the number of steps."
            ],
        )
        if "augment_ms" in means:
            section.text.append(f"Retrieval itself takes {means['augment_ms']:.2f} ms a step (median).")
        machines = {
            json.dumps({k: v for k, v in line["machine"].items() if k != "load_before"}, sort_keys=True)
            for line in self.lines
            if "machine" in line
        }
        section.text += [f"Machine: {m}" for m in sorted(machines)]
        varied = ("seed", "descriptor", "retrieval", "retrieval_p", "landmark_motion", "prior")
        presets = {
            json.dumps({k: v for k, v in line["preset"].items() if k not in varied})
            for line in self.lines
            if "preset" in line
        }
        section.text += [f"Preset: {p}" for p in sorted(presets)]
        return section

    def sections(self) -> list[Section]:
        """Those that have something to show."""
        made = [
            self.targets(),
            self.main(),
            self.against_noise(),
            self.across_descriptors(),
            self.motion(),
            self.limits(),
            self.done(),
            self.live(),
            self.selection(),
            self.seeds(),
            self.drives(),
            self.identity(),
            self.retrieval(),
            self.descriptor_table(),
            self.sweeps(),
            self.tolerance(),
        ]
        return [s for s in made if s.blocks] + [self.cost()]


CAVEATS = (
    "Rendered faces, one renderer, one encoder; the bank, the subjects and the drivers share one library of"
    f" expressions. {len(CONFIRM)} confirmation subjects are planned; each table says how many it has. A"
    " study avatar is small (128 pixels, under half a minute of training): figures of large avatars may"
    " differ. Where not said otherwise, one seed."
)


def _html_table(frame: pd.DataFrame) -> str:
    head = "".join(f'<th scope="col">{html.escape(str(c))}</th>' for c in frame.columns)
    body = ""
    for name, row in zip(frame.index, frame.to_numpy(), strict=True):
        cells = "".join(f"<td>{html.escape('–' if pd.isna(v) else str(v))}</td>" for v in row)
        body += f'<tr><th scope="row">{html.escape(str(name))}</th>{cells}</tr>'
    return f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"


def _markdown_table(frame: pd.DataFrame) -> str:
    lines = [
        "| | " + " | ".join(str(c) for c in frame.columns) + " |",
        "|---" * (len(frame.columns) + 1) + "|",
    ]
    lines += [
        f"| {i} | " + " | ".join("–" if pd.isna(v) else str(v) for v in row) + " |"
        for i, row in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    return "\n".join(lines)


def write_study_report(folder: str | os.PathLike, out: str | os.PathLike | None = None) -> tuple[Path, Path]:
    """Write `report.html` and `report.md` from the lines in `folder`, beside them or in `out`; returns both
    paths."""
    folder = Path(folder)
    out = Path(out) if out is not None else folder
    pages = [f"<h1>RAF: the study</h1><p>{html.escape(CAVEATS)}</p>"]
    texts = ["# RAF: the study", CAVEATS]
    for section in Study(folder).sections():
        pages.append(
            f"<h2>{html.escape(section.title)}</h2>"
            + "".join(f"<p>{html.escape(t)}</p>" for t in section.text)
        )
        texts += [f"## {section.title}", *section.text]
        for block in section.blocks:
            if isinstance(block, pd.DataFrame):
                pages.append(_html_table(block))
                texts.append(_markdown_table(block))
            elif isinstance(block, Figure):
                pages.append(
                    f"<figure>{block.svg}<figcaption>{html.escape(block.sentence)}</figcaption></figure>"
                )
                texts.append(f"*{block.sentence}*")
            else:
                pages.append(f"<p><strong>{html.escape(block)}</strong></p>")
                texts.append(f"**{block}**")
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport"'
        ' content="width=device-width">'
        f"<title>RAF: the study</title><style>{STYLE}</style><body>{''.join(pages)}</body></html>\n"
    )
    with atomic_path(out / "report.html") as tmp:
        tmp.write_text(page, encoding="utf-8", newline="\n")
    with atomic_path(out / "report.md") as tmp:
        tmp.write_text("\n\n".join(texts) + "\n", encoding="utf-8", newline="\n")
    return out / "report.html", out / "report.md"
