"""`raf_lite.setup()`: the first cell of every notebook."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass


@dataclass(frozen=True)
class Session:
    """Where and how a notebook runs: device "cuda" or "cpu", and whether RAF_FAST shrinks everything."""

    device: str
    fast: bool


def setup(*, minutes_cpu: float, minutes_gpu: float | None = None, needs_gpu: bool = False) -> Session:
    """Print versions, device, mode and how long the notebook takes; warn where a GPU is needed and there is none.

    minutes_cpu, minutes_gpu: measured durations of the full notebook on two CPU cores and on a T4-class GPU (None: not measured).
    """
    import torch

    fast = os.environ.get("RAF_FAST") == "1"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("raf_lite", "torch", "numpy"))
    print(f"Python {platform.python_version()}, {versions}")
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"device: {where}")
    if fast:
        print("mode: RAF_FAST, everything is tiny and the numbers mean nothing; unset RAF_FAST for the real thing")
    else:
        minutes = minutes_gpu if device == "cuda" else minutes_cpu
        here = "not timed on a GPU yet" if minutes is None else f"about {minutes:g} minute{'s' * (minutes != 1)} here"
        print(f"mode: full, {here}")
    if needs_gpu and device == "cpu":
        print("WARNING: this notebook is made for a GPU, and none is here. In Colab: Runtime > Change runtime type > GPU.")
    return Session(device, fast)
