"""`raf-lite doctor`: healthy here; and for each thing that can be amiss the right word, and a mend in one
sentence."""

import builtins
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import pytest
from conftest import ROOT, posix

from raf_lite import _install
from raf_lite.cli import main
from raf_lite.course import doctor
from raf_lite.course.doctor import CHECKS, ESSENTIAL, diagnose


@pytest.fixture
def lacks(monkeypatch):
    """lacks("a", "b"): these packages are not installed."""

    def lack(*names):
        real = importlib.metadata.version

        def version(name):
            if name in names:
                raise importlib.metadata.PackageNotFoundError(name)
            return real(name)

        monkeypatch.setattr(importlib.metadata, "version", version)

    return lack


def program(folder, name, script):
    """An executable shell script `name` in `folder`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_here_every_check_is_told_and_the_course_runs(capsys):
    assert main(["doctor"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(CHECKS) and last.startswith("The course runs here.")
    state = {line.split()[0]: line.split()[1] for line in lines}
    assert {state[name] for name in ESSENTIAL} == {"OK"} and set(state.values()) <= {"OK", "mend"}
    assert {state["python"], state["encoder"], state["matting"], state["kernel"]} == {"OK"}


def test_its_limits_are_the_projects():
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert python.endswith("<" + ".".join(map(str, doctor.TOO_NEW_PYTHON)))
    lessons = tomllib.loads((ROOT / "notebooks" / "manifest.toml").read_text())["lessons"]
    assert max(lesson["memory_gb"] for lesson in lessons.values()) == doctor.MEMORY_GB
    assert set(ESSENTIAL) < set(CHECKS)


@pytest.mark.parametrize(
    "sentences, status, end",
    [
        ({"a": "OK", "b": "OK"}, 0, "The course runs here."),
        ({"a": "mend", "b": "OK"}, 0, "The course runs here. Better with a mend: a."),
        (
            {"a": "mend", "b": "STOP", "c": "STOP"},
            1,
            (
                "The course cannot run here yet. First mend: b, c; then run raf-lite doctor again. Retrieval,"
                " bank, splatting and avatar can be used already."
            ),
        ),
        (
            {"torch": "OK", "faiss": "STOP"},
            1,
            "The course cannot run here yet. First mend: faiss; then run raf-lite doctor again.",
        ),
    ],
)
def test_only_what_stops_the_course_makes_the_status_1(monkeypatch, capsys, sentences, status, end):
    def check(state):
        if state != "OK":
            raise doctor.Trouble("it is broken; mend it", stops=state == "STOP")
        return "fine"

    monkeypatch.setattr(
        doctor, "CHECKS", {name: lambda s=state: check(s) for name, state in sentences.items()}
    )
    assert main(["doctor"]) == status
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == end
    for (name, state), line in zip(sentences.items(), lines, strict=True):
        assert line.split() == [name, state, *("fine" if state == "OK" else "it is broken; mend it").split()]


def test_a_package_that_does_not_load_stops_only_where_the_course_needs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    state, sentence = diagnose("faiss")
    assert state == "STOP" and sentence.startswith("does not work (ModuleNotFoundError: import of faiss")
    assert "make setup" in sentence
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    assert diagnose("encoder")[0] == "mend"


def test_python_too_old_and_too_new(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 4, "final", 0))
    state, sentence = diagnose("python")
    assert state == "STOP" and sentence.endswith(
        "is too old; take 3.11, 3.12 or 3.13: make setup PYTHON=python3.12"
    )
    monkeypatch.setattr(doctor.sys, "version_info", (3, 14, 0, "final", 0))
    assert diagnose("python")[0] == "mend"


def test_packages_that_are_missing(lacks):
    lacks("safetensors", "anywidget")
    state, sentence = diagnose("packages")
    assert state == "STOP" and sentence.startswith("safetensors is missing; run `make setup`")
    state, sentence = diagnose("extras")
    assert state == "STOP" and sentence.startswith(
        "not whole: 'lessons' (anywidget is missing); run `make setup`"
    )


def test_without_mediapipe_the_course_runs(lacks):
    lacks("mediapipe")
    state, sentence = diagnose("extras")
    assert state == "mend" and sentence.startswith("not whole: 'encode' (mediapipe is missing)")


def test_packages_that_are_too_old_or_too_new(monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata,
        "version",
        lambda name: {"av": "14.0.1", "numba": "0.60.0"}.get(name) or real(name),
    )
    assert diagnose("packages")[1].startswith("numba 0.60.0 is not >=0.61; run")
    assert diagnose("extras")[1].startswith(
        "not whole: 'captures' (av 14.0.1 is not >=17), 'lessons' (av 14.0.1 is not >=17), "
    )
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["numpy<2"])
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.5.5")
    assert diagnose("packages")[1].startswith("numpy 2.5.5 is not <2; run")


def test_outside_a_clone_every_mend_is_pips(monkeypatch, lacks):
    monkeypatch.setattr(_install, "clone", lambda: None)
    lacks("faiss-cpu", "plotly", "jupyterlab", "mediapipe")
    for name in ("packages", "extras", "kernel", "encoder"):
        sentence = diagnose(name)[1]
        assert "make" not in sentence and '-m pip install "raf_lite[' in sentence, sentence


def test_an_environment_that_cannot_be_written_to(monkeypatch):
    assert diagnose("place")[0] == "OK"
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    state, sentence = diagnose("place")
    assert state == "mend" and sentence.endswith(
        "make an environment of your own with `python -m venv`, and install there"
    )


def test_raf_lite_itself_not_installed(monkeypatch):
    def requires(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    state, sentence = diagnose("packages")
    assert state == "STOP" and sentence.startswith(
        f"raf_lite is not installed in {sys.executable}; run `make setup`"
    )


@posix
def test_a_gpu_that_torch_cannot_use(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert diagnose("device")[0] == "OK"
    program(tmp_path, "nvidia-smi", "")
    monkeypatch.setattr("torch.version.cuda", None)
    state, sentence = diagnose("device")
    assert state == "mend" and "is a build for the CPU; install torch's CUDA build" in sentence
    monkeypatch.setattr("torch.version.cuda", "13.0")
    assert "update its driver" in diagnose("device")[1]


@posix
def test_gsplat_without_and_with_a_gpu(tmp_path, monkeypatch, lacks):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert diagnose("gsplat") == ("OK", "not needed: no GPU here, so raf_lite's own rasteriser draws")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.5.3")
    monkeypatch.setattr(importlib.metadata, "files", lambda name: [tmp_path / "gsplat" / "csrc.so"])
    assert diagnose("gsplat") == ("OK", "1.5.3, compiled")
    monkeypatch.setattr(importlib.metadata, "files", lambda name: [tmp_path / "gsplat" / "__init__.py"])
    monkeypatch.setenv("PATH", str(tmp_path))
    state, sentence = diagnose("gsplat")
    assert state == "mend" and "nvcc is not on PATH" in sentence
    program(tmp_path, "nvcc", "")
    assert diagnose("gsplat")[0] == "OK" and "takes minutes" in diagnose("gsplat")[1]
    lacks("gsplat")
    state, sentence = diagnose("gsplat")
    assert state == "mend" and sentence.endswith(
        "this GPU is not used for drawing: pip install gsplat==1.5.3"
    )


def test_widgets(monkeypatch, lacks):
    lacks("jupyterlab_widgets")
    state, sentence = diagnose("widgets")
    assert state == "mend" and "pip install 'jupyterlab_widgets>=3'" in sentence
    real = builtins.__import__

    def no_figures(name, *args, **kwargs):  # as plotly says it where something is missing
        if name == "plotly.graph_objects":

            def figure():
                raise ImportError("Please install anywidget to use the FigureWidget class\nmore")

            return SimpleNamespace(FigureWidget=figure)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_figures)
    state, sentence = diagnose("widgets")
    assert (
        state == "mend"
        and "no live figures (Please install anywidget to use the FigureWidget class)" in sentence
    )
    monkeypatch.setattr(builtins, "__import__", real)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert diagnose("widgets")[0] == "STOP"


@posix
def test_the_kernel_of_another_python(tmp_path, monkeypatch, lacks):
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))  # comes before all others, as a user's own kernel may
    for other in (program(tmp_path / "bin", "python", "echo /elsewhere"), tmp_path / "gone"):
        (spec / "kernel.json").write_text(
            f'{{"argv": ["{other}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"], '
            '"display_name": "Python 3", "language": "python"}'
        )
        state, sentence = diagnose("kernel")
        assert state == "mend" and f"runs {other}, another Python than this one" in sentence
        assert sentence.endswith(f"{sys.executable} -m ipykernel install --sys-prefix")
    (spec / "kernel.json").write_text(
        (spec / "kernel.json").read_text().replace(str(tmp_path / "gone"), sys.executable)
    )
    assert diagnose("kernel")[0] == "OK"
    lacks("jupyterlab")
    assert diagnose("kernel")[1].startswith("JupyterLab is not installed in this Python")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    assert diagnose("kernel") == ("OK", "Colab's own")


@posix
@pytest.mark.parametrize(
    "browser, library, state, says",
    [
        (None, "", "mend", "ssh -L 8888:localhost:8888"),
        ("w3m", "", "mend", "none that shows pictures opens from here"),
        ("chromium", "", "OK", "chromium"),
        ("firefox", "libavcodec.so.60", "OK", "firefox"),
        ("firefox", "", "mend", "firefox; should films stay black in it"),
    ],
)
def test_browsers(tmp_path, browser, library, state, says):
    """In a Python of its own: the standard library looks for browsers once."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    }
    environment |= {"PATH": str(tmp_path)} | (
        {"BROWSER": str(program(tmp_path, browser, ""))} if browser else {}
    )
    code = (
        f"from raf_lite.course import doctor; doctor.ctypes.util.find_library = lambda name: {library!r}; "
        "print(*doctor.diagnose('browser'))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert said.startswith(state + " ") and says in said


def test_films_that_cannot_be_written(monkeypatch):
    import av

    def no_encoder(*args, **kwargs):
        raise ValueError("Unknown encoder 'libx264'")

    monkeypatch.setattr(av, "open", no_encoder)
    state, sentence = diagnose("films")
    assert state == "STOP" and sentence.startswith("does not work (ValueError: Unknown encoder 'libx264')")


@pytest.mark.parametrize("free, state", [(5e9, "OK"), (0.5e9, "mend"), (0.05e9, "STOP")])
def test_disk(monkeypatch, free, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    found, sentence = diagnose("disk")
    assert (
        found == state
        and f"{free / 1e9:.1f} GB free" in sentence
        and ("make room for 1 GB" in sentence) == (state != "OK")
    )


def test_memory_and_a_containers_share_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_CONTAINER", tmp_path)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=8_000_000_000))
    assert diagnose("memory") == ("OK", "8.0 GB free")
    (tmp_path / "memory.max").write_text("4000000000\n")
    (tmp_path / "memory.current").write_text("3000000000\n")
    state, sentence = diagnose("memory")
    assert state == "mend" and sentence.startswith(
        "1.0 GB free, and lessons take up to 3 GB: close other programs"
    )
    (tmp_path / "memory.max").write_text("max\n")
    assert diagnose("memory")[0] == "OK"
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2_000_000_000))
    assert diagnose("memory")[0] == "mend"


