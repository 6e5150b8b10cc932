"""`data/MANIFEST.json`: every shipped file with its size, sha256, origin and licence; and where the data
are."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from raf_lite._files import cache_path, read_json, sha256_file, write_json
from raf_lite._install import clone

ENV = "RAF_LITE_DATA"
MANIFEST = "MANIFEST.json"  # what makes a folder a data folder
RECORD = Path(__file__).with_name("data_release.json")  # of the archive that `raf-lite data fetch` brings


def release() -> dict:
    """The archive's "url" ("" while the project has no address), "sha256" (hex) and "bytes"."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def fetched_folder() -> Path:
    """Where `raf_lite.data_release.fetch_data` leaves data/, there yet or not; another archive gets another
    place."""
    return cache_path("data", release()["sha256"][:12], "data")


def named_data() -> Path | None:
    """The data folder, or the release's archive as a file, that RAF_LITE_DATA names; None where it is not
    set.

    Raises FileNotFoundError where it names neither.
    """
    named = os.environ.get(ENV)
    if not named:
        return None
    path = Path(named)
    if path.is_file() or (path / MANIFEST).is_file():
        return path
    wrong = f"has no {MANIFEST}, so it is no data folder" if path.is_dir() else "is not there"
    raise FileNotFoundError(f"{ENV} names {path}, which {wrong}; correct it, or unset {ENV}")


def _files(data_dir: Path) -> list[Path]:
    # Hidden are a bank's lock, what a killed writer left, and the desktop's files.
    return sorted(
        p
        for p in data_dir.rglob("*")
        if p.is_file()
        and p.name not in (MANIFEST, "README.md")
        and not any(part.startswith(".") for part in p.relative_to(data_dir).parts)
    )


def write_manifest(
    data_dir: Path, *, origin: dict[str, str], licence: str, conventions: dict[str, str]
) -> None:
    """List every file under `data_dir`. origin: how the files of each top folder came to be. conventions:
    axes, light, colour.

    Raises ValueError for a file in a folder of unknown origin.
    """
    files = []
    for path in _files(data_dir):
        name = path.relative_to(data_dir).as_posix()
        part = name.split("/")[0]
        if part not in origin:
            raise ValueError(
                f"{path}: nothing says where the folder '{part}' comes from; add it to the build, "
                "or remove the file"
            )
        files.append(
            {"path": name, "bytes": path.stat().st_size, "sha256": sha256_file(path), "origin": part}
        )
    write_json(
        data_dir / MANIFEST,
        {
            "format": 1,
            "licence": licence,
            "origins": origin,
            "conventions": conventions,
            "total_bytes": sum(f["bytes"] for f in files),
            "files": files,
        },
    )


def update_manifest(data_dir: Path, part: str, origin: str) -> None:
    """List the files of one more top folder, `part`, beside what the manifest says already."""
    manifest = read_json(data_dir / MANIFEST, dict, how_to_mend(data_dir))
    write_manifest(
        data_dir,
        origin=manifest["origins"] | {part: origin},
        licence=manifest["licence"],
        conventions=manifest["conventions"],
    )


def verify_manifest(data_dir: Path, *, quick: bool = False) -> list[str]:
    """What is wrong with `data_dir`, a sentence a file; empty when every file is there, listed and as it was
    made.

    quick: only whether the listed files are there in their full size, in a few milliseconds.
    Raises FileNotFoundError where there is no manifest, ValueError for a damaged one.
    """
    listed = _listed(data_dir)
    if quick:
        sizes = {
            name: (data_dir / name).stat().st_size if (data_dir / name).is_file() else None for name in listed
        }
        return [
            f"{name} is missing" if size is None else f"{name} has {size} of {listed[name]['bytes']} bytes"
            for name, size in sizes.items()
            if size != listed[name]["bytes"]
        ]
    present = {p.relative_to(data_dir).as_posix(): p for p in _files(data_dir)}
    problems = [f"{name} is listed but missing" for name in sorted(listed.keys() - present.keys())]
    problems += [f"{name} is not listed" for name in sorted(present.keys() - listed.keys())]
    for name in sorted(listed.keys() & present.keys()):
        if (
            present[name].stat().st_size != listed[name]["bytes"]
            or sha256_file(present[name]) != listed[name]["sha256"]
        ):
            problems.append(f"{name} differs from what was built")
    return problems


def _listed(data_dir: Path) -> dict[str, dict]:
    """What the manifest says of each file, by name."""
    path = data_dir / MANIFEST
    files = read_json(path, dict, how_to_mend(data_dir)).get("files")
    kinds = {"path": str, "bytes": int, "sha256": str}
    if not isinstance(files, list) or any(
        not isinstance(entry, dict)
        or any(type(entry.get(name)) is not kind for name, kind in kinds.items())
        or not _is_inside(entry["path"])
        for entry in files
    ):
        raise ValueError(f"{path} is damaged; {how_to_mend(data_dir)}")
    return {entry["path"]: entry for entry in files}


def _is_inside(name: str) -> bool:
    """Whether a name can be that of a file below the data folder."""
    parts = name.split("/")
    return all(part not in ("", ".", "..") and len(part.encode()) < 256 for part in parts) and (
        "\0" not in name and len(name) < 1024
    )


def broken(problems: list[str]) -> list[str]:
    """Those of `verify_manifest`'s problems that matter: a file too many does no harm."""
    return [problem for problem in problems if not problem.endswith("is not listed")]


def how_to_mend(data_dir: Path) -> str:
    """What makes the data folder `data_dir` whole again where raf_lite is: half a sentence."""
    repository = clone()
    if repository is not None and data_dir.resolve() == (repository / "data").resolve():
        if (repository / ".git").exists() and shutil.which("git"):
            return f"run `git checkout -- data` in the repository's folder, {repository}"
        return f"copy data/ of the repository to {data_dir} again"
    if data_dir == fetched_folder():
        return "run `raf-lite data fetch`"
    return f"copy that folder again, or run `raf-lite data build --out {data_dir}`"


def find_data() -> Path:
    """The folder `data/`: what $RAF_LITE_DATA names, the clone's, ./data, or what `raf-lite data fetch` left
    in the cache.

    Raises FileNotFoundError where there is none, and where RAF_LITE_DATA names no data: nobody wants other
    data instead."""
    named, repository = named_data(), clone()
    if named and named.is_dir():
        return named
    places = [] if named else [*([repository / "data"] if repository else []), Path("data")]
    places.append(fetched_folder())
    for folder in places:
        if (folder / MANIFEST).is_file():
            return folder
    if named:
        raise FileNotFoundError(
            f"{ENV} names the archive {named}, which is not unpacked yet; run `raf-lite data fetch`"
        )
    mend = how_to_mend(places[0]) if repository else "run `raf-lite data fetch`"
    raise FileNotFoundError(
        f"no data folder at {', '.join(map(str, places))}; {mend}, or set {ENV} to a data folder"
    )
