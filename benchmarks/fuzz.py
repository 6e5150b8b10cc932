"""Damaged and hostile files by the ten thousand: what every reader of the package makes of them.

    python benchmarks/fuzz.py                       all parsers, 10,000 inputs each, to
    benchmarks/results/fuzz.json
    python benchmarks/fuzz.py --only bank           one parser; its line there becomes the new one

An input is a small valid folder in which one or two files were changed, by a generator with the input's
number as its seed: bytes flipped, cut, moved and put in; fields of JSON and of a safetensors header given
other values; arrays of an npz given headers that lie, twins, and other content; a bank and its FAISS index
signed again, so that the parser behind the checksum is reached; chunks of a PNG changed under checksums
that fit. Readers run in a process of their own with
limits on memory and time. Accepted: it was read. Refused: a ValueError or FileNotFoundError of ours that
names the file. Everything else is unexpected, and so is a hang, a crash, or memory that no such file is
worth."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import faiss
import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import format_writers as writers
import test_fuzz as small
from machine import RESULTS, describe_machine

from raf_lite._files import sha256_file, write_json, write_npz
from raf_lite.avatar import GaussianAvatar
from raf_lite.bank import ExpressionBank, index_files, load_truth
from raf_lite.captures import open_capture, write_video
from raf_lite.captures.pictures import picture_size, read_mask, read_picture
from raf_lite.captures.submission import CAMERAS, check_submission
from raf_lite.captures.video import count_frames, frame_times, iter_video, probe_video
from raf_lite.export import write_sequence
from raf_lite.manifest import find_data, verify_manifest, write_manifest
from raf_lite.rig.pack import load_pack
from raf_lite.study.execute import read_lines
from raf_lite.study.plans import RAW, RELATIVE, read_selection
from raf_lite.training import PRESETS, Trainer, TrainingSet
from raf_lite.viewing import maps
from raf_lite.widgets.blinded import Trial, analyse, append_answer

INPUTS = 10_000
SECONDS = 10  # for one input; twice that and the process is killed
MEMORY = 512 << 20  # bytes that one input may make the process grow by
ADDRESSES = 16 << 30  # of the process, torch and its libraries included


# ---------------------------------------------------------------------------------- valid folders and walks


def read_light(path: Path, root: Path) -> None:
    """A capture without decoding its films: cameras, poses, annotations, truth."""
    capture = small.attempt(root, open_capture, path)
    if capture is None:
        return
    for sequence in (*capture.sequences, *capture.cross_sequences):
        for read in (capture.head_poses, capture.landmarks68, capture.face_found, capture.truth):
            small.attempt(root, read, sequence)
        for field in small.attempt(root, capture.annotations, sequence) or ():
            small.attempt(root, capture.descriptors, sequence, field)


_ROWS = np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)


def write_indexes(root: Path) -> Path:
    """Index files of the kinds that banks store."""
    for number, factory in enumerate(
        ("IVF2,Flat", "HNSW4", "PQ2x4np", "IVF2,SQ8", "PCA2,Flat", "Flat,RFlat")
    ):
        bank = ExpressionBank.from_arrays(_ROWS, np.arange(48) % 4, index=factory)
        faiss.write_index(bank.index, str(root / f"{number}.faiss"))
    read_indexes.valid = {path: path.read_bytes() for path in root.iterdir()}
    return root


def read_indexes(path: Path, root: Path) -> None:
    """What `index_files.read_index` has another process do, in a fork of this one; what is found good is
    searched."""
    for file, data in read_indexes.valid.items():
        if not file.is_file() or file.stat().st_size > 1 << 20 or file.read_bytes() == data:
            continue
        with mmap.mmap(-1, 1) as said:  # shared with the fork
            child = os.fork()
            if child == 0:
                with contextlib.suppress(RuntimeError, MemoryError, ValueError, NotImplementedError):
                    index_files.judge(str(file), *_ROWS.shape)
                    said[0] = 1
                    found = faiss.read_index(str(file)).search(np.concatenate([_ROWS, 1e6 * _ROWS]), 5)[1]
                    said[0] = 2 if ((found >= -1) & (found < len(_ROWS))).all() else 1
                os._exit(0)
            os.waitpid(child, 0)
            assert said[0] != 1, f"{file.name} was found good, and its search went wrong"
            if said[0] == 0:
                small.attempt(root, _refuse, file)


def _refuse(file: Path) -> None:
    raise ValueError(f"{file} is refused")


def read_bank(path: Path, root: Path) -> None:
    bank = small.attempt(root, ExpressionBank.load, path)
    if bank is not None:
        found = bank.search(bank.descriptors[:2], 2)
        assert ((found.rows >= -1) & (found.rows < len(bank))).all(), "rows that are not in the bank"
    small.attempt(root, load_truth, path) if (path / "truth.npz").exists() else None


def write_checkpoint(root: Path) -> Path:
    config = PRESETS["fast"].with_(gaussians=40, steps=3, checkpoint_every=2)
    data = TrainingSet.from_capture(open_capture(find_data() / "mini_nersemble/001"), config, progress=False)
    trainer = read_checkpoint.trainer = Trainer(data, config, root / "run", progress=False)
    for parameter in trainer.avatar.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    trainer.schedule.step()
    trainer.step = 2
    trainer._save_checkpoint()
    for path in (root / "run").iterdir():
        if path.name != "checkpoint.safetensors":
            path.unlink()
    return root / "run"


def read_checkpoint(path: Path, root: Path) -> None:
    trainer = read_checkpoint.trainer
    small.attempt(root, trainer._load_checkpoint)
    assert type(trainer.step) is int and 0 < trainer.step <= 3, f"step {trainer.step!r:.30}"
    assert all(torch.isfinite(tensor).all() for tensor in trainer.avatar.state_dict().values()), "not finite"


def write_data(root: Path) -> Path:
    (root / "data/bank").mkdir(parents=True)
    (root / "data/bank/a.bin").write_bytes(b"abc")
    (root / "data/bank/b.txt").write_text("x")
    write_manifest(root / "data", origin={"bank": "x"}, licence="free", conventions={})
    return root / "data"


def read_data(path: Path, root: Path) -> None:
    small.attempt(root, verify_manifest, path)
    small.attempt(root, lambda: verify_manifest(path, quick=True))


def write_frames(root: Path) -> Path:
    read_frames.avatar = GaussianAvatar.load(small.write_small_avatar(root))
    (root / "avatar.safetensors").unlink()
    write_sequence(read_frames.avatar, np.zeros((1, 4)), root / "frames")
    return root / "frames"


def read_frames(path: Path, root: Path) -> None:
    small.attempt(root, write_sequence, read_frames.avatar, np.zeros((1, 4)), path)


def write_submission(root: Path) -> Path:
    video = root / "video.mp4"
    write_video(video, np.zeros((1, 64, 64, 3), np.uint8), 24.3)
    with zipfile.ZipFile(root / "s.zip", "w") as archive:
        for serial in CAMERAS:
            archive.writestr(zipfile.ZipInfo(f"393/FREE/cam_{serial}.mp4"), video.read_bytes())
    video.unlink()
    return root / "s.zip"


def read_submission(path: Path, root: Path) -> None:
    small.attempt(root, check_submission, path, {(393, "FREE"): 1})


ENCODE = importlib.import_module(
    "raf_lite.descriptors.encode_video"
)  # the name in the room is the function's


def write_parts(root: Path) -> Path:
    (root / ".clip.parts").mkdir()
    rng = np.random.default_rng(0)
    for first in (0, 2):
        ENCODE._write_part(
            root / ".clip.parts",
            first,
            [
                (
                    rng.normal(size=(1, 52)).astype(np.float32),
                    rng.normal(size=(1, 478, 3)).astype(np.float32),
                    np.eye(4, dtype=np.float32)[None],
                )
            ]
            * 2,
        )
    return root / ".clip.parts"


def read_parts(path: Path, root: Path) -> None:
    rows, count = ENCODE._read_parts(path)
    if rows:
        small.attempt(root, ENCODE._assemble, rows, count, root / "clip.mp4", None, 25.0, (64, 48))


def write_pack(root: Path) -> Path:
    rng = np.random.default_rng(0)
    names = np.array(["a", "b"])
    write_npz(
        root / "pack.npz",
        neutral=rng.normal(size=(40, 3)),
        faces=np.arange(36).reshape(9, 4),
        uv=rng.random((40, 2)),
        face_uv=np.arange(36).reshape(9, 4),
        face_material=np.zeros(9, int),
        material_names=names,
        identity=rng.normal(size=(2, 40, 3)),
        expression=rng.normal(size=(2, 40, 3)),
        expression_names=names,
        landmarks68=np.arange(68) % 40,
    )
    return root / "pack.npz"


def write_map(root: Path) -> Path:
    write_npz(root / "map.npz", rows=np.zeros((5, 2), np.float32), own=np.zeros((1, 2), np.float32))
    return root / "map.npz"


def read_map(path: Path, root: Path) -> None:
    found = maps._read(path, 5, 1)
    assert found is None or all(np.isfinite(array).all() for array in found), "not finite"


def write_answers(root: Path) -> Path:
    for number in range(5):
        append_answer(
            root / "answers.csv", "ann", number, Trial(number, number + 1, number + 2, "A"), "A", 1.0
        )
    return root / "answers.csv"


def write_study(root: Path) -> Path:
    chosen = {"variant": "weighted", "p": 0.2, "candidates": [{"variant": "paper", "p": 0.1}]}
    write_json(root / "selection.json", {"rule": "r", "p": 0.2, RAW: chosen, RELATIVE: chosen})
    (root / "a.jsonl").write_text('{"key": "a", "spec": {"seed": 0}}\n{"key": "b", "spec": {"seed": 1}}\n')
    return root


def read_study(path: Path, root: Path) -> None:
    small.attempt(root, lambda: list(read_lines(path)))
    small.attempt(root, read_selection, path)


def write_film(root: Path) -> Path:
    write_video(root / "clip.mp4", np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), np.uint8), 24.3)
    return root / "clip.mp4"


def read_film(path: Path, root: Path) -> None:
    """All that a film is asked, and every frame of it."""
    for ask in (probe_video, count_frames, frame_times, lambda film: [f.shape for f in iter_video(film)]):
        small.attempt(root, ask, path)


def write_picture(root: Path, suffix: str) -> Path:
    """A small picture with an orientation in its EXIF data."""
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    Image.fromarray(noise).save(root / f"a{suffix}", exif=exif)
    return root / f"a{suffix}"


def read_picture_file(path: Path, root: Path) -> None:
    small.attempt(root, picture_size, path, str(path))
    for ask in (read_picture, read_mask):
        small.attempt(root, ask, path)


PARSERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path, Path], None]]] = {
    "nersemble": (small.write_nersemble, read_light),
    "vhap": (writers.write_vhap, read_light),
    "insta": (writers.write_insta, read_light),
    "gha": (writers.write_gha, read_light),
    "imavatar": (writers.write_imavatar, read_light),
    "images": (small.write_images, read_light),
    "bank": (small.write_small_bank, read_bank),
    "bank_index": (write_indexes, read_indexes),
    "avatar": (small.write_small_avatar, lambda path, root: small.attempt(root, GaussianAvatar.load, path)),
    "descriptors": (small.write_descriptor_files, small.walk_descriptor_files),
    "checkpoint": (write_checkpoint, read_checkpoint),
    "manifest": (write_data, read_data),
    "sequence": (write_frames, read_frames),
    "submission": (write_submission, read_submission),
    "encoding_parts": (write_parts, read_parts),
    "pack": (write_pack, lambda path, root: small.attempt(root, load_pack, path)),
    "maps": (write_map, read_map),
    "answers": (write_answers, lambda path, root: small.attempt(root, analyse, path)),
    "study": (write_study, read_study),
    "film": (write_film, read_film),
    "png": (lambda root: write_picture(root, ".png"), read_picture_file),
    "jpeg": (lambda root: write_picture(root, ".jpg"), read_picture_file),
}
PICTURES = ("film", "png", "jpeg")  # other parsers leave films and pictures as they are


# ------------------------------------------------------------------------------------------------ mutations


def npy(
    shape: str,
    dtype: str = "<f4",
    data: bytes = b"\0" * 64,
    *,
    order: str = "False",
    text: str | None = None,
    magic: bytes = b"\x93NUMPY\x01\x00",
) -> bytes:
    """An array's file, whose header may say anything."""
    header = (text or f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}").encode(
        "latin1"
    )
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return magic + struct.pack("<H", min(len(header), 65535)) + header + data


