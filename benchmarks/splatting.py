"""How fast the CPU rasteriser is: python benchmarks/splatting.py (about five minutes; leave the machine to
it).

Measures forward and forward + backward on head-like scenes, in one run on one machine: the numba backend,
tiles in vectorised torch (`torch_tiles.py`), and a bound that no program can beat here. The bound is
arithmetic alone: operations that the method needs for the pixel-Gaussian pairs of this scene, counted, over
the rate of fused multiply-adds that this machine reaches with the same number of threads, measured. Then the
start of a fresh process, with and without compiled kernels on disk.

Writes benchmarks/results/splatting.json with machine and versions. Quote ratios; milliseconds are noisy.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import raf_lite  # noqa: F401  (first: it sets torch's threads to wait without spinning)

# isort: split
import numba as nb
import numpy as np
import torch
from machine import RESULTS, describe_machine, milliseconds
from scenes import GAUSSIAN_PARAMETERS, head_scene, moved
from torch_tiles import rasterize_tiles

from raf_lite._files import write_json
from raf_lite.splatting import compositing, projection, rasterize
from raf_lite.splatting.reference import ALPHA_MAX, ALPHA_MIN, TILE, TRANSMITTANCE_MIN

GAUSSIANS, SIZES = (5_000, 20_000, 50_000), (128, 256)
KERNELS = {
    projection: ("project_forward", "project_backward"),
    compositing: ("prepare", "bin_tiles", "blend_forward", "blend_backward", "gather"),
}
TARGETS = {"times_faster_than_torch_tiles": 60, "times_the_bound": 12, "cold_start_s": 20, "warm_start_s": 1}

# Floating-point operations, a fused multiply-add being two. A pair that is looked at costs the distance (2),
# the quadratic form as a sum of two squares (7), 2^x by a polynomial of degree 5 (13) and the product with
# the opacity (1). One that is blended costs its weight (1), the transmittance (2) and three colours (6).
# Going back, what was blended is looked at again; then come transmittance before it (3), weight (1),
# gradients of three colours (6) and of the weight (5), the sum behind (2), the gradient of sigma (4), and six
# moments of it (11).
FORWARD_LOOKED_AT, FORWARD_BLENDED, BACKWARD_BLENDED = 23, 9, 23 + 32
# Rotation, Jacobian, 2D covariance, its inverse and the extents of one Gaussian; the way back takes about
# three times as much.
PROJECT_FORWARD, PROJECT_BACKWARD = 180, 600


@nb.njit(cache=True)
def count_pairs(means2d, conics, opacities, flatten_ids, offsets, width, height):
    """Pixel-Gaussian pairs of one camera: (looked at, blended). A pixel looks at its tile's list until it is
    finished.

    means2d [N, 2], conics [N, 3], opacities [N], flatten_ids [M], offsets [tile rows, tile columns], as in
    rasterize's meta."""
    looked_at, blended, tiles = 0, 0, offsets.size
    for tile in range(tiles):
        begin = offsets.flat[tile]
        end = offsets.flat[tile + 1] if tile + 1 < tiles else flatten_ids.size
        y0, x0 = tile // offsets.shape[1] * TILE, tile % offsets.shape[1] * TILE
        for y in range(y0, min(height, y0 + TILE)):
            for x in range(x0, min(width, x0 + TILE)):
                transmittance = 1.0
                for at in range(begin, end):
                    n = flatten_ids[at]
                    looked_at += 1
                    dx, dy = means2d[n, 0] - (x + 0.5), means2d[n, 1] - (y + 0.5)
                    sigma = 0.5 * (conics[n, 0] * dx * dx + conics[n, 2] * dy * dy) + conics[n, 1] * dx * dy
                    alpha = min(ALPHA_MAX, opacities[n] * np.exp(-sigma))
                    if sigma < 0 or alpha < ALPHA_MIN:
                        continue
                    if transmittance * (1 - alpha) <= TRANSMITTANCE_MIN:
                        break
                    transmittance *= 1 - alpha
                    blended += 1
    return looked_at, blended


def scene_pairs(scene: dict) -> tuple[int, int]:
    """`count_pairs` of a scene with one camera."""
    _, _, meta = rasterize(**scene, backend="numba")
    arrays = [meta[k][0].numpy().astype(np.float64) for k in ("means2d", "conics", "opacities")]
    return count_pairs(
        *arrays,
        meta["flatten_ids"].numpy(),
        meta["isect_offsets"][0].numpy(),
        scene["width"],
        scene["height"],
    )


