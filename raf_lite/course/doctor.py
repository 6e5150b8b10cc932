"""`raf-lite doctor`: what the course needs and whether it is here; what is not comes with its mend, in a
sentence.

Every check tries the thing rather than ask for its version: an index is searched, a film is written and read,
a widget is made."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import webbrowser
from collections.abc import Callable
from pathlib import Path

from raf_lite._install import COLAB, OLDEST_PYTHON, TOO_NEW_PYTHON, how_to_install, unmet

EXTRAS = ("captures", "lessons", "encode")
COURSE_EXTRAS = ("captures", "lessons")  # without MediaPipe lessons 02 and 09 lack a part, and the rest runs
MEMORY_GB = 3  # of the hungriest lesson
DISK_GB = 1  # the lessons' films and avatars, with room to spare
_FULL_DISK_GB = 0.2
_CONTAINER = Path("/sys/fs/cgroup")  # what a container may take, version 2


def _again() -> str:
    """How everything that the course needs comes here."""
    return how_to_install("course", "encode")


class Trouble(Exception):
    """What is wrong and how to mend it, in a sentence. stops: the course cannot run like this."""

    def __init__(self, sentence: str, *, stops: bool = False) -> None:
        super().__init__(sentence)
        self.stops = stops


def _must(true: bool, otherwise: str) -> None:
    if not true:
        raise Trouble(f"{otherwise}; {_again()} in a new environment", stops=True)


def _python() -> str:
    here = f"{platform.python_version()} on {platform.platform(terse=True)}, {sys.executable}"
    mend = "take 3.11, 3.12 or 3.13" + ": make setup PYTHON=python3.12" * ("make setup" in _again())
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise Trouble(f"{here} is too old; {mend}", stops=True)
    if sys.version_info[:2] >= TOO_NEW_PYTHON:
        raise Trouble(f"{here} is newer than what raf_lite was tried with; {mend}")
    return here


def _packages() -> str:
    try:
        missing = unmet()
    except importlib.metadata.PackageNotFoundError:
        raise Trouble(f"raf_lite is not installed in {sys.executable}; {_again()}", stops=True) from None
    if missing:
        raise Trouble(f"{'; '.join(missing)}; {_again()}", stops=True)
    return f"raf_lite {importlib.metadata.version('raf_lite')} and all that its core needs"


def _extras() -> str:
    """Whether what the parts of the package need is here, whole and in versions that ran."""
    core = set(unmet())  # which has a line of its own
    lacking = {extra: [words for words in unmet(extra) if words not in core] for extra in EXTRAS}
    short = [f"'{extra}' ({'; '.join(found)})" for extra, found in lacking.items() if found]
    if short:
        stops = any(lacking[extra] for extra in COURSE_EXTRAS)
        mend = how_to_install(*(extra for extra, found in lacking.items() if found))
        raise Trouble(f"not whole: {', '.join(short)}; {mend}", stops=stops)
    return f"{', '.join(EXTRAS)}: whole"


def _environment() -> str:
    """Whether a mend can be installed here at all."""
    if not os.access(sys.prefix, os.W_OK):
        raise Trouble(
            f"{sys.prefix} cannot be written to, so nothing can be installed or mended in it; make an"
            " environment of your own with `python -m venv`, and install there"
        )
    return f"{sys.prefix}, which can be written to"


def _torch() -> str:
    import torch

    _must(float(torch.ones(3) @ torch.ones(3)) == 3, f"torch {torch.__version__} gives a wrong sum")
    return torch.__version__


def _numba() -> str:
    import numba

    _must(numba.njit(lambda a, b: a + b)(1, 2) == 3, f"numba {numba.__version__} gives a wrong sum")
    return f"{numba.__version__} compiles for this processor, {numba.get_num_threads()} threads"


def _faiss() -> str:
    import faiss
    import numpy as np

    index = faiss.IndexFlatL2(2)
    index.add(np.array([[0, 0], [3, 4]], np.float32))
    distances, rows = index.search(np.zeros((1, 2), np.float32), 2)
    _must(
        rows.tolist() == [[0, 1]] and distances.tolist() == [[0, 25]],
        f"faiss {faiss.__version__} finds wrong rows",
    )
    return f"{faiss.__version__} finds the nearest rows"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        _must(
            float(torch.ones(3, device="cuda").sum()) == 3,
            f"{torch.cuda.get_device_name()} gives a wrong sum",
        )
        return torch.cuda.get_device_name()
    if shutil.which("nvidia-smi"):
        cause = (
            "cannot use it; update its driver"
            if torch.version.cuda
            else "is a build for the CPU; install torch's CUDA build"
        )
        raise Trouble(
            f"an NVIDIA GPU seems to be here, and torch {torch.__version__} {cause}"
            " (https://pytorch.org/get-started)"
        )
    return f"CPU, {torch.get_num_threads()} threads; enough for the whole course"


def _gsplat() -> str:
    import torch

    if not torch.cuda.is_available():
        return "not needed: no GPU here, so raf_lite's own rasteriser draws"
    slow = "without it this GPU is not used for drawing"
    try:
        version = importlib.metadata.version("gsplat")
    except importlib.metadata.PackageNotFoundError:
        raise Trouble(f"not installed, and {slow}: pip install gsplat==1.5.3") from None
    if any(file.suffix in (".so", ".pyd") for file in importlib.metadata.files("gsplat") or ()):
        return f"{version}, compiled"
    if shutil.which("nvcc") is None:
        raise Trouble(
            f"{version} has to be compiled once, and {slow}: install the CUDA toolkit (nvcc is not on PATH),"
            " or take a compiled wheel from https://docs.gsplat.studio/whl"
        )
    return f"{version}, compiles itself when first used, which takes minutes (MAX_JOBS=2 saves memory)"


def _widgets() -> str:
    import anywidget
    import ipywidgets
    import plotly
    from plotly.graph_objects import FigureWidget

    here = (
        f"ipywidgets {ipywidgets.__version__}, anywidget {anywidget.__version__}, plotly {plotly.__version__}"
    )
    ipywidgets.IntSlider()
    anywidget.AnyWidget(_esm="export default {}")
    try:
        FigureWidget()
    except ImportError as error:
        raise Trouble(
            f"{here}: no live figures ({str(error).strip().splitlines()[0]}), so the explorer is a picture; "
            f"{_again()}"
        ) from error
    major, manager = (
        int((_version(name) or "0").split(".")[0]) for name in ("ipywidgets", "jupyterlab_widgets")
    )
    if _version("jupyterlab") and major >= 8 and manager < 3:
        raise Trouble(
            f"{here}, but JupyterLab cannot show them: pip install 'jupyterlab_widgets>=3', and start it"
            " again"
        )
    return here


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _kernel() -> str:
    """Whether the lessons, which ask for the kernel `python3`, would run in this very Python."""
    if COLAB in os.environ:
        return "Colab's own"
    if not _version("jupyterlab"):
        raise Trouble(f"JupyterLab is not installed in this Python, so it opens no lessons; {_again()}")
    ask = [sys.executable, "-m", "jupyter_client.kernelspecapp", "list", "--json"]
    done = subprocess.run(ask, capture_output=True, text=True, errors="replace")
    spec = json.loads(done.stdout)["kernelspecs"].get("python3") if done.returncode == 0 else None
    if spec is None:
        raise Trouble(
            f"no kernel `python3` is registered: {sys.executable} -m ipykernel install --sys-prefix"
        )
    program = spec["spec"]["argv"][0]
    if Path(program).name != program:  # a bare `python` is the one that JupyterLab itself runs in
        ask = [program, "-c", "import sys; print(sys.prefix)"]
        told = (
            subprocess.run(ask, capture_output=True, text=True, errors="replace").stdout
            if shutil.which(program)
            else ""
        )
        found = told.strip()
        if not found or Path(found).resolve() != Path(sys.prefix).resolve():
            raise Trouble(
                f"the kernel `python3` of {spec['resource_dir']} runs {program}, another Python than this"
                f" one: {sys.executable} -m ipykernel install --sys-prefix"
            )
    return f"lessons run in this Python; JupyterLab {_version('jupyterlab')}"


def _browser() -> str:
    if COLAB in os.environ:
        return "the one that shows Colab"
    try:
        name = Path(getattr(webbrowser.get(), "name", "the system's own")).name
    except webbrowser.Error:
        name = None
    if name in (None, "www-browser", "links", "elinks", "lynx", "w3m"):
        raise Trouble(
            "none that shows pictures opens from here: start `jupyter lab --no-browser`, and open its address"
            " on your own computer through `ssh -L 8888:localhost:8888 THIS_MACHINE`"
        )
    if "firefox" in name and sys.platform == "linux" and not ctypes.util.find_library("avcodec"):
        raise Trouble(f"{name}; should films stay black in it (they are H.264): apt-get install ffmpeg")
    return name


def _films() -> str:
    import numpy as np

    from raf_lite.captures import read_video, write_video

    picture = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8)[:, None, None], (64, 64, 3))
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "film.mp4", [picture, picture[::-1]], 10)
        back = read_video(Path(folder) / "film.mp4").astype(int)
    _must(
        back.shape == (2, 64, 64, 3) and np.abs(back[0] - picture).mean() < 8,
        "an H.264 film comes back as another one",
    )
    return "H.264 written and read"


def _disk() -> str:
    free = shutil.disk_usage(".").free / 1e9
    here = f"{free:.1f} GB free in {Path.cwd()}"
    if free < DISK_GB:
        raise Trouble(f"{here}; make room for {DISK_GB} GB", stops=free < _FULL_DISK_GB)
    return here


def _memory() -> str:
    import psutil

    free = psutil.virtual_memory().available
    limit, used = _CONTAINER / "memory.max", _CONTAINER / "memory.current"
    if limit.is_file() and used.is_file():  # a container's share, which psutil overlooks
        most, taken = (path.read_text(encoding="ascii").strip() for path in (limit, used))
        free = free if most == "max" else min(free, int(most) - int(taken))
    here = f"{free / 1e9:.1f} GB free"
    if free < MEMORY_GB * 1e9:
        raise Trouble(
            f"{here}, and lessons take up to {MEMORY_GB} GB: close other programs and the kernels of other"
            " lessons"
        )
    return here


def _data() -> str:
    from raf_lite.manifest import broken, find_data, how_to_mend, verify_manifest

    try:
        folder = find_data()
        problems = verify_manifest(folder)
    except (FileNotFoundError, ValueError) as error:
        raise Trouble(str(error), stops=True) from error
    wrong = broken(problems)
    if wrong:
        more = f" and {len(wrong) - 1} more" * (len(wrong) > 1)
        raise Trouble(f"{folder}: {wrong[0]}{more}; {how_to_mend(folder)}", stops=True)
    if problems:
        raise Trouble(f"{folder}: {problems[0]}, which is harmless; remove what is not the course's")
    return f"{folder}: whole, as built"


def _encoder() -> str:
    """MediaPipe on one frame that ships; its model is fetched where it is not here."""
    import numpy as np

    from raf_lite.captures import open_capture
    from raf_lite.descriptors import MediaPipeEncoder
    from raf_lite.manifest import find_data

    needed = "lessons 02 and 09 encode pictures with it"
    if not _version("mediapipe"):
        raise Trouble(f"mediapipe is not installed, and {needed}; {how_to_install('encode')}")
    capture = open_capture(find_data() / "mini_nersemble" / "001")
    if capture.neutral is None:
        raise Trouble(f"the capture that ships names no neutral frame, and {needed}; get the data again")
    sequence, frame = capture.neutral
    try:
        with MediaPipeEncoder() as encoder:
            found = (
                encoder.encode(capture.frames(sequence, capture.encoder_camera)[frame][None])
                .require_all()
                .descriptors[0]
            )
    except (ImportError, FileNotFoundError, ValueError) as error:
        raise Trouble(f"{error}; {needed}") from error
    apart = float(np.abs(found - capture.descriptors(sequence, "blendshapes")[frame]).max())
    if apart > 0.1:
        raise Trouble(
            f"MediaPipe's scores are up to {apart:.2f} off those that ship, so do not mix the two: "
            "pip install 'mediapipe>=0.10.21'"
        )
    return f"MediaPipe {_version('mediapipe')} works, and scores a shipped frame to within {apart:.3f}"


def _matting() -> str:
    """MediaPipe's segmenter on one frame that ships; its model is fetched where it is not here."""
    import numpy as np

    from raf_lite.captures import open_capture
    from raf_lite.captures.matting import SelfieSegmenter, matte_frames
    from raf_lite.manifest import find_data

    needed = "a video of one's own is cut out with it"
    if not _version("mediapipe"):
        raise Trouble(f"mediapipe is not installed, and {needed}; {how_to_install('encode')}")
    capture = open_capture(find_data() / "mini_nersemble" / "001")
    sequence, camera = capture.first_filmed, capture.encoder_camera
    try:
        with SelfieSegmenter() as segmenter:
            (matte,) = matte_frames([capture.first_frame(sequence, camera)], segmenter)
    except (ImportError, FileNotFoundError, ValueError) as error:
        raise Trouble(f"{error}; {needed}") from error
    apart = float(np.abs(matte / 255.0 - capture.first_mask(sequence, camera)).mean())
    if apart > 0.05:
        raise Trouble(f"the matte of a shipped frame is {apart:.1%} off; pip install 'mediapipe>=0.10.21'")
    return f"the person in a shipped frame is found, to within {apart:.1%} of the picture"


