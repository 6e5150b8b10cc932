"""Out again: what was exported is read back with other programs, and has to be the same head."""

import base64
import fnmatch
import gzip
import io
import json
import math
import re
import struct
import subprocess
import sys
import tomllib
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from conftest import ROOT
from lab import chromium
from PIL import Image
from safetensors.numpy import load_file

from raf_lite.avatar import GaussianAvatar, Similarity, ViewRange, frontal_camera, turned
from raf_lite.captures import Camera
from raf_lite.export import (
    pack_avatar,
    place,
    write_basis,
    write_glb,
    write_player,
    write_ply,
    write_sequence,
)
from raf_lite.export import player as player_module
from raf_lite.export.player import player_script
from raf_lite.splatting import rasterize

SH_C0 = 0.5 / math.sqrt(math.pi)
FRONT = Camera(
    "front",
    np.array([[0.6, 0, 0.8, 0.05], [0, -1, 0, -0.1], [0.8, 0, -0.6, 6.0], [0, 0, 0, 1]]),
    np.array([[300.0, 0, 66], [0, 310.0, 50], [0, 0, 1]]),
    width=128,
    height=96,
)


def small_avatar(field="basis", n=60, dim=5, seed=0, front=None, **settings):
    """A cloud of Gaussians whose field is not zero, so that descriptors matter."""
    torch.manual_seed(seed)  # the field's own start
    g = torch.Generator().manual_seed(seed)
    avatar = GaussianAvatar(
        torch.randn(n, 3, generator=g) * 0.3,
        torch.rand(n, 3, generator=g),
        0.1,
        Similarity(np.array([0.5, 1.0, -2.0]), 3.0),
        descriptor="own",
        descriptor_mean=torch.rand(dim, generator=g),
        descriptor_scale=0.5,
        field=field,
        field_settings=settings,
        front=front,
    )
    with torch.no_grad():
        for name, p in avatar.named_parameters():
            p.add_((0.1 if name == "field.basis" else 0.2) * torch.randn(p.shape, generator=g))
    return avatar


def riding_avatar(n=60, dim=5, **settings):
    """The same, its Gaussians on twelve landmarks; training had descriptors about .5."""
    avatar, rng = small_avatar(n=n, dim=dim, **settings), np.random.default_rng(4)
    avatar.neutral_descriptor = rng.random(dim).astype(np.float32)
    landmarks = avatar.similarity.centre + rng.normal(0, 1, (12, 3))
    avatar.ride(landmarks, rng.normal(0, 0.4, (dim, 12, 3)), descriptors(30, dim, seed=5))
    return avatar


def descriptors(frames=3, dim=5, seed=1):
    return np.random.default_rng(seed).normal(0.5, 0.6, (frames, dim)).astype(np.float32)


def nod():
    """A head pose that turns and moves."""
    a = math.radians(12)
    pose = np.eye(4)
    pose[:3] = [[1, 0, 0, 0.3], [0, math.cos(a), -math.sin(a), -0.2], [0, math.sin(a), math.cos(a), 0.4]]
    return pose


def read_ply(path):
    """A 3DGS file by plyfile: means, quats, scales, opacities, colours, as a viewer makes them."""
    vertex = pytest.importorskip("plyfile").PlyData.read(path)["vertex"]
    columns = lambda *names: np.stack([vertex[n] for n in names], -1)  # noqa: E731
    assert not columns("nx", "ny", "nz").any()
    return {
        "means": columns("x", "y", "z"),
        "quats": columns("rot_0", "rot_1", "rot_2", "rot_3"),
        "scales": np.exp(columns("scale_0", "scale_1", "scale_2")),
        "opacities": 1 / (1 + np.exp(-vertex["opacity"])),
        "colors": 0.5 + SH_C0 * columns("f_dc_0", "f_dc_1", "f_dc_2"),
    }


def read_glb(path):
    """A .glb's JSON, and its attributes by the letter of glTF 2.0."""
    data = path.read_bytes()
    magic, version, length, json_length, json_type = struct.unpack_from("<4sIII4s", data)
    assert (magic, version, length, json_type) == (b"glTF", 2, len(data), b"JSON") and json_length % 4 == 0
    document = json.loads(data[20 : 20 + json_length])
    body_length, body_type = struct.unpack_from("<I4s", data, 20 + json_length)
    body = data[28 + json_length :]
    assert body_type == b"BIN\0" and body_length == len(body) == document["buffers"][0]["byteLength"]
    arrays = {}
    for name, index in document["meshes"][0]["primitives"][0]["attributes"].items():
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        assert accessor["componentType"] == 5126 and view["byteLength"] == 4 * width * accessor["count"]
        part = np.frombuffer(body, "<f4", width * accessor["count"], view["byteOffset"])
        arrays[name] = part.reshape(-1, width) if width > 1 else part
    return document, arrays


