"""Where a measurement was made."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import numba
import numpy as np
import torch

import raf_lite


def describe_machine() -> dict:
    """Processor, threads and versions; the load that others put on the machine, where the system tells."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "processor": model,
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "numba_threads": numba.get_num_threads(),
        "torch_threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "torch": torch.__version__,
        "mediapipe": _version("mediapipe"),
        "raf_lite": raf_lite.__version__,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
