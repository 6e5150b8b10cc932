"""Against gsplat 1.5.3 itself: the parts of it that run without CUDA."""

from __future__ import annotations

import inspect

import pytest
import torch
from test_splatting import FAMILIES, make_scene, to

from raf_lite.splatting import gsplat_backend, rasterize, reference

gsplat = pytest.importorskip("gsplat")
torch_impl = pytest.importorskip("gsplat.cuda._torch_impl")


@pytest.mark.parametrize(
    "family", ["head", "elongated", "frustum clamp", "near plane", "4 cameras, off centre"]
)
@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
def test_projection_equals_gsplats(family, rasterize_mode):
    scene = to(FAMILIES[family](), torch.float64)
    covars, _ = torch_impl._quat_scale_to_covar_preci(scene["quats"], scene["scales"], True, False)
    near = scene.get("near_plane", 0.01)
    _, means2d, depths, conics, compensations = torch_impl._fully_fused_projection(
        scene["means"],
        covars,
        scene["viewmats"],
        scene["Ks"],
        scene["width"],
        scene["height"],
        near_plane=near,
        calc_compensations=True,
    )
    opacities = scene["opacities"] * (
        compensations if rasterize_mode == "antialiased" else torch.ones_like(compensations)
    )
    for backend, dtype, tolerance in (("torch", torch.float64, 1e-9), ("numba", torch.float32, 2e-4)):
        _, _, meta = rasterize(**to(scene, dtype), rasterize_mode=rasterize_mode, backend=backend)
        seen = (meta["radii"] > 0).all(-1)
        assert seen.sum() > 20
        for key, expected in (
            ("means2d", means2d),
            ("depths", depths),
            ("conics", conics),
            ("opacities", opacities),
        ):
            torch.testing.assert_close(
                meta[key][seen].double(), expected[seen], rtol=tolerance, atol=tolerance, msg=key
            )


