"""The numba backend against the float64 reference, the reference against numbers worked out by hand and
finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from raf_lite.splatting import rasterize

PARAMETERS = ("means", "quats", "scales", "opacities", "colors", "viewmats", "backgrounds")


def make_scene(
    seed=0,
    n=300,
    width=56,
    height=48,
    cameras=2,
    channels=3,
    spread=1.0,
    distance=4.0,
    sigma=(2.0, 5.0),
    opacity=(0.1, 0.95),
    center=(0.5, 0.5),
    per_camera_colors=False,
    stretch=(1.0, 1.0, 1.0),
):
    """Gaussians in a ball of radius `spread`, `distance` before the cameras; sigma in pixels at the ball's
    centre. float32."""
    rng = np.random.default_rng(seed)
    focal = 1.1 * min(width, height) * distance / 4.0
    direction = rng.normal(size=(n, 3))
    means = (
        spread * direction / np.linalg.norm(direction, axis=1, keepdims=True) * rng.random((n, 1)) ** (1 / 3)
    )
    scales = np.exp(rng.uniform(*np.log(sigma), size=(n, 3))) * distance / focal * np.array(stretch)
    viewmats = np.tile(np.eye(4), (cameras, 1, 1))
    for c in range(cameras):
        yaw, pitch = 0.4 * c, 0.1 * c
        turn = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
        nod = np.array(
            [[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]]
        )
        viewmats[c, :3, :3], viewmats[c, :3, 3] = nod @ turn, (0.05 * c, -0.03, distance)
    K = [[focal, 0, center[0] * width], [0, 1.05 * focal, center[1] * height], [0, 0, 1]]
    colors = rng.random((cameras, n, channels) if per_camera_colors else (n, channels))
    arrays = {
        "means": means,
        "quats": rng.normal(size=(n, 4)),
        "scales": scales,
        "opacities": rng.uniform(*opacity, size=n),
        "colors": colors,
        "viewmats": viewmats,
        "Ks": np.tile(K, (cameras, 1, 1)),
        "backgrounds": rng.random((cameras, channels)),
    }
    scene = {name: torch.tensor(array, dtype=torch.float32) for name, array in arrays.items()}
    return {**scene, "width": width, "height": height}


def to(scene, dtype, requires_grad=()):
    scene = {k: v.to(dtype).clone() if torch.is_tensor(v) else v for k, v in scene.items()}
    for name in requires_grad:
        scene[name].requires_grad_(True)
    return scene


def near_plane_scene(n=200, **size):
    """Gaussians behind, across and just beyond the near plane, some of them filling the image."""
    scene = make_scene(seed=5, n=n, cameras=1, spread=1.2, distance=0.6, sigma=(1.0, 4.0), **size)
    return {**scene, "near_plane": 0.2}


def clamped_scene(n=120, **size):
    """Large Gaussians beside the frustum that reach into the image, where the Jacobian is held at the
    frustum's margin."""
    scene = make_scene(seed=6, n=n, cameras=2, sigma=(6.0, 16.0), **size)
    sides = torch.linspace(0, 2 * math.pi, n)
    scene["means"][:, 0], scene["means"][:, 1] = 3.4 * sides.cos(), 3.0 * sides.sin()
    return scene


FAMILIES = {
    "head": lambda: make_scene(seed=1, n=400),
    "elongated": lambda: make_scene(seed=2, stretch=(3.0, 0.25, 0.25)),
    "tiny": lambda: make_scene(seed=3, n=900, sigma=(0.02, 0.6), opacity=(0.3, 0.95)),
    "huge": lambda: make_scene(seed=14, n=40, sigma=(30.0, 300.0), opacity=(0.02, 0.4)),
    "near plane": near_plane_scene,
    "frustum clamp": clamped_scene,
    "opaque": lambda: make_scene(seed=8, n=150, opacity=(0.9985, 1.0)),
    "one channel": lambda: make_scene(seed=9, channels=1, cameras=1),
    "8 channels per camera": lambda: make_scene(seed=10, n=150, channels=8, per_camera_colors=True),
    "32 channels": lambda: make_scene(seed=11, n=120, channels=32, cameras=1),
    "4 cameras, off centre": lambda: make_scene(
        seed=12, n=200, width=75, height=33, cameras=4, center=(0.3, 0.8)
    ),
    "one Gaussian": lambda: make_scene(seed=7, n=1, cameras=1, spread=0.2),
}


