"""A bank on disk: a folder of npz files under one manifest that holds the sha256 of each.

    bank.json        format, version, encoder, the descriptor columns, sha256 of every file below
    descriptors.npz  one float array [N, D] per descriptor column; donors [N]; neutral bool [N]; encoder_pose float32 [N, 4, 4]
    thumbnails.npz   WebP files end to end: bytes uint8 [B], offsets int64 [M+1], rows int64 [M]
    index.faiss      the FAISS index of one column (without it, the index is built when the bank is loaded)
    truth.npz        what the frames really show, where a renderer knows it; opened by `load_truth` only, to grade retrieval

Nothing is pickled. A bank is replaced as a whole: every file is first written beside its predecessor, then all are renamed,
the manifest last.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

import faiss
import numpy as np
from PIL import Image

from raf_lite._arrays import descriptor_array
from raf_lite._files import atomic_path, read_npz, sha256_file
from raf_lite.bank.checks import donor_array, neutral_array, pose_array, thumbnail_dict

FORMAT = "raf_lite.bank"
VERSION = 1
_NOT_A_COLUMN = ("donors", "neutral", "encoder_pose", "file", "allow_pickle")  # the last two are arguments of np.savez
_MEND = "restore it or write the bank again"


def write_bank(
    folder: str | os.PathLike,
    *,
    columns: Mapping[str, np.ndarray],  # {name: [N, D]}
    donors,  # [N]
    encoder: str,
    neutral=None,  # bool [N]
    encoder_pose=None,  # [N, 4, 4]
    thumbnails: Mapping[int, bytes] | None = None,
    truth: Mapping[str, np.ndarray] | None = None,
    index: tuple[str, str, faiss.Index] | None = None,
) -> Path:
    """Write a bank folder and return it. The same arrays give the same bytes.

    columns: descriptors by name, the first being the one that `ExpressionBank.load` takes unasked. float16 is stored as such,
    anything else as float32. donors: an integer or string per row. encoder: what made the descriptors. neutral: the row is
    its donor's neutral frame. encoder_pose: heads as the encoder saw them. thumbnails: `{row: WebP bytes}` for any rows.
    truth: arrays by name, kept in a file that loading never opens. index: (column, FAISS factory string, its index).

    Raises ValueError for arrays that don't fit together, and OSError when the disk does not take them; what stood in the
    folder before is then untouched.

    >>> folder = write_bank("mine", columns={"expression": np.eye(3, 8)}, donors=["ann", "bo", "cy"], encoder="mine")
    >>> sorted(path.name for path in folder.iterdir())
    ['bank.json', 'descriptors.npz']
    """
    folder = Path(folder)
    if not columns:
        raise ValueError(f"a bank needs at least one descriptor column to be written to {folder}; pass columns={{name: [N, D]}}")
    arrays, rows = {}, None
    for name, column in columns.items():
        if not name or "/" in name or name in _NOT_A_COLUMN:
            raise ValueError(f"'{name}' cannot name a descriptor column; use a word other than {', '.join(_NOT_A_COLUMN)}")
        column = np.asarray(column)
        checked = descriptor_array(column, f"column '{name}'")
        rows = len(checked) if rows is None else rows
        if len(checked) != rows or rows == 0:
            raise ValueError(f"column '{name}' has {len(checked)} rows where {max(rows, 1)} "
                             "are needed; give all columns as many")
        arrays[name] = column if column.dtype == np.float16 else checked
    dims = {name: array.shape[1] for name, array in arrays.items()}
    arrays["donors"] = donor_array(donors, rows)
    arrays["neutral"] = neutral_array(neutral, rows)
    if encoder_pose is not None:
        arrays["encoder_pose"] = pose_array(encoder_pose, rows)
    truth = {name: np.asarray(array) for name, array in (truth or {}).items()}
    for name, array in truth.items():
        if array.dtype == object:
            raise ValueError(f"truth field '{name}' is an object array; store numbers or fixed-width strings instead")
    thumbnails = thumbnail_dict(thumbnails, rows)

    manifest = {"format": FORMAT, "version": VERSION, "encoder": encoder, "rows": rows,
                "donors": len(np.unique(arrays["donors"])), "descriptors": dims}
    contents = {"descriptors.npz": arrays}
    if thumbnails:
        contents["thumbnails.npz"] = {
            "bytes": np.frombuffer(b"".join(thumbnails.values()), dtype=np.uint8),
            "offsets": np.cumsum([0, *map(len, thumbnails.values())], dtype=np.int64),
            "rows": np.fromiter(thumbnails, dtype=np.int64),
        }
    if truth:
        contents["truth.npz"] = truth
    if index:
        manifest["index"] = {"descriptor": index[0], "factory": index[1]}
    manifest["files"] = {}
    # Contexts close in reverse order: the renames come after every byte is on disk, and the manifest's comes last.
    with contextlib.ExitStack() as stack:
        manifest_path = stack.enter_context(atomic_path(folder / "bank.json"))
        for name, content in contents.items():
            path = stack.enter_context(atomic_path(folder / name))
            np.savez_compressed(path, **content)
            manifest["files"][name] = sha256_file(path)
        if index:
            path = stack.enter_context(atomic_path(folder / "index.faiss"))
            # faiss.write_index does not report a failed close, so a full disk could pass unseen.
            path.write_bytes(faiss.serialize_index(index[2]).tobytes())
            manifest["files"]["index.faiss"] = sha256_file(path)
        manifest_path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8", newline="\n")
    return folder


def read_manifest(folder: str | os.PathLike) -> dict:
    """The bank's `bank.json`. FileNotFoundError where there is none, ValueError where it is not this format and version."""
    path = Path(folder, "bank.json")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; name a folder written by ExpressionBank.save or raf_lite.bank.write_bank")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found = manifest["format"], manifest["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a bank's manifest ({error!r}); restore it or write the bank again") from error
    if found != (FORMAT, VERSION):
        raise ValueError(f"{path} is of format {found[0]} version {found[1]} and this package reads {FORMAT} version {VERSION}; "
                         "write the bank again with this version")
    for name, kind in (("encoder", str), ("descriptors", dict), ("files", dict), ("index", dict)):
        if not isinstance(manifest.get(name, {} if name == "index" else None), kind):
            raise ValueError(f"{path} has no proper field '{name}'; restore it or write the bank again")
    if not manifest["descriptors"]:
        raise ValueError(f"{path} lists no descriptor column; restore it or write the bank again")
    return manifest


