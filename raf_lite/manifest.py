"""`data/MANIFEST.json`: every shipped file with its size, sha256, origin and licence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import raf_lite
from raf_lite._files import sha256_file, write_json

NAME = "MANIFEST.json"


def _files(data_dir: Path) -> list[Path]:
    return sorted(p for p in data_dir.rglob("*") if p.is_file() and p.name not in (NAME, "README.md"))


def write_manifest(data_dir: Path, *, origin: dict[str, str], licence: str, conventions: dict[str, str]) -> None:
    """List every file under `data_dir`. origin: how the files of each top folder came to be. conventions: axes, light, colour.

    Raises ValueError for a file in a folder of unknown origin.
    """
    files = []
    for path in _files(data_dir):
        name = path.relative_to(data_dir).as_posix()
        part = name.split("/")[0]
        if part not in origin:
            raise ValueError(f"{path}: nothing says where the folder '{part}' comes from; add it to the build, "
                             "or remove the file")
        files.append({"path": name, "bytes": path.stat().st_size, "sha256": sha256_file(path), "origin": part})
    write_json(data_dir / NAME, {"format": 1, "licence": licence, "origins": origin, "conventions": conventions,
                                 "total_bytes": sum(f["bytes"] for f in files), "files": files})


def update_manifest(data_dir: Path, part: str, origin: str) -> None:
    """List the files of one more top folder, `part`, beside what the manifest says already."""
    manifest = json.loads((data_dir / NAME).read_text(encoding="utf-8"))
    write_manifest(data_dir, origin=manifest["origins"] | {part: origin}, licence=manifest["licence"],
                   conventions=manifest["conventions"])


def verify_manifest(data_dir: Path, *, quick: bool = False) -> list[str]:
    """What is wrong with `data_dir`, a sentence a file; empty when every file is there, listed and as it was made.

    quick: only whether the listed files are there in their full size, in a few milliseconds.
    Raises FileNotFoundError where there is no manifest, ValueError for a damaged one.
    """
    path = data_dir / NAME
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; clone the repository again, or run `raf-lite data build`")
    try:
        listed = {f["path"]: f for f in json.loads(path.read_text(encoding="utf-8"))["files"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged; clone the repository again, or run `raf-lite data build`") from error
    if quick:
        sizes = {name: (data_dir / name).stat().st_size if (data_dir / name).is_file() else None for name in listed}
        return [f"{name} is missing" if size is None else f"{name} has {size} of {listed[name]['bytes']} bytes"
                for name, size in sizes.items() if size != listed[name]["bytes"]]
    present = {p.relative_to(data_dir).as_posix(): p for p in _files(data_dir)}
    problems = [f"{name} is listed but missing" for name in sorted(listed.keys() - present.keys())]
    problems += [f"{name} is not listed" for name in sorted(present.keys() - listed.keys())]
    for name in sorted(listed.keys() & present.keys()):
        if present[name].stat().st_size != listed[name]["bytes"] or sha256_file(present[name]) != listed[name]["sha256"]:
            problems.append(f"{name} differs from what was built")
    return problems


def find_data() -> Path:
    """The folder `data/` that ships with the repository: $RAF_LITE_DATA, or beside the package, or in the working folder."""
    candidates = [Path(p) for p in (os.environ.get("RAF_LITE_DATA"),) if p]
    candidates += [Path(raf_lite.__file__).parent.parent / "data", Path("data")]
    for folder in candidates:
        if (folder / "MANIFEST.json").is_file():
            return folder
    raise FileNotFoundError(f"no data folder at {', '.join(map(str, candidates))}; run from a clone of the repository, or set "
                            "RAF_LITE_DATA to its data/ folder")
