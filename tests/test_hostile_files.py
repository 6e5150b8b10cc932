"""Files made to harm: what a reader is told a file holds is judged before it costs memory, time or a crash.

Each ends in one sentence that names the file. `benchmarks/fuzz.py` tries ten thousand of them for each
reader; here stand the kinds that were found, by hand.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import faiss
import format_writers as writers
import numpy as np
import pytest
import test_fuzz as small
import torch

from raf_lite._files import read_json, read_npz, sha256_file, write_npz
from raf_lite.avatar import GaussianAvatar
from raf_lite.bank import ExpressionBank
from raf_lite.bank.storage import decode_thumbnail
from raf_lite.captures import open_capture
from raf_lite.captures.submission import CAMERAS, check_submission
from raf_lite.descriptors import LandmarkPCA
from raf_lite.export import write_sequence
from raf_lite.manifest import verify_manifest, write_manifest
from raf_lite.study.execute import read_lines
from raf_lite.study.plans import read_selection
from raf_lite.training.checkpoint import read_checkpoint, write_checkpoint
from raf_lite.viewing import maps
from raf_lite.widgets.blinded import COLUMNS, read_answers


def npy(shape: str, dtype: str = "<f4", data: bytes = b"\0" * 64, text: str = "") -> bytes:
    """An array's file whose header says what it likes."""
    header = (text or f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}").encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def archive(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data, method)
    return path


def good(values=(1.0, 2.0)) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values, np.float32))
    return buffer.getvalue()


def refused(call, path: Path, match: str = "", *, seconds: float = 5, megabytes: float = 150) -> str:
    """The error of a call: one of ours, of one line, naming the file, after little time and memory."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises((ValueError, FileNotFoundError), match=match or None) as caught:
            call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and len(text) < 1000
    assert caught.type in (ValueError, FileNotFoundError)
    assert time.perf_counter() - start < seconds and peak < megabytes * 2**20
    return text


# ------------------------------------------------------------------------------------------------------ npz


@pytest.mark.parametrize(
    "content, match",
    [
        (npy(f"({2**62},)", "|S0"), "holds"),
        (npy(f"({2**62},)", "<U0"), "holds"),
        (npy(f"({2**40},)", "|V0"), "holds"),
        (npy(f"(0, {2**62})"), "claims a shape"),
        (npy("(500000000,)", "|u1"), "claims a shape"),
        (npy("(3, 52)", "<U1000000000"), ""),
        (npy(f"({2**40},)"), "claims a shape"),
        (npy("(-16,)"), "claims the shape"),
        (npy("(True, 16)"), ""),
        (npy("(2, 2)", "|O"), "holds object"),
        (npy("(16,)", text="{'descr': [('a','<f4')], 'fortran_order': False, 'shape': (16,)}"), "holds"),
        (npy("(4,)", "<f16"), "holds"),
        (npy("(15,)"), "claims a shape"),
        (npy("(17,)"), "claims a shape"),
        (npy("(4,)", "|b1", b"\x00\x01\x02\x01"), "neither true nor false"),
        (npy("(1,)", "<U1", b"\xff\xff\xff\xff"), "no Unicode"),
        (npy("(1,)", "<U1", b"\x00\xd8\x00\x00"), "no Unicode"),
        (npy("", text="(" * 900), ""),
        (npy("", text="x" * 5000), "no plain"),
        (b"", ""),
        (b"\x93NUMPY", ""),
        (b"not an array", ""),
    ],
)
def test_an_array_that_is_not_what_it_claims_costs_nothing(tmp_path, content, match):
    path = archive(tmp_path / "a.npz", ("a.npy", content))
    refused(lambda: read_npz(path, ("a",)), path, match)


@pytest.fixture(scope="module")
def three_gigabytes(tmp_path_factory) -> Path:
    """3 MB on disk: a member `a.npy` of zeros, and beside it a small `b.npy`."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        with file.open("a.npy", "w", force_zip64=True) as member:
            member.write(npy(f"({3 << 30},)", "|u1", b""))
            for _ in range(3 << 6):
                member.write(bytes(1 << 24))
        file.writestr("b.npy", good())
    assert path.stat().st_size < 20 << 20
    return path


