"""The rig's download, its OBJ parser and its pack."""

import functools
import hashlib
import http.server
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from raf_lite.rig.pack import HASHES, download_rig, load_pack, parse_obj, read_hashes

QUAD = """# a comment
mtllib some.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0 0 2.5
vt 0 0
vt 1 0
vt 1 1
usemtl first
f 1/1 2/2 3/3 4/1
usemtl second
f 1//1 2//1 5//1
usemtl first
f 1 2 5
"""


def test_parser_by_hand(tmp_path):
    (tmp_path / "a.obj").write_text(QUAD)
    mesh = parse_obj(tmp_path / "a.obj")
    assert mesh.vertices.shape == (5, 3) and mesh.vertices[4].tolist() == [0, 0, 2.5]
    assert mesh.faces.tolist() == [[0, 1, 2, 3], [0, 1, 4, -1], [0, 1, 4, -1]]
    assert mesh.face_uv.tolist() == [[0, 1, 2, 0], [-1, -1, -1, -1], [-1, -1, -1, -1]]
    assert mesh.face_material.tolist() == [0, 1, 0] and mesh.material_names == ["first", "second"]


def test_negative_indices_count_back_from_the_last_one_read(tmp_path):
    (tmp_path / "a.obj").write_text(QUAD + "f -5/-3 -4/-2 -3/-1\n")
    mesh = parse_obj(tmp_path / "a.obj")
    assert mesh.faces[-1].tolist() == [0, 1, 2, -1] and mesh.face_uv[-1].tolist() == [0, 1, 2, -1]


@pytest.mark.parametrize(
    "text, message",
    [
        ("v 0 x 0\n", "line 1"),
        ("v 0 0 0\nf 1 1\n", "line 2: a face has 2 corners"),
        ("v 0 0 0\nf 1 2 1\n", "line 2: index 2 where 1"),
        ("v 0 0 0\nf 0 1 1\n", "line 2: index 0"),
        ("# empty\n", "no usable vertices"),
    ],
)
def test_broken_obj_files_are_named_with_their_line(tmp_path, text, message):
    (tmp_path / "bad.obj").write_text(text)
    with pytest.raises(ValueError, match=message):
        parse_obj(tmp_path / "bad.obj")


@pytest.fixture(scope="module")
def public_files(ict_pack) -> Path:
    folder = Path(ict_pack).parent / "FaceXModel"
    if not folder.is_dir():
        pytest.skip("the rig's OBJ files are not beside its pack")
    return folder


def test_parser_and_pack_agree_on_the_public_files(ict_pack, public_files):
    pack, mesh = load_pack(ict_pack), parse_obj(public_files / "generic_neutral_mesh.obj")
    for name in ("faces", "face_uv", "uv", "face_material"):
        assert np.array_equal(getattr(mesh, name), getattr(pack, name)), name
    assert np.array_equal(mesh.vertices, pack.neutral) and mesh.material_names == pack.material_names.tolist()
    jaw = parse_obj(public_files / "jawOpen.obj", vertices_only=True).vertices - mesh.vertices
    # A float16 has 11 bits: it errs by at most 2^-11 of the value.
    assert np.allclose(
        jaw, pack.expression[list(pack.expression_names).index("jawOpen")], rtol=2**-11, atol=1e-6
    )
    assert np.abs(jaw).max() > 1  # cm
    first = parse_obj(public_files / "identity000.obj", vertices_only=True).vertices - mesh.vertices
    assert np.allclose(first, pack.identity[0], rtol=2**-11, atol=1e-6)
    landmarks = json.loads((public_files / "vertex_indices.json").read_text())["idx_to_landmark_verts"]
    assert np.array_equal(landmarks, pack.landmarks68)


def test_every_public_file_has_a_pinned_hash_and_the_local_ones_match(public_files):
    hashes = read_hashes(HASHES)
    assert sum("identity" in name for name in hashes) == 100 and len(hashes) == 160
    for path in public_files.iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == hashes[f"FaceXModel/{path.name}"]


@pytest.fixture
def fake_rig(tmp_path):
    """A rig of five vertices on a loopback server: its URL, its hashes, its files to tamper with, and what
    was asked of it."""
    folder = tmp_path / "server" / "FaceXModel"
    folder.mkdir(parents=True)
    (folder / "generic_neutral_mesh.obj").write_text(QUAD)
    for name, height in (("identity000", 3.0), ("identity001", 3.5), ("jawOpen", 4.0), ("mouthLeft", 5.0)):
        (folder / f"{name}.obj").write_text(QUAD.replace("2.5", str(height)))
    (folder / "vertex_indices.json").write_text(json.dumps({"idx_to_landmark_verts": [4] * 68}))
    hashes = {f"FaceXModel/{p.name}": hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}

    fetched = []

    class Recorder(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            fetched.append(Path(self.path).name)
            super().do_GET()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Recorder, directory=tmp_path / "server")
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", hashes, folder, fetched
    server.shutdown()
    server.server_close()


