"""Preparing a full-size capture for training: python benchmarks/full_size.py (about twelve minutes; needs 10
GB of disk).

Writes a capture in NeRSemble's layout into a temporary folder (3208x2200 pixels, 16 cameras, 73 frames a
second; noise that slides past in place of a person), prepares it for training in a process of its own, kills
that process half-way, and lets another one finish. Notes the peak of each process's memory, frames a second,
and which videos were read more than once. Pictures of a person take a different time to decode. Writes
benchmarks/results/full_size.json with machine and versions."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from machine import RESULTS, describe_machine

from raf_lite._files import write_json, write_npz
from raf_lite.captures import Camera, write_video
from raf_lite.captures.formats.nersemble import write_calibration

HEIGHT, WIDTH, RATE = 3208, 2200, 73.0
TARGET_GB = 4.0  # of memory, at most
SEQUENCE = "EXP-1-head"
CACHE_ENV = "RAF_LITE_CACHE"
READ = "read.txt"  # in the cache: a line for each video that any process has begun to read
KILLED = (
    -signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM
)  # the status of a process that was killed
PREPARE = """
import os, signal, sys
from pathlib import Path
from raf_lite.captures import open_capture
from raf_lite.training import PRESETS, TrainingSet, training_set
training_set.MEMORY_BYTES = 0  # to disk, as anything of this size goes; a smaller try-out too
folder, size, videos, log = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
read = training_set._read_video
def read_or_die(capture, sequence, serial, *rest):
    global videos
    videos -= 1
    with log.open("a", encoding="utf-8") as file:
        print(serial, file=file)
    read(capture, sequence, serial, *rest)
    if videos == 0:
        # Before it has noted that this video is done. On Windows SIGTERM ends a process as hard.
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
training_set._read_video = read_or_die
print(*TrainingSet.from_capture(open_capture(folder), PRESETS["fast"].with_(size=size)).images.shape)
"""


def moving_noise(frames: int, height: int, width: int, *, gray: bool = False) -> Iterator[np.ndarray]:
    """A smooth noise that a window slides over, uint8 [H, W, 3], or [H, W] with a mask's two values."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (height // 8 + 2, width // 8 + frames + 2, 3), dtype=np.uint8)
    for frame in range(frames):
        window = (
            coarse[: height // 8 + 1, frame : frame + width // 8 + 1]
            .repeat(8, 0)
            .repeat(8, 1)[:height, :width]
        )
        yield np.where(window[..., 0] > 127, 255, 0).astype(np.uint8) if gray else window


def write_capture(folder: Path, frames: int, cameras: int, height: int, width: int) -> Path:
    """A participant's folder. One camera is encoded; the others' videos are links to it."""
    views = {}
    for index in range(cameras):
        angle = 2 * np.pi * index / cameras / 4
        side, ahead = np.sin(angle), np.cos(angle)
        pose = np.array([[ahead, 0, -side, 0], [0, -1, 0, 0], [-side, 0, -ahead, 1], [0, 0, 0, 1.0]])
        serial = f"2222000{index + 36:02d}"
        focal = 2.5 * height
        views[serial] = Camera(
            serial, pose, np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]), width, height
        )
    write_calibration(folder, views)
    for kind in ("images", "alpha_maps"):
        first, *others = (folder / "sequences" / SEQUENCE / kind / f"cam_{serial}.mp4" for serial in views)
        gray = kind == "alpha_maps"
        write_video(first, moving_noise(frames, height, width, gray=gray), RATE, crf=28, gray=gray)
        for other in others:
            os.link(first, other)
    write_npz(
        folder / "annotations" / f"{SEQUENCE}.npz",
        head_pose=np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1)),
        blendshapes=np.random.default_rng(0).uniform(size=(frames, 52)).astype(np.float32),
    )
    return folder


def videos_read(cache: Path) -> list[str]:
    """Serials of the cameras whose videos were begun so far, in that order; one that was begun twice is there
    twice."""
    return (cache / READ).read_text(encoding="utf-8").split() if (cache / READ).is_file() else []


def prepare(folder: Path, cache: Path, size: int, *, killed_in: int = 0) -> dict:
    """Prepare `folder` in a process of its own, which is killed at the end of its video number `killed_in`
    (from 1; 0: never).

    Returns seconds, peaks of memory in GB, the videos that it read, and the shape of what was prepared.
    Raises RuntimeError with the process's words if it ends otherwise.
    """
    cache.mkdir(exist_ok=True)
    before = len(videos_read(cache))
    start, memory_gb, own_gb = time.perf_counter(), 0.0, 0.0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", PREPARE, str(folder), str(size), str(killed_in), str(cache / READ)],
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, CACHE_ENV: str(cache)},
        )
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                memory = psutil.Process(process.pid).memory_info()
                # Mapped pages of a file count as the process's, though the system takes them back when it
                # needs them.
                own_gb = max(own_gb, (memory.rss - getattr(memory, "shared", 0)) / 1e9)
                memory_gb = max(memory_gb, memory.rss / 1e9)
            time.sleep(0.1)
        seconds = time.perf_counter() - start
        said.seek(0)
        words = said.read()
    if process.returncode != (KILLED if killed_in else 0):
        raise RuntimeError(f"the preparation ended with status {process.returncode}: {words[-2000:]}")
    return {
        "seconds": round(seconds, 1),
        "memory_gb": round(memory_gb, 2),
        "own_gb": round(own_gb, 2),
        "videos": videos_read(cache)[before:],
        "shape": [] if killed_in else [int(number) for number in words.split("\n")[-2].split()],
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--steps", type=int, default=667, help="moments of time (default: 667, of 16 cameras 10,672 frames)"
    )
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument(
        "--size", type=int, default=512, help="of the pictures that training sees (default: 512)"
    )
    parser.add_argument(
        "--scratch", type=Path, help="where the temporary folder goes (default: the system's)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "full_size.json")
    args = parser.parse_args(argv)
    machine = describe_machine()
    with tempfile.TemporaryDirectory(dir=args.scratch) as work:
        start = time.perf_counter()
        folder, cache = (
            write_capture(Path(work) / "007", args.steps, args.cameras, HEIGHT, WIDTH),
            Path(work) / "cache",
        )
        print(
            f"wrote {args.steps} x {args.cameras} frames in {time.perf_counter() - start:.0f} s", flush=True
        )
        killed = prepare(folder, cache, args.size, killed_in=args.cameras // 2)
        print("killed half-way:", killed, flush=True)
        rest = prepare(folder, cache, args.size)
        print("the rest:", rest, flush=True)
        again = prepare(folder, cache, args.size)
        print("once more:", again, flush=True)
        on_disk = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) / 1e9
    result = {
        "pixels": [WIDTH, HEIGHT],
        "prepared": rest["shape"],
        "frames_per_second": round(args.steps * len(rest["videos"]) / rest["seconds"], 1),
        "peak_memory_gb": max(run["memory_gb"] for run in (killed, rest)),
        "peak_own_memory_gb": max(run["own_gb"] for run in (killed, rest)),
        "target_gb": TARGET_GB,
        # The one that was under way at the kill has to be read again; the others not.
        "unfinished_read_again": len(set(killed["videos"][-1:]) & set(rest["videos"])),
        "finished_read_again": len(set(killed["videos"][:-1]) & set(rest["videos"])) + len(again["videos"]),
        "seconds_when_done": again["seconds"],
        "on_disk_gb": round(on_disk, 2),
        "machine": machine,
    }
    for name, value in result.items():
        print(f"{name:<26} {value}")
    write_json(args.out, result)


if __name__ == "__main__":
    main()