def test_three_megabytes_do_not_take_three_gigabytes(three_gigabytes):
    path = three_gigabytes
    refused(lambda: read_npz(path, ("a",)), path, "would unpack to 32212")
    refused(lambda: read_npz(path), path, "would unpack to 32212")
    assert read_npz(path, ("b",))["b"].tolist() == [1, 2]  # what is not asked for is not unpacked


def test_what_a_directory_says_is_not_what_is_unpacked(tmp_path):
    """The size in the zip's directory made small, and made large."""
    path = archive(tmp_path / "a.npz", ("a.npy", npy("(4000000,)", "|u1", bytes(4_000_000))))
    data = path.read_bytes()
    at = data.rindex(b"PK\x01\x02") + 24
    for claimed in (192, 4_000_127, 2**31 - 1):
        path.write_bytes(data[:at] + struct.pack("<I", claimed) + data[at + 4 :])
        refused(lambda: read_npz(path, ("a",)), path)


def test_a_stranger_cannot_take_an_array_s_place(tmp_path):
    lie = npy("(500000000,)", "|u1")
    for members in ([("a", lie), ("a.npy", good())], [("a.npy", lie), ("a.npy", good())], [("a", good())]):
        if len({name for name, _ in members}) < len(members):
            with pytest.warns(UserWarning, match="Duplicate name"):
                path = archive(tmp_path / "a.npz", *members)
        else:
            path = archive(tmp_path / "a.npz", *members)
        refused(
            lambda path=path: read_npz(path, ("a",)),
            path,
            "has the array 'a' twice, or something else of that name",
        )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_without_a_bound_is_not_opened(tmp_path, method):
    path = archive(tmp_path / "a.npz", ("a.npy", good()), method=method)
    refused(lambda: read_npz(path, ("a",)), path, "compressed in a way that NumPy does not write")


def test_arrays_that_numpy_writes_come_back_as_they_were(tmp_path):
    arrays = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "empty": np.zeros((0, 4)),
        "scalar": np.array(2.5),
        "text": np.array(["a", "Ω"]),
        "bytes": np.array([b"x"]),
        "flags": np.array([True, False]),
        "half": np.ones(2, np.float16),
        "complex": np.array([1j]),
        "day": np.array(["2020-01-01"], "M8[D]"),
    }
    write_npz(tmp_path / "a.npz", **arrays)
    found = read_npz(tmp_path / "a.npz")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=") and found[name].flags.writeable
    assert list(found) == list(arrays)