def decided_pixels(scene, meta, compensated_opacities):  # -> [C, H, W] bool
    """Pixels where no decision (skip, clamp, stop, order) is so close that float32 may take it the other
    way."""
    y, x = torch.meshgrid(
        torch.arange(scene["height"]) + 0.5, torch.arange(scene["width"]) + 0.5, indexing="ij"
    )
    decided = []
    for c in range(len(scene["viewmats"])):
        visible = (meta["radii"][c] > 0).all(-1).nonzero()[:, 0]
        ids = visible[torch.argsort(meta["depths"][c, visible])]
        d = meta["means2d"][c, ids][:, None, None, :] - torch.stack([x, y], -1)
        conic, depth = meta["conics"][c, ids][:, None, None, :], meta["depths"][c, ids]
        sigma = (
            0.5 * (conic[..., 0] * d[..., 0] ** 2 + conic[..., 2] * d[..., 1] ** 2)
            + conic[..., 1] * d[..., 0] * d[..., 1]
        )
        raw = compensated_opacities[c, ids][:, None, None] * torch.exp(-sigma)
        alpha = torch.where(raw >= 1 / 255, raw.clamp(max=0.999), 0.0)
        after = torch.cumprod(1 - alpha, 0)
        close = (
            ((raw * 255 - 1).abs() < 3e-4) | ((raw - 0.999).abs() < 3e-5) | ((after / 1e-4 - 1).abs() < 5e-3)
        )
        swapped = (depth[1:] - depth[:-1]) < 3e-6 * depth[1:]
        close[1:] |= swapped[:, None, None] & (alpha[1:] > 0) & (alpha[:-1] > 0)
        decided.append(~close.any(0))
    return torch.stack(decided)


def render_and_differentiate(scene, backend, dtype, weight_render, weight_alpha, **options):
    scene = to(scene, dtype, PARAMETERS)
    render, alphas, meta = rasterize(**scene, backend=backend, **options)
    meta["means2d"].retain_grad()
    ((render * weight_render.to(dtype)).sum() + (alphas * weight_alpha.to(dtype)).sum()).backward()
    gradients = {name: scene[name].grad for name in PARAMETERS} | {"means2d": meta["means2d"].grad}
    return render.detach(), alphas.detach(), gradients, meta


CASES = [(family, "RGB", "classic") for family in FAMILIES] + [
    ("head", "RGB+ED", "antialiased"),
    ("tiny", "RGB+D", "antialiased"),
    ("elongated", "RGB", "antialiased"),
    ("huge", "D", "classic"),
    ("near plane", "ED", "classic"),
    ("8 channels per camera", "RGB+D", "classic"),
]


@pytest.mark.parametrize(("family", "render_mode", "rasterize_mode"), CASES)
def test_numba_agrees_with_the_float64_reference(family, render_mode, rasterize_mode):
    scene = FAMILIES[family]()
    options = {"render_mode": render_mode, "rasterize_mode": rasterize_mode}
    with torch.no_grad():
        reference, alphas, meta = rasterize(**to(scene, torch.float64), backend="torch", **options)
    decided = decided_pixels(scene, meta, meta["opacities"])[..., None]
    assert decided.double().mean() > 0.75
    if "ED" in render_mode:
        decided &= (
            alphas > 0.05
        )  # depth / alpha: where hardly anything is hit, only the rounding of alpha is left
    generator = torch.Generator().manual_seed(0)
    weight_render = torch.randn(reference.shape, generator=generator) * decided
    weight_alpha = torch.randn(alphas.shape, generator=generator) * decided

    expected = render_and_differentiate(scene, "torch", torch.float64, weight_render, weight_alpha, **options)
    actual = render_and_differentiate(scene, "numba", torch.float32, weight_render, weight_alpha, **options)
    scale = max(1.0, float(expected[0].abs().max()))
    assert ((actual[0] - expected[0]).abs() * decided).max() <= 1e-5 * scale
    assert ((actual[1] - expected[1]).abs() * decided).max() <= 1e-5
    for name, gradient in expected[2].items():
        if gradient is None:  # a depth mode uses neither colours nor background
            assert (
                render_mode in ("D", "ED") and name in ("colors", "backgrounds") and actual[2][name] is None
            )
            continue
        assert torch.isfinite(actual[2][name]).all()
        assert (actual[2][name] - gradient).abs().max() <= 1e-4 * gradient.abs().max(), name
    assert any(float(g.abs().max()) > 1e-3 for g in expected[2].values() if g is not None)

    for key in ("radii", "tiles_per_gauss", "isect_offsets", "flatten_ids"):
        assert actual[3][key].dtype == expected[3][key].dtype == torch.int32
    differing = (actual[3]["radii"] - expected[3]["radii"]).abs()
    assert differing.max() <= 1 and (differing > 0).float().mean() < 0.01
    for key in ("width", "height", "tile_size", "tile_width", "tile_height", "n_cameras", "n_batches"):
        assert actual[3][key] == expected[3][key]