def test_data_that_are_not_whole(data_dir, tmp_path, monkeypatch):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("RAF_LITE_DATA", str(tmp_path))
    assert diagnose("data") == ("OK", f"{tmp_path}: whole, as built")
    (tmp_path / "bank" / "notes.txt").write_text("mine")
    state, sentence = diagnose("data")
    assert state == "mend" and "bank/notes.txt is not listed, which is harmless" in sentence
    film = next((tmp_path / "mini_nersemble").rglob("*.mp4"))
    film.write_bytes(film.read_bytes()[:-1] + b"x")
    (tmp_path / "bank" / "truth.npz").unlink()
    state, sentence = diagnose("data")
    assert (
        state == "STOP"
        and "bank/truth.npz is listed but missing and 1 more; copy that folder again" in sentence
    )
    (tmp_path / "MANIFEST.json").write_text('{"files": [')
    assert diagnose("data")[0] == "STOP" and "MANIFEST.json is not JSON" in diagnose("data")[1]
    monkeypatch.setenv("RAF_LITE_DATA", str(tmp_path / "gone"))
    state, sentence = diagnose("data")
    assert (
        state == "STOP"
        and sentence
        == f"RAF_LITE_DATA names {tmp_path / 'gone'}, which is not there; correct it, or unset RAF_LITE_DATA"
    )