def test_download_packs_what_the_server_has(fake_rig, tmp_path):
    url, hashes, folder, fetched = fake_rig
    path = download_rig(base_url=url, hashes=hashes, folder=tmp_path / "cache", progress=False)
    pack = load_pack(path)
    assert pack.expression_names.tolist() == ["jawOpen", "mouthLeft"]
    assert pack.identity[:, 4, 2].tolist() == [0.5, 1.0] and pack.expression[:, 4, 2].tolist() == [1.5, 2.5]
    assert pack.neutral[4].tolist() == [0, 0, 2.5] and pack.landmarks68.tolist() == [4] * 68
    assert pack.faces[1].tolist() == [0, 1, 4, -1] and pack.material_names.tolist() == ["first", "second"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["ict_facekit.LICENSE", "ict_facekit.npz"]
    assert "USC Institute" in (path.parent / "ict_facekit.LICENSE").read_text()
    assert sorted(fetched) == sorted(Path(name).name for name in hashes)
    assert download_rig(base_url=url, hashes=hashes, folder=tmp_path / "cache", progress=False) == path
    assert len(fetched) == len(hashes)  # nothing is fetched twice


def test_a_changed_or_missing_file_leaves_no_pack_and_the_next_call_goes_on(fake_rig, tmp_path):
    url, hashes, folder, fetched = fake_rig
    good = (folder / "jawOpen.obj").read_text()
    (folder / "jawOpen.obj").write_text("v 6 6 6\n")
    with pytest.raises(ValueError, match="jawOpen.obj does not have the pinned sha256"):
        download_rig(base_url=url, hashes=hashes, folder=tmp_path / "cache", progress=False)
    (folder / "jawOpen.obj").unlink()
    with pytest.raises(FileNotFoundError, match="jawOpen.obj.*RAF_LITE_ICT"):
        download_rig(base_url=url, hashes=hashes, folder=tmp_path / "cache", progress=False)
    assert not (tmp_path / "cache" / "ict_facekit.npz").exists()
    (folder / "jawOpen.obj").write_text(good)
    assert download_rig(base_url=url, hashes=hashes, folder=tmp_path / "cache", progress=False).is_file()
    assert fetched.count("jawOpen.obj") == 3
    assert all(fetched.count(Path(name).name) == 1 for name in hashes if not name.endswith("jawOpen.obj"))


def test_files_that_do_not_fit_together_leave_no_pack(fake_rig, tmp_path):
    url, hashes, folder, _ = fake_rig
    (folder / "jawOpen.obj").write_text(QUAD.replace("f ", "v 9 9 9\nf ", 1))
    hashes["FaceXModel/jawOpen.obj"] = hashlib.sha256((folder / "jawOpen.obj").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="jawOpen.obj has 6 vertices and the neutral 5"):
        download_rig(base_url=url, hashes=hashes, folder=tmp_path / "cache", progress=False)
    assert not (tmp_path / "cache" / "ict_facekit.npz").exists()


@pytest.mark.parametrize(
    "name, damage, message",
    [
        ("uv", None, "has no array 'uv'"),
        ("identity", lambda a: a[:, :-1], "'identity' has shape"),
        ("expression_names", lambda a: a[:-1], "'expression' has shape"),
        ("faces", lambda a: np.where(a == 4, 5, a), "'faces' has an index outside"),
        ("faces", lambda a: np.where(a == 0, -1, a), "'faces' has an index outside"),
        ("neutral", lambda a: a * np.nan, "'neutral' has values that are not finite"),
        ("landmarks68", lambda a: a.astype(float), "'landmarks68' has dtype float64"),
    ],
)
def test_a_wrong_array_is_named(fake_rig, tmp_path, name, damage, message):
    url, hashes, _, _ = fake_rig
    with np.load(
        download_rig(base_url=url, hashes=hashes, folder=tmp_path / "cache", progress=False)
    ) as archive:
        arrays = dict(archive)
    if damage is None:
        del arrays[name]
    else:
        arrays[name] = damage(arrays[name])
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ValueError, match=rf"wrong\.npz.*{message}.*raf-lite data rig"):
        load_pack(tmp_path / "wrong.npz")


def test_missing_and_damaged_packs_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAF_LITE_ICT", raising=False)
    with pytest.raises(FileNotFoundError, match="raf-lite data rig"):
        load_pack()
    monkeypatch.setenv("RAF_LITE_ICT", str(tmp_path / "nowhere.npz"))
    with pytest.raises(FileNotFoundError, match="nowhere.npz"):
        load_pack()
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no pack")
    with pytest.raises(ValueError, match="bad.npz cannot be read.*raf-lite data rig"):
        load_pack(tmp_path / "bad.npz")
    np.savez_compressed(tmp_path / "cut.npz", neutral=np.random.default_rng(0).random((500, 3)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:4000])
    with pytest.raises(ValueError, match="cut.npz cannot be read.*raf-lite data rig"):
        load_pack(tmp_path / "cut.npz")
