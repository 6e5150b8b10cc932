"""The study: does retrieval help, when, by how much, and what helps more. `raf-lite study` is its command.

`people` renders who takes part, `codes` are the descriptors, `variants` are what a run may change, `runs` does one run and
`grading` pools its errors, `plans` lists the runs, `execute` does them, `selecting` makes the choice that is then confirmed,
`tables`, `statistics` and `report` say what came out, `retrieval_quality` compares neighbours with the truth.
"""

from raf_lite._install import needs

with needs("captures"):
    import pandas as _pandas  # noqa: F401
    import torchmetrics as _torchmetrics  # noqa: F401
