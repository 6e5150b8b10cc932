"""Numbers on the pages are those of the results that they come from: each sentence is made anew from the
committed lines, and has to stand there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache, partial

import pytest
from conftest import ROOT

from raf_lite.study.plans import CONFIRM, DONE, LIMITED
from raf_lite.study.report import Study
from raf_lite.study.statistics import Effect
from raf_lite.study.tables import BASELINE, effects, values_of

RESULTS = ROOT / "benchmarks" / "results"
RAW, RELATIVE, MEAN = "blendshapes", "landmarks-neutral", "landmarks-mean"
LANDMARKS, MOUTH_EYES, FACE = ("landmarks", "face"), ("mae", "mouth+eyes"), ("mae", "face")


@cache
def study() -> Study:
    return Study(RESULTS / "study")


def effect(variant: str, what: tuple[str, str], group: str = "cross", **more) -> Effect:
    """Of the confirmation people, against the same person's avatar without retrieval."""
    descriptor, p = more.pop("descriptor", RAW), more.pop("p", 0.2)
    run = BASELINE if variant == "none" else (variant, p)
    against = more.pop("against", BASELINE)
    found = effects(
        study().confirmed, descriptor, run, against, group=group, measure=what[0], region=what[1], **more
    )
    assert found is not None and found.subjects == 10
    return found


def sign(value: float, digits: int = 1) -> str:
    """As the pages write a change: a true minus, a plus, none for nought."""
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def bracketed(e: Effect) -> str:
    return f"{sign(e.mean)} % [{sign(e.low)}, {sign(e.high)}]"


def gain(e: Effect, digits: int = 1) -> str:
    """What an error falls by, without a sign."""
    assert e.mean < 0
    return f"{-e.mean:.{digits}f}"


def gain_bracketed(e: Effect) -> str:
    assert e.mean < 0
    return f"{-e.mean:.1f} % [{sign(-e.high).lstrip('+')}, {sign(-e.low).lstrip('+')}]"


def rows_of_the_table() -> list[str]:
    """The table of blendshapes in cross-driving, a row a variant."""
    named = {
        "paper": "`paper` (nearest row, as in the paper)",
        "paper-gaussian": "its noise",
        "paper-k16": "`paper-k16`",
        "paper-k16-gaussian": "its noise",
        "centred": "`centred`",
        "centred-gaussian": "its noise",
        "weighted": "`weighted` (chosen)",
        "weighted-gaussian": "its noise",
    }
    return [
        f"| {label} | {bracketed(effect(v, LANDMARKS))} | {bracketed(effect(v, MOUTH_EYES))} |"
        f" {sign(effect(v, FACE, 'self-seen').mean)} % |"
        for v, label in named.items()
    ]


def rows_of_the_prior() -> list[str]:
    names = {"landmarks": LANDMARKS, "mouth + eyes": MOUTH_EYES, "face": FACE}
    out = []
    for name, what in names.items():
        cells = []
        for group in ("cross", "self-seen", "self-unseen", "self-strong"):
            e = effect(
                "none",
                what,
                group,
                descriptor=RELATIVE,
                under="prior",
                against_conditions={"under": "nothing"},
            )
            cells.append(f"{sign(e.mean, 0)} % [{sign(e.low, 0)}, {sign(e.high, 0)}]")
        out.append(f"| **{name}** | " + " | ".join(cells) + " |")
    return out


def in_short() -> list[str]:
    paper, best = (both_of(v) for v in ("paper-k16", "weighted"))
    noise, paper_noise = (both_of(v) for v in ("weighted-gaussian", "paper-k16-gaussian"))
    relative = relative_to_neutral()
    return [
        f"lowers the error by {gain_bracketed(paper[0]).replace(' % ', ' % in landmarks ', 1)} and by"
        f" {gain_bracketed(paper[1]).replace(' % ', ' % in mouth and eyes ', 1)}",
        f"(`weighted`): {gain_bracketed(best[0])} and {gain_bracketed(best[1])}",
        f"gives {gain(noise[0])} % and {gain(noise[1])} % in place of `weighted`, and"
        f" {gain(paper_noise[0])} % and {gain(paper_noise[1])} % in place of `paper-k16`",
        f"gains {gain_bracketed(relative[0])} and {gain_bracketed(relative[1])}",
    ]


def relative_to_neutral() -> list[Effect]:
    against = {"drive": "direct"}
    return [
        effect("none", what, drive="neutral-relative", against_conditions=against)
        for what in (LANDMARKS, MOUTH_EYES)
    ]


