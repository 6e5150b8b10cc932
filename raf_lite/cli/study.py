"""The study's runs and its report."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

FOLDER = Path("benchmarks/results/study")


def run(plan: Positional[str], *, most: int | None = None, jobs: int = 2, folder: Path = FOLDER) -> int:
    """Do the runs of a plan that are not done yet.

    Args:
        plan: One of selection, confirmation, seeds, rates, bounds, bank, coverage, descriptors, tolerance,
            relative, label_free, motion, motion_controls, motion_confirmed, limits, done, family, live.
        most: Stop after so many runs; without it do all.
        jobs: Processes, one core each.
        folder: Folder of the lines.
    """
    from raf_lite.study import execute

    left = execute.execute(plan, folder, jobs, most)
    print(f"{plan}: {left} runs left" if left else f"{plan}: all runs are done; see raf-lite study report")
    return 0


def select(*, folder: Path = FOLDER) -> int:
    """Choose the best variant from the selection runs, once, before confirmation.

    Args:
        folder: Folder of the lines.
    """
    from raf_lite.study import selecting

    choice = selecting.choose(folder)
    for descriptor in ("blendshapes", "landmarks-neutral"):
        print(f"{descriptor}: {choice[descriptor]['variant']}, p = {choice[descriptor]['p']}")
    return 0


def retrieval(*, jobs: int = 2, folder: Path = FOLDER) -> int:
    """Grade neighbours against the truth, and what leaks from each descriptor.

    Args:
        jobs: Processes, one core each.
        folder: Folder of the lines.
    """
    from raf_lite.study import execute

    execute.grade_retrieval(folder, jobs)
    return 0


def status(*, folder: Path = FOLDER) -> int:
    """Say how many runs of each plan are done.

    Args:
        folder: Folder of the lines.
    """
    from raf_lite.study import execute

    for name, (done, total) in execute.status(folder).items():
        print(f"{name:<16} {done:>4} of {total} runs")
    return 0


def report(*, out: Path | None = None, folder: Path = FOLDER) -> int:
    """Write report.html and report.md from the lines alone.

    Args:
        out: Folder of the report; without it that of the lines.
        folder: Folder of the lines.
    """
    from raf_lite.study.report import write_study_report

    print(*write_study_report(folder, out), sep="\n")
    return 0
