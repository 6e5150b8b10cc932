"""What must hold for every scene: invariances, ranges, finite numbers, and the same bytes every time."""

from __future__ import annotations

import multiprocessing
import os

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_splatting import PARAMETERS, make_scene, to

from raf_lite._kernels import kernel
from raf_lite.splatting import rasterize
from raf_lite.splatting.compositing import exp2_negative
from raf_lite.splatting.reference import rotation_matrices

seeds = st.integers(0, 2**32 - 1)
SMALL = {"width": 37, "height": 21, "n": 40, "cameras": 2}
quick = settings(max_examples=15, deadline=None)


@quick
@given(seeds)
def test_the_order_of_the_gaussians_does_not_matter(seed):
    scene = make_scene(seed, **SMALL)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(SMALL["n"]))
    shuffled = {
        **scene,
        **{name: scene[name][order] for name in ("means", "quats", "scales", "opacities", "colors")},
    }
    for a, b in zip(rasterize(**scene)[:2], rasterize(**shuffled)[:2], strict=True):
        assert torch.equal(a, b)


@quick
@given(seeds)
def test_moving_scene_and_camera_together_changes_nothing(seed):
    scene = to(make_scene(seed, **SMALL), torch.float64)
    rng = np.random.default_rng(seed)
    turn = torch.from_numpy(rng.normal(size=4))
    rotation, shift = rotation_matrices(turn), torch.from_numpy(rng.normal(size=3))
    w, (x, y, z) = turn[0], turn[1:]
    product = torch.stack(  # quaternion product turn * q, as the matrix of turn applied to q
        [torch.stack(r) for r in ([w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w])]
    )
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3], motion[:3, 3] = rotation, shift
    moved = {
        **scene,
        "means": scene["means"] @ rotation.T + shift,
        "quats": scene["quats"] @ product.T,
        "viewmats": scene["viewmats"] @ torch.linalg.inv(motion),
    }
    for a, b in zip(
        rasterize(**scene, backend="torch")[:2], rasterize(**moved, backend="torch")[:2], strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@quick
@given(seeds)
def test_the_background_enters_linearly(seed):
    scene = make_scene(seed, **SMALL)
    background = scene.pop("backgrounds")
    plain, alphas, _ = rasterize(**scene)
    render, _, _ = rasterize(**scene, backgrounds=background)
    torch.testing.assert_close(render, plain + (1 - alphas) * background[:, None, None], rtol=0, atol=1e-6)


@quick
@given(seeds, st.sampled_from(["classic", "antialiased"]), st.integers(-8, 8), st.integers(-8, 8))
def test_finite_input_gives_finite_output_and_alphas_in_range(seed, rasterize_mode, log_scale, log_distance):
    rng = np.random.default_rng(seed)
    scene = make_scene(seed, **SMALL)
    scene["scales"] = (
        scene["scales"]
        * torch.from_numpy(10.0 ** rng.uniform(-1, 1, (SMALL["n"], 3)) * 10.0**log_scale).float()
    )
    scene["means"] = scene["means"] * 10.0**log_distance
    scene["opacities"] = torch.from_numpy(rng.uniform(-1, 2, SMALL["n"])).float()
    scene["quats"][::5] = 0
    scene["quats"][1::5] *= 1e30
    scene["quats"][2::5] *= 1e-30
    scene = to(scene, torch.float32, PARAMETERS)
    render, alphas, meta = rasterize(**scene, rasterize_mode=rasterize_mode, render_mode="RGB+ED")
    (render.sum() + alphas.sum()).backward()
    assert (
        torch.isfinite(render).all()
        and torch.isfinite(meta["conics"]).all()
        and torch.isfinite(meta["means2d"]).all()
    )
    assert alphas.min() >= 0 and alphas.max() <= 1
    if abs(log_scale) + abs(log_distance) <= 6:  # beyond, a true gradient may exceed float32
        for name in PARAMETERS:
            assert torch.isfinite(scene[name].grad).all(), name


def render_bytes(scene, threads):
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, before))
    try:
        scene = to(scene, torch.float32, PARAMETERS)
        render, alphas, meta = rasterize(**scene, render_mode="RGB+D")
        (render.square().sum() + alphas.sum()).backward()
    finally:
        numba.set_num_threads(before)
    tensors = [render, alphas, meta["flatten_ids"], *(scene[name].grad for name in PARAMETERS)]
    return b"".join(t.detach().contiguous().numpy().tobytes() for t in tensors)


def test_the_same_bytes_over_runs_and_threads():
    scene = make_scene(3, n=2000, width=120, height=90, cameras=3)
    first = render_bytes(scene, 2)
    assert all(render_bytes(scene, 2) == first for _ in range(3))
    assert render_bytes(scene, 1) == first


def test_equal_depths_keep_the_order_of_the_gaussians():
    scene = make_scene(4, n=30, cameras=1)
    scene["means"][:, 2] = 0
    scene["viewmats"] = torch.eye(4)[None].clone()
    scene["viewmats"][0, 2, 3] = 4
    ids = rasterize(**scene)[2]["flatten_ids"]
    offsets = [*rasterize(**scene)[2]["isect_offsets"].flatten().tolist(), len(ids)]
    runs = [ids[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    assert len(ids) > 30 and all(run == sorted(run) for run in runs)


def test_shared_colours_equal_the_same_colours_per_camera():
    scene = make_scene(5, **SMALL, channels=5)
    repeated = {**scene, "colors": scene["colors"].expand(2, -1, -1).clone()}
    assert torch.equal(rasterize(**scene)[0], rasterize(**repeated)[0])
    for s in (scene, repeated):
        s["colors"].requires_grad_(True)
        rasterize(**s)[0].square().sum().backward()
    torch.testing.assert_close(scene["colors"].grad, repeated["colors"].grad.sum(0), rtol=1e-5, atol=1e-6)


@numba.njit
def _powers(t, out):
    for i in range(len(t)):
        out[i] = exp2_negative(t[i])


def test_exp2_is_within_3e_7_and_clamped_above_the_denormals():
    t = np.linspace(-24, 0, 100_001, dtype=np.float32)
    out = np.empty_like(t)
    _powers(t, out)
    assert np.abs(out / np.exp2(t.astype(np.float64)) - 1).max() < 3e-7
    far = np.array([-25.0, -1e3, -1e30], np.float32)
    _powers(far, out[:3])
    np.testing.assert_allclose(out[:3], 2.0**-24, rtol=1e-6)


def test_kernels_compile_where_no_cache_folder_can_be_written():
    # A function without a source file is one that numba refuses to cache, as it does for a read-only install.
    namespace = {}
    exec("def add_one(x):\n    return x + 1\n", namespace)
    assert kernel()(namespace["add_one"])(1) == 2


def _rasterize_in_child(queue):
    try:
        rasterize(**make_scene(n=5))
        queue.put("rendered")
    except RuntimeError as error:
        queue.put(str(error))


@pytest.mark.may_skip("needs fork")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_why_it_cannot_rasterise():
    rasterize(**make_scene(n=5))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_rasterize_in_child, args=(queue,))
    child.start()
    assert "spawn" in queue.get(timeout=60)
    child.join()
