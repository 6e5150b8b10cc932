"""Kernels: who compiles them, so that every process runs the same machine code."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numba as nb
import numpy as np
import pytest
from conftest import ROOT

from raf_lite import _kernels

RASTERISE = """
import hashlib, torch
from raf_lite import rasterize
from raf_lite.splatting.compositing import blend_forward as kernel
random = torch.Generator().manual_seed(0)
means, quats = torch.randn(500, 3, generator=random), torch.randn(500, 4, generator=random)
scales, opacities, colors = (torch.rand(500, *n, generator=random) for n in ((3,), (), (3,)))
given = [means + torch.tensor([0.0, 0, 4]), quats, 0.3 * scales, opacities, colors]
for x in given:
    x.requires_grad_()
K = torch.tensor([[[60.0, 0, 32], [0, 60, 32], [0, 0, 1]]])
image, alpha, _ = rasterize(*given, torch.eye(4)[None], K, 64, 64)
(image**2).sum().backward()
bytes_of = b"".join(x.detach().numpy().tobytes() for x in (image, alpha, *(x.grad for x in given)))
print(hashlib.sha256(bytes_of).hexdigest())
print(*(sum(count.values()) for count in (kernel.stats.cache_hits, kernel.stats.cache_misses)))
"""
KERNELS = """
import numpy as np
from raf_lite._kernels import kernel

@kernel()
def part(x, n):
    total = np.float32(0)
    for i in range(n):
        total += x[i] * x[i]
    return total

@kernel(parallel=True)
def whole(x, out):
    out[0] = part(x, x.shape[0])
"""
USE = """
import numpy as np
from own_kernels import whole
out = np.zeros(1, np.float32)
whole(np.arange(9, dtype=np.float32), out)
print(out[0], *(sum(count.values()) for count in (whole.stats.cache_hits, whole.stats.cache_misses)))
"""


def fresh(code: str, cache: Path, **variables: str) -> list[str]:
    """What a new process prints, whose compiled kernels lie in `cache`."""
    env = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)} | variables
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_process_that_finds_no_kernels_computes_the_same_bytes_as_the_next(tmp_path):
    first, second = fresh(RASTERISE, tmp_path), fresh(RASTERISE, tmp_path)
    assert first == second and first[1:] == ["1", "0"]


def test_kernels_of_any_module_are_compiled_elsewhere_and_found_by_the_next(tmp_path):
    (tmp_path / "own_kernels.py").write_text(KERNELS)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    for _ in range(2):
        assert fresh(USE, tmp_path / "cache", PYTHONPATH=path) == ["204.0", "1", "0"]


@pytest.mark.parametrize("how", ["no process can be started", "it dies"])
def test_without_a_process_that_compiles_the_kernel_runs_as_well(tmp_path, how):
    (tmp_path / "own_kernels.py").write_text(KERNELS)
    start = (
        "def no(*_, **__): raise OSError('no more')\nimport raf_lite._kernels as k\nk.subprocess.Popen = no\n"
        if how == "no process can be started"
        else "import raf_lite._kernels as k\nk._START = 'import os; os._exit(1)'\n"
    )
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    assert fresh(start + USE, tmp_path / "cache", PYTHONPATH=path) == ["204.0", "0", "1"]


def test_an_interrupted_question_leaves_no_answer_behind(monkeypatch):
    class Interrupted:
        killed = False
        stdin = io.StringIO()

        def poll(self):
            return None

        def kill(self):
            self.killed = True

        @property
        def stdout(self):
            raise KeyboardInterrupt

    asked = Interrupted()
    monkeypatch.setattr(_kernels, "_server", asked)
    with pytest.raises(KeyboardInterrupt):
        _kernels._compiled_elsewhere("somewhere", "whole", (nb.float32,))
    assert asked.killed and _kernels._server is None
    assert json.loads(asked.stdin.getvalue()) == ["somewhere", "whole", ["float32"]]


def test_it_ends_when_nobody_asks():
    code = _kernels._START.replace("serve()", "serve.__globals__.update(_IDLE=0.2); serve()")
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as alone:
        _kernels._tell(alone, sys.path)
        assert alone.wait(60) == 0


def test_signatures_go_over_as_they_are():
    given = (
        np.zeros((2, 3), np.float32),
        np.zeros((2, 3, 4))[:, ::2],
        np.asfortranarray(np.zeros((2, 3), np.uint8)),
        np.zeros(3, bool),
        np.float32(1),
        np.uint64(1),
        True,
    )
    kinds = [nb.typeof(one) for one in given] + [nb.types.Array(nb.float64, 1, "C", readonly=True)]
    for kind in kinds:
        assert _kernels._read(json.loads(json.dumps(_kernels._spelled(kind)))) == kind
    with pytest.raises(TypeError, match="neither a number nor an array"):
        _kernels._spelled(nb.types.unicode_type)
