"""Kill writers and let them race: python benchmarks/kills.py [WRITER ...] (about a minute a writer; needs a
POSIX system).

Every writer of WRITERS replaces something old by something new, in a process that is ended with SIGKILL:
right before and right after each flush, rename and deletion that it does, and at random moments, RANDOM_KILLS
times. What is left is opened as a user would: it must be the old or the new, whole. Then the writer runs
again to its end, after which only files of the new may be left. For those that two processes may run at once,
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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import RESULTS, describe_machine

from raf_lite._files import read_npz, write_json, write_npz
from raf_lite.bank import ExpressionBank, add_donor, encode_thumbnail

RANDOM_KILLS, PAIRS = 50, 20
CALLS = ("fsync", "replace", "unlink")  # of `os`: where what is on the disk changes
# A server that has imported everything and from which each process is forked: no process pays for the imports
# again.
PROCESSES = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Writer:
    """One way to replace something in a folder."""

    name: str
    old: Callable[[Path], object]
    """Write what is there before."""
    write: Callable[[Path], object]
    """Replace it."""
    read: Callable[[Path], object]
    """What is there, as a value that can be compared; raises ValueError or OSError where it is broken."""
    others: Callable[[Path], set[str]]
    """Names of the files in the folder that belong to what is there."""
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
        """ "old", "new" or "broken"."""
        with suppress(ValueError, OSError):
            value = self.writer.read(folder)
            return "old" if value == old else "new" if value == new else "broken"
        return "broken"

    def litter(self, folder: Path) -> set[str]:
        """What the writer leaves beside its own files once it runs to its end after a kill."""
        self.writer.write(folder)
        return {path.name for path in folder.iterdir()} - self.writer.others(folder)


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
            litter |= kills.litter(folder)
    rng, tries = random.Random(seed), 0
    while at_random.total() < random_kills and tries < 10 * random_kills:
        tries += 1
        folder, killed = kills.kill_at(rng.uniform(0, seconds))
        if killed:
            at_random[kills.found(folder, old, new)] += 1
            litter |= kills.litter(folder)
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
    PROCESSES.set_forkserver_preload(["raf_lite.bank", "raf_lite._machine"])
    main()
