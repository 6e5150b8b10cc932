"""The wheel as people get it: built here, installed into an empty environment elsewhere, with what the core
needs."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

LINES = """
import re, sys
import numpy as np
rng = np.random.default_rng(0)
other_peoples_descriptors = rng.normal(size=(400, 52)).astype(np.float32)
whose_they_are = np.repeat(np.arange(20), 20).astype(str)
train_descriptors = rng.normal(size=(64, 52)).astype(np.float32)
batches = np.arange(64).reshape(4, 16)
generator = rng
given, your_frames = [], np.arange(64)
your_avatar = lambda descriptors: given.append(descriptors) or descriptors
your_loss = lambda shown, frames: float(len(frames))
readme = open(sys.argv[1], encoding="utf-8").read()
section = readme[readme.index("## RAF in your own training loop"):]
exec(re.search(r"```python\\n(.*?)```", section, re.S)[1])
changed = [(row != train_descriptors[i]).any()
           for batch, shown in zip(batches, given) for i, row in zip(batch, shown)]
assert len(changed) == 64 and 4 <= sum(changed) <= 24, sum(changed)
import raf_lite.splatting, raf_lite.avatar
print("replaced", sum(changed), "from", raf_lite.__file__)
"""


def build(kind: str, folder: Path, source: Path = ROOT) -> Path:
    """A wheel or sdist of a source tree, made offline with the setuptools that is here; the tree stays as it
    is."""
    done = subprocess.run(
        [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(folder), str(source)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.iterdir()
    return made


def core_needs() -> set[str]:
    """Names of everything that the core asks for, and what that asks for in turn, as it is installed here."""
    wanted, found = [("raf_lite", "")], set()
    while wanted:
        name, extra = wanted.pop()
        for need in map(Requirement, importlib.metadata.requires(name) or []):
            key = need.name.lower().replace("_", "-")
            if (need.marker is None or need.marker.evaluate({"extra": extra})) and key not in found:
                try:
                    importlib.metadata.distribution(need.name)
                except importlib.metadata.PackageNotFoundError:
                    continue  # a need of a CUDA build, say, which this torch is not
                found.add(key)
                wanted += [(need.name, extra) for extra in ("", *need.extras)]
    return found


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build("sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Built of the unpacked sdist, so that both are whole."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return build("wheel", tmp_path_factory.mktemp("wheel"), source)


@pytest.fixture(scope="module")
def outside(wheel, tmp_path_factory):
    """Python of an empty environment with the wheel, the core's needs and nothing else."""
    folder = tmp_path_factory.mktemp("outside")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [
        str(python),
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--disable-pip-version-check",
        str(wheel),
    ]
    subprocess.run(pip, check=True)
    ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(
        subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    )
    for name in (
        core_needs()
    ):  # linked from where the tests run, since installing torch anew needs a network and gigabytes
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}:
            source = Path(distribution.locate_file(top))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    return python


def run(python, *words, cwd, **environment):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAF_LITE", "PYTHON"))}
    return subprocess.run(
        [str(python), *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=kept | {"RAF_LITE_CACHE": str(cwd / "cache")} | environment,
    )


def test_the_sdist_holds_what_the_wheel_is_built_of_and_no_tests(sdist):
    with tarfile.open(sdist) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "THIRD_PARTY_NOTICES.md",
        "raf_lite/retrieval/augmentation.py",
    } <= inside
    assert not {
        name for name in inside if name.split("/")[0] in ("tests", "notebooks", "data", "docs", "benchmarks")
    }


def test_the_wheel_has_every_file_of_the_package(wheel):
    kept = subprocess.run(
        ["git", "ls-files", "raf_lite"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    assert {name for name in kept if (ROOT / name).is_file()} <= set(names)
    assert "License-Expression: Apache-2.0" in metadata and "License-File: THIRD_PARTY_NOTICES.md" in metadata


def test_the_two_lines_of_the_readme_outside_the_repository(outside, tmp_path):
    done = run(outside, "-c", LINES, str(ROOT / "README.md"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.match(r"replaced \d+ from ", done.stdout) and str(ROOT / "raf_lite") not in done.stdout


@pytest.mark.parametrize(
    "words, package, extra",
    [
        (("encode", "film.mp4"), "av", "captures"),
        (("check", "film.mp4"), "pandas", "captures"),
        (("demo",), "pandas", "captures"),
        (("study", "status"), "pandas", "captures"),
    ],
)
def test_a_missing_extra_is_one_sentence_that_names_it(outside, tmp_path, words, package, extra):
    (tmp_path / "film.mp4").write_bytes(b"no film")
    done = run(outside, "-m", "raf_lite.cli", *words, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"{package} is not installed" in done.stderr
    assert f"extra '{extra}'" in done.stderr and f'-m pip install "raf_lite[{extra}]"' in done.stderr


def test_the_doctor_says_what_runs_and_what_is_missing(outside, tmp_path):
    done = run(outside, "-m", "raf_lite.cli", "doctor", cwd=tmp_path)
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert done.returncode == 1 and lines["packages"].split()[1] == "OK", done.stdout
    assert (
        lines["extras"].split()[1] == "STOP"
        and "'captures' (" in lines["extras"]
        and "av is missing" in lines["extras"]
    )
    assert 'pip install "raf_lite[captures,lessons,encode]"' in lines["extras"]
    assert (
        "raf-lite data fetch" in lines["data"]
        and "make setup" not in done.stdout
        and "git" not in lines["data"]
    )
    assert "Retrieval, bank, splatting and avatar can be used already." in done.stdout.splitlines()[-1]
