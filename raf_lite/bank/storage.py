"""A bank on disk: a folder of npz files under one manifest that holds the sha256 of each.

    bank.json              format, version, encoder, the descriptor columns, name and sha256 of every file
    below descriptors-HASH.npz   one float array [N, D] per descriptor column; donors [N]; neutral bool [N];
                           encoder_pose float32 [N, 4, 4]
    thumbnails-HASH.npz    WebP files end to end: bytes uint8 [B], offsets int64 [M+1], rows int64 [M]
    index-HASH.faiss       the FAISS index of one column (without it, the index is built when the bank is
    loaded) truth-HASH.npz         what the frames really show, where a renderer knows it; opened by
    `load_truth` only, to grade retrieval

Nothing is pickled. HASH is the beginning of the file's sha256, so new content never takes the name of old
content: a bank is replaced by the rename of its manifest alone, and whoever is killed before or after leaves
the old bank or the new one. Files that no manifest names any more are deleted after the rename. Version 1,
which the shipped data have, differs in that the names have no HASH; it is read, and becomes this one when the
bank is next written.

Writers take turns (`raf_lite._files.locked`): one that reads the bank to write it again does both inside.
Readers need no lock: where the files that a manifest names are gone, the bank was replaced meanwhile, and
they read again.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import faiss
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from raf_lite._arrays import as_numpy, descriptor_array
from raf_lite._files import (
    locked,
    put_in_place,
    read_json,
    read_npz,
    sha256_file,
    sweep_temporaries,
    sync_folder,
    temporary_path,
    write_json,
)
from raf_lite.bank.checks import donor_array, neutral_array, pose_array, thumbnail_dict
from raf_lite.bank.index_files import buildable, read_index

FORMAT = "raf_lite.bank"
VERSION = 2
MANIFEST = "bank.json"
_READABLE = (1, VERSION)
_PARTS = ("descriptors.npz", "thumbnails.npz", "truth.npz", "index.faiss")
_NOT_A_COLUMN = (
    "donors",
    "neutral",
    "encoder_pose",
    "file",
    "allow_pickle",
)  # the last two are arguments of np.savez
_MEND = "restore it or write the bank again"
MOST_THUMBNAIL_PIXELS = 1 << 24
_READINGS = 5  # of a bank that is replaced each time while it is read

Value = TypeVar("Value")
Writer = Callable[[Path], object]  # writes a file


def write_bank(
    folder: str | os.PathLike,
    *,
    columns: Mapping[str, np.ndarray],  # {name: [N, D]}
    donors: ArrayLike,  # [N]
    encoder: str,
    neutral: ArrayLike | None = None,  # bool [N]
    encoder_pose: ArrayLike | None = None,  # [N, 4, 4]
    thumbnails: Mapping[int, bytes] | None = None,
    truth: Mapping[str, np.ndarray] | None = None,
    index: tuple[str, str, faiss.Index] | None = None,
) -> Path:
    """Write a bank folder and return it. The same arrays give the same bytes.

    columns: descriptors by name, the first being the one that `ExpressionBank.load` takes unasked. float16 is
    stored as such, anything else as float32. donors: an integer or string per row. encoder: what made the
    descriptors. neutral: the row is its donor's neutral frame. encoder_pose: heads as the encoder saw them.
    thumbnails: `{row: WebP bytes}` for any rows. truth: arrays by name, kept in a file that loading never
    opens. index: (column, FAISS factory string, its index); one that FAISS could not read again is left out,
    and built when the bank is loaded.

    Raises ValueError for arrays that don't fit together, TimeoutError where another process has been writing
    there for too long, and OSError when the disk does not take them; what stood in the folder before is then
    untouched.

    >>> folder = write_bank(
    ...     "mine", columns={"expression": np.eye(3, 8)}, donors=["ann", "bo", "cy"], encoder="mine"
    ... )
    >>> sorted(path.name for path in folder.glob("[!.]*"))
    ['bank.json', 'descriptors-....npz']
    """
    contents = bank_contents(
        folder,
        columns=columns,
        donors=donors,
        encoder=encoder,
        neutral=neutral,
        encoder_pose=encoder_pose,
        thumbnails=thumbnails,
        truth=truth,
        index=index,
    )
    with locked(folder):
        commit(folder, *contents)
    return Path(folder)


def bank_contents(
    folder: str | os.PathLike,
    *,
    columns: Mapping[str, np.ndarray],  # {name: [N, D]}
    donors: ArrayLike,  # [N]
    encoder: str,
    neutral: ArrayLike | None = None,  # bool [N]
    encoder_pose: ArrayLike | None = None,  # [N, 4, 4]
    thumbnails: Mapping[int, bytes] | None = None,
    truth: Mapping[str, np.ndarray] | None = None,
    index: tuple[str, str, faiss.Index] | None = None,
) -> tuple[dict, dict[str, Writer]]:
    """(manifest without its files, what writes each part), for `commit`. Arguments and errors as in
    `write_bank`."""
    arrays = _column_arrays(folder, columns)
    dims = {name: array.shape[1] for name, array in arrays.items()}
    rows = len(next(iter(arrays.values())))
    arrays |= {"donors": donor_array(donors, rows), "neutral": neutral_array(neutral, rows)}
    if (seen := pose_array(encoder_pose, rows)) is not None:
        arrays["encoder_pose"] = seen
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "encoder": encoder,
        "rows": rows,
        "donors": len(np.unique(arrays["donors"])),
        "descriptors": dims,
    }
    parts = {"descriptors.npz": _npz_writer(arrays)}
    if thumbnails := thumbnail_dict(thumbnails, rows):
        parts["thumbnails.npz"] = _npz_writer(
            {
                "bytes": np.frombuffer(b"".join(thumbnails.values()), dtype=np.uint8),
                "offsets": np.cumsum([0, *map(len, thumbnails.values())], dtype=np.int64),
                "rows": np.fromiter(thumbnails, dtype=np.int64),
            }
        )
    if truth:
        parts["truth.npz"] = _npz_writer(_truth_arrays(truth))
    if index:
        manifest["index"] = {"descriptor": index[0], "factory": index[1]}
        data = faiss.serialize_index(index[2])
        if _readable_index(data):
            # faiss.write_index does not report a failed close, so a full disk could pass unseen.
            parts["index.faiss"] = lambda path: path.write_bytes(data.tobytes())
    return manifest, parts


def _column_arrays(folder: str | os.PathLike, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not columns:
        raise ValueError(
            f"a bank needs at least one descriptor column to be written to {folder}; pass columns={{name: [N,"
            " D]}"
        )
    arrays, rows = {}, 0
    for name, column in columns.items():
        if not name or "/" in name or name in _NOT_A_COLUMN:
            raise ValueError(
                f"'{name}' cannot name a descriptor column; use a word other than {', '.join(_NOT_A_COLUMN)}"
            )
        column = as_numpy(column)
        checked = descriptor_array(column, f"column '{name}'")
        rows = rows or len(checked)
        if len(checked) != rows or rows == 0:
            raise ValueError(
                f"column '{name}' has {len(checked)} rows where {max(rows, 1)} "
                "are needed; give all columns as many"
            )
        arrays[name] = column if column.dtype == np.float16 else checked
    return arrays


def _truth_arrays(truth: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(array) for name, array in truth.items()}
    for name, array in arrays.items():
        if array.dtype == object:
            raise ValueError(
                f"truth field '{name}' is an object array; store numbers or fixed-width strings instead"
            )
    return arrays


def _npz_writer(arrays: Mapping[str, np.ndarray]) -> Writer:
    return lambda path: np.savez_compressed(path, **arrays)  # pyright: ignore[reportArgumentType] (see _NOT_A_COLUMN)


def _readable_index(data: np.ndarray) -> bool:
    """Whether FAISS reads what it wrote; of lattice indexes it does not store the rows."""
    try:
        faiss.deserialize_index(data)
    except RuntimeError:
        return False
    return True


def commit(folder: str | os.PathLike, manifest: dict, parts: Mapping[str, Writer]) -> None:
    """Replace the bank in `folder` by `bank_contents`; to be called inside `locked`."""
    folder = Path(folder)
    was_bank = (folder / MANIFEST).is_file()
    try:
        manifest = manifest | {
            "files": dict(_write_part(folder, part, write) for part, write in parts.items())
        }
        sync_folder(folder)  # a name in the manifest must not outlast a power failure that the file does not
        write_json(folder / MANIFEST, manifest)
    finally:
        sweep(folder, was_bank=was_bank)


def _write_part(folder: Path, part: str, write: Writer) -> tuple[str, str]:
    """(name, sha256) of a part that has been written under a name that holds its hash."""
    with temporary_path(folder / part) as tmp:
        write(tmp)
        digest = sha256_file(tmp)
        stem, suffix = os.path.splitext(part)
        name = f"{stem}-{digest[:16]}{suffix}"
        put_in_place(tmp, folder / name)
    return name, digest


def sweep(folder: Path, *, was_bank: bool) -> None:
    """Delete the parts in a folder that its manifest does not name, and what killed writers left; to be
    called inside `locked`.

    was_bank: parts without a hash in the name go too, which in a folder that was no bank before the last
    write are not ours."""
    try:
        named = read_manifest(folder)["files"] if (folder / MANIFEST).is_file() else {}
    except ValueError:  # a manifest that we cannot read may name anything
        return
    for path in folder.iterdir():
        part = _part_of(path.name)
        if part is not None and path.name not in named and (was_bank or path.name != part):
            path.unlink(missing_ok=True)
    sweep_temporaries(folder)


def _part_of(name: str) -> str | None:
    """Which of _PARTS a file's name stands for, with or without a hash in it."""
    plain = re.sub(r"-[0-9a-f]{16}(?=\.[a-z]+$)", "", name)
    return plain if plain in _PARTS else None


