"""Damaged and hostile files: whatever a capture, a bank, an avatar or a descriptor file is turned into, what comes out is its
content or one of our own errors, which names the file.

Each input is a small valid folder in which one to three files were changed: fields of JSON and arrays of npz left out, added,
or given other types, shapes and absurd values; bytes flipped, cut and swapped; files that became folders or links. The default
is a taste; RAF_FUZZ=10000 tries that many inputs a parser.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import format_writers as writers
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from PIL import Image

from raf_lite._files import sha256_file, write_json, write_npz
from raf_lite.avatar import GaussianAvatar, Similarity
from raf_lite.bank import ExpressionBank, encode_thumbnail, load_truth, write_bank
from raf_lite.captures import FORMATS, Camera, open_capture, write_video
from raf_lite.captures.check import check_capture, contact_sheet
from raf_lite.captures.formats.nersemble import write_calibration
from raf_lite.captures.formats.plain import encoding_file
from raf_lite.descriptors import LandmarkPCA, VideoDetections

INPUTS = int(os.environ.get("RAF_FUZZ", 12))
WIDTH, HEIGHT = 16, 12


# ------------------------------------------------------------------------------------------------------- small valid folders


def tiny_scene() -> writers.Scene:
    """What the writers of other projects' layouts need, without rendering a head: noise in 16x12 pixels."""
    rng = np.random.default_rng(0)
    cameras = []
    for k in range(3):
        matrix = np.diag([1.0, -1, -1, 1])
        matrix[:3, 3] = [k, 0.2, 20]
        cameras.append(Camera(str(k), matrix, np.array([[20.0, 0, 8], [0, 20, 6], [0, 0, 1]]), WIDTH, HEIGHT))
    frames = writers.FRAMES
    return writers.Scene(cameras, rng.integers(0, 256, (frames, 3, HEIGHT, WIDTH, 3), np.uint8),
                         np.full((frames, 3, HEIGHT, WIDTH), 255, np.uint8), np.tile(np.eye(4), (frames, 1, 1)),
                         np.zeros((frames, 68, 3)), np.zeros((frames, 3, 68, 2)))


def write_nersemble(root: Path) -> Path:
    """A participant with two cameras, a sequence and a cross sequence, masks, annotations, tracking and truth."""
    scene, folder = tiny_scene(), root / "007"
    serials = ("222200037", "222200046")
    write_calibration(folder, {s: Camera(s, c.world_to_camera, c.K, WIDTH, HEIGHT) for s, c in zip(serials, scene.cameras)})
    for sequence in ("FREE", "CROSS-101-FREE"):
        for k, serial in enumerate(serials):
            write_video(folder / f"sequences/{sequence}/images/cam_{serial}.mp4", scene.images[:3, k], 12)
        write_video(folder / f"sequences/{sequence}/alpha_maps/cam_{serials[0]}.mp4", scene.masks[:3, 0], 12, gray=True)
        write_npz(folder / f"annotations/{sequence}.npz", head_pose=scene.poses[:3], landmarks68=scene.landmarks[:3],
                  blendshapes=writers.made_up(52)[:3], face_found=np.array([True, False, True]))
        write_npz(folder / f"truth/{sequence}.npz", weights=writers.made_up(57)[:3])
    write_npz(folder / "sequences/FREE/tracking/flame2023_tracking_v2.npz", expression=writers.made_up(100)[:3],
              jaw=writers.made_up(3)[:3], rotation_matrices=scene.poses[:3, :3, :3], translation=scene.poses[:3, :3, 3])
    write_json(folder / "capture.json", {"kind": "subject", "fps": 12, "head_pose_source": "rig",
                                         "neutral": {"sequence": "FREE", "frame": 0}})
    return folder


def write_encoding(path: Path, frames: int) -> None:
    write_npz(encoding_file(path), blendshapes=writers.made_up(52)[:frames], face_found=np.ones(frames, bool),
              head_pose=np.tile(np.eye(4), (frames, 1, 1)))


