"""How long the head renderer takes: python benchmarks/rig.py (needs the rig: `raf-lite data rig` or
RAF_LITE_ICT).

Times a 256x256 frame with 2x2 samples a pixel, from one camera and from six, and beside them a numpy matrix
product as a measure of the machine. Writes benchmarks/results/rig.json with machine and versions. Quote the
ratios; machines are noisy.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from pathlib import Path

import numba
import numpy as np

from raf_lite._files import write_json
from raf_lite.rig.expressions import archetype_weights
from raf_lite.rig.head import HeadModel
from raf_lite.rig.pack import load_pack
from raf_lite.rig.studio import FRONTAL, Person, studio_cameras


def milliseconds(call, repeats: int = 30) -> float:
    """Median over `repeats` calls, after two that warm up."""
    call(), call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def main() -> None:
    """Measure, print, write."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    model, person = HeadModel(load_pack()), Person.from_seed(0)
    bake = milliseconds(lambda: model.bake(person.shape, person.look), 5)
    head, cameras = model.bake(person.shape, person.look), studio_cameras(256)
    weights = archetype_weights("laugh")
    one = milliseconds(lambda: head.render(weights, [cameras[FRONTAL]]))
    six = milliseconds(lambda: head.render(weights, list(cameras.values())), 10)
    matrix = np.random.default_rng(0).random((600, 600), np.float32)
    product = milliseconds(lambda: matrix @ matrix)
    result = {
        "frame_ms": round(one, 2),
        "six_cameras_ms": round(six, 2),
        "bake_ms": round(bake, 1),
        "frame_over_600x600_product": round(one / product, 2),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numba": numba.__version__,
        "numpy": np.__version__,
    }
    for name, value in result.items():
        print(f"{name:<28} {value}")
    write_json(Path(__file__).parent / "results" / "rig.json", result)


if __name__ == "__main__":
    main()
