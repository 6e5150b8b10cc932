"""Does retrieval help on films of real people?

    python benchmarks/real_retrieval.py FOLDER [CLIP ...]

FOLDER holds films, one person each, of anybody who agreed, at least two: what is retrieved for one is taken
from the others. Encodings and mattes are written beside them. Only numbers go into
benchmarks/results/real_retrieval: a line a run, at once; what has a line is not run again, so the same
command goes on after a stop. No picture of anybody is part of this project.

Plans, each a list of `Run`s in this file; the most telling come first, and each stage is done for all people
before the next:

- real: the last 30 % of a film held out; each setting of retrieval, its matched noise, random rows.
- missing: the same with one expression held out and missing from training (`real_films.missing_expression`).
- prior: landmarks with and without the motion prior, for both.

Beside them `neighbours` judges what is retrieved (`real_neighbours.py`), and `report` writes report.md from
the lines alone (`real_retrieval_report.py`). --only does one of these.

An avatar has the settings of the preset "video" and seed 0. It is graded as `benchmarks/real_people.py` does,
tracked and aligned, LPIPS by AlexNet alone, and then driven by the next film's person, for which there is no
truth: `driven` has

- aed: its blendshapes against the driver's, mean absolute difference; aed_moves: the same, each minus the
  mean over these frames, so that two faces' shapes have no say;
- jitter: its landmarks' mean second difference over the driver's own;
- identity_own, identity_driven, identity_kept: as `real_people.py` has them, where that network is at hand.

On one core beside two busy ones a run of 216 frames took 58 to 79 s, somewhat more than half of it grading.
The same run gives the same numbers, in another process and after other runs too; with other last bits they
were .03 dB over the face and 4 % of the landmarks away (d18), as with another seed they might be.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path

import raf_lite  # noqa: F401  (first: it sets torch's threads to wait without spinning)

# isort: split
import numpy as np
from machine import RESULTS, describe_machine
from real_films import BANKS, cut_out, film_landmarks, gap, rows_for
from real_neighbours import neighbours_line
from real_people import DRIVEN, HELD_OUT, films_in, from_the_front, graded, identity, jitter
from real_retrieval_report import write_report

from raf_lite.avatar import GaussianAvatar, driven_by
from raf_lite.bank import ExpressionBank
from raf_lite.captures import Capture
from raf_lite.course.film_frames import FilmFrames, require_both
from raf_lite.course.own_video import GRADED, NAME, open_own, used_frames
from raf_lite.descriptors import MediaPipeEncoder
from raf_lite.descriptors.encode_video import VideoDetections, find_encoding
from raf_lite.descriptors.forms import capture_descriptors
from raf_lite.evaluation import evaluate, networks_at_hand
from raf_lite.evaluation.networks import Networks
from raf_lite.study.execute import append_line, one_thread_workers, read_lines
from raf_lite.study.variants import matched_noise
from raf_lite.training import PRESETS, TrainConfig, Trainer, TrainingSet

# Landmarks minus the own mean have nothing left to centre: "centred" would find the rows of "paper-k16".
RETRIEVED = {"blendshapes": ("paper-k16", "centred"), "landmarks-mean": ("paper-k16",)}
RANDOM = "paper-k16-random"  # random rows do not depend on the key
STAGES = (
    (0.2, "others"),
    (0.5, "others"),
    (0.2, "rendered"),
    (0.2, "both"),
    (0.5, "rendered"),
    (0.5, "both"),
)


@dataclass(frozen=True)
class Run:
    """One avatar. Runs that differ in variant, p and bank alone see the same frames in the same order.

    clip: the film's name without its ending. descriptor: "blendshapes", as the paper's are and with nothing
    under the field, or "landmarks-mean", which Gaussians ride on. variant: "none" or a name of
    `raf_lite.retrieval.SETTINGS`, with p and one of BANKS. cut: what is held out, the "end" or an expression
    that is "missing" from training. prior: with the motion prior.
    """

    clip: str
    descriptor: str
    variant: str = "none"
    p: float = 0.0
    bank: str = "none"
    cut: str = "end"
    prior: bool = False

    @property
    def key(self) -> str:
        """Names the run."""
        retrieval = "none" if self.variant == "none" else f"{self.variant} p{self.p:g} {self.bank}"
        return f"{self.clip} {self.descriptor} {retrieval} {self.cut}{' prior' if self.prior else ''}"

    @property
    def settings(self) -> TrainConfig:
        """What the trainer is given."""
        variant = None if self.variant == "none" else self.variant
        return PRESETS["video"].with_(
            descriptor=self.descriptor, prior=self.prior, retrieval=variant, retrieval_p=self.p
        )


def stages(clips: Iterable[str], cut: str) -> list[Run]:
    """Without retrieval, then stage by stage each setting, its matched noise and random rows: all people in
    each."""
    clips = list(clips)
    runs = [Run(clip, descriptor, cut=cut) for clip in clips for descriptor in RETRIEVED]
    for p, bank in STAGES:
        for clip in clips:
            for descriptor, settings in RETRIEVED.items():
                variants = [v for setting in settings for v in (setting, matched_noise(setting))]
                runs += [Run(clip, descriptor, v, p, bank, cut) for v in (*variants, RANDOM)]
    return runs


PLANS: dict[str, Callable[[list[str]], list[Run]]] = {
    "real": lambda clips: stages(clips, "end"),
    "missing": lambda clips: stages(clips, "missing"),
    "prior": lambda clips: [
        Run(clip, "landmarks-mean", cut=cut, prior=prior)
        for cut in ("end", "missing")
        for clip in clips
        for prior in (False, True)
    ],
}


@cache
def encodings(folder: Path) -> dict[str, VideoDetections]:
    """Of every film of a folder, by its name."""
    return {film.stem: find_encoding(film, progress=False) for film in films_in(folder)}


@lru_cache(maxsize=4)  # a stage of one person asks for as many
def bank_for(folder: Path, clip: str, bank: str, descriptor: str) -> ExpressionBank:
    """One of BANKS for a film, in a descriptor's form."""
    return rows_for(clip, encodings(folder), bank).bank(descriptor)