# ----------------------------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a":' * 100_000,
        '{"a": ' + "9" * 5000 + "}",
        "\ufeff{}",
        "[]",
        '"\\ud800"',
        '{"a": "\\ud800"}',
        "",
        "nan",
        '{"a": 1}{"a": 2}',
    ],
)
def test_text_that_is_hard_on_a_parser_is_named(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    refused(lambda: read_json(path, dict), path)


def test_a_file_without_an_end_is_no_json(tmp_path, monkeypatch):
    monkeypatch.setattr("raf_lite._files.MOST_JSON_BYTES", 1000)
    (tmp_path / "a.json").write_text('{"a": "' + "x" * 1000 + '"}')
    refused(lambda: read_json(tmp_path / "a.json", dict), tmp_path / "a.json", "more than 1000 bytes")
    (tmp_path / "b.json").symlink_to("/dev/zero")
    refused(lambda: read_json(tmp_path / "b.json", dict), tmp_path / "b.json", "there is no")


def test_whole_pairs_of_unicode_are_text(tmp_path):
    (tmp_path / "a.json").write_text('{"a": "\\ud83d\\ude00"}')
    assert read_json(tmp_path / "a.json", dict) == {"a": "\N{GRINNING FACE}"}


@pytest.mark.parametrize("number", [10**400, float("inf"), float("nan"), 1.5, True, "7"])
def test_sizes_that_are_no_whole_numbers_are_named(tmp_path, monkeypatch, number):
    monkeypatch.setattr(writers, "scene", small.tiny_scene)
    path = writers.write_insta(tmp_path)
    for file in sorted(path.glob("transforms*.json")):
        top = json.loads(file.read_text())
        top["h"] = number
        file.write_text(json.dumps(top))
    with pytest.raises(ValueError, match="insta|transforms"):
        open_capture(path)


# ---------------------------------------------------------------------------------- avatars and checkpoints


def edit_header(path: Path, change) -> None:
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    ours = json.loads(header["__metadata__"]["raf_lite"])
    change(ours)
    header["__metadata__"]["raf_lite"] = json.dumps(ours)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.mark.parametrize(
    "settings",
    [
        {"bases": 2, "hidden": 40_000},
        {"bases": 10**12, "hidden": 4},
        {"bases": 2, "hidden": 2**62},
        {"bases": 2, "hidden": -1},
        {"bases": 2, "hidden": 4.0},
        {"bases": 2, "hidden": "4"},
        {"hidden": 4, "frequencies": 3},
        {"bases": 2},
        None,
        [4],
        {},
    ],
)
def test_an_avatar_is_built_of_the_tensors_that_are_there(tmp_path, settings):
    path = small.write_small_avatar(tmp_path)
    edit_header(path, lambda header: header.update(field_settings=settings))
    before = torch.get_default_device()
    refused(lambda: GaussianAvatar.load(path), path)
    assert torch.get_default_device() == before


@pytest.mark.parametrize(
    "change",
    [
        {"radius": float("inf")},
        {"centre": [0, 0, float("nan")]},
        {"descriptor": 7},
        {"radius": 10**400},
        {"notes": {"front": {}}},
        {"field": "none"},
    ],
)
def test_an_avatar_s_header_is_judged(tmp_path, change):
    path = small.write_small_avatar(tmp_path)
    edit_header(path, lambda header: header.update(change))
    refused(lambda: GaussianAvatar.load(path), path)


def test_a_checkpoint_s_header_is_an_object(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, {"step": 1}, {"a": torch.zeros(2)})
    assert read_checkpoint(path)[0] == {"step": 1}
    write_checkpoint(path, {"step": 1}, {"a": torch.tensor([0.0, float("nan")])})
    refused(lambda: read_checkpoint(path), path, "not finite")
    # Of these nobody can say whether they are finite.
    write_checkpoint(path, {"step": 1}, {"a": torch.zeros(2).to(torch.float8_e4m3fn)})
    refused(lambda: read_checkpoint(path), path, "is damaged")
    write_checkpoint(path, {"step": 1}, {"a": torch.zeros(2)})
    data = path.read_bytes()
    path.write_bytes(data.replace(rb"{\"step\": 1}", rb"[[[[[[[[[[]]"))
    refused(lambda: read_checkpoint(path), path)
    path.unlink()
    os.mkfifo(path)  # opening it would wait for ever
    refused(lambda: read_checkpoint(path), path)


# ---------------------------------------------------------------------------------------------------- banks


ROWS = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)


def signed(folder: Path, ending: str, data: bytes) -> Path:
    """Give a bank's file other content, and the manifest its hash."""
    manifest = json.loads((folder / "bank.json").read_text())
    path = next(folder / name for name in manifest["files"] if name.endswith(ending))
    path.write_bytes(data)
    manifest["files"][path.name] = sha256_file(path)
    (folder / "bank.json").write_text(json.dumps(manifest))
    return path


