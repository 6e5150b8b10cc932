"""Downloads that a user asked for: pinned URL and sha256, a progress bar, a clear message offline."""

from __future__ import annotations

import os
from pathlib import Path

from raf_lite._files import cache_dir, sha256_file


def fetch(
    url: str,
    sha256: str,
    *,
    folder: str | os.PathLike | None = None,
    name: str | None = None,
    env: str | None = None,
    progress: bool = True,
) -> Path:
    """Return a local copy of `url` whose sha256 is `sha256`, downloading it once.

    url: the file's pinned address. sha256: hex digest. folder: where it is kept (default: the package's
    cache). name: as what (default: the end of the address).
    env: name of an environment variable that, when set, points to a local copy used instead of the network.

    pooch downloads to a temporary name and moves the file only when its hash is right, so a partial download
    is never
    taken for a whole one. Raises FileNotFoundError (no local copy, no network) or ValueError (wrong hash).
    """
    local = os.environ.get(env) if env else None
    if local:
        path = Path(local)
        if not path.is_file():
            raise FileNotFoundError(
                f"{env} names {path}, which is not a file; correct the path or unset {env}"
            )
        if sha256_file(path) != sha256:
            raise ValueError(
                f"{path} (from {env}) is not the expected file: its sha256 differs from {sha256[:16]}...; "
                f"download it again from {url}"
            )
        return path
    import pooch
    import requests

    folder = Path(folder) if folder else cache_dir("downloads")
    mend = f"; connect to the network, or set {env} to a local copy" if env else "; connect to the network"
    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=f"sha256:{sha256}",
                path=folder,
                fname=name or url.rsplit("/", 1)[-1],
                progressbar=progress,
            )
        )
    except (requests.RequestException, OSError) as error:
        raise FileNotFoundError(f"could not download {url} ({type(error).__name__}){mend}") from error
    except ValueError as error:
        raise ValueError(
            f"the file downloaded from {url} does not have the pinned sha256 {sha256[:16]}... and was "
            f"thrown away; try again{mend}"
        ) from error