def write_images(root: Path) -> Path:
    folder = writers.write_images(root)
    write_encoding(folder, writers.FRAMES)
    return folder


def write_clip(root: Path) -> Path:
    path = root / "clip.mp4"
    write_video(path, tiny_scene().images[:, 0], 25)
    write_encoding(path, writers.FRAMES)
    return path


def write_small_bank(root: Path) -> Path:
    rng = np.random.default_rng(0)
    columns = {"blendshapes": rng.normal(size=(12, 4)), "landmarks_pca": rng.normal(size=(12, 3))}
    donors = np.repeat(np.arange(3), 4)
    index = ExpressionBank.from_arrays(columns["blendshapes"], donors).index
    picture = encode_thumbnail(rng.integers(0, 256, (8, 8, 3), np.uint8))
    return write_bank(root / "bank", columns=columns, donors=donors, encoder="demo", neutral=np.arange(12) % 4 == 0,
                      encoder_pose=np.tile(np.eye(4), (12, 1, 1)), thumbnails={0: picture, 7: picture},
                      truth={"weights": np.zeros((12, 2))}, index=("blendshapes", "Flat", index))


def write_small_avatar(root: Path) -> Path:
    path = root / "avatar.safetensors"
    generator = torch.Generator().manual_seed(0)
    GaussianAvatar(torch.randn(8, 3, generator=generator) * 0.3, torch.rand(8, 3, generator=generator), 0.1,
                   Similarity(np.zeros(3), 1.0), descriptor="blendshapes", descriptor_mean=torch.zeros(4), descriptor_scale=0.5,
                   field_settings={"bases": 2, "hidden": 4}, neutral_descriptor=np.linspace(0, 1, 4),
                   front=tiny_scene().cameras[0], provenance={"seed": 1}).save(path)
    return path


def write_descriptor_files(root: Path) -> Path:
    rng = np.random.default_rng(0)
    LandmarkPCA.fit(rng.normal(size=(6, 478, 3)), 2, encoder="demo").save(root / "pca.npz")
    found = np.array([True, False, True])
    numbers = [np.where(found.reshape(-1, *[1] * len(shape)), rng.normal(size=(3, *shape)), np.nan).astype(np.float32)
               for shape in ((52,), (478, 3))]
    poses = np.where(found[:, None, None], np.eye(4), np.nan).astype(np.float32)
    VideoDetections(*numbers, poses, found, faces=found.astype(np.uint8), fps=25.0, size=(64, 48)).save(root / "clip.npz")
    return root


# ---------------------------------------------------------------------------------------------------- opening and walking them


def attempt(root: Path, call: Callable, *arguments):
    """What a call returns, or None where it raises an error of ours. Errors of libraries are not ours: they name no file."""
    try:
        return call(*arguments)
    except (ValueError, FileNotFoundError) as error:
        ours = type(error) in (ValueError, FileNotFoundError) and getattr(error, "errno", None) is None
        assert ours and str(root) in str(error), f"{type(error).__name__}: {error}"
        return None


def walk_capture(path: Path, root: Path, name: str | None = None) -> None:
    capture = attempt(root, lambda: open_capture(path, format=name))
    if capture is None:
        return
    attempt(root, capture.check)
    attempt(root, check_capture, capture)
    attempt(root, contact_sheet, capture, root.parent / "sheet.png")
    for sequence in (*capture.sequences, *capture.cross_sequences):
        for serial in attempt(root, capture.cameras_of, sequence) or ():
            for read in (capture.frames, capture.masks, capture.over_white, capture.first_frame, capture.first_mask):
                attempt(root, read, sequence, serial)
        for read in (capture.head_poses, capture.landmarks68, capture.face_found, capture.truth):
            attempt(root, read, sequence)
        for field in attempt(root, capture.annotations, sequence) or ():
            attempt(root, capture.descriptors, sequence, field)