LIES = [
    npy("(1099511627776,)"),
    npy("(4294967295,4294967295)"),
    npy("(-1,)"),
    npy("(3,-1)"),
    npy("(0,)*40"),
    npy("(1.5,)"),
    npy("(True,)"),
    npy("()"),
    npy("(10,)", "|V0"),
    npy("(10,)", "|S0"),
    npy(f"({2**63 - 1},)", "|V0"),
    npy(f"({2**62},)", "|S0"),
    npy(f"({2**62},)", "<U0"),
    npy("(3,52)", "|O"),
    npy("(3,52)", "<f4", b"\0" * 600),
    npy("(3,)", "<M8[ns]"),
    npy("(3,52)", ">f8", b"\0" * 1248),
    npy("(3,52)", "<f16", b"\0" * 2496),
    npy("(500000000,)", "|u1"),
    npy("(3,52)", "<U1000000000"),
    npy("", text="{" * 3000),
    npy("", text="(" * 900),
    npy("", text="(" * 9000),
    npy("", text="__import__('os').abort()"),
    npy("", text="{'descr':'<f4','fortran_order':False,'shape':(" + "9" * 5000 + ",)}"),
    npy("(3,)", text="{'descr': [('a','<f4'),('a','<f4')], 'fortran_order': False, 'shape': (3,)}"),
    npy("(3,52)", magic=b"\x93NUMPY\x09\x00"),
    npy("(3,52)", data=b"\xff" * 624, order="True"),
    npy("(3,52)", data=b"\0\0\x80\x7f" * 156),
    npy("(3,4,4)", data=b"\0\0\xc0\x7f" * 48),
    b"",
    b"\x93NUMPY",
    npy("(65536,65536)", "|b1"),
    npy("(4,)", "|b1", b"\x01\x02\xff\x00"),
    npy("(3,)", "<c16", b"\0" * 48),
    npy("(2147483648,0)"),
    npy(f"(0,{2**63 - 1})"),
    npy("(2,)", "<U1", b"\xff" * 8),
    npy("(1,)", "<U1", b"\0\xd8\0\0"),
]
_NAMES = ["../../etc/x", "/abs", "con", "é" * 300, "", ".npy", "file.npy", "allow_pickle.npy"]


