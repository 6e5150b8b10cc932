"""From the runs on the selection subjects to one choice per descriptor, written down before anything is
confirmed."""

from __future__ import annotations

from pathlib import Path

from raf_lite._files import write_json
from raf_lite.study.execute import read_lines
from raf_lite.study.plans import CANDIDATES, SELECTION_FILE, selection
from raf_lite.study.tables import effects, long_table

SELF_LIMIT = 2.0
RULE = (
    f"Among the candidates that cost at most {SELF_LIMIT:g} % on self-seen (mean over subjects, error of the"
    " face), the one with the largest mean reduction in cross-driving of landmark error (face) and of the"
    " error in mouth and eyes, averaged; if none is that cheap, the cheapest."
)


def choose(folder: Path) -> dict:
    """Apply RULE to the lines in `folder` and write the choice there. ValueError while selection runs are
    missing, or once made.

    Returns what was written: for each descriptor `variant`, `p` and the figures of every candidate; `p` of
    the named settings."""
    path = folder / SELECTION_FILE
    if path.exists():
        raise ValueError(
            f"{path} is there already; a choice is made once, before confirmation. Delete it only together"
            " with every confirmation line"
        )
    lines = list(read_lines(folder))
    missing = {spec.key for spec in selection()} - {line["key"] for line in lines}
    if missing:
        raise ValueError(
            f"{len(missing)} selection runs are missing, such as '{sorted(missing)[0]}'; run the plan"
            " 'selection' first"
        )
    table = long_table(line for line in lines if line["role"] == "selection")
    choice: dict = {"rule": RULE, "p": 0.2}
    for descriptor, candidates in CANDIDATES.items():
        rows = []
        for variant, p in candidates:

            def mean(
                group: str,
                measure: str,
                region: str,
                variant: str = variant,
                p: float = p,
                descriptor: str = descriptor,
            ) -> float:
                effect = effects(table, descriptor, (variant, p), group=group, measure=measure, region=region)
                if effect is None:
                    raise ValueError(
                        f"the runs of {variant} on {descriptor} have no {measure} of {region} in group"
                        f" {group}; do the plan 'selection' again"
                    )
                return effect.mean

            gain = (mean("cross", "landmarks", "face") + mean("cross", "mae", "mouth+eyes")) / 2
            rows.append(
                {
                    "variant": variant,
                    "p": p,
                    "cross": round(gain, 2),
                    "self_seen": round(mean("self-seen", "mae", "face"), 2),
                }
            )
        cheap = [r for r in rows if r["self_seen"] <= SELF_LIMIT]
        best = min(cheap, key=lambda r: r["cross"]) if cheap else min(rows, key=lambda r: r["self_seen"])
        choice[descriptor] = {"variant": best["variant"], "p": best["p"], "candidates": rows}
    write_json(path, choice)
    return choice
