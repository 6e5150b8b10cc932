"""Runs a plan in worker processes. A finished run is a line on disk at once; what is on disk is not run
again."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from raf_lite._files import parse_json
from raf_lite._machine import describe_machine
from raf_lite.study.people import SUBJECTS, is_rendered, prepare
from raf_lite.study.plans import plan
from raf_lite.study.runs import RunSpec, noise_floor, run

if TYPE_CHECKING:
    from raf_lite.descriptors import MediaPipeEncoder
    from raf_lite.evaluation.networks import Networks

RESULTS = Path("benchmarks/results/study")
_ONE_THREAD = {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def read_lines(folder: Path) -> Iterator[dict]:
    """Every line of every plan's file, in the order of file names. ValueError names a line that is no JSON
    object with a key.

    A last line without its end, which a killed run leaves, is skipped: that run is done again.
    """
    for path in sorted(folder.glob("*.jsonl")):
        if not path.is_file():
            raise ValueError(f"{path} is no file; remove it")
        for number, text in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
            where, mend = f"{path} line {number}", "delete that line and run the plan again"
            line = parse_json(text, dict, where, mend)
            if not isinstance(line.get("key"), str):
                raise ValueError(f"{where} does not say which run it is; {mend}")
            yield line


def append_line(path: Path, line: dict) -> None:
    """Add one line and put it on disk; a half line that a killed run left is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as f:
        f.seek(0)
        whole = f.read()
        f.truncate(whole.rfind(b"\n") + 1)
        f.seek(0, os.SEEK_END)
        f.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        f.flush()
        os.fsync(f.fileno())


@cache
def _encoder() -> MediaPipeEncoder:
    from raf_lite.descriptors import MediaPipeEncoder

    return MediaPipeEncoder()


@cache
def _networks() -> Networks:
    from raf_lite.evaluation import networks_at_hand

    return networks_at_hand()


def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)  # a run a core beats a run on all of them


def _do(spec: RunSpec) -> dict:
    return run(spec, _encoder(), _networks()) | {"machine": describe_machine()}


@contextlib.contextmanager
def one_thread_workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes of one thread each; a failure or Ctrl-C drops what has not begun."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    pool = ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_one_torch_thread
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def render_people(needed: Iterable[tuple[str, int]], jobs: int) -> None:
    """Render recordings (kind, person) that the cache lacks, drivers first."""
    missing = [n for n in dict.fromkeys(needed) if not is_rendered(*n)]
    for stage in ([n for n in missing if n[0] == "driver"], [n for n in missing if n[0] != "driver"]):
        if stage:
            with one_thread_workers(jobs) as pool:
                futures = [pool.submit(prepare, *n) for n in stage]
                for future in tqdm(as_completed(futures), total=len(futures), desc="rendering people"):
                    future.result()


def execute(name: str, folder: Path = RESULTS, jobs: int = 2, most: int | None = None) -> int:
    """Do the runs of a plan that no file in `folder` has yet; returns how many are left.

    most: stop after so many runs. Needs the rig and MediaPipe. May be stopped at any time; the same call goes
    on.
    """
    done = {line["key"] for line in read_lines(folder)}
    waiting = [spec for spec in plan(name, folder) if spec.key not in done]
    todo = waiting[:most]
    if not todo:
        return len(waiting)
    render_people((n for spec in todo for n in spec.needs()), jobs)
    floors = {f"{s} noise floor": s for s in dict.fromkeys(spec.subject for spec in todo)}
    for key, subject in floors.items():
        if key not in done:
            append_line(folder / "noise_floor.jsonl", noise_floor(subject))
    with one_thread_workers(jobs) as pool:
        futures = {pool.submit(_do, spec): spec for spec in todo}
        for future in tqdm(as_completed(futures), total=len(todo), desc=f"study {name}"):
            append_line(folder / f"{name}.jsonl", future.result())
    return len(waiting) - len(todo)


def grade_retrieval(folder: Path = RESULTS, jobs: int = 2) -> None:
    """What retrieval finds for the confirmation subjects, a line a descriptor; lines that are there are
    kept."""
    from raf_lite.study.descriptors import DESCRIPTORS
    from raf_lite.study.retrieval_quality import quality_line

    role = "confirmation"
    done = {line["key"] for line in read_lines(folder)}
    todo = [d for d in DESCRIPTORS if f"retrieval {d} {role}" not in done]
    render_people((("training", s) for s in SUBJECTS[role]), jobs)
    for descriptor in tqdm(todo, desc="grading retrieval"):
        append_line(folder / "retrieval.jsonl", quality_line(descriptor, role))


def status(folder: Path = RESULTS) -> dict[str, tuple[int, int]]:
    """Plan -> (runs done, runs in all); a plan that waits for the selection is left out."""
    from raf_lite.study.plans import PLANS

    done = {line["key"] for line in read_lines(folder)}
    out = {}
    for name in PLANS:
        try:
            specs = plan(name, folder)
        except ValueError:
            continue
        out[name] = (sum(spec.key in done for spec in specs), len(specs))
    return out