def both_of(variant: str) -> list[Effect]:
    return [effect(variant, what) for what in (LANDMARKS, MOUTH_EYES)]


def readme() -> list[str]:
    (paper, best, noise) = (both_of(v) for v in ("paper-k16", "weighted", "weighted-gaussian"))
    relative, young = relative_to_neutral(), limited(MEAN, "10x", MEAN, "1x", LANDMARKS)
    return [
        f"lowers the cross-driving error by {gain(paper[0], 0)} % in landmarks and {gain(paper[1], 0)} % in"
        f" mouth and eyes, and our best setting (`weighted`) by {gain(best[0], 0)} and {gain(best[1], 0)} %",
        f"without other people, brings {gain(noise[0], 0)} and {gain(noise[1], 0)} % in its place",
        f"ten times the steps take {gain(young, 0)} % off the landmark error",
        f"from the neutral face brings {gain(relative[0], 0)} and {gain(relative[1], 0)} % without any"
        " training",
    ]


def done_so_far() -> list[str]:
    """The paper's retrieval for avatars of six times the steps."""
    found = [effect("paper-k16", what, avatar=DONE) for what in (LANDMARKS, MOUTH_EYES)]
    return [f"changes landmarks by {bracketed(found[0])}, mouth + eyes by {bracketed(found[1])} (ten people"]


def level_of_the_baseline() -> list[str]:
    level = values_of(study().confirmed, RAW, BASELINE, group="cross", measure="landmarks", region="face")
    return [f"the landmark error is {level.mean():.2f} pixels of 192 in cross-driving"]


def limited(
    descriptor: str, avatar: str, than: str, other: str, what: tuple[str, str], group: str = "cross"
) -> Effect:
    """Of the people of whom it was asked what limits an avatar: one avatar against another."""
    found = effects(
        study().table[study().table["subject"].isin(LIMITED)],
        descriptor,
        BASELINE,
        group=group,
        measure=what[0],
        region=what[1],
        avatar=avatar,
        against_descriptor=than,
        against_conditions={"avatar": other},
    )
    assert found is not None
    return found


def levers() -> list[str]:
    """What lowers the error when others drive, on one scale, a row each."""

    def row(name: str, find: Callable[[tuple[str, str]], Effect]) -> str:
        found = [find(what) for what in (LANDMARKS, MOUTH_EYES)]
        return f"| {name} | {bracketed(found[0])} | {bracketed(found[1])} | {found[0].subjects} |"

    over = {"descriptor": RELATIVE, "under": "prior"}
    neutral = {"drive": "neutral-relative", "against_conditions": {"drive": "direct"}}
    return [
        row("ten times the steps (24,000)", partial(limited, MEAN, "10x", MEAN, "1x")),
        row(
            "other people's motion as a prior, over landmarks minus the own neutral",
            lambda w: effect("none", w, **over, against_conditions={"under": "nothing"}),
        ),
        row(
            "landmarks minus the own mean in place of blendshapes",
            lambda w: effect("none", w, descriptor=MEAN, against_descriptor=RAW),
        ),
        row("driven by the change from the driver's neutral", lambda w: effect("none", w, **neutral)),
        row("the best retrieval that we chose (`weighted`)", partial(effect, "weighted")),
        row("its noise: nobody else is in it", partial(effect, "weighted-gaussian")),
        row(
            "three times the Gaussians (12,000), both with three times the steps",
            partial(limited, MEAN, "3x-12k", MEAN, "3x"),
        ),
        row("the paper's retrieval (`paper-k16`)", partial(effect, "paper-k16")),
        row("its noise: nobody else is in it", partial(effect, "paper-k16-gaussian")),
        row(
            "a perfect encoder in place of landmarks minus the own mean",
            partial(limited, "truth", "1x", MEAN, "1x"),
        ),
        row("retrieval (`centred`) over the prior", lambda w: effect("centred", w, **over)),
    ]


def limits_rows() -> list[str]:
    """Mean errors of the six people, a row an avatar."""
    named = {
        (MEAN, "1x"): "1x: 2,400 steps, 4,000 Gaussians (as in all retrieval runs above)",
        (MEAN, "3x"): "3x",
        (MEAN, "3x-slow"): "3x, half the field's rates",
        (MEAN, "3x-12k"): "3x, 12,000 Gaussians",
        (MEAN, "10x"): "10x",
        ("truth", "1x"): "1x, perfect encoder",
        ("truth", "3x"): "3x, perfect encoder",
    }
    table = study().table[study().table["subject"].isin(LIMITED)]
    out = []
    for (descriptor, avatar), name in named.items():
        cells = []
        for group, (measure, region) in (
            ("cross", LANDMARKS),
            ("cross", MOUTH_EYES),
            ("cross", FACE),
            ("cross", ("lpips", "face")),
            ("self-unseen", LANDMARKS),
        ):
            measured = {"group": group, "measure": measure, "region": region}
            values = values_of(table, descriptor, BASELINE, avatar=avatar, **measured)
            assert len(values) == 6
            cells.append(f"{values.mean():.{2 if measure == 'mae' else 3}f}")
        out.append(f"| {name} | {' | '.join(cells)} |")
    return out