@pytest.mark.parametrize(
    "factory", ["Flat", "IVF2,Flat", "HNSW4", "PQ2x4np", "IVF2,SQ8", "PCA2,Flat", "Flat,RFlat", "LSH"]
)
def test_a_stored_index_finds_what_it_found_before(tmp_path, factory):
    bank = ExpressionBank.from_arrays(ROWS, np.arange(60) % 4, index=factory)
    again = ExpressionBank.load(bank.save(tmp_path))
    np.testing.assert_array_equal(again.search(ROWS[:9], 3).rows, bank.search(ROWS[:9], 3).rows)
    assert again.factory == factory and again.index.ntotal == 60


def test_the_search_settings_of_a_stored_index_come_back(tmp_path):
    bank = ExpressionBank.from_arrays(ROWS, np.arange(60) % 4, index="IVF4,Flat")
    bank.index.nprobe = 3
    assert ExpressionBank.load(bank.save(tmp_path)).index.nprobe == 3


def replace_numbers(data: bytes, old: np.ndarray, new: np.ndarray) -> bytes:
    assert data.count(old.tobytes()) >= 1
    return data.replace(old.tobytes(), new.tobytes(), 1)


def test_an_index_that_would_lead_astray_is_refused_though_its_hash_is_right(tmp_path):
    folder = ExpressionBank.from_arrays(ROWS, np.arange(60) % 4, index="IVF2,Flat").save(tmp_path / "ivf")
    path = next(folder.glob("index*"))
    data = path.read_bytes()
    row = np.array([59], np.int64).tobytes()
    assert row in data
    path = signed(folder, ".faiss", data.replace(row, np.array([2**40], np.int64).tobytes()))
    refused(lambda: ExpressionBank.load(folder), path, "lists rows that there are not", seconds=60)

    folder = ExpressionBank.from_arrays(ROWS, np.arange(60) % 4, index="HNSW4").save(tmp_path / "hnsw")
    path = next(folder.glob("index*"))
    index = faiss.read_index(str(path))  # owns what is looked at
    links = faiss.vector_to_array(faiss.downcast_index(faiss.downcast_index(index).index).hnsw.neighbors)
    other = links.copy()
    other[5] = 2**30
    path = signed(folder, ".faiss", replace_numbers(path.read_bytes(), links, other))
    refused(
        lambda: ExpressionBank.load(folder), path, "links rows that there are not|FAISS reads", seconds=60
    )


@pytest.mark.parametrize(
    "data",
    [b"", b"IxF2", b"IxPT" + b"\xff" * 400, b"IwFl" + struct.pack("<iqqq", 4, 2**62, 0, 0) + b"\x7f" * 90],
)
def test_an_index_that_faiss_cannot_read_is_refused(tmp_path, data):
    folder = ExpressionBank.from_arrays(ROWS, np.arange(60) % 4, index="IVF2,Flat").save(tmp_path)
    path = signed(folder, ".faiss", data)
    refused(lambda: ExpressionBank.load(folder), path, "FAISS|index", seconds=60)


def test_a_column_that_is_no_table_is_named(tmp_path):
    folder = ExpressionBank.from_arrays(ROWS, np.arange(60) % 4).save(tmp_path)
    path = next(folder.glob("descriptors*"))
    arrays = read_npz(path)
    for column in (np.array(1.0), np.zeros(60), np.zeros((60, 2, 2))):
        write_npz(tmp_path / "other.npz", **{**arrays, "descriptors": column})
        signed(folder, path.name, (tmp_path / "other.npz").read_bytes())
        refused(lambda: ExpressionBank.load(folder), path, "is no table")


def test_a_flat_index_is_built_whatever_its_file_says(tmp_path):
    folder = ExpressionBank.from_arrays(ROWS, np.arange(60) % 4).save(tmp_path)
    signed(folder, ".faiss", b"IxPT" + b"\xff" * 400)
    assert (ExpressionBank.load(folder).search(ROWS, 1).rows[:, 0] == np.arange(60)).all()


