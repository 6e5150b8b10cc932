"""A chosen part of the tests on every supported Python, with the newest and with the oldest dependencies.

    python tools/matrix.py                          # every cell, each in an environment of its own,
    .venvs/CELL
    python tools/matrix.py 3.13-newest 3.11-floors  # some
    python tools/matrix.py --here                   # the same part in the Python that runs this, whatever is
    installed there python tools/matrix.py colab                    # all lessons, with the versions that
    Colab has (tools/colab.txt)

The part touches every dependency: films, captures, bank, retrieval, splatting, training, export, widgets, the
encoder, the doctor, the demo with RAF_FAST and two lessons. `uv` resolves: "newest" takes what the package
index has today, "floors" exactly the lower bounds of pyproject.toml. Set UV_TORCH_BACKEND=cpu where PyTorch's
own index can be reached: its CPU builds are a tenth as large.

A Python that is not on this machine is passed over with a word, or fails with --must. Prints a table and ends
with 1 if a cell failed; --record FILE keeps the rows as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
VENVS = ROOT / ".venvs"
# What tools/setup.sh, too, installs without the half gigabyte that they ask for: see pyproject.toml.
WITHOUT_DEPENDENCIES = ("dreifus==0.1.28", "gsplat==1.5.3", "nersemble_benchmark==0.2.0")
TESTS = (
    "test_environment",
    "test_doctor",
    "test_files",
    "test_video",
    "test_colours",
    "test_any_video",
    "test_captures",
    "test_formats",
    "test_bank",
    "test_retrieval",
    "test_splatting",
    "test_avatar",
    "test_export",
    "test_explorer",
    "test_viewing",
    "test_cli",
    "test_demo",
)
LESSONS = ("00_start_here", "03_the_expression_bank")
SHOWN = ("torch", "numpy", "numba", "faiss-cpu", "av", "mediapipe", "plotly", "ipywidgets", "jupyterlab")


@dataclass(frozen=True)
class Cell:
    """An environment: its Python, how versions are chosen, what is installed besides, and what runs in it."""

    python: str
    floors: bool = False
    extras: tuple[str, ...] = ("course", "encode", "metrics", "dev", "docs")
    besides: tuple[str, ...] = ()
    pins: str = ""  # a file of versions that uv has to keep to
    tests: tuple[str, ...] = TESTS
    lessons: tuple[str, ...] = LESSONS


CELLS = {
    "3.11-newest": Cell("3.11"),
    "3.12-newest": Cell("3.12"),
    "3.13-newest": Cell("3.13"),
    "3.11-floors": Cell("3.11", floors=True),
    "tensorflow": Cell(
        "3.13",
        extras=("captures",),
        besides=("pytest", "tensorflow-cpu"),
        tests=("test_tensorflow",),
        lessons=(),
    ),
    "colab": Cell(
        "3.13",
        extras=("lessons", "encode"),
        besides=("pytest", "nbval==0.11.0"),
        pins="tools/colab.txt",
        tests=(),
        lessons=("*",),
    ),
}
USUAL = tuple(name for name in CELLS if name != "colab")


@dataclass
class Row:
    """What came of a cell."""

    cell: str
    state: str  # "passed", "failed" or "not here"
    python: str = ""
    install_minutes: float = 0.0
    minutes: float = 0.0
    tests: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    why: str = ""


def find_python(version: str) -> str | None:
    """A Python of this version: on PATH, by Windows' launcher, or kept by pyenv; None where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    kept = sorted(
        pyenv.glob(f"{version}.*/bin/python"),
        key=lambda p: int(p.parts[-3].split(".")[2].rstrip("abrc") or 0),
    )
    for command in (
        ["py", f"-{version}"],
        [f"python{version}"],
        *([str(path)] for path in reversed(kept)),
        [sys.executable],
    ):
        if shutil.which(command[0]):
            ask = "import sys; print(sys.executable, '%d.%d' % sys.version_info[:2], sep='|')"
            done = subprocess.run([*command, "-c", ask], capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.strip().endswith(f"|{version}"):
                return done.stdout.strip().split("|")[0]
    return None


def uv(*words: str) -> None:
    """Run the uv that is installed beside this Python, or on PATH; CalledProcessError where it fails."""
    beside = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if beside is None:
        raise FileNotFoundError(
            "uv is not installed here, and the matrix resolves with it; run `pip install uv`"
        )
    subprocess.run([beside, *words], check=True, cwd=ROOT)


def install(name: str, cell: Cell, python: str) -> Path:
    """Make the cell's environment exactly what it should be today; returns its Python."""
    folder = VENVS / name
    inside = folder / ("Scripts/python.exe" if platform.system() == "Windows" else "bin/python")
    if not inside.is_file():
        uv("venv", "--quiet", "--seed", "--clear", "--python", python, str(folder))
    asked, locked = folder / "asked.txt", folder / "locked.txt"
    asked.write_text(
        "\n".join((f".[{','.join(cell.extras)}]", *cell.besides)) + "\n", encoding="utf-8", newline="\n"
    )
    pins = ["--constraint", cell.pins] if cell.pins else []
    uv(
        "pip",
        "compile",
        "--quiet",
        "--upgrade",
        "--no-header",
        "--no-annotate",
        "--python",
        str(inside),
        *pins,
        "--resolution",
        "lowest-direct" if cell.floors else "highest",
        "--output-file",
        str(locked),
        str(asked),
    )
    # The project itself comes editable, and its neighbours without what they ask for.
    lines = [
        line
        for line in locked.read_text(encoding="utf-8").splitlines()
        if not line.startswith((".", "raf-lite", "file:"))
    ]
    locked.write_text(
        "\n".join((*lines, *WITHOUT_DEPENDENCIES, "-e .", "pip", "")), encoding="utf-8", newline="\n"
    )
    uv("pip", "sync", "--quiet", "--python", str(inside), str(locked))
    return inside


def pytest(
    python: Path | str, words: list[str], report: Path, environment: dict[str, str]
) -> tuple[bool, dict[str, int]]:
    """Run pytest in an environment; whether all passed, and the counts of its report."""
    report.unlink(missing_ok=True)
    done = subprocess.run(
        [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *words],
        cwd=ROOT,
        env=environment,
    )
    if not report.is_file():
        return False, {}
    suite = ElementTree.parse(report).getroot().find("testsuite")
    counts = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
    return done.returncode == 0, counts


def run(name: str, cell: Cell, python: Path | str, row: Row) -> None:
    """Run a cell's part in an environment that is ready, and fill its row."""
    reports = ROOT / "build" / "matrix" / name
    reports.mkdir(parents=True, exist_ok=True)
    ask = (
        "import importlib.metadata as m, json, platform\n"
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()} | "
        "{'python': platform.python_version()}))"
    )
    found = json.loads(
        subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True).stdout
    )
    row.python, row.versions = found["python"], {key: found[key] for key in SHOWN if key in found}
    good = True
    scripts = Path(python).parent  # what the tests start by name is the environment's own
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
        "VIRTUAL_ENV": str(scripts.parent),
    }
    environment.pop("PYTHONPATH", None)
    if "course" in cell.extras:  # elsewhere it says, rightly, that the course cannot run
        good = (
            subprocess.run(
                [str(python), "-m", "raf_lite.cli", "doctor"], cwd=ROOT, env=environment
            ).returncode
            == 0
        )
    if cell.tests:
        passed, row.tests = pytest(
            python, [f"tests/{test}.py" for test in cell.tests], reports / "tests.xml", environment
        )
        good = passed and good
    lessons = sorted(
        {str(path) for pattern in cell.lessons for path in (ROOT / "notebooks").glob(f"{pattern}.ipynb")}
    )
    passed, counts = True, {}
    if lessons:
        passed, counts = pytest(
            python,
            [
                "--nbval-lax",
                "--nbval-current-env",
                "--nbval-sanitize-with",
                "tests/sanitize.cfg",
                "--nbval-cell-timeout=300",
                "--nbval-kernel-startup-timeout=120",
                *lessons,
            ],
            reports / "lessons.xml",
            environment | {"RAF_FAST": "1"},
        )
    row.tests = {
        "tests": row.tests.get("tests", 0),
        "skipped": row.tests.get("skipped", 0),
        "cells": counts.get("tests", 0),
        "failed": sum(c.get(k, 0) for c in (row.tests, counts) for k in ("failures", "errors")),
    }
    row.state = "passed" if good and passed else "failed"