def walk_bank(path: Path, root: Path) -> None:
    for column in (None, "landmarks_pca"):
        bank = attempt(root, ExpressionBank.load, path, column)
        if bank is not None:
            bank.stats()
            bank.search(bank.descriptors[:1], 1)
    attempt(root, load_truth, path)


def walk_avatar(path: Path, root: Path) -> None:
    avatar = attempt(root, GaussianAvatar.load, path)
    if avatar is not None:
        with contextlib.suppress(ValueError):  # the rasteriser names the tensor that overflowed, and knows no file
            avatar.render(np.zeros((1, len(avatar.descriptor_mean))), np.eye(4)[None], tiny_scene().cameras[:1])


def walk_descriptor_files(path: Path, root: Path) -> None:
    pca = attempt(root, LandmarkPCA.load, path / "pca.npz")
    if pca is not None:
        pca.inverse(np.zeros((2, pca.dim)))
    encoding = attempt(root, VideoDetections.load, path / "clip.npz")
    if encoding is not None:
        encoding.smoothed(0.1)


PARSERS = {
    "nersemble": (write_nersemble, walk_capture), "vhap": (writers.write_vhap, walk_capture),
    "insta": (writers.write_insta, walk_capture), "gha": (writers.write_gha, walk_capture),
    "imavatar": (writers.write_imavatar, walk_capture), "images": (write_images, walk_capture),
    "video": (write_clip, walk_capture), "bank": (write_small_bank, walk_bank), "avatar": (write_small_avatar, walk_avatar),
    "descriptors": (write_descriptor_files, walk_descriptor_files),
}


@dataclass(frozen=True)
class Folder:
    """A valid folder, what stands in its files, and what to open in it."""

    root: Path
    opened: Path
    files: dict[Path, bytes]

    def restore(self, touched: set[Path]) -> None:
        for path in touched:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.write_bytes(self.files[path])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each parser's valid folder; the writers draw noise instead of heads, so no rig is needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "scene", tiny_scene)
        made = {}
        for name, (write, _) in PARSERS.items():
            root = tmp_path_factory.mktemp("fuzz") / name
            root.mkdir()
            opened = write(root)
            made[name] = Folder(root, opened, {p: p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()})
        yield made


# ------------------------------------------------------------------------------------------------------------------- mutations

VALUES = [None, True, "", "x", "FREE", "../../../etc/passwd", "/etc/hostname", "..", "a\0b", "x" * 5000, "\ud800", "1", -1, 0, 1,
          2, 0.5, 7, 1e-320, 1e308, -1e308, 2**63, 10**400, float("nan"), float("inf"), [], {}, [[]], [None], [1, 2, 3],
          np.eye(4).tolist(), np.eye(3).tolist(), np.zeros((4, 4)).tolist(), {"frames": []}]
for depth in (40, 300):
    nested: list = []
    for _ in range(depth):
        nested = [nested]
    VALUES.append(nested)


def mutate_tree(value, rng: Random):
    """The JSON value with one place in it changed."""
    if rng.random() < 0.12 or not isinstance(value, (dict, list)) or not value:
        if isinstance(value, float) and rng.random() < 0.3:
            return value * rng.choice([-1, 0, 1.001, 1e3, 1e300])
        return rng.choice(VALUES)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key, copy = rng.choice(keys), value.copy()
    kind = rng.choice(["inside", "inside", "inside", "inside", "remove", "twin", "extra"])
    if kind == "inside":
        copy[key] = mutate_tree(value[key], rng)
    elif kind == "remove":
        del copy[key]
    elif kind == "twin":
        copy[key] = value[rng.choice(keys)]
    elif isinstance(value, dict):
        copy[rng.choice(["extra", "", "w", "222200039", "a/b"])] = rng.choice(VALUES)
    else:
        copy.append(rng.choice(VALUES))
    return copy


