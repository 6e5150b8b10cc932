"""The study: does retrieval help, when, by how much, and what helps more. `raf-lite study` is its command.

`people` renders who takes part, `descriptors` are what drives, `variants` are what a run may change, `runs`
does one run and `grading` pools its errors, `plans` lists the runs, `execute` does them, `selecting` makes
the choice that is then confirmed, `tables`, `statistics` and `report` say what came out, `retrieval_quality`
compares neighbours with the truth.
"""

from typing import TYPE_CHECKING

from raf_lite._install import needs
from raf_lite._lazy import attach

with needs("captures"):
    import pandas as _pandas  # noqa: F401
    import torchmetrics as _torchmetrics  # noqa: F401

if TYPE_CHECKING:
    from raf_lite.study.drawing import forest, shown
    from raf_lite.study.report import Study, write_study_report
    from raf_lite.study.statistics import Effect, holm, paired_effect
    from raf_lite.study.tables import effects, long_table, values_of

__all__ = [
    "Effect",
    "Study",
    "effects",
    "forest",
    "holm",
    "long_table",
    "paired_effect",
    "shown",
    "values_of",
    "write_study_report",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Effect": "statistics",
        "holm": "statistics",
        "paired_effect": "statistics",
        "effects": "tables",
        "long_table": "tables",
        "values_of": "tables",
        "forest": "drawing",
        "shown": "drawing",
        "Study": "report",
        "write_study_report": "report",
    },
)