def do(name: str) -> Row:
    """Install and run a cell."""
    cell, row = CELLS[name], Row(name, "not here")
    python = find_python(cell.python)
    if python is None:
        row.why = f"no Python {cell.python} on this machine"
        return row
    print(f"\n== {name}: {python}", flush=True)
    started = time.perf_counter()
    try:
        inside = install(name, cell, python)
    except (subprocess.CalledProcessError, OSError) as error:
        row.state, row.why = "failed", f"its environment could not be made: {error}"
        return row
    row.install_minutes = round((time.perf_counter() - started) / 60, 2)
    started = time.perf_counter()
    run(name, cell, inside, row)
    row.minutes = round((time.perf_counter() - started) / 60, 2)
    return row


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| cell | state | Python | minutes (+ install) | tests, lessons' cells, skipped, failed | versions |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        counts = ", ".join(str(row.tests.get(key, "–")) for key in ("tests", "cells", "skipped", "failed"))
        versions = ", ".join(f"{key} {value}" for key, value in row.versions.items()) or row.why
        minutes = f"{row.minutes} (+ {row.install_minutes})"
        lines.append(f"| {row.cell} | {row.state} | {row.python} | {minutes} | {counts} | {versions} |")
    return "\n".join(lines)


def main() -> int:
    """Run cells; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "cells", nargs="*", metavar="CELL", help=f"of {', '.join(CELLS)} (default: all but colab)"
    )
    parser.add_argument("--here", action="store_true", help="run the part in this Python and install nothing")
    parser.add_argument(
        "--must", action="store_true", help="a Python that is not on this machine is a failure"
    )
    parser.add_argument(
        "--record", type=Path, metavar="JSON", help="put the rows into this file, beside those of other cells"
    )
    args = parser.parse_args()
    unknown = [name for name in args.cells if name not in CELLS]
    if unknown:
        parser.error(f"there is no cell '{unknown[0]}'; choose from {', '.join(CELLS)}")
    if args.here:
        row = Row(f"this Python, {platform.system()}", "failed")
        started = time.perf_counter()
        run("here", Cell(platform.python_version()), sys.executable, row)
        row.minutes = round((time.perf_counter() - started) / 60, 2)
        rows = [row]
    else:
        rows = [do(name) for name in args.cells or USUAL]
    print(f"\n{table(rows)}")
    if args.record:
        kept = json.loads(args.record.read_text(encoding="utf-8")) if args.record.is_file() else {}
        kept |= {
            row.cell: asdict(row) | {"system": platform.platform(terse=True), "cores": os.cpu_count()}
            for row in rows
        }
        args.record.parent.mkdir(parents=True, exist_ok=True)
        args.record.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8", newline="\n")
    bad = [row for row in rows if row.state == "failed" or (args.must and row.state == "not here")]
    for row in rows:
        if row.state == "not here":
            print(f"{row.cell}: passed over, {row.why}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