ARRAYS = [np.zeros(0), np.zeros((0, 4, 4)), np.array(1.0), np.array("x"), np.array(["a", "b"]), np.array([b"a"]),
          np.zeros((3, 4), complex), np.zeros(3, "M8[s]"), np.zeros(3, [("a", "f4")]), np.array([None, {}], object),
          np.full((3, 4, 4), np.nan), np.full((6, 52), np.inf), np.full((1, 64), 1e308), np.zeros((6, 4, 4)), np.zeros((3, 3)),
          np.zeros((1, 6), np.int8), np.zeros((2,) * 20), np.array(2**63, np.uint64), np.zeros((3, 52), ">f4"),
          np.zeros((3, 0))]


def mutate_npz(data: bytes, rng: Random) -> bytes:
    """The npz with an array changed, left out or added."""
    with np.load(io.BytesIO(data)) as stored:
        arrays = dict(stored)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    kind = rng.choice(["other", "remove", "extra", "cut", "longer", "type", "value", "axes"])
    if kind == "other":
        arrays[name] = rng.choice(ARRAYS)
    elif kind == "remove":
        del arrays[name]
    elif kind == "extra":
        arrays[rng.choice(["extra", "head_pose", "landmarks68", "face_found"])] = rng.choice(ARRAYS)
    elif kind == "cut":
        arrays[name] = array[:-1] if array.ndim else array.reshape(1)
    elif kind == "longer":
        arrays[name] = np.concatenate([array, array]) if array.ndim else array.reshape(1, 1)
    elif kind == "type":
        kinds = ["U8", "S3"] if array.dtype.kind == "U" else ["U8", "complex128", "int8", "bool", "object", "float16", "S3"]
        arrays[name] = array.astype(rng.choice(kinds))
    elif kind == "value" and array.dtype.kind == "f" and array.size:
        arrays[name] = array.copy()
        arrays[name].flat[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -1, 0, 1e30, 1e-30])
    else:
        arrays[name] = array[None] if rng.random() < 0.5 else array.reshape(-1)
    buffer = io.BytesIO()
    (np.savez if rng.random() < 0.5 else np.savez_compressed)(buffer, **arrays)
    return buffer.getvalue()


def mutate_image(rng: Random) -> bytes:
    """A valid picture, of another kind or size than any that is expected."""
    mode = rng.choice(["L", "RGB", "RGBA", "P", "1", "I;16", "F", "CMYK", "LA"])
    size = rng.choice([(WIDTH, HEIGHT), (1, 1), (HEIGHT, WIDTH), (64, 64), (3000, 1)])
    buffer = io.BytesIO()
    other = rng.choice(["PNG", "WEBP", "GIF"]) if mode in ("L", "RGB", "RGBA") else "PNG"
    Image.new(mode, size).save(buffer, {"F": "TIFF", "CMYK": "JPEG"}.get(mode, other))
    return buffer.getvalue()


