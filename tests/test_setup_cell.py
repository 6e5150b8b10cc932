"""The first cell of a lesson: what it says where something is missing, and what it fetches in Colab."""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
import types

import nbformat
import pytest
from conftest import ROOT, posix

import raf_lite
from raf_lite.course import setup as setup_cell

_SPEC = importlib.util.spec_from_file_location("course", ROOT / "tools" / "course.py")
course = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(course)
ADDRESS = "https://github.com/somebody/raf"


def test_a_good_kernel_says_versions_device_and_mode(monkeypatch, capsys):
    monkeypatch.delenv("RAF_FAST", raising=False)
    session = raf_lite.setup(minutes_cpu=3, minutes_gpu=2)
    said = capsys.readouterr().out
    assert (
        f"raf_lite {raf_lite.__version__}" in said and "mode: full, about" in said and "WARNING" not in said
    )
    assert not session.fast
    monkeypatch.setenv("RAF_FAST", "1")
    assert raf_lite.setup(minutes_cpu=3).fast and "numbers mean nothing" in capsys.readouterr().out


def test_a_kernel_that_is_too_old(monkeypatch):
    monkeypatch.setattr(setup_cell.sys, "version_info", (3, 9, 2, "final", 0))
    with pytest.raises(
        ImportError, match=r"is Python 3\.9\.2, and raf_lite needs 3\.11 or later; run `make setup`"
    ):
        raf_lite.setup(minutes_cpu=1)


def test_the_oldest_python_is_the_projects():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted.startswith(">=" + ".".join(map(str, setup_cell.OLDEST_PYTHON)))