def lie_in_zip(data: bytes, rng: Random) -> bytes:
    """An archive in which a member lies, has a twin, or stands under another name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    kind = rng.choice(["lie", "lie", "lie", "twin", "alias", "bytes", "numbers", "name", "many", "exchange"])
    if kind == "lie":
        members[at] = name, rng.choice(LIES)
    elif kind == "twin":
        members.append((name, rng.choice(LIES)))
    elif kind == "alias":
        members.insert(0, (name.removesuffix(".npy"), rng.choice(LIES)))
    elif kind == "bytes":
        members[at] = name, move_bytes(content, rng)
    elif kind == "numbers":
        members[at] = name, content[:128] + rng.choice([b"\xff", b"\x7f", b"\0"]) * max(0, len(content) - 128)
    elif kind == "name":
        members.append((rng.choice(_NAMES), content))
    elif kind == "many":
        members += [(f"x{k}", b"") for k in range(60)]
    else:
        other = rng.randrange(len(members))
        members[at], members[other] = (name, members[other][1]), (members[other][0], content)
    out = io.BytesIO()
    with zipfile.ZipFile(
        out,
        "w",
        rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]),
    ) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, archive.compression)
    return out.getvalue()


def move_bytes(data: bytes, rng: Random) -> bytes:
    """Bits flipped, pieces cut, copied or overwritten, numbers made extreme: one to six times."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 6])):
        if not out:
            break
        a = rng.randrange(len(out))
        b = min(len(out), a + rng.choice([1, 2, 4, 16, 200, 5000]))
        kind = rng.randrange(7)
        if kind <= 1:
            for _ in range(rng.randint(1, 20)):
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del out[a : rng.choice([b, len(out)])]
        elif kind == 3:
            to = rng.randrange(len(out))
            out[to:to] = out[a:b]
        elif kind == 4:
            out[a:b] = bytes(rng.choice([0, 255, 128, 127]) for _ in range(b - a))
        elif kind == 5 and len(out) > 8:
            code = rng.choice("IHQ")
            value = rng.choice([0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**62]) % (
                1 << (8 * struct.calcsize(code))
            )
            struct.pack_into(rng.choice("<>") + code, out, min(a, len(out) - 8), value)
        else:
            out += out[a:b]
    return bytes(out)