def mutate_bytes(data: bytes, rng: Random) -> bytes:
    """A few bytes changed, cut, put in or zeroed."""
    out = bytearray(data)
    at = rng.randrange(len(data)) if data else 0
    kind = rng.choice(["flip", "flip", "flip", "header", "cut", "insert", "zero", "empty", "number"])
    if kind in ("flip", "header") and data:
        for _ in range(rng.randint(1, 8)):
            out[rng.randrange(min(len(data), 400) if kind == "header" else len(data))] = rng.randrange(256)
    elif kind == "cut":
        del out[at:rng.choice([len(data), at + 1, at + 16])]
    elif kind == "insert":
        out[at:at] = rng.choice([b"\0" * 9, b"[" * 100_000, b"NaN", b"\xff\xfe", b'{"a":', b"9" * 5000, b"\xef\xbb\xbf"])
    elif kind == "zero":
        out[at:at + 32] = b"\0" * len(out[at:at + 32])
    elif kind == "number" and len(data) > 8:
        struct.pack_into(rng.choice("<>") + "I", out, min(at, len(data) - 4), rng.choice([0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
    else:
        out.clear()
    return bytes(out)


def mutate_safetensors(data: bytes, rng: Random) -> bytes:
    """The header changed: the list of tensors, or our own JSON in its metadata."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    if rng.random() < 0.6:
        ours = mutate_tree(json.loads(header["__metadata__"]["raf_lite"]), rng)
        header["__metadata__"]["raf_lite"] = json.dumps(ours)
    else:
        header = mutate_tree(header, rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length:]


def mutate_file(path: Path, files: dict[Path, bytes], rng: Random) -> str:
    """Change one file; returns what was done, to be read where a test fails."""
    data, suffix = files[path], path.suffix
    kind = rng.choice(["content"] * 8 + ["bytes"] * 4 + ["swap", "remove", "folder", "link"])
    if kind in ("content", "bytes", "swap"):
        if kind == "swap":
            new = files[rng.choice(sorted(files))]
        elif kind == "bytes" or suffix in (".mp4", ".txt", ".faiss"):
            new = mutate_bytes(data, rng)
        elif suffix == ".json":
            new = json.dumps(mutate_tree(json.loads(data), rng)).encode()
        elif suffix == ".npz":
            new = mutate_npz(data, rng)
        elif suffix == ".safetensors":
            new = mutate_safetensors(data, rng)
        else:
            new = mutate_image(rng)
        path.unlink(missing_ok=True)
        path.write_bytes(new)
        return f"{kind} of {path}: {len(data)} -> {len(new)} bytes"
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        target = rng.choice(["/etc/hostname", str(path), "nowhere", "..", str(rng.choice(sorted(files))), "/dev/null"])
        path.symlink_to(target)
        return f"{path} links to {target}"
    return f"{kind}: {path}"


def sign_again(folder: Path) -> None:
    """Give a bank's manifest the hashes of its changed arrays, so that they are read at all."""
    with contextlib.suppress(ValueError, OSError, TypeError, AttributeError, KeyError, RecursionError):
        manifest = json.loads((folder / "bank.json").read_text())
        for name in [name for name in manifest["files"] if name.endswith(".npz")]:
            manifest["files"][name] = sha256_file(folder / name)
        (folder / "bank.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", PARSERS)
def test_only_our_own_errors_come_out(folders, name):
    folder, walk = folders[name], PARSERS[name][1]
    kinds = sorted({path.suffix for path in folder.files})

    @settings(max_examples=INPUTS, deadline=60_000, database=None, derandomize="RAF_FUZZ" not in os.environ,
              suppress_health_check=list(HealthCheck))
    @given(rng=st.randoms(use_true_random=False))
    def run(rng):
        touched = set()
        try:
            for _ in range(rng.choice([1, 1, 2, 3])):
                suffix = rng.choice(kinds)
                path = rng.choice([p for p in folder.files if p.suffix == suffix and p not in touched] or [folder.opened])
                if path in folder.files and path not in touched:
                    touched.add(path)
                    note(mutate_file(path, folder.files, rng))
            if name == "bank":
                touched.add(folder.opened / "bank.json")
                sign_again(folder.opened)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                walk(folder.opened, folder.root)
        finally:
            folder.restore(touched)

    walk(folder.opened, folder.root)
    run()


def test_every_format_refuses_the_folders_of_the_others(folders):
    for name in FORMATS:
        for other in FORMATS:
            if other != name:
                walk_capture(folders[name].opened, folders[name].root, other)


# -------------------------------------------------------------------------------------- what was found this way, one test a fault


@pytest.fixture
def own(folders, tmp_path):
    """A parser's valid folder, to be broken: `own(name)` is a copy of what is opened."""
    def copy(name: str) -> Path:
        folder = folders[name]
        shutil.copytree(folder.root, tmp_path / name)
        return tmp_path / name / folder.opened.relative_to(folder.root)

    return copy


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("field, values, read", [
    ("blendshapes", np.full((3, 52), "x"), lambda c: c.descriptors("FREE", "blendshapes")),
    ("head_pose", np.zeros((3, 4, 4), complex), lambda c: c.head_poses("FREE")),
    ("landmarks68", np.full((3, 68, 3), b"1"), lambda c: c.landmarks68("FREE")),
    ("face_found", np.full(3, "True"), lambda c: c.face_found("FREE")),
])
def test_annotations_that_are_no_numbers_are_named(own, field, values, read):
    capture = open_capture(own("nersemble"))
    write_npz(capture.root / "annotations/FREE.npz", **{field: values})
    with pytest.raises(ValueError, match=f"'{field}' of FREE holds .* where numbers belong"):
        read(capture)


def test_an_array_header_that_ends_too_early_is_named(own):
    folder = own("nersemble")
    broken = io.BytesIO()
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': ("
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("head_pose.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    (folder / "annotations/FREE.npz").write_bytes(broken.getvalue())
    with pytest.raises(ValueError, match="FREE.npz cannot be read"):
        open_capture(folder).head_poses("FREE")


@pytest.mark.parametrize("value, message", [("\ud800.png", "is not JSON"), ("x" * 5000, "cannot be followed")])
def test_paths_that_no_system_takes_are_named(own, value, message):
    folder = own("vhap")
    edit_json(folder / "transforms_train.json", lambda top: top["frames"][0].update(file_path=value))
    with pytest.raises(ValueError, match=message):
        open_capture(folder)


def test_numbers_too_large_for_a_calibration_are_named(own):
    folder = own("nersemble")
    intrinsics = [[10**400, 0, 8], [0, 9, 6], [0, 0, 1]]
    edit_json(folder / "calibration/camera_params.json", lambda top: top.update(intrinsics=intrinsics))
    with pytest.raises(ValueError, match="camera_params.json: camera 222200037: K is not a matrix of numbers"):
        open_capture(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "\ufeff", "null"])
def test_a_calibration_that_is_no_object_is_named(own, text):
    folder = own("nersemble")
    (folder / "calibration/camera_params.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="camera_params.json (is not JSON|holds a)"):
        open_capture(folder)


@pytest.mark.parametrize("notes", [{"fps": 10**400}, {"fps": float("inf")}, {"fps": float("nan")}, {"fps": -1},
                                   {"neutral": {"sequence": "FREE", "frame": float("inf")}}])
def test_notes_that_are_no_usable_numbers_are_named(own, notes):
    folder = own("nersemble")
    edit_json(folder / "capture.json", lambda top: top.update(notes))
    with pytest.raises(ValueError, match="capture.json: fps must be a number"):
        open_capture(folder)


def test_a_capture_of_cross_sequences_alone_can_be_looked_at(own, tmp_path):
    folder = own("nersemble")
    shutil.rmtree(folder / "sequences/FREE")
    edit_json(folder / "capture.json", lambda top: top.pop("neutral"))
    capture = open_capture(folder)
    assert capture.sequences == () and capture.first_filmed == "CROSS-101-FREE"
    contact_sheet(capture, tmp_path / "sheet.png")


def test_a_contact_sheet_leaves_out_axes_that_lie_far_outside(own, tmp_path):
    folder = own("gha")
    for file in folder.glob("cameras/*/*.npz"):
        with np.load(file) as stored:
            np.savez(file, extrinsic=stored["extrinsic"], intrinsic=np.array([[20.0, 0, 1e12], [0, 20, 6], [0, 0, 1]]))
    assert Image.open(contact_sheet(open_capture(folder), tmp_path / "sheet.png")).size == (3 * 267, 200)


def test_a_contact_sheet_of_a_picture_of_one_row_stays_small(tmp_path):
    Image.new("RGB", (9000, 1)).save(tmp_path / "row.png")
    assert Image.open(contact_sheet(open_capture(tmp_path), tmp_path / "out" / "sheet.png")).size == (800, 200)


def test_a_video_without_a_size_is_named(own):
    path = own("video")
    data = bytearray(path.read_bytes())
    at = data.index(b"avc1", data.index(b"stsd"))
    data[at + 28:at + 32] = bytes(4)  # width and height in the sample description
    at = data.index(b"avcC")
    data[at:at + 4] = b"free"  # without x264's own header nothing else tells
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="clip.mp4"):
        open_capture(path)
