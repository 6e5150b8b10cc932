"""The shipped data where there is no clone: `raf-lite data fetch` brings the release's archive and unpacks it
into the cache.

`tools/release_data.py` packs the archive and writes its record, data_release.json. In the archive data/ has
the runs of lesson 07 beside it, as in the repository.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from raf_lite._download import fetch
from raf_lite._files import cache_dir, sha256_file
from raf_lite._install import clone
from raf_lite.manifest import ENV, MANIFEST, broken, fetched_folder, named_data, release, verify_manifest


def fetch_data(progress: bool = True) -> Path:
    """Return a data folder, and download it if need be: what RAF_LITE_DATA names, a clone's own, or the
    release's, in the cache.

    A clone's folder, or one that RAF_LITE_DATA names, is found before any fetched one, so then nothing is
    fetched, which is printed. Where RAF_LITE_DATA names the archive, that is unpacked and the network left
    alone. A fetched folder that is whole stays; one that lost something is replaced. What was stopped
    half-way is never taken for data. progress: a bar.

    Raises FileNotFoundError where there is no way to the archive, ValueError where it is another one than
    this version's."""
    archive, repository = named_data(), clone()
    for place, why in (
        (archive, f"{ENV} names it"),
        (repository and repository / "data", "it belongs to this clone"),
    ):
        if place and (place / MANIFEST).is_file():
            print(f"nothing to fetch: {place} is used, since {why}")
            return place
    record, folder = release(), fetched_folder()
    if _whole(folder):
        return folder
    if archive and sha256_file(archive) != record["sha256"]:
        raise ValueError(
            f"{archive} (from {ENV}) is not the data of this version of raf_lite: its sha256 is not "
            f"{record['sha256'][:16]}...; take the archive of the same release, or unset {ENV}"
        )
    if not archive and not record["url"]:
        raise FileNotFoundError(
            f"the data's release has no address yet; set {ENV} to the data/ folder of a clone, or to the "
            "release's archive"
        )
    with tempfile.TemporaryDirectory(prefix=".half-", dir=cache_dir("data")) as half:
        if not archive:
            print(f"fetching {record['bytes'] / 1e6:.0f} MB from {record['url']}")
            archive = fetch(record["url"], record["sha256"], folder=half, env=ENV, progress=progress)
        whole = Path(half, "whole")
        unpack(archive, whole)
        problems = verify_manifest(whole / "data")
        if problems:
            raise ValueError(
                f"{archive} does not hold what its own {MANIFEST} lists ({problems[0]}), so it was not"
                " unpacked; tell raf_lite's authors"
            )
        if folder.parent.exists():  # and damaged; it goes when `half` goes
            os.replace(folder.parent, Path(half, "damaged"))
        os.replace(whole, folder.parent)
    return folder


def _whole(folder: Path) -> bool:
    try:
        return not broken(verify_manifest(folder))
    except (FileNotFoundError, ValueError):  # no manifest, or half of one
        return False


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of a tar below `folder`, a new one.

    Raises ValueError for an entry that is no plain file or would come to lie elsewhere. (tarfile's own filter
    for this came with Python 3.11.4 only.)
    """
    with tarfile.open(archive, "r:") as tar:
        for entry in tar:
            target = folder / entry.name
            if (
                not entry.isfile()
                or not target.resolve().is_relative_to(folder.resolve())
                or (source := tar.extractfile(entry)) is None
            ):
                raise ValueError(
                    f"{archive} holds {entry.name}, which is no plain file below its folder, so it was not "
                    "unpacked; take the archive of raf_lite's own release"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, open(target, "xb") as copy:
                shutil.copyfileobj(source, copy)
