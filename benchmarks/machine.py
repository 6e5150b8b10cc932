"""What every benchmark needs: how long a call takes, where it ran, and where results go."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from raf_lite._machine import describe_machine

__all__ = ["RESULTS", "describe_machine", "milliseconds"]

RESULTS = Path(__file__).parent / "results"


def milliseconds(call: Callable[[], object], *, seconds: float = 1.0, most: int = 40) -> dict:
    """Median and fastest of `call` in ms, after one call that warms up: runs until `seconds` or `most` are
    reached."""
    call()
    times = []
    while len(times) < most and sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return {
        "median_ms": round(statistics.median(times) * 1e3, 3),
        "fastest_ms": round(min(times) * 1e3, 3),
        "runs": len(times),
    }
