"""Kill writers and let them race: python benchmarks/kills.py [WRITER ...] (about a minute a writer; needs a
POSIX system).

Every writer of WRITERS replaces something old by something new, in a process that is ended with SIGKILL:
right before and right after each flush, rename and deletion that it does, and at random moments, RANDOM_KILLS
times. What is left is opened as a user would: it must be the old or the new, whole; of `data build`, which
replaces several folders, also what its check names ("named"). Then the writer runs again to its end, after
which the new must be there, and only its files. For those that two processes may run at once,
pairs are started together while a third process reads all the time: both must be in the result, and the
reader must never meet anything broken. Writes benchmarks/results/kills.json with machine and versions; the
table in docs/reliability.md has its numbers.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from machine import RESULTS, describe_machine

from raf_lite._files import read_npz, write_json, write_npz
from raf_lite.avatar import GaussianAvatar
from raf_lite.bank import ExpressionBank, add_donor, encode_thumbnail
from raf_lite.captures import write_video
from raf_lite.descriptors import VideoDetections, encode_video
from raf_lite.manifest import verify_manifest
from raf_lite.rig.build import _put_in_place
from raf_lite.rig.scripts import Performance
from raf_lite.rig.studio import FRONTAL, studio_cameras
from raf_lite.rig.writer import write_sequence
from raf_lite.training import TrainConfig, Trainer, TrainingSet
from raf_lite.training.checkpoint import read_checkpoint

RANDOM_KILLS, PAIRS = 50, 20
CALLS = ("fsync", "replace", "unlink")  # of `os`: where what is on the disk changes
# A server that has imported everything and from which each process is forked: no process pays for the imports
# again.
PROCESSES = multiprocessing.get_context("forkserver")
IMPORTED = [
    *("raf_lite.avatar", "raf_lite.bank", "raf_lite.captures", "raf_lite.descriptors", "raf_lite.training"),
    *(
        "raf_lite.rig.build",
        "raf_lite.rig.writer",
        "raf_lite.retrieval",
        "raf_lite.export",
        "raf_lite._machine",
    ),
    *("raf_lite.splatting", "filelock"),
]


class Named(Exception):
    """What a killed writer left is refused with a sentence, and the next run mends it."""


@dataclass(frozen=True)
class Writer:
    """One way to replace something in a folder."""

    name: str
    old: Callable[[Path], object]
    """Write what is there before."""
    write: Callable[[Path], object]
    """Replace it."""
    read: Callable[[Path], object]
    """What is there, as a value that can be compared; raises ValueError or OSError where it is broken, Named
    where a check says so in words and the next run is to mend it."""
    others: Callable[[Path], set[str]]
    """Names of the files below the folder that belong to what is there."""
    pair: tuple[Callable[[Path], object], Callable[[Path], object]] | None = None
    """Two writers that may run at once."""
    both: Callable[[object], bool] = bool
    """Whether what was read has the work of both."""


# ---------------------------------------------------------------------------------------------- the writers


def _faces(seed: int, rows: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 52)).astype(np.float32)


def _save_bank(seed: int, rows: int, folder: Path) -> None:
    """A bank of ten donors with thumbnails and an index."""
    picture = encode_thumbnail(np.full((16, 16, 3), seed % 256, np.uint8))
    ExpressionBank.from_arrays(
        _faces(seed, rows),
        np.arange(rows) % 10,
        encoder="e",
        descriptor="blendshapes",
        thumbnails={0: picture},
    ).save(folder)


def _save_first_version(folder: Path) -> None:
    """The same as earlier versions of raf_lite wrote it: names without a hash."""
    import json

    _save_bank(0, 2000, folder)
    manifest = json.loads((folder / "bank.json").read_text(encoding="utf-8"))
    for name in list(manifest["files"]):
        stem, suffix = name.rsplit("-", 1)[0], Path(name).suffix
        (folder / name).rename(folder / (stem + suffix))
        manifest["files"][stem + suffix] = manifest["files"].pop(name)
    write_json(folder / "bank.json", manifest | {"version": 1})


def _add(donor: int, folder: Path) -> None:
    picture = encode_thumbnail(np.full((16, 16, 3), donor % 256, np.uint8))
    add_donor(
        folder, {"blendshapes": _faces(donor, 300)}, encoder="e", donor=str(donor), thumbnails={0: picture}
    )


def _read_bank(folder: Path) -> tuple:
    bank = ExpressionBank.load(folder)
    bank.search(bank.descriptors[:1], 1)
    return (
        bank.descriptors.tobytes(),
        tuple(np.unique(bank.donors).tolist()),
        tuple(bank.thumbnail_rows.tolist()),
    )


def _bank_files(folder: Path) -> set[str]:
    from raf_lite.bank.storage import read_manifest

    return {"bank.json", ".lock", *read_manifest(folder)["files"]}


def _write_film(folder: Path) -> None:
    """A film of six frames, and an encoding of it that is to be replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    write_video(folder / "clip.mp4", np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), np.uint8), 24)
    _encode(folder, smooth=0.1)


