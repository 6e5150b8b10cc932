"""Files that are whole or absent: atomic writes, locks, the only npz reader, hashes, and the cache folder."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import struct
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from raf_lite._npy import RefusedArray, read_member

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")

# What NumPy, zipfile and zlib raise for a damaged file depends on where the damage is. SyntaxError and
# TokenError: NumPy parses the header of an array as Python.
DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    SyntaxError,
    TokenError,
    MemoryError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    AssertionError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

MOST_ARRAY_BYTES = 2 << 30  # of one array of an npz: an hour of video leaves 0.5 GB of landmarks
MOST_RATIO, FREE_BYTES = (
    100,
    64 << 20,
)  # numbers that were measured seldom shrink to a tenth; constants may, and are small
MOST_JSON_BYTES = 256 << 20  # a hundred thousand frames of VHAP have a tenth of it
_JSON_KINDS = {dict: "an object", list: "a list"}
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")

_OTHER, _ROOM = "name another place", "make room on that disk, or name another place"
_MINE = f"{_OTHER}, or let yourself write there"
_UNWRITABLE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EACCES: _MINE,
    errno.EPERM: _MINE,
    errno.EROFS: _OTHER,
    errno.ENOTDIR: _OTHER,
    errno.EISDIR: _OTHER,
    errno.EEXIST: _OTHER,
    errno.EIO: _OTHER,
    errno.ENAMETOOLONG: "give a shorter name",
}

# A temporary file is `.NAME~PLACE-PID-RANDOM.SUFFIX` beside what it is to become: PLACE stands for the
# machine (and the container) in which PID counts.
_TEMPORARY = re.compile(r"\..*~(?P<place>[0-9a-f]{8})-(?P<pid>\d+)-\w+(\.[^.]*)?")
STALE_SECONDS = 24 * 3600  # after which nobody is believed to be writing a temporary file still

LOCK_SECONDS = 120.0  # for which a writer waits for another one
_LOCK, _HOLDER = ".lock", ".lock-holder"


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, delete it on failure.

    The file that stood at `path` before stays whole if the body raises, the disk fills up, the process is
    killed or the power fails: the new bytes are on the disk before they get the name, and the name is before
    this returns. Temporary files that killed processes left in the folder are deleted (`sweep_temporaries`).
    The temporary name keeps the suffix, since some writers choose a format by it.
    """
    path = Path(path)
    with temporary_path(path) as tmp:
        yield tmp
        put_in_place(tmp, path)
    sync_folder(path.parent)
    sweep_temporaries(path.parent)


@contextlib.contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """While `path` is written: what a full disk, a read-only place or a wrong kind of place raises becomes a
    sentence on `path`.

    A class of Python's own stays, PermissionError and such; an OSError of another file passes as it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE or (
            error.filename is not None and not _belongs(error.filename, path)
        ):
            raise
        kind = type(error) if type(error).__module__ == "builtins" else OSError
        raise kind(f"{path} cannot be written ({error.strerror}); {_UNWRITABLE[error.errno]}") from error


def _belongs(name: str | bytes | int, path: Path) -> bool:
    """Whether a file of this name is `path`, one beside it, or a folder above."""
    if isinstance(name, int):
        return False
    other = Path(os.fsdecode(name).removeprefix("file:"))  # as films are opened
    return other.parent == path.parent or other in path.parents


@contextlib.contextmanager
def temporary_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield an empty temporary file that is to become `path`, in the same folder, which is made; deleted in
    the end if it is still there."""
    path = Path(path)
    with named_in_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(
            prefix=f".{path.stem[:40]}~{_place()}-{os.getpid()}-", suffix=path.suffix, dir=path.parent
        )
        os.close(fd)
        tmp = Path(name)
        try:
            yield tmp
        finally:
            tmp.unlink(missing_ok=True)


def put_in_place(tmp: Path, path: Path) -> None:
    """Rename `tmp` to `path` once its bytes are on the disk. `sync_folder` makes the new name last too."""
    with open(tmp, "rb+") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())
    # mkstemp makes private files; give the result the permissions any other new file would have.
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(tmp, 0o666 & ~umask)
    os.replace(tmp, path)


