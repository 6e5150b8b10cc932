"""Packs the archive that `raf-lite data fetch` brings: `python tools/release_data.py`, after every change of
data/ or the study.

Writes build/raf_lite_data-DIGEST.tar, which is to be put on the release `data-DIGEST`, and its record,
raf_lite/data_release.json, which is to be committed. The archive holds what data/MANIFEST.json lists, and
beside it the study's runs, which lesson 07 looks for there. Its sha256 depends on the files alone, not on the
machine, the day or Python.
"""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

from course import NOTEBOOKS, archive_name, record_path, write_data_url

from raf_lite._files import sha256_file, write_json
from raf_lite.manifest import MANIFEST, broken, verify_manifest

ROOT = NOTEBOOKS.parent
STUDY = "benchmarks/results/study"
_TIME = 315532800  # 1980-01-01, in seconds; tar complains of 1970


def members(root: Path) -> list[str]:
    """Paths of the archive's files below the repository `root`, sorted: data/, and the study's lines and
    choice.

    Raises FileNotFoundError or ValueError where data/ is not as its manifest says.
    """
    folder = root / "data"
    problems = broken(verify_manifest(folder))
    if problems:
        raise ValueError(
            f"{folder} is not as built ({problems[0]}); mend it, or run `raf-lite data build`, before it is "
            "packed"
        )
    listed = [file["path"] for file in json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]]
    beside = [path.name for path in (folder / MANIFEST, folder / "README.md") if path.is_file()]
    lines = [path.name for path in (root / STUDY).iterdir() if path.suffix in (".jsonl", ".json")]
    return sorted([f"data/{name}" for name in listed + beside] + [f"{STUDY}/{name}" for name in lines])


def pack(root: Path, path: Path) -> None:
    """Write the archive of the repository `root` to `path`."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in members(root):
            entry = tarfile.TarInfo(name)  # owner 0, and no name of one
            entry.size, entry.mtime, entry.mode = (root / name).stat().st_size, _TIME, 0o644
            with open(root / name, "rb") as file:
                tar.addfile(entry, file)


def main() -> None:
    """Write the archive and its record, and print what to do with them."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    half = build / "raf_lite_data.tar.half"
    pack(ROOT, half)
    sha256 = sha256_file(half)
    write_json(record_path(), {"url": "", "sha256": sha256, "bytes": half.stat().st_size})
    os.replace(half, build / archive_name(sha256))
    url = write_data_url()
    print(build / archive_name(sha256))
    print(
        f"its address will be {url}"
        if url
        else (
            "its address follows from `repository` in notebooks/manifest.toml, which is "
            "empty; then run python tools/course.py"
        )
    )


if __name__ == "__main__":
    main()