def lie_in_json(data: bytes, rng: Random) -> bytes:
    """Fields changed, and now and then a text that is hard on a parser."""
    value = json.loads(data)
    for _ in range(rng.choice([1, 1, 2])):
        value = small.mutate_tree(value, rng)
    text = json.dumps(value)
    kind = rng.randrange(16)
    hard = {
        0: "[" * 100_000,
        1: text.replace(":", ": " + "9" * 4000 + ', "q":', 1),
        2: "\ufeff" + text,
        3: text + text,
        4: '{"a":' * 50_000 + "1" + "}" * 50_000,
        5: text.replace(":", ':1e999,"q":', 1),
    }
    return move_bytes(text.encode(), rng) if kind == 6 else hard.get(kind, text).encode()


def lie_in_lines(data: bytes, rng: Random) -> bytes:
    """Lines of JSON or CSV, some changed."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    if lines[at].startswith(b"{") and rng.random() < 0.5:
        lines[at] = lie_in_json(lines[at], rng)
    else:
        cells = lines[at].split(b",")
        cells[rng.randrange(len(cells))] = rng.choice(
            [b'"', b"\0", b"9" * 5000, b"x" * 200_000, "²".encode(), b"=1+1", b"", b"-1", b"\xff", b"C"]
        )
        lines[at] = b",".join(cells)
    return b"\n".join(lines)


def lie_in_safetensors(data: bytes, rng: Random) -> bytes:
    """Our own JSON, the list of tensors or single numbers changed."""
    if rng.random() < 0.5:
        return small.mutate_safetensors(data, rng)
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    tensors = [name for name in header if name != "__metadata__"]
    kind = rng.randrange(5)
    if kind == 0:
        header[rng.choice(tensors)]["dtype"] = rng.choice(
            ["F64", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "C64", "X"]
        )
    elif kind == 1:
        header[rng.choice(tensors)] = dict(header[rng.choice(tensors)])
    elif kind == 2:
        ours = json.loads(header["__metadata__"]["raf_lite"])
        ours["field_settings"] = {
            "bases": rng.choice([2, 10**9, 0]),
            "hidden": rng.choice([4, 40_000, 10**7, 2**62, -1, True]),
        }
        header["__metadata__"]["raf_lite"] = json.dumps(ours)
    elif kind == 3:
        out = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = 8 + length + 4 * rng.randrange(max(1, (len(data) - 8 - length) // 4))
            out[at : at + 4] = rng.choice(
                [b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\0\0\0\0", b"\0\0\x80\xbf"]
            )
        return bytes(out)
    else:
        a, b = rng.choice(tensors), rng.choice(tensors)
        header[a], header[b] = header[b], header[a]
    text = json.dumps(header).encode()
    return (
        struct.pack("<Q", rng.choice([len(text)] * 15 + [2**63 - 1, 0, len(text) + 1]))
        + text
        + data[8 + length :]
    )


def lie_in_png(data: bytes, rng: Random) -> bytes:
    """Chunks changed, left out, doubled or moved, with checksums that fit."""
    chunks, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    which = rng.randrange(len(chunks))
    name, content = chunks[which]
    kind = rng.choice(["content", "content", "content", "name", "remove", "twin", "end"])
    if kind == "content":
        chunks[which] = name, move_bytes(content, rng)
    elif kind == "name":
        other = rng.choice([b"tRNS", b"PLTE", b"iCCP", b"eXIf", b"IDAT", b"acTL", b"zTXt", b"iTXt", b"gAMA"])
        chunks[which] = other, content
    elif kind == "remove":
        del chunks[which]
    else:
        chunks.insert(which if kind == "twin" else len(chunks), (name, content))
    parts = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    ]
    return data[:8] + b"".join(parts)


_LIES = {
    ".png": lie_in_png,
    ".npz": lie_in_zip,
    ".zip": lie_in_zip,
    ".json": lie_in_json,
    ".jsonl": lie_in_lines,
    ".csv": lie_in_lines,
    ".safetensors": lie_in_safetensors,
}


def mutate(path: Path, files: dict[Path, bytes], rng: Random) -> None:
    """Change one file of a folder."""
    data = files[path]
    kind = rng.choice(
        ["lie"] * 12 + ["bytes"] * 5 + ["old"] * 4 + ["swap", "remove", "folder", "link", "pipe"]
    )
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(
            rng.choice(
                ["/dev/zero", "/dev/null", "/proc/self/maps", "/etc/hostname", str(path), "nowhere", ".."]
            )
        )
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "swap":
        path.write_bytes(files[rng.choice(sorted(files))])
    elif kind == "old" and path.suffix == ".npz":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path.write_bytes(small.mutate_npz(data, rng))
    elif kind != "remove":
        change = _LIES.get(path.suffix, move_bytes) if kind != "bytes" else move_bytes
        path.write_bytes(change(data, rng))


def sign(folder: Path) -> None:
    """Give a bank's manifest the hashes of its changed files."""
    with contextlib.suppress(ValueError, OSError, TypeError, AttributeError, KeyError, RecursionError):
        manifest = json.loads((folder / "bank.json").read_text())
        for name in manifest["files"]:
            if (folder / name).is_file() and (folder / name).resolve().is_relative_to(folder.resolve()):
                manifest["files"][name] = sha256_file(folder / name)
        (folder / "bank.json").write_text(json.dumps(manifest))