@posix
def test_a_kernel_in_which_raf_lite_is_not_installed(tmp_path):
    """What a notebook sees that was started in the clone with some other Python: the sources are found, the
    package is not."""
    for name in ("raf_lite", "tools", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    code = "import raf_lite; raf_lite.setup(minutes_cpu=1)"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    (last,) = done.stderr.strip().splitlines()[-1:]
    assert last.startswith("ImportError: raf_lite is seen by this kernel, ")
    assert "but not installed in it; run `make setup`" in last


def test_a_kernel_that_lacks_a_package(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name in ("faiss-cpu", "anywidget"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(
        ImportError, match="not ready for the lessons: faiss-cpu is missing; anywidget is missing; run `make"
    ):
        raf_lite.setup(minutes_cpu=1)


@posix
def test_shipped_data_that_are_missing_or_half_copied(data_dir, tmp_path, monkeypatch, capsys):
    shutil.copytree(data_dir / "bank", tmp_path / "bank")
    for part in (p for p in data_dir.iterdir() if p.name != "bank"):
        (tmp_path / part.name).symlink_to(part)
    monkeypatch.setenv("RAF_LITE_DATA", str(tmp_path))
    raf_lite.setup(minutes_cpu=1)
    assert "WARNING" not in capsys.readouterr().out
    whole = (tmp_path / "bank" / "bank.json").stat().st_size
    (tmp_path / "bank" / "bank.json").write_bytes((tmp_path / "bank" / "bank.json").read_bytes()[:10])
    (tmp_path / "bank" / "truth.npz").unlink()
    raf_lite.setup(minutes_cpu=1)
    said = capsys.readouterr().out
    assert (
        f"WARNING: 2 of the shipped files in {tmp_path} are not whole (bank/bank.json has 10 of {whole}"
        " bytes); copy" in said
    )
    (tmp_path / "MANIFEST.json").unlink()
    (tmp_path / "MANIFEST.json").write_text('{"files": [')
    with pytest.raises(ValueError, match="MANIFEST.json is not JSON .*; copy that folder again"):
        raf_lite.setup(minutes_cpu=1)


# ------------------------------------------------------------------------------ lines for Colab, and badges


@pytest.fixture
def published(monkeypatch):
    """The manifest as it will be once the repository has an address."""
    manifest = course.read_manifest() | {"repository": ADDRESS}
    monkeypatch.setattr(course, "read_manifest", lambda: manifest)


def first_cell(notebook):
    return next(cell.source for cell in notebook.cells if cell.cell_type == "code")


def test_nothing_is_installed_while_there_is_no_address(monkeypatch):
    manifest = course.read_manifest() | {"repository": ""}
    monkeypatch.setattr(course, "read_manifest", lambda: manifest)
    notebook = course.build("00_start_here", False)
    assert (
        "install" not in first_cell(notebook)
        and "Badges that open this lesson in Colab follow" in notebook.cells[0].source
    )
    assert "`make setup`" in notebook.cells[0].source  # the way on from a wrong kernel


def test_with_an_address_every_first_cell_stays_short_and_every_badge_points_there(published):
    for name in course.sources():
        notebook = course.build(name, False)
        lines = [line for line in first_cell(notebook).splitlines() if line]
        assert len(lines) <= 6 and ADDRESS in lines[1] and "raf_lite.setup(" in lines[-1]
        assert [line.endswith("# Colab only") for line in lines] == [True, True] + [False] * (len(lines) - 2)
        assert f"github/somebody/raf/blob/main/notebooks/{name}.ipynb" in notebook.cells[0].source
        assert "raf_lite_course" not in "".join(c.source for c in notebook.cells[2:])


def test_an_address_of_another_kind_is_refused(monkeypatch):
    manifest = course.read_manifest()
    for address in (
        "github.com/a/b",
        "https://github.com/a",
        "https://github.com/a/b; rm -rf /",
        "https://github.com/a/b/",
    ):
        monkeypatch.setattr(course, "read_manifest", lambda a=address: manifest | {"repository": a})
        with pytest.raises(ValueError, match="write https://github.com/OWNER/NAME"):
            course.build("00_start_here", False)


def test_the_command_rewrites_badges_and_the_datas_address_and_keeps_outputs(
    published, tmp_path, monkeypatch
):
    shutil.copytree(ROOT / "notebooks" / "sources", tmp_path / "notebooks" / "sources")
    name = "02_expression_descriptors"
    shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", tmp_path / "notebooks")
    (tmp_path / "raf_lite").mkdir()
    record = tmp_path / "raf_lite" / "data_release.json"
    record.write_text('{"url": "", "sha256": "0123456789abcdef", "bytes": 1}')
    monkeypatch.setattr(course, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(sys, "argv", ["course.py", name])
    path = tmp_path / "notebooks" / f"{name}.ipynb"

    def outputs():
        return [cell.outputs for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]

    before, manifest = outputs(), course.read_manifest() | {"repository": ""}
    assert sum(map(bool, before)) > 5
    course.main()
    assert ADDRESS in first_cell(nbformat.read(path, 4)) and outputs() == before
    url = f"{ADDRESS}/releases/download/data-0123456789ab/raf_lite_data-0123456789ab.tar"
    assert json.loads(record.read_text()) == {"url": url, "sha256": "0123456789abcdef", "bytes": 1}
    monkeypatch.setattr(course, "read_manifest", lambda: manifest)  # and back
    course.main()
    assert (
        ADDRESS not in path.read_text()
        and outputs() == before
        and json.loads(record.read_text())["url"] == ""
    )


def run_first_lines(monkeypatch, *, colab, installed, cuda=False):
    """Run what is put before the first cell; returns the commands that it gave to the shell."""
    commands = []
    shell = types.SimpleNamespace(system=lambda command: commands.append(command))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: installed or None)
    monkeypatch.setattr(
        shutil, "which", lambda name: f"/usr/bin/{name}" if cuda and name == "nvidia-smi" else None
    )
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    exec(course.colab_lines(ADDRESS), {"get_ipython": lambda: shell})
    return commands


@posix
@pytest.mark.parametrize("cuda, extras", [(False, "lessons,encode"), (True, "lessons,encode,gpu")])
def test_only_colab_without_raf_lite_fetches_it(monkeypatch, tmp_path, cuda, extras):
    assert run_first_lines(monkeypatch, colab=False, installed=False, cuda=cuda) == []
    assert run_first_lines(monkeypatch, colab=True, installed=True, cuda=cuda) == []
    (command,) = run_first_lines(monkeypatch, colab=True, installed=False, cuda=cuda)
    assert sys.path[-1] == "raf_lite_course"
    # The shell takes the line as it was meant, and goes on where the clone is there already.
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool, code in (("git", 1), ("pip", 0)):
        (tools / tool).write_text(
            f'#!/bin/sh\nfor word in {tool} "$@"; do echo "$word" >>{tmp_path}/log; done\nexit {code}\n'
        )
        (tools / tool).chmod(0o755)
    subprocess.run(["/bin/sh", "-c", command], env={"PATH": str(tools)}, check=True)
    assert (tmp_path / "log").read_text().splitlines() == [
        "git",
        "clone",
        "-q",
        "--depth",
        "1",
        ADDRESS,
        "raf_lite_course",
        "pip",
        "install",
        "-q",
        "-e",
        f"raf_lite_course[{extras}]",
    ]
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= declared.keys()


@posix
def test_the_clone_that_colab_makes_brings_its_data(tmp_path):
    """In a kernel that finds raf_lite in `raf_lite_course` of its working folder, as the first cell leaves
    it."""
    repository = tmp_path / "raf_lite_course"
    (repository / "tools").mkdir(parents=True)
    for name in ("raf_lite", "data", "pyproject.toml", "tools/setup.sh"):
        (repository / name).symlink_to(ROOT / name)
    code = (
        "import sys; sys.path.insert(0, 'raf_lite_course'); from raf_lite.manifest import find_data; import"
        " os; os.chdir('/'); print(find_data())"
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAF_LITE_DATA")
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"{repository / 'data'}\n", done.stderr