@pytest.mark.parametrize(
    "factory", ["PQ4x24", "HNSW100000", "IVF100000,Flat", "PCA999999999999,Flat", "Flat" * 100, "IVF2,Flat\n"]
)
def test_a_manifest_cannot_ask_for_any_index(tmp_path, factory):
    folder = ExpressionBank.from_arrays(ROWS, np.arange(60) % 4).save(tmp_path)
    small.edit_json(folder / "bank.json", lambda manifest: manifest["index"].update(factory=factory))
    refused(lambda: ExpressionBank.load(folder), folder / "bank.json", "asks for an index")


def test_a_thumbnail_is_a_small_webp(tmp_path):
    from PIL import Image

    for size, kind, match in (((5000, 5000), "WEBP", "5000x5000"), ((8, 8), "PNG", "damaged")):
        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, kind)
        with pytest.raises(ValueError, match=match):
            decode_thumbnail(buffer.getvalue())


# ----------------------------------------------------------------------------- everything else that is read


@pytest.mark.parametrize(
    "files",
    [
        [{"path": "../../etc/passwd", "bytes": 1, "sha256": "0"}],
        [{"path": "/etc/passwd", "bytes": 1, "sha256": "0"}],
        [{"path": "a\0b", "bytes": 1, "sha256": "0"}],
        [{"path": "x" * 300, "bytes": 1, "sha256": "0"}],
        [{"path": "a", "bytes": "1", "sha256": "0"}],
        [{"path": "a", "bytes": 1}],
        [{"path": 7, "bytes": 1, "sha256": "0"}],
        ["a"],
        {},
    ],
)
def test_a_manifest_names_files_of_its_own_folder(tmp_path, files):
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank/a").write_text("x")
    write_manifest(tmp_path, origin={"bank": "x"}, licence="free", conventions={})
    assert verify_manifest(tmp_path) == verify_manifest(tmp_path, quick=True) == []
    small.edit_json(tmp_path / "MANIFEST.json", lambda manifest: manifest.update(files=files))
    for quick in (False, True):
        refused(
            lambda quick=quick: verify_manifest(tmp_path, quick=quick),
            tmp_path / "MANIFEST.json",
            "is damaged",
        )


def test_a_video_in_a_submission_unpacks_to_a_video_s_size(tmp_path):
    path = tmp_path / "s.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for serial in CAMERAS:
            file.writestr(f"393/FREE/cam_{serial}.mp4", bytes(200 << 20))
    tracemalloc.start()
    problems = check_submission(path, {(393, "FREE"): 1})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        len(problems) == 4
        and all("cannot be read as a video" in problem for problem in problems)
        and peak < 50 << 20
    )


@pytest.mark.parametrize("text", ["[]", "[" * 100_000, '{"fingerprint": [1]}', "{}", "\ufeff"])
def test_an_index_of_frames_that_is_none_is_named(tmp_path, text):
    avatar = GaussianAvatar.load(small.write_small_avatar(tmp_path))
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames/sequence.json").write_text(text, encoding="utf-8")
    refused(lambda: write_sequence(avatar, np.zeros((1, 4)), tmp_path / "frames"), tmp_path / "frames")


ENCODE = importlib.import_module("raf_lite.descriptors.encode_video")


def face() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros((1, 52), np.float32), np.zeros((1, 478, 3), np.float32), np.eye(4, dtype=np.float32)[None]


@pytest.mark.parametrize(
    "change",
    [
        {"frame": np.array([0, 9])},
        {"frame": np.array([-1, 1])},
        {"frame": np.array([1, 0])},
        {"frames": np.array([2])},
        {"frames": np.array(2**40)},
        {"frames": np.array(0)},
        {"blendshapes": np.zeros((2, 51), np.float32)},
        {"landmarks": np.full((2, 478, 3), np.nan, np.float32)},
        {"pose": np.array(["a", "b"])},
        {"pose": np.zeros((2, 4, 4), complex)},
    ],
)
def test_a_part_of_an_encoding_that_is_none_ends_the_row(tmp_path, change):
    ENCODE._write_part(tmp_path, 0, [face()] * 2)
    ENCODE._write_part(tmp_path, 2, [face()] * 2)
    assert ENCODE._read_parts(tmp_path)[1] == 4
    arrays = read_npz(tmp_path / "00000000.npz")
    write_npz(tmp_path / "00000000.npz", **{**arrays, **change})
    assert ENCODE._read_parts(tmp_path) == ([], 0)