# -------------------------------------------------------------------------------------------------- running


class _Hang(BaseException):
    pass


def work(name: str, first: int, count: int, out: Path) -> None:
    """Try inputs `first` to `first + count`, and write a line for each to `out`: {"seed", "kind", "seconds",
    "grown"}."""
    write, read = PARSERS[name]
    writers.scene = small.tiny_scene
    torch.set_num_threads(1)
    os.environ["RAF_LITE_CACHE"] = str(out.with_suffix(".cache"))
    refused: set[str] = set()

    def attempt(root: Path, call: Callable, *arguments: object) -> object:
        try:
            return call(*arguments)
        except (ValueError, FileNotFoundError) as error:
            if (
                type(error) not in (ValueError, FileNotFoundError)
                or getattr(error, "errno", None) is not None
                or str(root) not in str(error)
            ):
                raise
            str(error).encode()  # it can be printed
            refused.add(str(error))
            return None

    small.attempt = attempt

    def alarm(*_: object) -> None:
        raise _Hang

    signal.signal(signal.SIGALRM, alarm)
    with tempfile.TemporaryDirectory() as folder, open(out, "a", buffering=1) as report:
        root = Path(folder, name)
        root.mkdir()
        opened = write(root)
        files = {
            path: path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and path.name != ".lock"
        }
        left = () if name in PICTURES else (".mp4", ".png", ".jpg", ".ply")
        chosen = [path for path in files if path.suffix not in left]
        valid = small.Folder(root, opened, files)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(opened, root)
            always = set(refused)  # what this kind of capture does not have
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
            for seed in range(first, first + count):
                refused.clear()
                rng, touched, problem = Random(f"{name} {seed}"), set(), None
                before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
                report.write(f'{{"begun": {seed}}}\n')
                try:
                    for _ in range(rng.choice([1, 1, 1, 2])):
                        path = rng.choice(chosen)
                        if path not in touched:
                            touched.add(path)
                            mutate(path, files, rng)
                    if name == "bank" and rng.random() < 0.9 and (opened / "bank.json").is_file():
                        touched.add(opened / "bank.json")
                        sign(opened)
                    signal.alarm(SECONDS)
                    read(opened, root)
                except _Hang:
                    problem = f"longer than {SECONDS} s"
                except BaseException as error:
                    frames = [
                        f for f in traceback.extract_tb(error.__traceback__) if "/raf_lite/" in f.filename
                    ]
                    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
                    problem = f"{type(error).__name__}{where}: {str(error)[:160]!r}"
                finally:
                    signal.alarm(0)
                seconds = time.perf_counter() - start
                grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
                if problem is None and grown > MEMORY:
                    problem = f"grew by {grown >> 20} MB"
                line = {
                    "seed": seed,
                    "kind": "refused" if refused - always else "accepted",
                    "problem": problem,
                    "seconds": round(seconds, 4),
                    "grown": grown,
                }
                report.write(json.dumps(line) + "\n")
                valid.restore(touched)
                for extra in [
                    p for p in root.rglob("*") if p not in files and p.is_file() and p.name != ".lock"
                ]:
                    extra.unlink()  # what a reader that also writes has left