def test_families_reach_what_their_names_say():
    def meta_of(family):
        scene = FAMILIES[family]()
        with torch.no_grad():
            return scene, *rasterize(**to(scene, torch.float64), backend="torch")[1:]

    scene, _, meta = meta_of("frustum clamp")
    edge = (scene["width"] / 2 + 0.15 * scene["width"]) + scene["width"] / 2
    seen = meta["radii"][..., 0] > 0
    assert (
        seen & ((meta["means2d"][..., 0] > edge) | (meta["means2d"][..., 0] < scene["width"] - edge))
    ).sum() > 10
    scene, _, meta = meta_of("near plane")
    z = scene["means"][:, 2] + 0.6
    assert (z < 0).sum() > 10 and ((z > 0) & (z < 0.2)).sum() > 10 and (meta["radii"] > 0).any(-1).sum() > 50
    _, alphas, _ = meta_of("opaque")
    assert (alphas > 0.9985).float().mean() > 0.1
    _, _, meta = meta_of("huge")
    assert (meta["tiles_per_gauss"] == meta["tile_width"] * meta["tile_height"]).float().mean() > 0.5


SMALL_FAMILIES = {
    "head": lambda: make_scene(seed=1, n=100, width=36, height=20),
    "frustum clamp": lambda: clamped_scene(n=40, width=36, height=20),
    "opaque": lambda: make_scene(seed=8, n=60, width=36, height=20, opacity=(0.9985, 1.0)),
    "near plane": lambda: near_plane_scene(n=80, width=36, height=20),
}


@pytest.mark.parametrize("family", SMALL_FAMILIES)
@pytest.mark.parametrize(("render_mode", "rasterize_mode"), [("RGB", "classic"), ("RGB+ED", "antialiased")])
def test_reference_gradients_agree_with_finite_differences(family, render_mode, rasterize_mode):
    scene = {
        **SMALL_FAMILIES[family](),
        "render_mode": render_mode,
        "rasterize_mode": rasterize_mode,
        "backend": "torch",
    }
    scene = to(scene, torch.float64)
    render, alphas, meta = rasterize(**scene)
    decided = decided_pixels(scene, meta, meta["opacities"])[..., None] & (alphas > 0.05)
    generator = torch.Generator().manual_seed(3)
    weight_render = torch.randn(render.shape, generator=generator, dtype=torch.float64) * decided
    weight_alpha = torch.randn(alphas.shape, generator=generator, dtype=torch.float64) * decided

    def loss(changed):
        render, alphas, _ = rasterize(**{**scene, **changed})
        return (render * weight_render).sum() + (alphas * weight_alpha).sum()

    for name in PARAMETERS:
        direction = (
            torch.randn(scene[name].shape, generator=generator, dtype=torch.float64)
            * scene[name].abs().mean()
        )
        if name == "viewmats":
            direction[:, 3] = 0
        value = scene[name].clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss({name: value}), value)
        analytic = (gradient * direction).sum()
        step = 1e-7
        with torch.no_grad():
            numeric = (
                loss({name: scene[name] + step * direction}) - loss({name: scene[name] - step * direction})
            ) / (2 * step)
        size = (gradient.norm() * direction.norm()).clamp(min=1e-9)
        assert (numeric - analytic).abs() <= 1e-5 * max(analytic.abs(), 0.01 * size), name