@lru_cache(maxsize=2)  # both descriptors of one person: runs come in the order of people
def opened(
    folder: Path, clip: str, cut: str, descriptor: str, out: Path
) -> tuple[Capture, TrainingSet, FilmFrames]:
    """A film's frames of use as a capture, and those that are trained on. Raises as `used_frames` and
    `cut_out`."""
    (film,) = (f for f in films_in(folder) if f.stem == clip)
    seen, settings = encodings(folder)[clip], Run(clip, descriptor).settings
    frames = used_frames(film, seen, out / clip, settings.size, held_out=HELD_OUT, progress=False)
    if cut == "missing":
        frames = cut_out(frames, film_landmarks(seen))
        require_both(frames, film)
    capture = open_own(film, seen, settings.size, frames)
    return capture, TrainingSet.from_capture(capture, settings, progress=False), frames


@cache
def judges() -> tuple[MediaPipeEncoder, Networks]:
    """Who looks at pictures; of LPIPS the small network alone: with VGG's it took a quarter of a run."""
    networks = networks_at_hand()
    return MediaPipeEncoder(), replace(
        networks, lpips={net: lpips for net, lpips in networks.lpips.items() if net == "alex"}
    )


def driven_errors(avatar: GaussianAvatar, capture: Capture, driver: VideoDetections) -> dict[str, float]:
    """`driven` of the first DRIVEN frames of a driver, as far as a face was found."""
    encoder, networks = judges()
    pictures = from_the_front(avatar, driven_by(avatar, driver)[:DRIVEN])
    seen, acted = encoder.detect(pictures), driver.blendshapes[:DRIVEN]
    both = np.isfinite(seen.blendshapes).all(1) & np.isfinite(acted).all(1)
    shown, acted = seen.blendshapes[both], acted[both]
    out = {
        "aed": round(float(np.abs(shown - acted).mean()), 5),
        "aed_moves": round(float(np.abs((shown - shown.mean(0)) - (acted - acted.mean(0))).mean()), 5),
        "jitter": jitter(seen.landmarks, driver.landmarks[:DRIVEN]),
    }
    if networks.identity is not None:
        (sequence,) = capture.split().holdout_sequences
        values = capture_descriptors(capture, sequence, avatar.descriptor)
        found = np.flatnonzero(np.isfinite(values).all(1))
        found = found[:: max(1, len(found) // 20)]
        truth = capture.over_white(sequence, capture.encoder_camera, found)
        out |= identity(from_the_front(avatar, values[found]), pictures, truth, networks.identity, encoder)
    return {name: value for name, value in out.items() if value is not None and np.isfinite(value)}


def train_and_grade(run: Run, folder: Path, out: Path) -> dict:
    """What a run's line says beside its key; its avatar is not kept."""
    capture, data, frames = opened(folder, run.clip, run.cut, run.descriptor, out)
    bank = None if run.variant == "none" else bank_for(folder, run.clip, run.bank, run.descriptor)
    films, (encoder, networks) = encodings(folder), judges()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        avatar = Trainer(data, run.settings, scratch, bank=bank, progress=False).train()
    trained = time.perf_counter()
    (sequence,) = capture.split().holdout_sequences
    table = evaluate(
        {NAME: avatar},
        capture,
        {},
        size=max(data.images.shape[2:4]),
        encoder=encoder,
        networks=networks,
        frame_step=max(1, capture.n_frames(sequence) // GRADED),
        align=True,
        progress=False,
    )
    names = list(films)
    driver = films[names[(names.index(run.clip) + 1) % len(names)]]
    return {
        "frames": {
            "trained": len(frames.trained),
            "held_out": len(frames.held_out),
            "gap": round(gap(frames, film_landmarks(films[run.clip])), 3),
        },
        "outcomes": graded(table) | {"driven": driven_errors(avatar, capture, driver)},
        "seconds": {"train": round(trained - begun, 1), "grade": round(time.perf_counter() - trained, 1)},
        "machine": describe_machine(),
        "settings": run.settings.as_dict(),
    }


def line_of(run: Run, folder: Path, out: Path) -> dict:
    """A run's line; of one that cannot be done, `failed` and why."""
    line = {"key": run.key, "spec": asdict(run)}
    try:
        return line | train_and_grade(run, folder, out)
    except ValueError as error:
        return line | {"failed": str(error)}


def execute(name: str, runs: list[Run], results: Path, do: Callable[[Run], dict], jobs: int) -> int:
    """Do the runs that no line in `results` has, each appended to the plan's file as soon as it is done;
    returns how many there were."""
    done = {line["key"] for line in read_lines(results)}
    todo = [run for run in runs if run.key not in done]
    with one_thread_workers(jobs) if jobs > 1 else contextlib.nullcontext() as pool:
        if pool is None:
            lines = map(do, todo)
        else:
            lines = (future.result() for future in as_completed([pool.submit(do, run) for run in todo]))
        for n, line in enumerate(lines, 1):
            append_line(results / f"{name}.jsonl", line)
            print(
                f"{name} {n}/{len(todo)}: {line['key']} {line.get('failed', line.get('seconds'))}", flush=True
            )
    return len(todo)


def judge_neighbours(folder: Path, clips: list[str], results: Path) -> None:
    """The lines of `neighbours` that are not there."""
    done = {line["key"] for line in read_lines(results)}
    for clip in clips:
        for bank in BANKS:
            for descriptor, settings in RETRIEVED.items():
                if f"neighbours {clip} {descriptor} {bank}" not in done:
                    line = neighbours_line(clip, descriptor, bank, encodings(folder), settings)
                    append_line(results / "neighbours.jsonl", line)


def main() -> None:
    """All of it, or what --only names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="not needed for --only report")
    parser.add_argument("clips", nargs="*", help="names without ending; default: all films")
    parser.add_argument("--only", choices=("neighbours", *PLANS, "report"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on a core")
    parser.add_argument("--out", type=Path, default=Path("out/real_retrieval"))
    parser.add_argument("--results", type=Path, default=RESULTS / "real_retrieval")
    args = parser.parse_intermixed_args()
    if args.only != "report":
        if args.folder is None:
            parser.error("name the folder of the films")
        films = [film.stem for film in films_in(args.folder)]
        clips = [clip for clip in films if not args.clips or clip in args.clips]
        if len(films) < 2 or not clips:
            raise SystemExit(
                f"{args.folder} has {', '.join(films)}; name some of them, and have two at least"
            )
        if args.only in (None, "neighbours"):
            judge_neighbours(args.folder, clips, args.results)
        for name, plan in PLANS.items():
            if args.only in (None, name):
                do = partial(line_of, folder=args.folder, out=args.out)
                execute(name, plan(clips), args.results, do, args.jobs)
    write_report(args.results)


if __name__ == "__main__":
    main()
