"""How long the lessons take: python benchmarks/lessons.py [NAME ...] (11 minutes on two idle cores; leave the
machine to it).

Runs the learner's version of each lesson from cold (an empty folder, an empty cache), in full mode and with
RAF_FAST=1, and notes the seconds, the cells that take more than 20 of them, and the peak of memory of the
kernel and what it starts. Writes benchmarks/results/lessons.json with machine and versions, and carries the
figures to everything that quotes them: `notebooks/manifest.toml`, the first cells in `notebooks/sources/`,
and the README's table. A lesson whose minutes have changed is named, to be run again with `python
tools/course.py --execute NAME`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from unittest import mock

import nbformat
import psutil
from machine import RESULTS, describe_machine
from nbclient import NotebookClient

from raf_lite._files import atomic_path, write_json

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))  # scripts, not a package

import course  # noqa: E402

RESULT = RESULTS / "lessons.json"
SLOW = 20  # seconds; a cell that takes longer says so before it starts
# Of the minutes: lesson 10's indexes took 41 s to build on one day and 85 s on another, on the same machine.
MARGIN = 1.5
MODES = {"full": "0", "fast": "1"}  # name -> RAF_FAST


class PeakMemory:
    """The most memory that this process's children and theirs held together, in GB; looks five times a
    second."""

    def __init__(self):
        self.gb = 0.0

    def __enter__(self) -> PeakMemory:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            held = 0
            for child in psutil.Process().children(recursive=True):
                try:
                    held += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.gb = max(self.gb, held / 1e9)


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    with atomic_path(path) as tmp:
        tmp.write_text(text, encoding="utf-8", newline="\n")


def time_notebook(notebook: nbformat.NotebookNode, mode: str) -> dict:
    """Seconds, GB and slow cells of one run of `notebook`, which is changed, in an empty folder and with an
    empty cache.

    The start of the kernel counts, since a learner waits for it too. Raises nbclient's error if a cell
    raises.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"RAF_FAST": MODES[mode], "RAF_LITE_CACHE": str(Path(folder, "cache"))}),
        PeakMemory() as memory,
    ):
        start = time.perf_counter()
        NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": folder}}).execute()
        seconds = time.perf_counter() - start
    slow = {cell.id: lasted for cell in notebook.cells if (lasted := cell_seconds(cell)) > SLOW}
    return {"seconds": round(seconds, 1), "memory_gb": round(memory.gb, 2), "slow_cells": slow}


def cell_seconds(cell: nbformat.NotebookNode) -> float:
    """How long the kernel was busy with a cell that was just run; 0 for text."""
    said = cell.metadata.get("execution", {})
    begin, end = (said.get(f"iopub.status.{status}") for status in ("busy", "idle"))
    return (
        round((datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds(), 1)
        if begin and end
        else 0.0
    )


def quoted(runs: dict) -> dict[str, int]:
    """What the manifest says of a lesson with these runs, rounded up, so that few wait longer than was
    said."""
    return {
        "minutes_cpu": math.ceil(MARGIN * runs["full"]["seconds"] / 60),
        "seconds_fast": 5 * math.ceil(runs["fast"]["seconds"] / 5),
        "memory_gb": math.ceil(max(runs[mode]["memory_gb"] for mode in MODES)),
    }


def carry(lessons: dict[str, dict], root: Path = ROOT) -> list[str]:
    """Write the figures wherever they are quoted; returns the lessons whose minutes were others. ValueError
    names the file that lacks the place to write to."""
    changed = []
    for name, runs in lessons.items():
        figures = quoted(runs)
        manifest = root / "notebooks" / "manifest.toml"
        head, title, body = manifest.read_text(encoding="utf-8").partition(f"[lessons.{name}]\n")
        section, blank, rest = body.partition("\n\n")
        for key, value in figures.items():
            section, found = re.subn(rf"^{key} = \d+$", f"{key} = {value}", section, flags=re.M)
            if not title or found != 1:
                raise ValueError(f"{manifest}: [lessons.{name}] has no line '{key} = '")
        write_text(manifest, head + title + section + blank + rest)
        source = root / "notebooks" / "sources" / f"{name}.py"
        before = source.read_text(encoding="utf-8")
        for path, pattern in (
            (source, r"(raf_lite\.setup\(minutes_cpu=)\d+(?=\))"),
            (root / "README.md", rf"(\| \[[^|]*\]\(notebooks/{name}\.ipynb\) \|[^|]*\| )\d+(?= \|)"),
        ):
            text, found = re.subn(
                pattern, rf"\g<1>{figures['minutes_cpu']}", path.read_text(encoding="utf-8")
            )
            if found != 1:
                raise ValueError(f"{path} does not say how long {name} takes")
            write_text(path, text)
        if source.read_text(encoding="utf-8") != before:
            changed.append(name)
    return changed


def main() -> None:
    """Measure, print, write; each lesson as it is done, so that a run that is stopped loses nothing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="lessons (default: all)")
    args = parser.parse_args()
    known = json.loads(RESULT.read_text(encoding="utf-8"))["lessons"] if RESULT.is_file() else {}
    for name in args.names or course.sources():
        machine = describe_machine()
        known[name] = {mode: time_notebook(course.build(name, False), mode) for mode in MODES} | {
            "machine": machine
        }
        print(
            f"{name:<32} "
            + ", ".join(
                f"{mode} {known[name][mode]['seconds']:.0f} s, {known[name][mode]['memory_gb']:.1f} GB"
                for mode in MODES
            ),
            flush=True,
        )
        write_json(RESULT, {"lessons": dict(sorted(known.items()))})
    for mode in MODES:
        print(f"the course, {mode}: {sum(runs[mode]['seconds'] for runs in known.values()) / 60:.1f} minutes")
    changed = carry(known)
    print(
        "now run: python tools/course.py" + (f", and with --execute: {' '.join(changed)}" if changed else "")
    )


if __name__ == "__main__":
    main()
