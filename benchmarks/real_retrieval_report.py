"""report.md of `real_retrieval.py`, from its lines alone: paired changes over people, and how narrow they
are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy import stats

from raf_lite._files import atomic_path
from raf_lite.study.drawing import shown
from raf_lite.study.execute import read_lines
from raf_lite.study.statistics import Effect, paired_effect
from raf_lite.study.variants import matched_noise

# Heading -> column of the lines, and what `paired_effect` makes of it: dB, points of a similarity, percent.
HELD_OUT = {
    "PSNR, dB": ("psnr", "psnr"),
    "PSNR face, dB": ("psnr_face", "psnr"),
    "LPIPS": ("lpips_alex", "error"),
    "LPIPS face": ("lpips_alex_face", "error"),
    "landmarks": ("landmarks", "error"),
    "mouth": ("landmarks_mouth", "error"),
    "eyes": ("landmarks_eyes", "error"),
    "AED": ("aed", "error"),
    "identity, points": ("identity", "ssim"),
}
DRIVEN = {
    "AED": ("aed", "error"),
    "AED of moves": ("aed_moves", "error"),
    "jitter": ("jitter", "error"),
    "identity, points": ("identity_driven", "ssim"),
}
UNITS = {"psnr": "dB", "ssim": "points", "error": "%"}
WANTED = 3.0  # percent, the change that should be told from none
CUTS = {
    "end": "The end of the film held out",
    "missing": "One expression held out, and missing from training",
}

HEAD = """# Does retrieval help on films of real people?

Made by `python benchmarks/real_retrieval.py --only report` from the lines beside it. Each change is a
person's avatar against the same person's other avatar (seed, frames and settings alike): mean over people
[95 % t-interval], and in how many people it got better. Errors in percent, negative is better; PSNR in dB and
identity (cosine times 100) in points, positive is better. *aligned*: each head moved rigidly to where it fits
best; *tracked*: as it was found. *driven*: by another person, for which there is no truth; jitter counts as
better where it is calmer. No intervals are corrected for their number. No human judged any of it. One seed a
run."""

RETRIEVED = """## What is retrieved