def _rig() -> str:
    from raf_lite.rig.pack import find_pack

    return f"{find_pack() or 'not here; only needed to render new data (raf-lite data rig)'}"


# In this order, since later ones need earlier ones. Where an essential one fails in a way of its own, the
# course cannot run.
CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "place": _environment,
    "packages": _packages,
    "extras": _extras,
    "torch": _torch,
    "numba": _numba,
    "faiss": _faiss,
    "device": _device,
    "gsplat": _gsplat,
    "widgets": _widgets,
    "kernel": _kernel,
    "browser": _browser,
    "films": _films,
    "disk": _disk,
    "memory": _memory,
    "data": _data,
    "encoder": _encoder,
    "matting": _matting,
    "rig": _rig,
}
LIBRARY = ("packages", "torch", "numba", "faiss")  # what retrieval, bank, splatting and avatar stand on
ESSENTIAL = ("packages", "extras", "torch", "numba", "faiss", "widgets", "films", "data")


def diagnose(name: str) -> tuple[str, str]:
    """Run one of CHECKS: ("OK", "mend" or "STOP", a sentence). "STOP": the course cannot run. Raises
    nothing."""
    try:
        return "OK", CHECKS[name]()
    except Trouble as trouble:
        return "STOP" if trouble.stops else "mend", str(trouble)
    except Exception as error:  # a broken package raises anything when it is loaded
        first = (str(error).strip().splitlines() or ["no message"])[0]
        return (
            "STOP" if name in ESSENTIAL else "mend"
        ), f"does not work ({type(error).__name__}: {first}); {_again()}"


def doctor() -> bool:
    """Print a line a check and what follows from all; True if the course can run here."""
    found = {}
    for name in CHECKS:
        print(f"{name:<9}", end="", flush=True)  # before the check, so that one which ends Python is named
        state, sentence = diagnose(name)
        print(f" {state:<4}  {sentence}")
        found.setdefault(state, []).append(name)
    stops, mends = found.get("STOP", []), found.get("mend", [])
    if stops:
        library = (
            "" if set(LIBRARY) & set(stops) else " Retrieval, bank, splatting and avatar can be used already."
        )
        print(
            f"The course cannot run here yet. First mend: {', '.join(stops)}; then run raf-lite doctor"
            f" again.{library}"
        )
    else:
        print("The course runs here." + f" Better with a mend: {', '.join(mends)}." * bool(mends))
    return not stops
