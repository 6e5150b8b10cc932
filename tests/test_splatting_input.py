"""Bad input is refused with a sentence that names the argument."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_splatting import make_scene

from raf_lite.splatting import gsplat_backend, rasterize


def nan_at(tensor, *index, value=float("nan")):
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


BAD = [
    ("means", lambda s: s["means"][:, :2], "means must have shape"),
    ("means", lambda s: s["means"][0], "means must have shape"),
    ("means", lambda s: s["means"].numpy(), "means must be a torch tensor"),
    ("means", lambda s: s["means"].long(), "means must be a floating tensor"),
    ("means", lambda s: nan_at(s["means"], 3, 1), r"means must be finite, got nan at index \[3, 1\]"),
    ("quats", lambda s: s["quats"][:-1], "quats must have shape"),
    ("quats", lambda s: nan_at(s["quats"], 0, 0, value=float("inf")), "quats must be finite"),
    ("scales", lambda s: s["scales"].double(), "scales must be a floating tensor of the same dtype"),
    ("opacities", lambda s: s["opacities"][:, None], "opacities must have shape"),
    ("opacities", lambda s: s["opacities"].to("meta"), "opacities must be on the device of means"),
    ("colors", lambda s: s["colors"][:, :0], "colors must have shape"),
    ("colors", lambda s: s["colors"].repeat(1, 11), "colors must have shape.*1 to 32"),
    ("colors", lambda s: s["colors"][None], "colors must have shape"),
    ("viewmats", lambda s: s["viewmats"][0], "viewmats must have shape"),
    ("viewmats", lambda s: s["viewmats"][:0], "viewmats must have shape.*at least one camera"),
    ("viewmats", lambda s: nan_at(s["viewmats"], 1, 0, 0, value=float("-inf")), "viewmats must be finite"),
    ("viewmats", lambda s: s["viewmats"].transpose(1, 2), r"viewmats\[0\] must end in the row.*transposed"),
    (
        "viewmats",
        lambda s: nan_at(s["viewmats"], 1, slice(0, 3), slice(0, 3), value=1.0),
        r"viewmats\[1\] is singular",
    ),
    ("viewmats", lambda s: nan_at(s["viewmats"], 0, 2, slice(0, 3), value=0.0), r"viewmats\[0\] is singular"),
    ("Ks", lambda s: s["Ks"][:1], "Ks must have shape"),
    ("Ks", lambda s: nan_at(s["Ks"], 1, 1, 1, value=0.0), r"Ks\[1\] must have positive focal lengths"),
    ("backgrounds", lambda s: s["backgrounds"][0], "backgrounds must have shape"),
    ("backgrounds", lambda s: s["backgrounds"][:, :2], "backgrounds must have shape"),
    ("width", lambda s: 0, "width must be an integer of at least 1"),
    ("width", lambda s: 10.5, "width must be an integer"),
    ("height", lambda s: -3, "height must be an integer of at least 1"),
    ("near_plane", lambda s: 0.0, "near_plane must be above 0"),
    ("near_plane", lambda s: float("nan"), "near_plane must be a finite number"),
    ("far_plane", lambda s: 1e-3, "near_plane must be above 0 and at most far_plane"),
    ("eps2d", lambda s: -0.1, "eps2d must be a finite number of at least 0"),
    ("radius_clip", lambda s: "1", "radius_clip must be a finite number"),
    ("render_mode", lambda s: "RGBD", "render_mode must be one of RGB, D, ED"),
    ("rasterize_mode", lambda s: "smooth", "rasterize_mode must be one of classic, antialiased"),
    ("backend", lambda s: "cuda", "backend must be one of auto, gsplat, numba, torch"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_a_bad_argument_is_named(name, change, message):
    scene = make_scene(n=10)
    scene[name] = change(scene)
    with pytest.raises(ValueError, match=message):
        rasterize(**scene)


def test_a_sum_that_overflows_is_not_mistaken_for_bad_input():
    scene = make_scene(n=10)
    scene["means"][:, 0] = 3e38
    assert rasterize(**scene)[1].max() == 0


def test_numba_asks_for_float32_and_torch_takes_float64():
    scene = {k: v.double() if torch.is_tensor(v) else v for k, v in make_scene(n=10).items()}
    with pytest.raises(ValueError, match="means must be float32"):
        rasterize(**scene)
    assert rasterize(**scene, backend="torch")[0].dtype == torch.float64


def test_numpy_sizes_are_integers_too():
    scene = make_scene(n=10)
    scene["width"] = np.int64(scene["width"])
    assert rasterize(**scene)[0].shape[2] == scene["width"]


def test_one_pixel_and_sizes_that_are_no_multiple_of_a_tile():
    for width, height in ((1, 1), (1, 40), (33, 17)):
        scene = make_scene(n=20, width=width, height=height)
        render, alphas, _ = rasterize(**scene)
        expected, expected_alphas, _ = rasterize(**scene, backend="torch")
        torch.testing.assert_close(render, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(alphas, expected_alphas, rtol=0, atol=1e-5)


def test_gsplat_is_for_cuda_tensors():
    with pytest.raises(ValueError, match="backend='gsplat' needs CUDA tensors"):
        rasterize(**make_scene(n=10), backend="gsplat")


@pytest.mark.may_skip("needs a machine without CUDA")
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine may have a working gsplat")
def test_the_fallback_says_once_how_to_install_gsplat():
    gsplat_backend.warn_fallback.cache_clear()
    with pytest.warns(UserWarning, match="pip install gsplat==1.5.3"):
        gsplat_backend.warn_fallback()
    gsplat_backend.warn_fallback()
