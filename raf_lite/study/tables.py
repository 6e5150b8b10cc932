"""The study's JSON lines as one long table, and the comparisons that are made in it."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from raf_lite.study.statistics import Effect, paired_effect

Condition = str | float | bool | None
COLUMNS = [
    "subject",
    "role",
    "descriptor",
    "variant",
    "p",
    "seed",
    "scripts",
    "frames",
    "bank",
    "bank_rows",
    "tolerance",
    "under",
    "avatar",
    "drive",
    "group",
    "measure",
    "region",
    "value",
]
BASELINE = ("none", 0.0)
CONDITIONS: dict[str, Condition] = {
    "drive": "direct",
    "seed": 0,
    "scripts": 1.0,
    "frames": 1.0,
    "bank": "shipped",
    "bank_rows": 0,
    "under": "nothing",
    "avatar": "standard",
}
"""What a comparison holds fixed unless told otherwise. bank_rows 0: all of the bank."""


def long_table(lines: Iterable[dict]) -> pd.DataFrame:
    """One row for each (run, drive, group, measure, region). Noise floors are left out.

    Region "mouth+eyes" is the mean of the two. The baseline has p = 0 and belongs to every bank. What a run
    says of itself as a whole (`extras`) is in the group "run".
    """
    rows = []
    for line in lines:
        if "spec" not in line:
            continue
        spec = {"under": "nothing", "avatar": "standard"} | line["spec"]
        if spec["variant"] == "none":
            spec |= {"p": 0.0, "bank": "shipped", "bank_rows": 0}
        spec["bank_rows"] = spec["bank_rows"] or 0
        head = spec | {"role": line["role"]}
        for drive, groups in line["outcomes"].items():
            for group, measures in groups.items():
                for measure, regions in measures.items():
                    if measure == "frames":
                        continue
                    values = dict(regions)
                    if values.get("mouth") is not None and values.get("eyes") is not None:
                        values["mouth+eyes"] = (values["mouth"] + values["eyes"]) / 2
                    rows += [
                        head | {"drive": drive, "group": group, "measure": measure, "region": r, "value": v}
                        for r, v in values.items()
                        if v is not None
                    ]
        rows += [
            head | {"drive": "direct", "group": "run", "measure": m, "region": "all", "value": v}
            for m, v in line["extras"].items()
        ]
    return pd.DataFrame(rows, columns=COLUMNS)


def values_of(
    table: pd.DataFrame,
    descriptor: str,
    run: tuple[str, float],
    *,
    group: str,
    measure: str,
    region: str,
    **conditions: Condition,
) -> pd.Series:
    """One number a subject, by subject, for a run (variant, p) under CONDITIONS, some of them changed.

    With seed=None the seeds of a subject are averaged. A run that two plans have done in two ways counts
    once.

    >>> from raf_lite.study import Study
    >>> from raf_lite.manifest import find_data
    >>> study = Study(find_data().parent / "benchmarks" / "results" / "study")
    >>> values_of(
    ...     study.confirmed, "blendshapes", BASELINE, group="cross", measure="mae", region="mouth"
    ... ).shape
    (10,)
    """
    fixed = CONDITIONS | conditions
    variant, p = run
    rows = table[
        (table["descriptor"] == descriptor)
        & (table["variant"] == variant)
        & (table["p"] == p)
        & (table["group"] == group)
        & (table["measure"] == measure)
        & (table["region"] == region)
    ]
    for name, value in fixed.items():
        if value is not None and not (variant == "none" and name in ("bank", "bank_rows")):
            rows = rows[rows[name] == value]
    return rows.groupby("subject")["value"].mean()


def effects(
    table: pd.DataFrame,
    descriptor: str,
    run: tuple[str, float],
    against: tuple[str, float] = BASELINE,
    *,
    group: str,
    measure: str,
    region: str,
    against_descriptor: str | None = None,
    against_conditions: dict[str, Condition] | None = None,
    **conditions: Condition,
) -> Effect | None:
    """The paired effect of a run against another over the subjects that have both; None where no subject has.

    >>> from raf_lite.study import Study
    >>> from raf_lite.manifest import find_data
    >>> study = Study(find_data().parent / "benchmarks" / "results" / "study")
    >>> effects(
    ...     study.confirmed, "blendshapes", ("paper", 0.2), group="cross", measure="mae", region="mouth"
    ... ).subjects
    10
    """
    one = values_of(table, descriptor, run, group=group, measure=measure, region=region, **conditions)
    other = values_of(
        table,
        against_descriptor or descriptor,
        against,
        group=group,
        measure=measure,
        region=region,
        **(conditions | (against_conditions or {})),
    )
    both = one.index.intersection(other.index)
    if len(both) == 0:
        return None
    return paired_effect(one[both].to_numpy(), other[both].to_numpy(), measure=measure)
