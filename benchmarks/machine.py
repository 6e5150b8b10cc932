"""What every benchmark needs: how long a call takes, and a description of where it ran."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import torch

import raf_lite

RESULTS = Path(__file__).parent / "results"


def milliseconds(call: Callable[[], object], *, seconds: float = 1.0, most: int = 40) -> dict:
    """Median and fastest of `call` in ms, after one call that warms up: runs until `seconds` or `most` are reached."""
    call()
    times = []
    while len(times) < most and sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return {"median_ms": round(statistics.median(times) * 1e3, 3), "fastest_ms": round(min(times) * 1e3, 3), "runs": len(times)}


def describe_machine() -> dict:
    """Processor, threads and versions; the load that others put on the machine, where the system tells."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return {"processor": model, "machine": platform.machine(), "system": platform.system(), "cpus": os.cpu_count(),
            "numba_threads": numba.get_num_threads(), "torch_threads": torch.get_num_threads(),
            "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
            "python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__,
            "torch": torch.__version__, "raf_lite": raf_lite.__version__}