def picture(gaussians, avatar, camera):
    """What a renderer shows that stands where `camera` stood, in the file's axes."""
    viewmat = np.eye(4)
    viewmat[:3, 3] = avatar.view(camera, np.eye(4))[:3, 3]
    tensors = [
        torch.as_tensor(gaussians[k], dtype=torch.float32)
        for k in ("means", "quats", "scales", "opacities", "colors")
    ]
    image, _, _ = rasterize(
        *tensors,
        torch.as_tensor(viewmat, dtype=torch.float32)[None],
        torch.tensor(camera.K, dtype=torch.float32)[None],
        camera.width,
        camera.height,
        backgrounds=torch.ones(1, 3),
        rasterize_mode="antialiased",
    )
    return image[0].clamp(0, 1).numpy()


def test_export_needs_neither_pictures_nor_widgets():
    code = (
        "import sys, raf_lite.export\n"
        "print(*[m for m in sys.modules if m.startswith(('raf_lite.viewing', 'raf_lite.widgets'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("field", ["basis", "mlp"])
@pytest.mark.parametrize("front", [None, FRONT])
@pytest.mark.parametrize("pose", [None, nod()])
def test_a_ply_read_by_another_library_renders_as_the_avatar_does(field, front, pose, tmp_path):
    avatar, descriptor = small_avatar(field, front=front), descriptors()[0]
    gaussians = read_ply(write_ply(avatar, descriptor, tmp_path / "head.ply", pose))
    camera = frontal_camera(avatar, 96)
    expected = avatar.render(descriptor[None], (np.eye(4) if pose is None else pose)[None], [camera])[0, 0]
    assert np.abs(picture(gaussians, avatar, camera) - expected).max() < 2e-3
    assert expected.std() > 0.05  # there is something to see
    np.testing.assert_allclose(np.linalg.norm(gaussians["quats"], axis=1), 1, atol=1e-6)


def test_axes_units_and_colours_of_the_ply_by_hand(tmp_path):
    avatar = small_avatar(n=1)
    with torch.no_grad():
        for p in avatar.parameters():
            p.zero_()
        avatar.means[0] = torch.tensor(
            [0.1, 0.5, 0.3]
        )  # y up, z towards the viewer: as in FLAME's head space
        avatar.quats[0] = torch.tensor([0.0, 0, 2, 0])  # half a turn about y
        avatar.log_scales[0] = torch.tensor([-1.0, -2, -3])
        avatar.opacity_logits[0] = 1.5
        avatar.color_logits[0] = torch.tensor([0.0, math.log(3), -math.log(3)])
    path = write_ply(avatar, np.zeros(5), tmp_path / "one.ply")
    vertex = pytest.importorskip("plyfile").PlyData.read(path)["vertex"]
    assert [p.name for p in vertex.properties] == [
        "x",
        "y",
        "z",
        "nx",
        "ny",
        "nz",
        "f_dc_0",
        "f_dc_1",
        "f_dc_2",
        "opacity",
        "scale_0",
        "scale_1",
        "scale_2",
        "rot_0",
        "rot_1",
        "rot_2",
        "rot_3",
    ]
    row = np.array(vertex[0].tolist())
    np.testing.assert_allclose(row[:3], [0.1, -0.5, -0.3], atol=1e-6)  # x right, y down, z away
    np.testing.assert_allclose(row[6:9], [0, 0.25 / SH_C0, -0.25 / SH_C0], atol=1e-6)
    np.testing.assert_allclose(row[9:13], [1.5, -1, -2, -3], atol=1e-6)
    # Half a turn about y, then about x: half a turn about z, whichever sign.
    np.testing.assert_allclose(np.abs(row[13:]), [0, 0, 0, 1], atol=1e-6)
    assert b"3 of the capture's units" in path.read_bytes()


def test_a_scale_too_small_for_float32_and_a_zero_quaternion_stay_finite():
    avatar = small_avatar()
    with torch.no_grad():
        avatar.log_scales.fill_(-200.0)
        avatar.quats.zero_()
        avatar.field.basis.zero_()
    g = place(avatar, np.zeros(5))
    assert np.isfinite(g.log_scales).all() and np.isfinite(g.quats).all()


def test_a_turned_head_is_turned_about_its_middle():
    avatar, descriptor = small_avatar(front=FRONT), descriptors()[0]
    a = math.radians(30)
    turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    pose = turned(avatar, frontal_camera(avatar, 96), turn[None])[0]
    still, moved = place(avatar, descriptor), place(avatar, descriptor, pose)
    np.testing.assert_allclose(moved.means, still.means @ turn.T, atol=1e-5)


def test_glb_holds_the_splats_of_the_ply_in_gltf_s_axes(tmp_path):
    avatar, descriptor = small_avatar(front=FRONT), descriptors()[0]
    ply = read_ply(write_ply(avatar, descriptor, tmp_path / "head.ply", nod()))
    document, arrays = read_glb(write_glb(avatar, descriptor, tmp_path / "head.glb", nod()))
    assert document["extensionsUsed"] == ["KHR_gaussian_splatting"] and document["asset"]["version"] == "2.0"
    primitive = document["meshes"][0]["primitives"][0]
    extension = primitive["extensions"]["KHR_gaussian_splatting"]
    assert primitive["mode"] == 0 and (extension["kernel"], extension["colorSpace"]) == (
        "ellipse",
        "srgb_rec709_display",
    )
    position = document["accessors"][primitive["attributes"]["POSITION"]]
    assert (
        position["min"] == arrays["POSITION"].min(0).tolist()
        and position["max"] == arrays["POSITION"].max(0).tolist()
    )
    np.testing.assert_allclose(arrays["POSITION"], ply["means"] * [1, -1, -1], atol=1e-6)
    splat = {k.split(":")[1]: v for k, v in arrays.items() if ":" in k}
    np.testing.assert_allclose(splat["SCALE"], ply["scales"], rtol=1e-5)
    np.testing.assert_allclose(splat["OPACITY"], ply["opacities"], atol=1e-6)
    np.testing.assert_allclose(0.5 + SH_C0 * splat["SH_DEGREE_0_COEF_0"], ply["colors"], atol=1e-6)
    np.testing.assert_allclose(arrays["COLOR_0"][:, :3], ply["colors"], atol=1e-6)
    # Half a turn about x is the quaternion (0, 1, 0, 0), wxyz: times (w, x, y, z) it is (-x, w, -z, y), here
    # with w last.
    w, x, y, z = ply["quats"].T
    wanted = np.stack([w, -z, y, -x], -1)
    assert np.abs(np.abs((splat["ROTATION"] * wanted).sum(1)) - 1).max() < 1e-5


def test_a_sequence_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    avatar, values = small_avatar(), descriptors(4)
    poses = np.stack([np.eye(4), nod(), np.eye(4), nod()])
    real, calls = write_ply, []

    def stops(*args):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(args)
        return real(*args)

    monkeypatch.setattr("raf_lite.export.sequence.write_ply", stops)
    with pytest.raises(KeyboardInterrupt):
        write_sequence(avatar, values, tmp_path / "s", poses)
    assert not json.loads((tmp_path / "s" / "sequence.json").read_text())["complete"]
    monkeypatch.setattr("raf_lite.export.sequence.write_ply", lambda *a: calls.append(a) or real(*a))
    index = json.loads(write_sequence(avatar, values, tmp_path / "s", poses, fps=30).read_text())
    assert len(calls) == 4, "frames that are there are not written again"
    assert (
        index["complete"]
        and index["fps"] == 30
        and index["frames"] == [f"frame_{t:05d}.ply" for t in range(4)]
    )
    for t, name in enumerate(index["frames"]):
        one = write_ply(avatar, values[t], tmp_path / "one.ply", poses[t])
        assert (tmp_path / "s" / name).read_bytes() == one.read_bytes()
    assert len(list((tmp_path / "s").iterdir())) == 5


def test_a_sequence_is_not_mixed_with_another(tmp_path):
    write_sequence(small_avatar(), descriptors(2), tmp_path / "s")
    for avatar, values in ((small_avatar(seed=3), descriptors(2)), (small_avatar(), descriptors(2, seed=9))):
        with pytest.raises(ValueError, match="another avatar or sequence"):
            write_sequence(avatar, values, tmp_path / "s")
    (tmp_path / "s" / "sequence.json").unlink()
    with pytest.raises(ValueError, match="nobody knows whose"):
        write_sequence(small_avatar(), descriptors(2), tmp_path / "s")


def asked(descriptor, rows, width, gap):
    """What the field is asked, in plain NumPy."""
    weight = np.exp(-np.square(descriptor - rows).sum(1) / (2 * width**2))
    near = weight / weight.sum() @ rows
    return near + min(1, gap / np.linalg.norm(descriptor - near)) * (descriptor - near)


def evaluate_basis(stem, descriptor):
    """The JSON's `steps` in plain NumPy: what somebody without raf_lite would write."""
    text = json.loads(stem.with_name(stem.name + ".json").read_text())
    t = load_file(stem.with_name(text["tensors"]["file"]))
    for name, about in text["arrays"].items():
        assert list(t[name].shape) == about["shape"]
    x, steps = (descriptor - t["descriptor_mean"]) / t["descriptor_scale"], list(text["steps"])
    if "rows" in t:
        width, gap = (
            float(re.search(found, steps[at])[1])
            for at, found in ((0, r"2 \* ([\d.e-]+)\^2"), (2, r"1, ([\d.e-]+) /"))
        )
        near = asked(descriptor, t["rows"], width, gap)
        x = np.concatenate([x, (near - t["descriptor_mean"]) / t["descriptor_scale"]])
        steps = steps[3:]
    *hidden, last = range(sum(name.endswith(".weight") for name in t))
    for i in hidden:
        assert f"h{i} = max(0, network.{i}.weight @" in steps[1 + i]
        x = np.maximum(0, t[f"network.{i}.weight"] @ x + t[f"network.{i}.bias"])
    assert f"c = network.{last}.weight @ h{last - 1}" in steps[1 + last]
    c = t[f"network.{last}.weight"] @ x + t[f"network.{last}.bias"]
    offset = np.einsum("k,knj->nj", c, t["basis"])
    return {
        "means": t["means"] + offset[:, :3],
        "quats": t["quats"] + offset[:, 3:7],
        "scales": np.exp(t["log_scales"] + offset[:, 7:10]),
        "colors": 1 / (1 + np.exp(-(t["color_logits"] + offset[:, 10:13]))),
        "opacities": 1 / (1 + np.exp(-t["opacity_logits"])),
    }


@pytest.mark.parametrize("make", [small_avatar, riding_avatar])
def test_the_basis_evaluates_in_numpy_to_the_same_gaussians(tmp_path, make):
    avatar, values = make(bases=6, hidden=16), descriptors(3) * [[1], [1], [4]]  # one beyond training
    values = values.astype(np.float32)
    files = write_basis(avatar, tmp_path / "head.v1")
    assert [f.name for f in files] == ["head.v1.safetensors", "head.v1.json"]
    for descriptor in values:
        found = evaluate_basis(tmp_path / "head.v1", descriptor)
        with torch.no_grad():
            wanted, _ = avatar.gaussians(torch.as_tensor(descriptor)[None])
        for name, array in found.items():
            reference = wanted[name].numpy().reshape(array.shape)
            assert np.abs(array - reference).max() <= 1e-5 * max(1, np.abs(reference).max()), name
    about = json.loads(files[1].read_text())
    assert set(about["arrays"]) == set(load_file(files[0])), "every tensor is described"
    assert about["descriptor"] == {"name": "own", "dimensions": [f"own {i}" for i in range(5)]}
    assert about["space"]["radius"] == 3.0 and about["rendering"]["rasterize_mode"] == "antialiased"


def unpack(packed):
    """What model.js does, in NumPy: a function from descriptor to canonical plus blend, [14, N]."""
    body = gzip.decompress(packed.data)
    h = packed.header
    arrays = {}
    for name, place_ in h["arrays"].items():
        assert place_["offset"] % int(place_["type"][1]) == 0, (
            "a typed array must start at a multiple of its size"
        )
        arrays[name] = np.frombuffer(body, "<" + place_["type"], math.prod(place_["shape"]), place_["offset"])
        arrays[name] = arrays[name].reshape(place_["shape"]).astype(np.float64)
    canonical = (
        arrays["canonical"] * np.array(h["canonicalStep"])[:, None] + np.array(h["canonicalLow"])[:, None]
    )

    def evaluate(descriptor):
        x = (descriptor - h["mean"]) / h["scale"]
        if h["reach"] is not None:
            near = asked(descriptor, arrays["rows"], **h["reach"])
            x = np.concatenate([x, (near - h["mean"]) / h["scale"]])
        for i in range(h["layers"]):
            x = arrays[f"weight{i}"] @ x + arrays[f"bias{i}"]
            x = np.maximum(x, 0) if i < h["layers"] - 1 else x
        out = canonical.copy()
        out[:13] += np.einsum("k,kcn->cn", x, arrays["components"]) * np.array(h["componentStep"])[:, None]
        return out

    return evaluate


def flat(avatar, descriptor):
    """The avatar's own numbers in the order of `unpack`: [14, N]."""
    with torch.no_grad():
        g, offsets = avatar.gaussians(torch.as_tensor(descriptor, dtype=torch.float32)[None])
        rest = torch.cat([avatar.quats, avatar.log_scales, avatar.color_logits], 1) + offsets[0, :, 3:]
        canonical = torch.cat([g["means"][0], rest], 1)
        return torch.cat([canonical, avatar.opacity_logits[:, None]], 1).T.numpy()


@pytest.mark.parametrize("make", [small_avatar, riding_avatar])
def test_a_packed_avatar_is_the_avatar_up_to_its_8_bits(make):
    avatar, values = make(n=300), descriptors(20)
    packed = pack_avatar(avatar, values)
    evaluate = unpack(packed)
    json.dumps(packed.header)
    middle = flat(avatar, avatar.descriptor_mean.numpy())
    for descriptor in (*values[:3], descriptors(1, seed=77)[0] * 3):  # the last one is far off
        wanted = flat(avatar, descriptor)
        error, moved = np.abs(evaluate(descriptor) - wanted), np.abs(wanted - middle)
        for channels in (slice(0, 3), slice(3, 7), slice(7, 10), slice(10, 13)):
            assert error[channels].mean() < 0.12 * moved[channels].mean()
        assert error[13].max() < 1e-4
    shares = [s["share"] for s in packed.header["componentSliders"]]
    assert shares == sorted(shares, reverse=True) and 0.5 < sum(shares) <= 1.001
    assert pack_avatar(avatar, values).data == packed.data, "the same bytes each time"


def test_the_sliders_are_those_that_move_the_avatar_most():
    avatar = small_avatar()
    with torch.no_grad():
        avatar.field.coefficients[0].weight[:, [0, 1, 2, 4]] = 0  # only dimension 3 is left
    assert pack_avatar(avatar).header["dimensionSliders"][0]["name"] == "own 3"
    names = [s["name"] for s in pack_avatar(avatar).header["componentSliders"]]
    assert names == [f"component {i + 1}" for i in range(8)]


def test_components_are_those_of_the_given_descriptors():
    """Sorted by how far centres move, and a slider counts standard deviations; colours, however strong, sort
    nothing."""
    avatar, values = small_avatar(), descriptors(200)
    with torch.no_grad():
        avatar.field.basis.view(len(avatar.field.basis), -1, 13)[..., 10:] *= 30
    header = pack_avatar(avatar, values).header
    with torch.no_grad():
        moves = avatar.gaussians(torch.as_tensor(values))[1][:, :, :3].flatten(1).numpy()
    strength = np.linalg.svd(moves - moves.mean(0), compute_uv=False) ** 2
    shares, units = (np.array([s[key] for s in header["componentSliders"]]) for key in ("share", "unit"))
    np.testing.assert_allclose(shares, (strength / strength.sum())[: len(shares)], atol=0.03)
    # The coefficients that the browser computes: along the first components they vary by one unit.
    raw = gzip.decompress(pack_avatar(avatar, values).data)
    layer = lambda name: np.frombuffer(  # noqa: E731
        raw, "<f4", math.prod(header["arrays"][name]["shape"]), header["arrays"][name]["offset"]
    ).reshape(header["arrays"][name]["shape"])
    x = (values - header["mean"]) / header["scale"]
    for i in range(header["layers"]):
        x = x @ layer(f"weight{i}").T + layer(f"bias{i}")
        x = np.maximum(x, 0) if i < header["layers"] - 1 else x
    np.testing.assert_allclose(x[:, :3].std(0) / units[:3], 1, atol=0.1)
    assert np.abs(x[:, :3].mean(0)).max() < 1e-3


class Page(HTMLParser):
    """Tags with their attributes, and the text inside each."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.last = [], {}, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.last = tag + "".join(f"#{v}" for k, v in attrs if k == "id")

    def handle_data(self, data):
        self.texts[self.last] = self.texts.get(self.last, "") + data


def test_the_page_is_one_file_without_outside_resources(tmp_path):
    avatars = {"baseline": small_avatar(), "</script><b>": small_avatar(seed=4)}
    path = write_player(
        avatars, tmp_path / "p.html", sequences={"A & B": descriptors(7)}, title="<i>heads</i>"
    )
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert path.stat().st_size < 3_000_000
    assert not any({"src", "href"} & attrs.keys() for _, attrs in page.tags)
    policy = next(
        attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'") and "http" not in policy
    assert (
        page.texts["title"].strip() == page.texts["h1"].strip() == "<i>heads</i>"
        and page.tags[0][1]["lang"] == "en"
    )
    data = json.loads(page.texts["script#data"])
    assert [a["name"] for a in data["avatars"]] == list(avatars) and "b" not in {tag for tag, _ in page.tags}
    film = np.frombuffer(gzip.decompress(base64.b64decode(data["sequences"][0]["data"])), "<f4").reshape(
        -1, 5
    )
    np.testing.assert_allclose(film, descriptors(7), atol=5.1e-5)
    for owner in ("three.js authors", "WORLD LABS TECHNOLOGIES", "Arjun Barrett"):
        assert owner in page.texts["pre"], "MIT asks for the notices wherever the code goes"
    assert player_script() in text


def test_every_file_of_the_player_is_installed():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "raf_lite"
    ]
    for path in (ROOT / "raf_lite" / "export").iterdir():
        if path.is_file() and path.suffix != ".py":
            assert any(fnmatch.fnmatch(f"export/{path.name}", p) for p in patterns), path.name


def test_an_avatar_without_a_basis_is_told_so(tmp_path):
    avatar = small_avatar("mlp")
    for call in (
        lambda: write_basis(avatar, tmp_path / "x"),
        lambda: pack_avatar(avatar),
        lambda: write_player({"a": avatar}, tmp_path / "x.html", sequences={}),
    ):
        with pytest.raises(
            ValueError, match="needs a learned basis, and this avatar's field is 'mlp'; train it with"
        ):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_ply, write_glb])
def test_bad_descriptors_and_poses_are_named(write, tmp_path):
    avatar, path = small_avatar(), tmp_path / "x"
    with pytest.raises(
        ValueError, match=f"descriptors of {write.__name__} have 6 dimensions and this avatar's 'own' have 5"
    ):
        write(avatar, np.zeros(6), path)
    with pytest.raises(ValueError, match=f"row 0 of the descriptors of {write.__name__} holds NaN"):
        write(avatar, np.full(5, np.nan), path)
    with pytest.raises(ValueError, match=r"head pose is \[3, 4\], not \[4, 4\]"):
        write(avatar, np.zeros(5), path, np.eye(4)[:3])
    with pytest.raises(ValueError, match="head pose"):
        write(avatar, np.zeros(5), path, 2 * np.eye(4))
    assert not list(tmp_path.iterdir())


def test_bad_sequences_are_named(tmp_path):
    avatar, values = small_avatar(), descriptors(3)
    values[1, 2] = np.nan
    with pytest.raises(ValueError, match="row 1 of the descriptors of write_sequence holds NaN"):
        write_sequence(avatar, values, tmp_path / "s")
    with pytest.raises(ValueError, match="write_sequence: there are no descriptors"):
        write_sequence(avatar, values[:0], tmp_path / "s")
    with pytest.raises(ValueError, match="2 head poses for 1 descriptors"):
        write_sequence(avatar, values[:1], tmp_path / "s", np.stack([np.eye(4)] * 2))
    with pytest.raises(ValueError, match="frame 0: the head pose"):
        write_sequence(avatar, values[:1], tmp_path / "s", np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match="fps is 0"):
        write_sequence(avatar, values[:1], tmp_path / "s", fps=0)
    assert not list(tmp_path.iterdir())


def test_pages_that_cannot_be_are_refused(tmp_path, monkeypatch):
    path, avatar = tmp_path / "p.html", small_avatar()
    with pytest.raises(ValueError, match="got no avatar"):
        write_player({}, path, sequences={})
    with pytest.raises(ValueError, match=r"own \[5\] and own \[7\]"):
        write_player({"a": avatar, "b": small_avatar(dim=7)}, path, sequences={})
    with pytest.raises(ValueError, match="row 1 of the descriptors of sequence 'x' holds NaN"):
        write_player({"a": avatar}, path, sequences={"x": [[0.0] * 5, [np.nan] * 5]})
    with pytest.raises(ValueError, match="fps is -1"):
        write_player({"a": avatar}, path, sequences={}, fps=-1)
    monkeypatch.setattr(player_module, "MAX_BYTES", 1_000_000)
    with pytest.raises(ValueError, match="may have 1; leave an avatar out"):
        write_player({"a": avatar}, path, sequences={})
    assert not list(tmp_path.iterdir())


# In a real browser. WebGL is drawn by the processor here: pictures come late, so everything waits for
# conditions, not for times.


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


class Opened:
    """The page in a browser, with what it said and asked for."""

    def __init__(self, browser, path):
        self.page = browser.new_page(viewport={"width": 1000, "height": 900})
        self.page.set_default_timeout(180_000)
        self.complaints, self.requests = [], []
        self.page.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.goto(path.as_uri())
        self.wait("Boolean(window.player)")

    def wait(self, condition):
        """Until a JavaScript condition holds. Not playwright's own way: it evaluates text, which the page's
        policy forbids."""
        for _ in range(600):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(200)
        raise AssertionError(f"never came true: {condition}; the page said {self.complaints}")

    def pixels(self):
        """The canvas as float [H, W, 3], drawn anew so that it can be read."""
        url = self.page.evaluate("""() => { const v = player.view; v.renderer.render(v.scene, v.camera);
                                            return player.canvas.toDataURL(); }""")
        return np.asarray(
            Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB")
        ) / np.float32(255)

    def settled(self):
        """The picture once splats were sorted and nothing is drawn any more."""
        before = None
        for _ in range(100):
            frames = self.page.evaluate("player.canvas.dataset.frames")
            if frames == before and frames != "0" and (image := self.pixels()).min() < 0.9:
                return image
            before = frames
            self.page.wait_for_timeout(1500)
        raise AssertionError("the page never stops drawing, or draws nothing")

    def slide(self, name, value):
        self.page.locator(f'input[data-name="{name}"]').evaluate(
            "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }", value
        )


def psnr(a, b):
    return -10 * math.log10(max(float(((a - b) ** 2).mean()), 1e-12))


@pytest.mark.may_skip("needs chromium")
def test_the_page_in_a_browser(browser, tmp_path):
    front = replace(
        FRONT, world_to_camera=np.array([[1, 0, 0, 0.05], [0, -1, 0, -0.1], [0, 0, -1, 6.0], [0, 0, 0, 1]])
    )
    avatars = {"baseline": small_avatar(n=400, front=front), "RAF": small_avatar(n=250, seed=8, front=front)}
    avatars["RAF"].views = ViewRange(yaw=(0.0, 0.1), pitch=(0.0, 0.0))
    values = descriptors(4)
    path = write_player(
        avatars, tmp_path / "p.html", sequences={"FREE": values, "SEN-09": values[::-1]}, size=128, fps=1
    )
    at = Opened(browser, path)
    avatar, start = avatars["baseline"], avatars["baseline"].descriptor_mean.numpy()
    camera = frontal_camera(avatar, 128)
    assert (camera.width, camera.height) == (128, 96)

    # The same numbers, and the same picture as the package's own rasteriser draws from the same camera.
    numbers = at.page.evaluate("Array.from(player.gaussians())")
    in_numpy = unpack(pack_avatar(avatar, np.concatenate([values, values[::-1]])))(start)
    assert np.abs(np.reshape(numbers, (14, -1)) - in_numpy).max() < 1e-3
    first = at.settled()
    own = avatar.render(start[None], np.eye(4)[None], [camera])[0, 0]
    assert first.shape == own.shape and psnr(first, own) > 35

    # Sliders of both kinds, by mouse and by keyboard.
    slider = at.page.locator("input[data-name^=own]").first
    name = slider.get_attribute("data-name")
    slider.focus()
    at.page.keyboard.press("End")
    moved = at.settled()
    assert psnr(moved, first) < 45
    expression = start.copy()
    expression[int(name.split()[1])] = float(slider.input_value())
    assert psnr(moved, avatar.render(expression[None], np.eye(4)[None], [camera])[0, 0]) > 35
    component = at.page.locator("input[data-name^=component]").first.get_attribute("data-name")
    at.slide(component, 2)
    blended = at.settled()
    assert psnr(blended, moved) < 45
    at.page.get_by_role("button", name="Reset expression").click()
    assert psnr(at.settled(), first) > 60

    # The switch, with its words.
    at.page.get_by_label("RAF").check()
    other = at.settled()
    assert psnr(other, avatars["RAF"].render(start[None], np.eye(4)[None], [camera])[0, 0]) > 35
    at.wait("document.querySelector('[role=status]').textContent.includes('Avatar RAF, seen from the front')")
    assert "250 Gaussian splats, avatar RAF" in at.page.locator("canvas").get_attribute("aria-label")
    # It is turned to 20 degrees beyond its views at most, and says so; the other one knows of none.
    assert "0 degrees from its right to 6 from its left" in at.page.locator(".raf-views").text_content()
    canvas = at.page.locator("canvas")
    canvas.focus()
    for _ in range(8):
        at.page.keyboard.press("ArrowLeft")
    said = "document.querySelector('[role=status]').textContent"
    at.wait(f"{said}.includes('26 degrees from its left; it turns no farther')")
    at.page.keyboard.press("0")
    at.page.get_by_label("baseline").check()
    assert psnr(at.settled(), first) > 60, "back again, though the other avatar has fewer Gaussians"
    assert at.page.locator(".raf-views").text_content() == ""

    # Orbit with the keyboard and the mouse, and back.
    canvas.focus()
    for _ in range(4):
        at.page.keyboard.press("ArrowLeft")
    turned_left = at.settled()
    pose = turned(
        avatar,
        camera,
        np.array(
            [
                [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]]
                for a in [math.radians(20)]
            ]
        ),
    )
    assert psnr(turned_left, avatar.render(start[None], pose, [camera])[0, 0]) > 35
    at.wait("document.querySelector('[role=status]').textContent.includes('20 degrees from its left')")
    at.page.keyboard.press("0")
    assert psnr(at.settled(), first) > 60
    box = canvas.bounding_box()
    at.page.mouse.move(box["x"] + 60, box["y"] + 40)
    at.page.mouse.down()
    at.page.mouse.move(box["x"] + 120, box["y"] + 60)
    at.page.mouse.up()
    assert psnr(at.settled(), first) < 45
    at.wait(
        "document.querySelector('[role=status]').textContent.includes('from its right')"
    )  # the face follows the hand
    canvas.focus()
    at.page.keyboard.press("0")

    # Play, pause, and a frame by hand.
    at.page.get_by_role("combobox").select_option(label="SEN-09")
    at.page.get_by_role("button", name="Play").click()
    at.wait("player.frame >= 1")
    at.page.get_by_role("button", name="Pause").click()
    frame = at.page.evaluate("player.frame")
    played = at.settled()
    assert psnr(played, first) < 45
    assert psnr(played, avatar.render(values[::-1][frame][None], np.eye(4)[None], [camera])[0, 0]) > 35

    # Every control has a name; nothing complained; nothing was asked of anybody.
    unnamed = at.page.evaluate("""[...document.querySelectorAll('input, select, button')]
        .filter((e) => !(e.labels?.[0]?.textContent || e.textContent).trim()).length""")
    assert unnamed == 0 and at.complaints == []
    assert [r for r in at.requests if not r.startswith("blob:")] == [path.as_uri()]
    at.page.evaluate("player.close()")
    assert at.page.locator("canvas").count() == 0


@pytest.mark.may_skip("needs chromium")
def test_a_browser_that_cannot_show_it_says_so(browser, tmp_path):
    path = write_player({"a": small_avatar()}, tmp_path / "p.html", sequences={})
    page = browser.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto(path.as_uri())
    page.locator("[role=alert].error").wait_for(timeout=120_000)
    assert "The avatar cannot be shown" in page.locator("[role=alert]").text_content()