def centered_scene(dtype, opacities, depths, colors):
    """Round Gaussians of variance 1 + 0.3 pixel^2 on the optical axis, which meets the centre of pixel (4,
    4)."""
    n = len(depths)
    z = torch.tensor(depths, dtype=dtype)
    return {
        "means": torch.stack([torch.zeros(n, dtype=dtype), torch.zeros(n, dtype=dtype), z], -1),
        "quats": torch.tensor([[2.0, 0, 0, 0]] * n, dtype=dtype),
        "scales": (z / 10)[:, None].repeat(1, 3),
        "opacities": torch.tensor(opacities, dtype=dtype),
        "colors": torch.tensor(colors, dtype=dtype),
        "viewmats": torch.eye(4, dtype=dtype)[None],
        "Ks": torch.tensor([[[10.0, 0, 4.5], [0, 10, 4.5], [0, 0, 1]]], dtype=dtype),
        "width": 9,
        "height": 9,
    }


@pytest.mark.parametrize(("backend", "dtype"), [("torch", torch.float64), ("numba", torch.float32)])
def test_numbers_worked_out_by_hand(backend, dtype):
    scene = centered_scene(dtype, [0.5, 0.8], [4.0, 2.0], [[1.0, 0.0], [0.0, 1.0]])
    background = torch.tensor([[0.25, 0.5]], dtype=dtype)
    render, alphas, meta = rasterize(**scene, backgrounds=background, backend=backend)
    # The second is nearer: it hides 0.8, the first takes half of the rest.
    assert render[0, 4, 4].tolist() == pytest.approx([0.2 * 0.5 + 0.1 * 0.25, 0.8 + 0.1 * 0.5], abs=1e-6)
    assert alphas[0, 4, 4].item() == pytest.approx(0.9, abs=1e-6)
    fall = math.exp(-0.5 / 1.3)  # one pixel away
    assert alphas[0, 4, 5].item() == pytest.approx(1 - (1 - 0.8 * fall) * (1 - 0.5 * fall), abs=1e-6)
    assert meta["means2d"].tolist() == [[[4.5, 4.5], [4.5, 4.5]]]
    assert meta["conics"][0, 0].tolist() == pytest.approx([1 / 1.3, 0, 1 / 1.3], abs=1e-6)
    expected = [math.ceil(math.sqrt(2 * math.log(255 * o)) * math.sqrt(1.3)) for o in (0.5, 0.8)]
    assert meta["radii"].tolist() == [[[expected[0]] * 2, [expected[1]] * 2]]
    assert meta["flatten_ids"].tolist() == [1, 0] and meta["isect_offsets"].tolist() == [[[0]]]

    depth, _, _ = rasterize(**scene, render_mode="D", backend=backend)
    assert depth[0, 4, 4].item() == pytest.approx(0.8 * 2 + 0.1 * 4, abs=1e-5)
    expected_depth, _, _ = rasterize(**scene, render_mode="RGB+ED", backend=backend)
    assert expected_depth[0, 4, 4, 2].item() == pytest.approx(2.0 / 0.9, abs=1e-5)

    # Antialiased: without blur the variance is 1, so the peak falls by sqrt(1 / 1.3^2).
    _, alphas, meta = rasterize(**scene, rasterize_mode="antialiased", backend=backend)
    assert meta["opacities"][0].tolist() == pytest.approx([0.5 / 1.3, 0.8 / 1.3], abs=1e-6)
    assert alphas[0, 4, 4].item() == pytest.approx(1 - (1 - 0.8 / 1.3) * (1 - 0.5 / 1.3), abs=1e-6)