def has_part(manifest: dict, part: str) -> bool:
    """Whether the bank has a "thumbnails.npz", "truth.npz" or "index.faiss"."""
    return any(_part_of(name) == part for name in manifest["files"])


def read_manifest(folder: str | os.PathLike) -> dict:
    """The bank's `bank.json`. FileNotFoundError where there is none, ValueError where it is not this format
    and version."""
    path = Path(folder, MANIFEST)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; name a folder written by ExpressionBank.save or raf_lite.bank.write_bank"
        )
    try:
        manifest = read_json(path, dict, _MEND)
        found = manifest["format"], manifest["version"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a bank's manifest ({error!r}); {_MEND}") from error
    if found[0] != FORMAT or found[1] not in _READABLE:
        raise ValueError(
            f"{path} is of format {found[0]} version {found[1]} and this package reads {FORMAT} version"
            f" {VERSION}; write the bank again with this version"
        )
    for name, kind in (("encoder", str), ("descriptors", dict), ("files", dict), ("index", dict)):
        if not isinstance(manifest.get(name, {} if name == "index" else None), kind):
            raise ValueError(f"{path} has no proper field '{name}'; restore it or write the bank again")
    if not manifest["descriptors"]:
        raise ValueError(f"{path} lists no descriptor column; restore it or write the bank again")
    return manifest


def _read_whole(folder: str | os.PathLike, read: Callable[[Path, dict], Value]) -> Value:
    """`read(folder, manifest)`, again where it failed because a writer replaced the bank meanwhile."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    for _ in range(_READINGS):
        try:
            return read(folder, manifest)
        except (FileNotFoundError, ValueError):
            before, manifest = manifest, read_manifest(folder)
            if manifest == before:
                raise
    raise ValueError(
        f"the bank {folder} was replaced {_READINGS} times while it was read; load it when the others have"
        " written"
    )


def _checked_path(folder: Path, part: str, manifest: dict) -> Path:
    name, digest = next(((n, d) for n, d in manifest["files"].items() if _part_of(n) == part), (part, None))
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing though bank.json lists it; restore it or write the bank again"
        )
    if sha256_file(path) != digest:
        raise ValueError(
            f"{path} is damaged (its sha256 is not the one in bank.json); restore it or write the bank again"
        )
    return path


def read_bank(folder: str | os.PathLike, descriptor: str | None = None) -> dict:
    """Read one descriptor column of a bank folder, with the keyword arguments of `ExpressionBank` as keys.

    Every file that is read has its sha256 checked; the truth is not opened.
    """
    return _read_whole(folder, lambda folder, manifest: _read_column(folder, manifest, descriptor))


def read_columns(folder: str | os.PathLike) -> dict[str, dict]:
    """`read_bank` of every descriptor column, by name, all from one state of the bank."""
    return _read_whole(
        folder,
        lambda folder, manifest: {
            name: _read_column(folder, manifest, name) for name in manifest["descriptors"]
        },
    )


def _read_column(folder: Path, manifest: dict, descriptor: str | None) -> dict:
    names = list(manifest["descriptors"])
    descriptor = names[0] if descriptor is None else descriptor
    if descriptor not in names:
        raise ValueError(
            f"the bank {folder} has no descriptor '{descriptor}'; choose one of {', '.join(names)}"
        )
    path = _checked_path(folder, "descriptors.npz", manifest)
    arrays = read_npz(path, (descriptor, "donors", "neutral"), optional=("encoder_pose",), mend=_MEND)
    bank = {
        "descriptors": arrays[descriptor],
        "donors": arrays["donors"],
        "neutral": arrays["neutral"],
        "encoder_pose": arrays.get("encoder_pose"),
        "encoder": manifest["encoder"],
        "descriptor": descriptor,
    }
    if has_part(manifest, "thumbnails.npz"):
        bank["thumbnails"] = _read_thumbnails(_checked_path(folder, "thumbnails.npz", manifest))
    if manifest.get("index", {}).get("descriptor") == descriptor:
        bank["factory"] = manifest["index"].get("factory")
        if not isinstance(bank["factory"], str):
            raise ValueError(f"{folder / MANIFEST} does not say of which kind the index is; {_MEND}")
        if bank["descriptors"].ndim != 2:
            raise ValueError(f"{path} holds a column '{descriptor}' that is no table; {_MEND}")
        if not buildable(bank["factory"], len(bank["descriptors"])):
            raise ValueError(
                f"{folder / MANIFEST} asks for an index {bank['factory'][:40]!r} that no bank has; {_MEND}"
            )
        if has_part(manifest, "index.faiss"):
            path = _checked_path(folder, "index.faiss", manifest)
            if bank["factory"] != "Flat":  # which is built as fast as it is read
                bank["index"] = read_index(path, bank["descriptors"].shape)
    return bank


def _read_thumbnails(path: Path) -> dict[int, bytes]:
    thumbs = read_npz(path, ("bytes", "offsets", "rows"), mend=_MEND)
    rows, ends = thumbs["rows"], thumbs["offsets"]
    if (
        any(array.dtype.kind not in "iu" or array.ndim != 1 for array in (rows, ends))
        or len(ends) != len(rows) + 1
    ):
        raise ValueError(
            f"{path} holds rows and offsets that do not belong together; restore it or write the bank again"
        )
    data = thumbs["bytes"].tobytes()
    return {row: data[start:end] for row, start, end in zip(rows.tolist(), ends[:-1], ends[1:], strict=True)}


def load_truth(folder: str | os.PathLike) -> dict[str, np.ndarray]:
    """What the bank's frames really show (a renderer's weights, `[N, ...]` by name): to grade retrieval, not
    to train.

    >>> from raf_lite.manifest import find_data
    >>> {name: values.shape for name, values in load_truth(find_data() / "bank").items()}
    {'weights': (18480, 57), 'archetype': (18480,), 'head_rotation': (18480, 3)}
    """
    return _read_whole(folder, _read_truth)


def _read_truth(folder: Path, manifest: dict) -> dict[str, np.ndarray]:
    if not has_part(manifest, "truth.npz"):
        raise FileNotFoundError(
            f"the bank {folder} has no truth.npz; only banks of rendered frames can be graded"
        )
    return read_npz(_checked_path(folder, "truth.npz", manifest), mend=_MEND)


def encode_thumbnail(image: np.ndarray, quality: int = 60) -> bytes:  # [h, w, 3]
    """WebP bytes of a uint8 RGB image. quality: WebP's own scale, 0 to 100.

    >>> decode_thumbnail(encode_thumbnail(np.full((8, 8, 3), 200, np.uint8))).shape
    (8, 8, 3)
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"a thumbnail must be uint8 [h, w, 3], not {image.dtype} {list(image.shape)}; convert the image"
            " first"
        )
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def decode_thumbnail(data: bytes) -> np.ndarray:
    """uint8 `[h, w, 3]` of WebP bytes. ValueError for damaged ones, and for more than
    MOST_THUMBNAIL_PIXELS."""
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
            width, height = image.size
            if width * height <= MOST_THUMBNAIL_PIXELS:
                return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the thumbnail is damaged ({type(error).__name__}); {_MEND}") from error
    raise ValueError(f"the thumbnail has {width}x{height} pixels; {_MEND}")