@pytest.mark.parametrize("name", ["²0000000.npz", "0.npz", "00000001.npz"])
def test_a_part_under_another_name_is_none(tmp_path, name):
    ENCODE._write_part(tmp_path, 0, [face()])
    os.rename(tmp_path / "00000000.npz", tmp_path / name)
    assert ENCODE._read_parts(tmp_path) == ([], 0)


@pytest.mark.parametrize(
    "rows", [np.zeros((5, 2)), np.full((5, 2), np.nan, np.float32), np.array([["a", "b"]] * 5)]
)
def test_a_kept_map_that_is_none_is_made_anew(tmp_path, rows):
    path = tmp_path / "map.npz"
    write_npz(path, rows=np.zeros((5, 2), np.float32), own=np.zeros((1, 2), np.float32))
    assert maps._read(path, 5, 1) is not None
    write_npz(path, rows=rows, own=np.zeros((1, 2), np.float32))
    assert maps._read(path, 5, 1) is None


def test_a_version_of_a_million_numbers_is_not_printed(tmp_path):
    path = tmp_path / "pca.npz"
    LandmarkPCA.fit(np.random.default_rng(0).normal(size=(6, 478, 3)), 2, encoder="demo").save(path)
    write_npz(path, **{**read_npz(path), "version": np.zeros((500_000, 1, 1))})
    refused(lambda: LandmarkPCA.load(path), path, "versions of shape", seconds=2)


def test_a_landmark_basis_names_one_encoder(tmp_path):
    path = tmp_path / "pca.npz"
    LandmarkPCA.fit(np.random.default_rng(0).normal(size=(6, 478, 3)), 2, encoder="demo").save(path)
    for encoder in (np.array(["a", "b"]), np.array(7)):
        write_npz(path, **{**read_npz(path), "encoder": encoder})
        refused(lambda: LandmarkPCA.load(path), path)


@pytest.mark.parametrize(
    "text",
    [
        "[1]\n",
        '{"spec": 1}\n',
        "{" * 100 + "\n",
        "[" * 100_000 + "\n",
        '{"key": ' + "9" * 5000 + "}\n",
        '{"key": 7}\n',
    ],
)
def test_a_line_of_the_study_that_is_no_run_is_named(tmp_path, text):
    (tmp_path / "a.jsonl").write_text('{"key": "a"}\n' + text + '{"key": "torn')
    refused(lambda: list(read_lines(tmp_path)), tmp_path / "a.jsonl", "line 2")


def test_a_folder_and_a_pipe_are_no_lines_of_the_study(tmp_path):
    path = tmp_path / "a.jsonl"
    for make in (path.mkdir, lambda: os.mkfifo(path)):
        make()
        refused(lambda: list(read_lines(tmp_path)), path, "is no file")
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("text", ["[]", "{}", '{"p": 0.2}', '{"p": NaN, "blendshapes": {}}', "[" * 100_000])
def test_a_selection_that_is_none_is_named(tmp_path, text):
    (tmp_path / "selection.json").write_text(text)
    refused(lambda: read_selection(tmp_path), tmp_path / "selection.json")


@pytest.mark.parametrize(
    "rater, cell",
    [("ann", "9" * 5000), ("ann", "x" * 200_000), ("ann", "²"), ("ann", "-1"), ("ann", "1\0"), ("\0", "1")],
)
def test_an_answer_that_is_none_is_named(tmp_path, rater, cell):
    path = tmp_path / "a.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerow([rater, cell, 0, 1, 2, "A", "B", "1.0", "now"])
    refused(lambda: read_answers(path), path, "line 2 is damaged")