@nb.njit(parallel=True, fastmath={"contract"}, cache=True)
def _multiply_add(sums, rounds, factor, term):
    """sums [threads, K] float32: 32 * rounds fused multiply-adds for each entry; K is a multiple of every
    vector's width."""
    for thread in nb.prange(sums.shape[0]):
        row = sums[thread]
        for _ in range(rounds):
            for i in range(row.shape[0]):
                x = row[i]
                for _ in range(32):  # unrolled: in registers, so that memory plays no part
                    x = x * factor + term
                row[i] = x


def fma_peak(seconds: float = 1.0) -> float:
    """Floating-point operations a second that all numba threads reach together in float32 fused
    multiply-adds."""
    sums, rounds = np.ones((nb.get_num_threads(), 256), np.float32), 20_000
    arguments = sums, rounds, np.float32(0.999), np.float32(0.001)
    fastest = milliseconds(lambda: _multiply_add(*arguments), seconds=seconds)["fastest_ms"]
    return 2 * 32 * rounds * sums.size / (fastest * 1e-3)


def flops(looked_at: int, blended: int, gaussians: int) -> tuple[int, int]:
    """Least operations of (forward, forward + backward), projection and blending."""
    forward = FORWARD_LOOKED_AT * looked_at + FORWARD_BLENDED * blended + PROJECT_FORWARD * gaussians
    return forward, forward + BACKWARD_BLENDED * blended + PROJECT_BACKWARD * gaussians


def time_backend(render: Callable[..., tuple], scene: dict, seconds: float) -> tuple[dict, dict]:
    """Milliseconds of forward without gradients, and of forward + backward of a squared error by every
    Gaussian parameter."""
    leaves = moved(scene, requires_grad=GAUSSIAN_PARAMETERS)
    shape = len(scene["viewmats"]), scene["height"], scene["width"], scene["colors"].shape[-1]
    target = torch.rand(shape, generator=torch.Generator().manual_seed(0))

    def both():
        for name in GAUSSIAN_PARAMETERS:
            leaves[name].grad = None
        (render(**leaves)[0] - target).square().mean().backward()

    with torch.no_grad():
        forward = milliseconds(lambda: render(**leaves), seconds=seconds)
    return forward, milliseconds(both, seconds=seconds)


def kernel_milliseconds(scene: dict, seconds: float) -> dict[str, float]:
    """Where forward + backward goes: median ms of each numba kernel, and of everything around them ("python
    and torch")."""
    times: dict[str, list[float]] = {}

    def timed(name: str, call: Callable) -> Callable:
        def run(*args):
            start = time.perf_counter()
            call(*args)
            times.setdefault(name, []).append((time.perf_counter() - start) * 1e3)

        return run

    with contextlib.ExitStack() as stack:
        for module, names in KERNELS.items():
            for name in names:
                stack.enter_context(mock.patch.object(module, name, timed(name, getattr(module, name))))
        _, both = time_backend(rasterize, scene, seconds)
    # Kernels of the forward pass also ran without gradients; their time is the same.
    out = {name: round(statistics.median(values), 3) for name, values in times.items()}
    return out | {"python and torch": round(both["median_ms"] - sum(out.values()), 3)}


FIRST_CALL = """
import json, time
start = time.perf_counter()
import raf_lite, torch
torch_s = time.perf_counter() - start
from raf_lite.splatting import rasterize
means = torch.zeros(1, 3, requires_grad=True)
render, _, _ = rasterize(means, torch.ones(1, 4), torch.ones(1, 3), torch.ones(1), torch.ones(1, 3),
                         torch.eye(4)[None] + torch.diag(torch.ones(1), 3)[None, :4],
                         torch.eye(3)[None] * 16, 16, 16)
render.sum().backward()
print(json.dumps([torch_s, time.perf_counter() - start - torch_s]))
"""


def start_seconds(cache: str | os.PathLike | None) -> dict:
    """A fresh process: seconds to import torch, then to a first forward + backward.

    cache: where it looks for compiled kernels, and leaves them; None for the usual place.
    """
    out = subprocess.run(
        [sys.executable, "-c", FIRST_CALL],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | ({"NUMBA_CACHE_DIR": str(cache)} if cache else {}),
    ).stdout
    torch_s, first = json.loads(out.splitlines()[-1])
    return {"first_call_s": round(first, 2), "import_torch_s": round(torch_s, 2)}