def test_without_the_encoder_the_course_goes_on(tmp_path, monkeypatch, lacks):
    monkeypatch.setenv("RAF_LITE_FACE_LANDMARKER", str(tmp_path / "gone.task"))
    state, sentence = diagnose("encoder")
    assert (
        state == "mend"
        and "gone.task" in sentence
        and sentence.endswith("lessons 02 and 09 encode pictures with it")
    )
    lacks("mediapipe")
    assert diagnose("encoder")[0] == "mend" and diagnose("encoder")[1].startswith(
        "mediapipe is not installed, and lessons 02"
    )


def test_without_the_model_of_matting_the_course_goes_on(tmp_path, monkeypatch, lacks):
    monkeypatch.setenv("RAF_LITE_SELFIE_SEGMENTER", str(tmp_path / "gone.tflite"))
    state, sentence = diagnose("matting")
    assert state == "mend" and "gone.tflite" in sentence and sentence.endswith("is cut out with it")
    lacks("mediapipe")
    assert diagnose("matting")[0] == "mend" and diagnose("matting")[1].startswith(
        "mediapipe is not installed"
    )


def test_scores_that_differ_from_those_that_ship(monkeypatch):
    from raf_lite.descriptors import Detections

    monkeypatch.setattr(
        Detections, "require_all", lambda self: SimpleNamespace(descriptors=self.descriptors + 0.25)
    )
    state, sentence = diagnose("encoder")
    assert state == "mend" and re.search(r"up to 0\.2\d off those that ship", sentence)


def test_instructors_read_of_every_line():
    table = (ROOT / "docs" / "instructors.md").read_text()
    rows = set(
        re.findall(
            r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
        )
    )
    assert set(CHECKS) <= rows