def _checked_path(folder: Path, name: str, manifest: dict) -> Path:
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing though bank.json lists it; restore it or write the bank again")
    if sha256_file(path) != manifest["files"].get(name):
        raise ValueError(f"{path} is damaged (its sha256 is not the one in bank.json); restore it or write the bank again")
    return path


def read_bank(folder: str | os.PathLike, descriptor: str | None = None) -> dict:
    """Read one descriptor column of a bank folder, with the keyword arguments of `ExpressionBank` as keys.

    Every file that is read has its sha256 checked; `truth.npz` is not opened.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    names = list(manifest["descriptors"])
    descriptor = names[0] if descriptor is None else descriptor
    if descriptor not in names:
        raise ValueError(f"the bank {folder} has no descriptor '{descriptor}'; choose one of {', '.join(names)}")
    path = _checked_path(folder, "descriptors.npz", manifest)
    arrays = read_npz(path, (descriptor, "donors", "neutral"), optional=("encoder_pose",), mend=_MEND)
    bank = {"descriptors": arrays[descriptor], "donors": arrays["donors"], "neutral": arrays["neutral"],
            "encoder_pose": arrays.get("encoder_pose"), "encoder": manifest["encoder"], "descriptor": descriptor}
    if "thumbnails.npz" in manifest["files"]:
        path = _checked_path(folder, "thumbnails.npz", manifest)
        thumbs = read_npz(path, ("bytes", "offsets", "rows"), mend=_MEND)
        rows, ends = thumbs["rows"], thumbs["offsets"]
        if any(array.dtype.kind not in "iu" or array.ndim != 1 for array in (rows, ends)) or len(ends) != len(rows) + 1:
            raise ValueError(f"{path} holds rows and offsets that do not belong together; restore it or write the bank again")
        data = thumbs["bytes"].tobytes()
        bank["thumbnails"] = {row: data[start:end] for row, start, end in zip(rows.tolist(), ends[:-1], ends[1:], strict=True)}
    if manifest.get("index", {}).get("descriptor") == descriptor:
        path = _checked_path(folder, "index.faiss", manifest)
        bank["factory"], bank["index"] = manifest["index"].get("factory"), faiss.read_index(str(path))
        if (bank["index"].ntotal, bank["index"].d) != bank["descriptors"].shape or not isinstance(bank["factory"], str):
            raise ValueError(f"{path} indexes other rows than descriptors.npz holds; write the bank again")
    return bank


def load_truth(folder: str | os.PathLike) -> dict[str, np.ndarray]:
    """What the bank's frames really show (a renderer's weights, `[N, ...]` by name): to grade retrieval, not to train.

    >>> from raf_lite.manifest import find_data
    >>> {name: values.shape for name, values in load_truth(find_data() / "bank").items()}
    {'weights': (18480, 57), 'archetype': (18480,), 'head_rotation': (18480, 3)}
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if "truth.npz" not in manifest["files"]:
        raise FileNotFoundError(f"the bank {folder} has no truth.npz; only banks of rendered frames can be graded")
    return read_npz(_checked_path(folder, "truth.npz", manifest), mend=_MEND)


def encode_thumbnail(
    image: np.ndarray,  # [h, w, 3]
    quality: int = 60,
) -> bytes:
    """WebP bytes of a uint8 RGB image. quality: WebP's own scale, 0 to 100.

    >>> decode_thumbnail(encode_thumbnail(np.full((8, 8, 3), 200, np.uint8))).shape
    (8, 8, 3)
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a thumbnail must be uint8 [h, w, 3], not {image.dtype} {list(image.shape)}; convert the image first")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def decode_thumbnail(data: bytes) -> np.ndarray:
    """uint8 `[h, w, 3]` of WebP bytes."""
    return np.array(Image.open(io.BytesIO(data), formats=["WEBP"]).convert("RGB"))