def live_rows() -> list[str]:
    """A driver whose own mean is not known yet, a row each number of frames."""

    def level(drive: str) -> str:
        measured = {"group": "cross", "measure": "landmarks", "region": "face", "avatar": "1x"}
        values = values_of(study().confirmed, MEAN, BASELINE, drive=drive, **measured)
        return f"{values.loc[list(CONFIRM)].mean():.3f}"

    out = []
    for frames, seen in {
        "1 frame": "one frame",
        "12 frames": "a second",
        "60 frames": "five seconds",
    }.items():
        drives = {
            "drive": f"{frames}: expected",
            "against_conditions": {"drive": f"{frames}: their mean"},
            "avatar": "1x",
        }
        changes = [
            bracketed(effect("none", what, descriptor=MEAN, **drives)) for what in (LANDMARKS, MOUTH_EYES)
        ]
        levels = [level(f"{frames}: their mean"), level(f"{frames}: expected")]
        out.append(f"| {seen} | {' | '.join([*levels, *changes, level('direct')])} |")
    return out


def own_mean() -> list[str]:
    found = json.loads((RESULTS / "own_mean.json").read_text())["landmarks"]

    def nearer(kind: str, seconds: str) -> str:
        off = found[kind]["off"][seconds]
        return f"{100 * (1 - off['expected']['all'] / off['so far']['all']):.0f} %"

    return [
        f"the mean of all by {nearer('rendered', '0')} (rendered people) and {nearer('real', '0')} (real"
        f" ones), after a second by {nearer('rendered', '1')[:-2]} and {nearer('real', '1')}"
    ]


def neighbours() -> list[str]:
    lines = [
        json.loads(x) for x in (RESULTS / "real_retrieval" / "neighbours.jsonl").read_text().splitlines()
    ]
    of = [x["found"] for x in lines if x["descriptor"] == RAW and x["bank"] == "others"]
    mean = {
        name: sum(x[name]["landmarks"] for x in of) / len(of)
        for name in ("paper-k16", "centred", "random rows", "own mean")
    }
    assert len(of) == 8
    return [
        f"over other real people: {mean['paper-k16']:.2f} % of the distance of the eyes' outer corners,"
        f" random {mean['random rows']:.2f}, the person's own mean face {mean['own mean']:.2f}",
        f"with centred keys {mean['centred']:.2f}",
    ]


def rasteriser() -> list[str]:
    rows = json.loads((RESULTS / "splatting.json").read_text())["rows"]
    (row,) = (r for r in rows if (r["gaussians"], r["size"], r["stage"]) == (20_000, 128, "forward+backward"))
    return [
        f"take about {row['bound_ms'] * row['times_the_bound']:.0f} ms forward and backward:"
        f" {row['times_faster_than_torch_tiles']:.0f} times faster than the same algorithm in vectorised"
        f" torch, {row['times_the_bound']} times the bound"
    ]


PAGES = {
    "docs/evidence.md": (
        levers,
        done_so_far,
        limits_rows,
        live_rows,
        rows_of_the_table,
        rows_of_the_prior,
        in_short,
        level_of_the_baseline,
        neighbours,
    ),
    "README.md": (readme, rasteriser),
    "CHANGELOG.md": (own_mean,),
}


def told(text: str) -> str:
    """A page without its line breaks and bold print."""
    return re.sub(r"\s+", " ", text.replace("**", ""))


@pytest.mark.parametrize("page, make", [(page, make) for page, all_of in PAGES.items() for make in all_of])
def test_a_page_says_what_was_measured(page, make):
    text = told((ROOT / page).read_text(encoding="utf-8"))
    for sentence in make():
        assert told(sentence) in text, f"{page} does not say what the results do: {sentence}"


def test_every_maker_of_sentences_is_asked():
    asked = {make.__name__ for all_of in PAGES.values() for make in all_of}
    makers = {
        name
        for name, one in globals().items()
        if getattr(one, "__annotations__", {}) == {"return": "list[str]"}
    }
    assert asked == makers