def fuzz(name: str, first: int, count: int) -> dict:
    """All inputs of a parser, begun again behind one that ended the process."""
    start, lines, crashes = time.perf_counter(), [], []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "lines")
        at = first
        while at < first + count:
            out.write_text("")
            process = subprocess.Popen(
                [
                    sys.executable,
                    __file__,
                    "--work",
                    name,
                    "--seed",
                    str(at),
                    "--inputs",
                    str(first + count - at),
                    "--out",
                    str(out),
                ]
            )
            size, since = -1, time.monotonic()
            while process.poll() is None:
                time.sleep(0.2)
                if out.stat().st_size != size:
                    size, since = out.stat().st_size, time.monotonic()
                elif time.monotonic() - since > (120 if size == 0 else 2 * SECONDS):
                    process.kill()
            read = [json.loads(line) for line in out.read_text().splitlines() if line.endswith("}")]
            done = [line for line in read if "seed" in line]
            lines += done
            if process.returncode == 0:
                break
            begun = [line["begun"] for line in read if "begun" in line]
            if not begun:
                raise SystemExit(f"{name} could not be begun")
            crashes.append({"seed": begun[-1], "problem": f"the process ended with {process.returncode}"})
            at = begun[-1] + 1
    unexpected = [
        {"seed": line["seed"], "problem": line["problem"]} for line in lines if line["problem"]
    ] + crashes
    kinds = Counter(line["kind"] for line in lines if not line["problem"])
    return {
        "inputs": len(lines) + len(crashes),
        "accepted": kinds["accepted"],
        "refused": kinds["refused"],
        "unexpected": len(unexpected),
        "slowest_s": max(line["seconds"] for line in lines),
        "most_memory_mb": round(max(line["grown"] for line in lines) / 2**20, 1),
        "seconds": round(time.perf_counter() - start, 1),
        "first_seed": first,
        "examples": unexpected[:20],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARSERS, action="append")
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", choices=PARSERS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    if options.work:
        work(options.work, options.seed, options.inputs, options.out)
        return
    out = options.out or RESULTS / "fuzz.json"
    results = json.loads(out.read_text())["parsers"] if options.only and out.is_file() else {}
    for name in options.only or PARSERS:
        results[name] = fuzz(name, options.seed, options.inputs)
        print(name, json.dumps(results[name] | {"examples": results[name]["examples"][:4]}), flush=True)
        write_json(
            out,
            {
                "machine": describe_machine(),
                "limits": {"seconds": SECONDS, "memory_mb": MEMORY >> 20},
                "parsers": results,
            },
        )


if __name__ == "__main__":
    main()