def measure(gaussians: tuple[int, ...], sizes: tuple[int, ...], seconds: float, tiles_seconds: float) -> dict:
    """Everything but the starts. seconds, tiles_seconds: how long each measurement of numba and of torch
    tiles goes on."""
    peak, rows = fma_peak(seconds), []
    for size in sizes:
        for n in gaussians:
            scene = head_scene(n, size)
            looked_at, blended = scene_pairs(scene)
            ours, theirs = (
                time_backend(rasterize, scene, seconds),
                time_backend(rasterize_tiles, scene, tiles_seconds),
            )
            for k, stage in enumerate(("forward", "forward+backward")):
                bound = flops(looked_at, blended, n)[k] / peak * 1e3
                rows.append(
                    {
                        "gaussians": n,
                        "size": size,
                        "stage": stage,
                        "pairs_looked_at": looked_at,
                        "pairs_blended": blended,
                        "numba": ours[k],
                        "torch_tiles": theirs[k],
                        "bound_ms": round(bound, 3),
                        "times_faster_than_torch_tiles": round(
                            theirs[k]["median_ms"] / ours[k]["median_ms"], 1
                        ),
                        "times_the_bound": round(ours[k]["median_ms"] / bound, 1),
                    }
                )
                print(table(rows[-1:]), flush=True)
    return {"fma_peak_gflops": round(peak / 1e9, 1), "rows": rows}


HEADER = (
    f"{'Gaussians':>9} {'pixels':>7}  {'stage':<17} {'numba ms':>9} {'torch tiles ms':>15} {'faster by':>10} "
    f"{'bound ms':>9} {'times bound':>12}"
)


def table(rows: list[dict]) -> str:
    """One line a row, medians."""
    return "\n".join(
        f"{r['gaussians']:>9} {r['size']:>7}  {r['stage']:<17} {r['numba']['median_ms']:>9.2f} "
        f"{r['torch_tiles']['median_ms']:>9.0f} ({r['torch_tiles']['runs']:>2}x) "
        f"{r['times_faster_than_torch_tiles']:>9.1f}x {r['bound_ms']:>9.2f} {r['times_the_bound']:>11.1f}x"
        for r in rows
    )


def judge(result: dict) -> dict:
    """Each target with what was reached: at 20,000 Gaussians, 128 pixels, forward + backward, and at the
    start of a process."""
    row = next(
        r
        for r in result["rows"]
        if (r["gaussians"], r["size"], r["stage"]) == (20_000, 128, "forward+backward")
    )
    reached = {name: row[name] for name in ("times_faster_than_torch_tiles", "times_the_bound")}
    reached |= {f"{name}_start_s": result["start"][name]["first_call_s"] for name in ("cold", "warm")}
    return {
        name: {
            "target": target,
            "reached": reached[name],
            "met": reached[name] >= target if name.startswith("times_faster") else reached[name] <= target,
        }
        for name, target in TARGETS.items()
    }


def main() -> None:
    """Measure, print, write."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    started = time.perf_counter()
    result = {"machine": describe_machine()}
    print(HEADER)
    # Torch tiles take seconds a call, hence few of them; the number of runs stands beside each.
    result |= measure(GAUSSIANS, SIZES, seconds=2.0, tiles_seconds=4.0)
    result["kernels_20k_128_ms"] = kernel_milliseconds(head_scene(20_000, 128), seconds=2.0)
    with tempfile.TemporaryDirectory() as cache:
        result["start"] = {name: start_seconds(cache) for name in ("cold", "warm")}
    result["targets"] = judge(result)
    result["seconds"] = round(time.perf_counter() - started, 1)
    print(
        f"\nmeasured peak: {result['fma_peak_gflops']} GFLOP/s in fused multiply-adds, {nb.get_num_threads()}"
        " threads"
    )
    print(
        "20,000 Gaussians, 128 px, forward + backward, ms: "
        + ", ".join(f"{name} {ms:.2f}" for name, ms in result["kernels_20k_128_ms"].items())
    )
    for name, verdict in result["targets"].items():
        print(
            f"{name:<30} target {verdict['target']:>3}  reached {verdict['reached']:>6}  "
            + ("met" if verdict["met"] else "NOT met")
        )
    write_json(RESULTS / "splatting.json", result)


if __name__ == "__main__":
    main()