class _Encoder:
    """Stands in for MediaPipe: one face in every frame, whose numbers come from the frame's number."""

    def __init__(self, **options: int) -> None: ...

    def __enter__(self) -> _Encoder:
        return self

    def __exit__(self, *error: object) -> None: ...

    def faces(self, frame: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(number)
        landmarks = rng.random((1, 478, 3), np.float32)
        return rng.random((1, 52), np.float32), landmarks, np.eye(4, dtype=np.float32)[None]


def _encode(folder: Path, smooth: float = 0.0) -> None:
    """The film in parts of two frames."""
    from unittest.mock import patch

    encode = encode_video.__module__
    with patch(f"{encode}.MediaPipeEncoder", _Encoder), patch(f"{encode}.PART_FRAMES", 2):
        encode_video(folder / "clip.mp4", smooth=smooth, progress=False)


def _read_encoding(folder: Path) -> tuple:
    found = VideoDetections.load(folder / "clip.mp4.encoding.npz")
    return found.blendshapes.tobytes(), found.landmarks.tobytes(), found.smooth


def _trainer(folder: Path) -> Trainer:
    """A run on three pictures of a ball, the same every time."""
    cameras = list(studio_cameras(32, [FRONTAL, "222200046", "220700191"]).values())
    rows, columns = np.mgrid[:32, :32] + 0.5
    middles = [camera.project(np.zeros((1, 3)))[0][0] for camera in cameras]
    balls = np.stack([np.hypot(columns - x, rows - y) < 8 for x, y in middles])
    data = TrainingSet(
        images=np.full((2, 3, 32, 32, 3), 128, np.uint8),
        masks=np.repeat((balls * 255).astype(np.uint8)[None], 2, 0),
        descriptors=np.eye(2, 4, dtype=np.float32),
        head_poses=np.repeat(np.eye(4)[None], 2, 0),
        cameras=cameras,
        names=[("FREE", 0), ("FREE", 1)],
        neutral=0,
    )
    config = TrainConfig(steps=40, size=32, coarse_steps=0, gaussians=60)
    return Trainer(data, config, folder, device="cpu", progress=False)


def _save_step(folder: Path, step: int) -> None:
    """A checkpoint of this step, after one move of the optimiser."""
    run = _trainer(folder)
    for parameter in run.avatar.parameters():
        parameter.grad = torch.full_like(parameter, step)
    run.optimizer.step()
    run.step = step
    run._save_checkpoint()


def _finish(folder: Path) -> None:
    """Go on from a checkpoint, where there is one, to the avatar; the steps between are left out."""
    run = _trainer(folder)
    if (folder / "checkpoint.safetensors").exists():
        run._load_checkpoint()
    elif run._is_finished():
        return
    run.step = run.config.steps
    run.train()


def _read_run(folder: Path) -> tuple:
    if (folder / "avatar.safetensors").exists():
        avatar = GaussianAvatar.load(folder / "avatar.safetensors")
        return "avatar", *(tensor.numpy().tobytes() for tensor in avatar.state_dict().values())
    header, tensors = read_checkpoint(folder / "checkpoint.safetensors")
    return header["step"], *(tensor.numpy().tobytes() for tensor in tensors.values())


class _Head:
    """Stands in for the rig, which not everyone has: pictures of noise."""

    def render(self, weights: np.ndarray, cameras: list, pose: np.ndarray) -> tuple[list, list]:
        rng = np.random.default_rng(0)
        return [rng.integers(0, 255, (32, 32, 3), np.uint8) for _ in cameras], [
            np.full((32, 32), 200, np.uint8) for _ in cameras
        ]

    def landmarks68(self, weights: np.ndarray, pose: np.ndarray) -> np.ndarray:
        return np.zeros((68, 3))


def _build_sequence(folder: Path) -> None:
    """One job of `data build`: a sequence of four frames and two cameras."""
    performance = Performance(
        weights=np.zeros((4, 57), np.float32),
        archetype=np.zeros(4, int),
        amplitude=np.zeros(4),
        peak=np.zeros(4, bool),
        head_rotation=np.zeros((4, 3)),
        head_translation=np.zeros((4, 3)),
    )
    cameras = studio_cameras(32, [FRONTAL, "222200046"])
    write_sequence(folder / "001", "FREE", _Head(), performance, cameras, 12, crf=24)


def _read_tree(folder: Path) -> tuple:
    """Every file that is not hidden nor in a hidden folder, by name."""
    found = [(path.relative_to(folder), path) for path in sorted(folder.rglob("*")) if path.is_file()]
    return tuple(
        (name.as_posix(), path.read_bytes())
        for name, path in found
        if not any(part.startswith(".") for part in name.parts)
    )


def _read_sequence(folder: Path) -> tuple:
    """A sequence counts once its annotations are there."""
    return _read_tree(folder) if (folder / "001/annotations/FREE.npz").exists() else ()


def _build_old(folder: Path) -> None:
    """A data folder, and beside it what two builds have made."""
    for seed in (0, 1):
        for name in ("mini_nersemble/001/a.npz", "mini_nersemble/001/b.npz", "bank/c.npz"):
            write_npz(folder.parent / f"work{seed}" / name, x=_faces(seed, 50))
    folder.mkdir()
    _put_in_place(folder.parent / "work0", folder)


def _build_new(folder: Path) -> None:
    """The last step of `data build`, which puts what was built in its place."""
    _put_in_place(folder.parent / "work1", folder)


def _read_data(folder: Path) -> tuple:
    try:
        problems = verify_manifest(folder)
    except FileNotFoundError as error:
        raise Named from error
    if problems:
        raise Named(problems[0])
    return _read_tree(folder)


def _data_files(folder: Path) -> set[str]:
    return {name for name, _ in _read_tree(folder)}


_add_101, _add_102 = functools.partial(_add, 101), functools.partial(_add, 102)
_old_bank = functools.partial(_save_bank, 0, 2000)

WRITERS = {
    writer.name: writer
    for writer in (
        Writer(
            "bank add, in place",
            _old_bank,
            _add_101,
            _read_bank,
            _bank_files,
            (_add_101, _add_102),
            lambda bank: {101, 102} <= set(bank[1]),
        ),
        Writer(
            "bank saved over another",
            _old_bank,
            functools.partial(_save_bank, 1, 2500),
            _read_bank,
            _bank_files,
        ),
        Writer("bank of version 1, added to", _save_first_version, _add_101, _read_bank, _bank_files),
        Writer(
            "one file (write_npz)",
            lambda folder: write_npz(folder / "a.npz", x=_faces(0, 2000)),
            lambda folder: write_npz(folder / "a.npz", x=_faces(1, 2000)),
            lambda folder: read_npz(folder / "a.npz")["x"].tobytes(),
            lambda folder: {"a.npz"},
        ),
        Writer(
            "encoding of a film, in parts",
            _write_film,
            _encode,
            _read_encoding,
            lambda folder: {"clip.mp4", "clip.mp4.encoding.npz"},
        ),
        Writer(
            "training checkpoint",
            functools.partial(_save_step, step=2),
            functools.partial(_save_step, step=3),
            _read_run,
            lambda folder: {"checkpoint.safetensors"},
        ),
        Writer(
            "finished avatar, in place of its checkpoint",
            functools.partial(_save_step, step=2),
            _finish,
            _read_run,
            lambda folder: {"avatar.safetensors", "log.jsonl", ".lock"},
        ),
        Writer(
            "data build, a sequence",
            lambda folder: folder.mkdir(),
            _build_sequence,
            _read_sequence,
            _data_files,
        ),
        Writer("data build, its last step", _build_old, _build_new, _read_data, _data_files),
    )
}

# ------------------------------------------------------------------------------------------------- processes


def _stop_at(point: int | None, after: bool, count) -> None:
    """End this process before or after its call number `point`, from 0, of CALLS; `count.value` says how many
    there were."""

    def watched(call, *args, **kwargs):
        here = count.value
        count.value += 1
        if here == point and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return call(*args, **kwargs)
        finally:
            if here == point:
                os.kill(os.getpid(), signal.SIGKILL)

    for name in CALLS:
        setattr(os, name, functools.partial(watched, getattr(os, name)))


def _child(
    name: str, which: int, folder: Path, start, point: int | None = None, after: bool = False, count=None
) -> None:
    """Run a writer (which: -1), or one of its pair, once all have come to the barrier `start`."""
    writer = WRITERS[name]
    os.environ["RAF_LITE_CACHE"] = str(folder.parent / "cache")
    if count is not None:
        _stop_at(point, after, count)
    start.wait()
    (writer.write if which < 0 else writer.pair[which])(folder)


def _reader(name: str, folder: Path, start, stop, count, broken) -> None:
    """Read, once all have come to the barrier, until `stop` is set."""
    start.wait()
    while not stop.is_set():
        try:
            WRITERS[name].read(folder)
        except (ValueError, OSError):
            broken.value += 1
        count.value += 1


def _begin(*args, **kwargs):
    process = PROCESSES.Process(target=_child, args=args, kwargs=kwargs)
    process.start()
    return process


# ------------------------------------------------------------------------------------------------- measures


@dataclass(frozen=True)
class Kills:
    """A writer's folders, and what it makes of them."""

    writer: Writer
    work: Path

    def fresh(self) -> Path:
        """A folder with the old content."""
        folder = self.work / "now"
        shutil.rmtree(folder, ignore_errors=True)
        if not (self.work / "old").exists():
            self.writer.old(self.work / "old")
        shutil.copytree(self.work / "old", folder)
        return folder

    def run(self, **kwargs) -> tuple[Path, int, float]:
        """(folder, exit status, seconds) of one whole run, or of one that ends itself at a point."""
        folder, start = self.fresh(), PROCESSES.Barrier(2)
        process = _begin(self.writer.name, -1, folder, start, **kwargs)
        start.wait()
        began = time.perf_counter()
        process.join()
        return folder, process.exitcode, time.perf_counter() - began

    def kill_at(self, seconds: float) -> tuple[Path, bool]:
        """(folder, whether it was still running) of a run that is killed after some seconds."""
        folder, start = self.fresh(), PROCESSES.Barrier(2)
        process = _begin(self.writer.name, -1, folder, start)
        start.wait()
        time.sleep(seconds)
        process.kill()
        process.join()
        return folder, process.exitcode == -signal.SIGKILL

    def found(self, folder: Path, old: object, new: object) -> str:
        """ "old", "new", "named" or "broken"."""
        try:
            value = self.writer.read(folder)
        except Named:
            return "named"
        except (ValueError, OSError):
            return "broken"
        return "old" if value == old else "new" if value == new else "broken"

    def litter(self, folder: Path, new: object) -> set[str]:
        """What the writer leaves beside its own files once it runs to its end after a kill. RuntimeError
        where it does not come to the new."""
        self.writer.write(folder)
        if self.writer.read(folder) != new:
            raise RuntimeError(f"{self.writer.name} that runs again after a kill does not end with the new")
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        return files - self.writer.others(folder)


def measure_kills(writer: Writer, work: Path, random_kills: int = RANDOM_KILLS, seed: int = 0) -> dict:
    """Kill a writer at every point and `random_kills` times at random; counts of what was found, as a
    dictionary."""
    kills, count = Kills(writer, work), PROCESSES.Value("i", 0)
    old = writer.read(kills.fresh())
    folder, status, _ = kills.run(count=count)
    if status:
        raise RuntimeError(f"{writer.name} ends with status {status} without being killed")
    new, points, seconds = writer.read(folder), count.value, kills.run()[2]
    at_points, at_random, litter = Counter(), Counter(), set()
    for point in range(points):
        for after in (False, True):
            folder, status, _ = kills.run(point=point, after=after, count=PROCESSES.Value("i", 0))
            if status != -signal.SIGKILL:
                raise RuntimeError(
                    f"{writer.name} was to be killed at call {point} and ended with status {status}"
                )
            at_points[kills.found(folder, old, new)] += 1
            litter |= kills.litter(folder, new)
    rng, tries = random.Random(seed), 0
    while at_random.total() < random_kills and tries < 10 * random_kills:
        tries += 1
        folder, killed = kills.kill_at(rng.uniform(0, seconds))
        if killed:
            at_random[kills.found(folder, old, new)] += 1
            litter |= kills.litter(folder, new)
    return {
        "points": points,
        "at_points": dict(at_points),
        "at_random": dict(at_random),
        "left_after_next_write": sorted(litter),
    }


def measure_pairs(writer: Writer, work: Path, pairs: int = PAIRS) -> dict:
    """Start the writer's pair at once, `pairs` times, with a reader beside them; counts as a dictionary."""
    kills, outcome = Kills(writer, work), Counter()
    readings, broken = PROCESSES.Value("i", 0), PROCESSES.Value("i", 0)
    for _ in range(pairs):
        folder, start, stop = kills.fresh(), PROCESSES.Barrier(4), PROCESSES.Event()
        reader = PROCESSES.Process(target=_reader, args=(writer.name, folder, start, stop, readings, broken))
        reader.start()
        processes = [_begin(writer.name, which, folder, start) for which in (0, 1)]
        start.wait()
        for process in processes:
            process.join()
        stop.set()
        reader.join()
        try:
            both = writer.both(writer.read(folder))
        except (ValueError, OSError):
            outcome["broken"] += 1
        else:
            failed = any(process.exitcode for process in processes)
            outcome["both" if both else "one refused" if failed else "one lost"] += 1
    return {"runs": pairs, **outcome, "readings": readings.value, "broken_readings": broken.value}


def main() -> None:
    """Measure, print, write; writers that are not named keep the numbers they have."""
    import json

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "writers", nargs="*", metavar="WRITER", help=f"of: {'; '.join(WRITERS)} (default: all)"
    )
    names = parser.parse_args().writers or list(WRITERS)
    if unknown := [name for name in names if name not in WRITERS]:
        parser.error(f"there is no writer '{unknown[0]}'; choose of: {'; '.join(WRITERS)}")
    path = RESULTS / "kills.json"
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"writers": {}}
    for name in names:
        with tempfile.TemporaryDirectory() as work:
            figures = measure_kills(WRITERS[name], Path(work))
            if WRITERS[name].pair:
                figures["two_writers"] = measure_pairs(WRITERS[name], Path(work))
        result["writers"][name] = figures
        result["machine"] = describe_machine()
        write_json(path, result)
        print(f"{name}: {figures}", flush=True)


if __name__ == "__main__":
    PROCESSES.set_forkserver_preload(IMPORTED)
    main()