How far a retrieved row's face is from the frame's, each as departure from its own person's mean: landmarks in
percent of the distance of the outer eye corners, and blendshapes; and the angle between head poses. The own
mean is what no expression at all would be. †: this judge sees what was searched by."""

Condition = tuple[str, str, float, str, str, bool]  # descriptor, variant, p, bank, cut, prior
People = Mapping[str, Mapping[str, Mapping[str, float]]]  # clip -> part -> column -> value


def conditions(lines: Iterable[dict]) -> dict[Condition, dict[str, dict]]:
    """What was measured, by condition and clip, in the order of the lines."""
    out: dict[Condition, dict[str, dict]] = {}
    for line in lines:
        if "outcomes" in line:
            spec = line["spec"]
            at = tuple(spec[name] for name in ("descriptor", "variant", "p", "bank", "cut", "prior"))
            out.setdefault(at, {})[spec["clip"]] = line["outcomes"]
    return out


def effect(ours: People, theirs: People, part: str, column: str, measure: str) -> Effect | None:
    """The paired change over the people who have both; None where nobody has."""
    both = [
        (ours[clip][part][column], theirs[clip][part][column])
        for clip in sorted(ours.keys() & theirs.keys())
        if all(who[clip].get(part, {}).get(column) is not None for who in (ours, theirs))
    ]
    return paired_effect(*np.array(both).T, measure=measure) if both else None


def people_needed(effect: Effect) -> int:
    """How many people would make the interval's half-width WANTED percent, by these people's deviation."""
    return math.ceil(effect.subjects * ((effect.high - effect.low) / 2 / WANTED) ** 2)


def narrowness(effect: Effect | None) -> str:
    """Half-width and the people needed, as text."""
    if effect is None or effect.subjects == 1:
        return "–"
    return f"±{(effect.high - effect.low) / 2:.1f}; {people_needed(effect)}"


def table(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Markdown of rows by name."""
    columns = list(next(iter(rows.values())))
    lines = [
        ["", *columns],
        ["---"] * (len(columns) + 1),
        *([name, *row.values()] for name, row in rows.items()),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def compared(
    pairs: Mapping[str, tuple[People, People]],
    part: str,
    measures: Mapping[str, tuple[str, str]],
    text: Callable[[Effect | None, str], str] = shown,
) -> str:
    """A table of paired changes; measures: heading -> (column, measure)."""
    return table(
        {
            name: {
                heading: text(effect(*pair, part, column, measure), UNITS[measure])
                for heading, (column, measure) in measures.items()
            }
            for name, pair in pairs.items()
        }
    )


def name_of(at: Condition) -> str:
    """A condition's row."""
    _, variant, p, bank, _, prior = at
    retrieval = "no retrieval" if variant == "none" else f"{variant}, p = {p:g}, {bank}"
    return f"{retrieval}, prior" if prior else retrieval


def sections(found: dict[Condition, dict[str, dict]]) -> list[str]:
    """Headings and tables of every cut and descriptor that has something to compare."""
    out = []
    percents = {heading: m for heading, m in HELD_OUT.items() if UNITS[m[1]] == "%"}
    for cut, title in CUTS.items():
        for descriptor in sorted({at[0] for at in found}):
            none = (descriptor, "none", 0.0, "none", cut, False)
            here = [at for at in found if at[0] == descriptor and at[4] == cut and at != none]
            here.sort(key=lambda at: (at[5], at[3], at[2], at[1]))  # by prior, bank, p, variant
            if none not in found or not here:
                continue
            out.append(f"## {title}: {descriptor}, {len(found[none])} people")
            pairs = {name_of(at): (found[at], found[none]) for at in here}
            for part in ("aligned", "tracked"):
                out += [f"Against no retrieval, {part}:", compared(pairs, part, HELD_OUT)]
            out += ["Against no retrieval, driven:", compared(pairs, "driven", DRIVEN)]
            noise = {at: (at[0], matched_noise(at[1]), *at[2:]) for at in here if at[1] != "none"}
            pairs = {name_of(at): (found[at], found[n]) for at, n in noise.items() if n in found}
            if pairs:
                out += ["Against the matched noise, aligned:", compared(pairs, "aligned", HELD_OUT)]
                out += ["Against the matched noise, driven:", compared(pairs, "driven", DRIVEN)]
            pairs = {name_of(at): (found[at], found[none]) for at in here}
            out += [
                "How narrow: half the interval against no retrieval, aligned, in percent; and how many people"
                + f" would make it {WANTED:g} %, (t·sd/{WANTED:g})²:",
                compared(pairs, "aligned", percents, lambda e, _: narrowness(e)),
            ]
    return out


def interval(values: list[float]) -> str:
    """Mean and its 95 % t-interval, as text."""
    mean = float(np.mean(values))
    if len(values) == 1:
        return f"{mean:.3g}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return f"{mean:.3g} [{mean - half:.3g}, {mean + half:.3g}]"


def neighbours(lines: Iterable[dict]) -> list[str]:
    """What is retrieved, by descriptor and bank: means over people, and against random rows."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for line in lines:
        if "found" in line:
            groups.setdefault((line["descriptor"], line["bank"]), []).append(line["found"])
    out = []
    for (descriptor, bank), people in groups.items():
        rows = {}
        for name in people[0]:
            row = {}
            for judge, unit in (("landmarks", ", %"), ("blendshapes", ""), ("degrees", "")):
                mark = "†" if descriptor.startswith(judge) else ""
                values = [one[name].get(judge) for one in people]
                known = all(value is not None for value in values)
                row[f"{judge}{unit}{mark}"] = interval(values) if known else "–"
                drawn = np.array([one["random rows"][judge] for one in people])
                row[f"{judge}{mark} against random rows"] = (
                    shown(paired_effect(np.array(values), drawn)) if known and name != "random rows" else "–"
                )
            rows[name] = row
        out += [f"Searched by {descriptor} among {bank}, {len(people)} people:", table(rows)]
    return [RETRIEVED, *out] if out else []


def write_report(folder: Path) -> Path:
    """Write report.md beside the lines of a folder."""
    lines = list(read_lines(folder))
    runs = [line for line in lines if "outcomes" in line]
    texts = [HEAD]
    if runs:
        seconds = [sum(line["seconds"].values()) for line in runs]
        gaps = {cut: {} for cut in CUTS}
        for line in runs:
            gaps[line["spec"]["cut"]][line["spec"]["clip"]] = line["frames"]["gap"]
        people = len({line["spec"]["clip"] for line in runs})
        told = "; ".join(f"{cut} {interval(list(of.values()))}" for cut, of in gaps.items() if of)
        texts.append(
            f"{len(runs)} runs of {people} people, {np.median(seconds):.0f} s each (median). How far the"
            " landmarks of held-out frames are from those of the nearest trained one, in percent of the"
            f" distance of the outer eye corners: {told}."
        )
    failed = [line for line in lines if "failed" in line]
    texts += [f"- {line['key']} could not be done: {line['failed']}" for line in failed]
    texts += neighbours(lines) + sections(conditions(lines))
    with atomic_path(folder / "report.md") as tmp:
        tmp.write_text("\n\n".join(texts) + "\n", encoding="utf-8", newline="\n")
    return folder / "report.md"