@pytest.mark.parametrize(("backend", "dtype"), [("torch", torch.float64), ("numba", torch.float32)])
def test_a_pixel_stops_before_the_gaussian_that_would_finish_it(backend, dtype):
    # Transmittance 1 -> 0.1 -> 0.001 -> 1e-6, which is not reached: the third and all later ones are left
    # out.
    scene = centered_scene(
        dtype, [0.9, 0.99, 0.999, 0.5], [2.0, 2.1, 2.2, 2.3], [[1.0], [10.0], [100.0], [1000.0]]
    )
    render, alphas, _ = rasterize(**scene, backend=backend)
    assert render[0, 4, 4, 0].item() == pytest.approx(0.9 + 10 * 0.099, rel=1e-5)
    assert alphas[0, 4, 4, 0].item() == pytest.approx(0.999, abs=1e-6)


@pytest.mark.parametrize(("backend", "dtype"), [("torch", torch.float64), ("numba", torch.float32)])
def test_alpha_is_held_at_0_999_and_passes_no_gradient_there(backend, dtype):
    scene = centered_scene(dtype, [1.0], [2.0], [[1.0]])
    for name in ("means", "opacities", "colors"):
        scene[name].requires_grad_(True)
    render, alphas, _ = rasterize(**scene, backend=backend)
    assert alphas[0, 4, 4, 0].item() == pytest.approx(0.999, abs=1e-6)
    render[0, 4, 4, 0].backward()
    assert scene["opacities"].grad.tolist() == [0.0] and scene["means"].grad.abs().max() == 0
    assert scene["colors"].grad.item() == pytest.approx(0.999, abs=1e-6)


@pytest.mark.parametrize(("backend", "dtype"), [("torch", torch.float64), ("numba", torch.float32)])
def test_culling(backend, dtype):
    scene = centered_scene(dtype, [0.5, 0.5, 0.5, 0.5 / 255, 0.5], [2.0, -2.0, 0.05, 2.0, 9.0], [[1.0]] * 5)
    _, _, meta = rasterize(**scene, near_plane=0.1, far_plane=8.0, backend=backend)
    assert (meta["radii"][0, :, 0] > 0).tolist() == [True, False, False, False, False]
    for key in ("means2d", "conics", "depths"):
        assert meta[key][0, 1:].abs().max() == 0
    _, alphas, meta = rasterize(**scene, radius_clip=4.0, backend=backend)  # the radius of the first is 4
    assert meta["radii"][0, 0].tolist() == [0, 0] and alphas.max() < 0.51
    scene["means"] = scene["means"] + torch.tensor([3.0, 0, 0], dtype=dtype)  # 15 pixels to the right
    assert (rasterize(**scene, backend=backend)[2]["radii"][0, 0] == 0).all()


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_an_empty_scene_shows_the_background_and_passes_its_gradient(backend):
    scene = to(make_scene(n=0, width=20, height=10), torch.float32, PARAMETERS)
    render, alphas, meta = rasterize(**scene, render_mode="RGB+ED", backend=backend)
    assert render.shape == (2, 10, 20, 4) and alphas.abs().max() == 0
    assert torch.equal(render[..., :3], scene["backgrounds"][:, None, None].expand(2, 10, 20, 3))
    assert render[..., 3].abs().max() == 0 and len(meta["flatten_ids"]) == 0
    render[..., :3].sum().backward()
    assert torch.equal(scene["backgrounds"].grad, torch.full((2, 3), 200.0))
    assert scene["means"].grad is None or scene["means"].grad.shape == (0, 3)


def test_gradients_are_computed_for_what_asks_for_them_only():
    scene = make_scene(n=50, cameras=1)
    scene["colors"].requires_grad_(True)
    render, _, meta = rasterize(**scene)
    assert not meta["means2d"].requires_grad
    render.sum().backward()
    assert scene["colors"].grad.abs().max() > 0
    scene["Ks"].requires_grad_(True)
    rasterize(**scene)[0].sum().backward()
    assert scene["Ks"].grad is None


@pytest.mark.parametrize("name", ["means", "colors"])
def test_a_parameter_changed_before_backward_is_noticed(name):
    scene = to(make_scene(n=20), torch.float32, PARAMETERS)
    render, _, _ = rasterize(**scene)
    with torch.no_grad():
        scene[name].add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        render.sum().backward()