def sync_folder(folder: str | os.PathLike) -> None:
    """Wait until the names in a folder are on the disk, where the system can (Windows and some network disks
    cannot)."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def copy_flushed(source: str, target: str) -> str:
    """`shutil.copy2` whose bytes are on the disk when it returns."""
    shutil.copy2(source, target)
    with open(target, "rb+") as file:
        os.fsync(file.fileno())
    return target


def sweep_temporaries(folder: str | os.PathLike) -> None:
    """Delete the temporary files of `atomic_path` in a folder that nobody will finish.

    Those are files whose process has ended, where its number means something here, and any that is older than
    STALE_SECONDS."""
    with os.scandir(folder) as entries:
        found = [
            (Path(entry.path), match) for entry in entries if (match := _TEMPORARY.fullmatch(entry.name))
        ]
    for path, match in found:
        with contextlib.suppress(OSError):  # another process may sweep too
            if (
                match["place"] == _place() and not _runs(int(match["pid"]))
            ) or time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


@functools.cache
def _place() -> str:
    """Eight hex digits for where process numbers of this process hold: a machine, or a container on it."""
    container = ""
    with contextlib.suppress(OSError):
        container = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {container}".encode()).hexdigest()[:8]


def _runs(pid: int) -> bool:
    """Whether a process of this number runs here; True where that cannot be told."""
    if os.name == "nt":  # there os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


@contextlib.contextmanager
def locked(
    folder: str | os.PathLike, seconds: float | None = None, *, place: str | os.PathLike | None = None
) -> Iterator[None]:
    """Keep other writers out of a folder, which is made; wait for the one who is there, LOCK_SECONDS at most
    or `seconds`.

    place: what is written, where that is not the folder. The lock ends with the process, also if that is
    killed. It leaves an empty file `.lock`. Raises TimeoutError that says who is there.
    """
    from filelock import FileLock, Timeout  # its import costs too much for everyone who only reads

    folder, seconds = Path(folder), LOCK_SECONDS if seconds is None else seconds
    holder = folder / _HOLDER
    try:
        with named_in_errors(folder / _LOCK):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / _LOCK).acquire(timeout=seconds)
    except Timeout as error:
        try:
            who = holder.read_text(encoding="utf-8")
        except OSError:
            who = "another process"
        raise TimeoutError(
            f"{who} is writing to {folder if place is None else place}, and has not ended after"
            f" {seconds:g} s; try again when it has"
        ) from error
    with lock:
        holder.write_text(
            f"process {os.getpid()} on {platform.node()} (since {time.strftime('%Y-%m-%d %H:%M:%S')})",
            encoding="utf-8",
            newline="\n",
        )
        try:
            yield
        finally:
            holder.unlink(missing_ok=True)


def locked_place(
    path: str | os.PathLike, seconds: float | None = None
) -> contextlib.AbstractContextManager[None]:
    """`locked` for one file, or a folder that is not ours: the lock stands in the cache folder, and the place
    stays clean. It holds among those who share a cache folder."""
    key = hashlib.sha256(str(Path(path).resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return locked(cache_dir("locks", key), seconds, place=path)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, atomically; the same bytes on every system."""
    with atomic_path(path) as tmp:
        tmp.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def write_npz(path: str | os.PathLike, **arrays: np.ndarray) -> None:
    """Write a compressed npz, atomically. Object arrays are refused: they would need pickle to be read."""
    for name, array in arrays.items():
        if np.asarray(array).dtype == object:
            raise ValueError(
                f"{path}: field '{name}' is an object array; store numbers or fixed-width strings instead"
            )
    with atomic_path(path) as tmp:
        np.savez_compressed(tmp, **arrays)  # pyright: ignore[reportArgumentType] (no field is called allow_pickle)


def write_tensors(
    path: str | os.PathLike, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, atomically: tensors of any device, and strings for its header."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    with atomic_path(path) as tmp:
        try:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                tmp,
                metadata=metadata,
            )
        except SafetensorError as error:  # what a full disk is called there
            raise OSError(
                f"{path} cannot be written ({error}); make room on that disk, or name another place"
            ) from error


def read_tensors(path: Path, mend: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What `write_tensors` wrote: the JSON in the header's "raf_lite" (empty where there is none), and the
    tensors, in float32. ValueError that ends in `mend` for a damaged file and for another kind of file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as f:
            header = parse_json(
                (f.metadata() or {}).get("raf_lite", "{}"), dict, f"the header of {path}", mend
            )
            return header, {name: f.get_tensor(name).float() for name in f.keys()}
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}); {mend}") from error


