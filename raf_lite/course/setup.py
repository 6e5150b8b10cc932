"""`raf_lite.setup()`: the first cell of every notebook."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass

from raf_lite._install import OLDEST_PYTHON, how_to_install, unmet


@dataclass(frozen=True)
class Session:
    """Where and how a notebook runs: device "cuda" or "cpu", and whether RAF_FAST shrinks everything."""

    device: str
    fast: bool


def setup(*, minutes_cpu: float, minutes_gpu: float | None = None) -> Session:
    """Print versions, device, mode and how long the notebook takes; warn of data that are not whole.

    minutes_cpu, minutes_gpu: measured durations of the full notebook on two CPU cores and on a T4-class GPU
    (None: not measured).

    Raises ImportError in a kernel that is too old or lacks what raf_lite needs, FileNotFoundError without the
    shipped data, ValueError where their list is damaged.

    >>> session = setup(minutes_cpu=4)
    Python ...
    device: ...
    mode: ...
    >>> session
    Session(device=..., fast=...)
    """
    _check_kernel()
    import torch

    fast = os.environ.get("RAF_FAST") == "1"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("raf_lite", "torch", "numpy")
    )
    print(f"Python {platform.python_version()}, {versions}")
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"device: {where}")
    if fast:
        print(
            "mode: RAF_FAST, everything is tiny and the numbers mean nothing; unset RAF_FAST for the real"
            " thing"
        )
    else:
        minutes = minutes_gpu if device == "cuda" else minutes_cpu
        here = (
            "not timed on a GPU yet"
            if minutes is None
            else f"about {minutes:g} minute{'s' * (minutes != 1)} here"
        )
        print(f"mode: full, {here}")
    _check_data()
    return Session(device, fast)


def _check_kernel() -> None:
    """Raise ImportError where the kernel's Python is too old or lacks what raf_lite needs."""
    mend = how_to_install("lessons", "encode")
    if "make setup" in mend:
        mend += (
            ", and open the lessons with `.venv/bin/jupyter lab notebooks`, or choose that Python under"
            " Kernel > Change Kernel"
        )
    kernel = f"this kernel, {sys.executable},"
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise ImportError(
            f"{kernel} is Python {'.'.join(map(str, sys.version_info[:3]))}, and raf_lite needs "
            f"{'.'.join(map(str, OLDEST_PYTHON))} or later; {mend}"
        )
    try:
        missing = unmet("lessons")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"raf_lite is seen by {kernel} but not installed in it; {mend}") from None
    if missing:
        raise ImportError(f"{kernel} is not ready for the lessons: {'; '.join(missing)}; {mend}")


def _check_data() -> None:
    """Warn where files of data/ are missing or half there, as after a copy that was stopped; errors as
    `setup`."""
    from raf_lite.manifest import find_data, how_to_mend, verify_manifest

    data = find_data()
    problems = verify_manifest(data, quick=True)
    if problems:
        print(
            f"WARNING: {len(problems)} of the shipped files in {data} are not whole ({problems[0]}); "
            f"{how_to_mend(data)}"
        )