def test_projection_gradients_equal_gsplats():
    scene = to(make_scene(seed=1, n=60), torch.float64)
    names = ("means", "quats", "scales", "viewmats")
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(2, 60, k, generator=generator, dtype=torch.float64) for k in (2, 3, 1)]

    def gradients(project):
        leaves = {name: scene[name].clone().requires_grad_(True) for name in names}
        means2d, conics, depths = project(leaves)
        loss = (
            (means2d * weights[0]).sum()
            + (conics * weights[1]).sum()
            + (depths[..., None] * weights[2]).sum()
        )
        return torch.autograd.grad(loss, list(leaves.values()))

    def theirs(leaves):
        covars, _ = torch_impl._quat_scale_to_covar_preci(leaves["quats"], leaves["scales"], True, False)
        _, means2d, depths, conics, _ = torch_impl._fully_fused_projection(
            leaves["means"], covars, leaves["viewmats"], scene["Ks"], scene["width"], scene["height"]
        )
        return means2d, conics, depths

    def ours(leaves):
        _, _, meta = rasterize(**{**scene, **leaves}, backend="torch")
        assert (meta["radii"] > 0).all()
        return meta["means2d"], meta["conics"], meta["depths"]

    for name, a, b in zip(names, gradients(ours), gradients(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8, msg=name)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_tile_lists_equal_gsplats(backend):
    scene = make_scene(seed=2, n=80, width=75, height=33, cameras=3)
    _, _, meta = rasterize(**scene, backend=backend)
    size, columns, rows = meta["tile_size"], meta["tile_width"], meta["tile_height"]
    tiles_per_gauss, isect_ids, flatten_ids = torch_impl._isect_tiles(
        meta["means2d"], meta["radii"], meta["depths"], size, columns, rows
    )
    assert torch.equal(meta["tiles_per_gauss"], tiles_per_gauss)
    assert torch.equal(meta["isect_ids"], isect_ids)
    assert torch.equal(meta["flatten_ids"], flatten_ids)
    assert torch.equal(meta["isect_offsets"], torch_impl._isect_offset_encode(isect_ids, 3, columns, rows))


def test_tile_lists_of_an_empty_scene():
    empty = torch.zeros(2, 0)
    tiles_per_gauss, isect_ids, flatten_ids, offsets = reference.intersect_tiles(
        torch.zeros(2, 0, 2), torch.zeros(2, 0, 2, dtype=torch.int32), empty, 40, 20
    )
    assert tiles_per_gauss.shape == (2, 0) and isect_ids.dtype == torch.int64 and len(flatten_ids) == 0
    assert offsets.tolist() == [[[0, 0, 0], [0, 0, 0]]] * 2


def test_the_cuda_call_fits_gsplats_signature(monkeypatch):
    """gsplat can't run here, so its arguments are bound as Python would bind them and compared with what was
    asked for."""
    signature = inspect.signature(gsplat.rasterization)
    monkeypatch.setattr(
        gsplat, "rasterization", lambda *args, **kwargs: signature.bind(*args, **kwargs).arguments
    )
    scene = make_scene(n=10)
    options = {
        "near_plane": 0.5,
        "far_plane": 50.0,
        "eps2d": 0.1,
        "radius_clip": 2.0,
        "render_mode": "RGB+ED",
        "rasterize_mode": "antialiased",
    }
    bound = gsplat_backend.rasterize(**scene, **options)
    for name, value in {**scene, **options}.items():
        assert bound[name] is value, name
    assert bound["packed"] is False and bound["tile_size"] == reference.TILE


def test_meta_has_gsplats_keys():
    keys = {
        "batch_ids",
        "camera_ids",
        "gaussian_ids",
        "radii",
        "means2d",
        "depths",
        "conics",
        "opacities",
        "tile_width",
        "tile_height",
        "tiles_per_gauss",
        "isect_ids",
        "flatten_ids",
        "isect_offsets",
        "width",
        "height",
        "tile_size",
        "n_batches",
        "n_cameras",
    }
    source = inspect.getsource(gsplat.rasterization)
    assert all(f'"{key}":' in source for key in keys)
    assert set(rasterize(**make_scene(n=5))[2]) == keys


def test_default_strategy_trains_on_the_cpu_backend():
    """gsplat's own densification runs on our meta: it grows the set where the image asks for detail, and the
    loss falls."""
    target_scene = make_scene(seed=11, n=150, cameras=2, sigma=(1.0, 2.0), opacity=(0.6, 0.95))
    with torch.no_grad():
        target, _, _ = rasterize(**target_scene)
    start = make_scene(seed=12, n=60, cameras=2, sigma=(2.0, 3.0))
    parameters = torch.nn.ParameterDict(
        {
            "means": start["means"],
            "quats": start["quats"],
            "scales": start["scales"].log(),
            "opacities": start["opacities"].logit(),
            "colors": start["colors"].logit(eps=1e-3),
        }
    )
    rates = {"means": 5e-3, "quats": 1e-2, "scales": 1e-2, "opacities": 5e-2, "colors": 5e-2}
    optimizers = {name: torch.optim.Adam([parameters[name]], lr=rate) for name, rate in rates.items()}
    strategy = gsplat.DefaultStrategy(
        refine_start_iter=10, refine_every=20, reset_every=10_000, grow_grad2d=1e-4
    )
    strategy.check_sanity(parameters, optimizers)
    state = strategy.initialize_state(scene_scale=1.0)
    torch.manual_seed(0)  # the strategy samples where split Gaussians go
    losses, counts = [], []
    for step in range(90):
        render, _, info = rasterize(
            parameters["means"],
            parameters["quats"],
            parameters["scales"].exp(),
            parameters["opacities"].sigmoid(),
            parameters["colors"].sigmoid(),
            start["viewmats"],
            start["Ks"],
            start["width"],
            start["height"],
            backgrounds=target_scene["backgrounds"],
        )
        strategy.step_pre_backward(parameters, optimizers, state, step, info)
        loss = (render - target).square().mean()
        loss.backward()
        strategy.step_post_backward(parameters, optimizers, state, step, info)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        counts.append(len(parameters["means"]))
    assert max(counts) > 60
    assert sum(losses[-5:]) < 0.25 * sum(losses[:5])