def read_npz(
    path: str | os.PathLike,
    fields: Sequence[str] | None = None,
    *,
    optional: Sequence[str] = (),
    mend: str = "copy or write it again",
    most_bytes: int = MOST_ARRAY_BYTES,
) -> dict[str, np.ndarray]:
    """The arrays `fields` of an npz, by name and in this order (default: all that it holds), without pickle.

    optional: further fields, read where they are there. mend: how whoever reads an error gets a whole file;
    ends every sentence. most_bytes: what one array may unpack to; all together may not unpack to more than
    FREE_BYTES and MOST_RATIO times the file's size. Both are asked of the zip's directory, and of each
    array's header, before anything is unpacked; what is not asked for is not opened.

    Raises FileNotFoundError, or ValueError that names the file and the field: damaged, no plain array of
    numbers or text (but of objects, records, items of no bytes), missing, there twice, or too large.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; {mend}")
    arrays: dict[str, np.ndarray] = {}
    name = None
    try:
        with zipfile.ZipFile(path) as archive:
            members = _asked_members(archive, fields, optional, FREE_BYTES + MOST_RATIO * path.stat().st_size)
            for name, info in members.items():  # noqa: B007, an error names it
                arrays[name] = read_member(archive, info, most_bytes)
    except RefusedArray as error:
        raise ValueError(
            f"{path} {error}; {mend}" if name is None else f"{path}: the array '{name}' {error}; {mend}"
        ) from error
    except DAMAGE as error:
        at = "" if name is None else f"'{name}': "
        raise ValueError(f"{path} cannot be read ({at}{type(error).__name__}); {mend}") from error
    return arrays


def _asked_members(
    archive: zipfile.ZipFile, fields: Sequence[str] | None, optional: Sequence[str], most_bytes: int
) -> dict[str, zipfile.ZipInfo]:
    """Where each asked array stands. Raises RefusedArray."""
    members = archive.infolist()
    found = {info.filename.removesuffix(".npy"): info for info in members}
    names = [*(found if fields is None else fields), *(name for name in optional if name in found)]
    copies = Counter(info.filename.removesuffix(".npy") for info in members)
    for name in names:
        if name not in found:
            raise RefusedArray(f"has no array '{name}'")
        if copies[name] > 1 or not found[name].filename.endswith(".npy"):
            raise RefusedArray(f"has the array '{name}' twice, or something else of that name")
    total = sum(found[name].file_size for name in names)
    if total > most_bytes:
        raise RefusedArray(f"would unpack to {total} bytes, {most_bytes} at most in a file of this size")
    return {name: found[name] for name in names}


def read_json(path: str | os.PathLike, kind: type[Value], mend: str = "copy or write it again") -> Value:
    """What a JSON file holds, which must be of this kind: dict or list.

    Raises FileNotFoundError, or ValueError that names the file: larger than MOST_JSON_BYTES, no JSON, nested
    too deeply, half a Unicode pair (which nobody could print), or of another kind. mend: as in `read_npz`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; {mend}")
    try:
        size = path.stat().st_size
        if size <= MOST_JSON_BYTES:
            with open(path, "rb") as file:
                return parse_json(file.read(size), kind, str(path), mend)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}); {mend}") from error
    raise ValueError(f"{path} has more than {MOST_JSON_BYTES} bytes, which no such file has; {mend}")


def parse_json(
    data: bytes | str, kind: type[Value], where: str, mend: str = "copy or write it again"
) -> Value:
    """`read_json` of text; errors name `where` it stood."""
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = json.loads(text)
        if _HALF_PAIR.search(text):  # or a whole one
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({type(error).__name__}); {mend}") from error
    if not isinstance(value, kind):
        raise ValueError(f"{where} holds a {type(value).__name__} where {_JSON_KINDS[kind]} belongs; {mend}")
    return value


def sha256_file(path: str | os.PathLike) -> str:
    """Hex sha256 of a file's bytes, read in blocks."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def cache_path(*parts: str) -> Path:
    """`$RAF_LITE_CACHE` or the system's cache folder, with `parts` below it, whether it is there or not."""
    root = os.environ.get("RAF_LITE_CACHE")
    if not root:
        import pooch

        root = pooch.os_cache("raf_lite")
    return Path(root, *parts)


def cache_dir(*parts: str) -> Path:
    """`cache_path(*parts)`, created."""
    folder = cache_path(*parts)
    with named_in_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
