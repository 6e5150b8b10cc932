"""Avatars: trained, driven, graded, filmed, taken elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import OmitArgPrefixes, Positional

from raf_lite.training import PRESETS, TrainConfig

Relative = Literal["mean"] | int | None
Preset = Literal["fast", "cpu", "video", "gpu"]
Matting = Literal["selfie", "multiclass"]


def _taken_out(relative: Relative, neutral: int | None) -> Relative:
    """What --relative and --neutral say together."""
    if relative is not None and neutral is not None:
        raise ValueError(
            "--relative and --neutral both say what is taken out of the driver; give one of them"
        )
    return relative if neutral is None else neutral


def demo(*, out: Path = Path("out/demo")) -> int:
    """Train four avatars from the shipped capture, grade and film them.

    Args:
        out: Where the report goes.
    """
    from raf_lite.course.demo import run

    run(out)
    return 0


def train(
    capture: Positional[Path],
    *,
    out: Path,
    preset: Preset | None = None,
    settings: OmitArgPrefixes[TrainConfig] = PRESETS["cpu"],
    bank: Path | None = None,
    format: str | None = None,
    matting: Matting | None = None,
) -> int:
    """Train an avatar on a capture or on a film of one person, with or without retrieval; resumes.

    A film is encoded and matted first; its last fifth is held out, graded and filmed.

    Args:
        capture: A capture's folder, or a film.
        out: Folder of the avatar.
        preset: Whose numbers the settings below have where they are not given: fast for tests, cpu, video for
            a film on a CPU, or gpu for CUDA; without it, video for a film and cpu for a folder.
        bank: The bank to retrieve from; without it the one that ships, wherever the data are.
        format: The capture's format; without it, what the folder looks like.
        matting: Which segmenter finds a film's person: selfie, or multiclass, which tells hair, skin and
            clothes apart and leaves clothes out of the head; without it selfie.
    """
    from raf_lite.bank import ExpressionBank
    from raf_lite.captures import open_capture
    from raf_lite.manifest import find_data
    from raf_lite.training import Trainer, TrainingSet

    if matting is not None and not capture.is_file():
        raise ValueError(f"--matting is for films, and {capture} is none; leave it out")

    expressions = None
    if settings.retrieval:
        expressions = ExpressionBank.load(bank or find_data() / "bank", descriptor=settings.descriptor)
    if capture.is_file():
        from raf_lite.course.own_video import train_video

        own = train_video(capture, out, settings, bank=expressions, matting=matting or "selfie")
        print(own.table.T.to_string(float_format="{:.3f}".format))
        print(f"the avatar is {own.path}, the film of what was held out {own.film}")
        return 0
    data = TrainingSet.from_capture(open_capture(capture, format=format), settings)
    Trainer(data, settings, out, bank=expressions).train(resume=True)
    print(f"the avatar is {out / 'avatar.safetensors'}")
    return 0


def drive(
    avatar: Positional[Path],
    video: Positional[Path],
    *,
    out: Path = Path("out/driven.mp4"),
    size: int = 384,
    hold_head: bool = False,
    relative: Relative = None,
    neutral: int | None = None,
) -> int:
    """Film an avatar driven by a video, beside it.

    Args:
        avatar: Its avatar.safetensors.
        video: The driver; encoded first, unless it is.
        out: The film.
        size: Pixels a side of each panel.
        hold_head: The avatar looks straight ahead.
        relative: Take out the driver's mean, or the neutral frame of this number, and put the avatar's own
            in; without it what the avatar's form asks for.
        neutral: The driver's neutral frame, the same as its number for --relative.
    """
    from raf_lite.avatar import GaussianAvatar
    from raf_lite.descriptors.encode_video import find_encoding
    from raf_lite.viewing import drive_video

    print(
        drive_video(
            GaussianAvatar.load(avatar),
            video,
            find_encoding(video),
            out,
            size=size,
            relative=_taken_out(relative, neutral),
            hold_head=hold_head,
        )
    )
    return 0


def evaluate(
    avatar: Positional[Path],
    others: Positional[tuple[Path, ...]] = (),
    *,
    capture: Path,
    drivers: tuple[Path, ...] = (),
    out: Path = Path("out/metrics.json"),
    size: int = 256,
    frame_step: int = 2,
) -> int:
    """Grade avatars of one person on frames that training never saw, side by side.

    Args:
        avatar: The baseline's avatar.safetensors.
        others: Those of avatars to compare with it.
        capture: The person's capture.
        drivers: Captures of the people whose expressions the capture's CROSS sequences show.
        out: The table as JSON, also by sequence.
        size: Pixels a side at which avatars are rendered; pictures are compared at half of it.
        frame_step: Every how many frames one is graded; of training sequences six times fewer.
    """
    from raf_lite.avatar.loading import load_avatars
    from raf_lite.captures import open_capture
    from raf_lite.descriptors.mediapipe import encoder_if_possible
    from raf_lite.evaluation import evaluate, networks_at_hand

    acting = {driver.subject: driver for driver in map(open_capture, drivers)}
    table = evaluate(
        load_avatars([avatar, *others]),
        open_capture(capture),
        acting,
        size=size,
        out=out,
        encoder=encoder_if_possible(),
        networks=networks_at_hand(),
        frame_step=frame_step,
    )
    print(table.to_string(float_format="{:.3f}".format))
    print(f"the numbers are {out}")
    return 0


def video(
    avatar: Positional[Path],
    others: Positional[tuple[Path, ...]] = (),
    *,
    capture: Path,
    drivers: tuple[Path, ...],
    out: Path = Path("out/comparison.mp4"),
    sequence: str = "FREE",
    size: int = 256,
    frames: int | None = None,
) -> int:
    """Film avatars of one person beside their drivers and the exact answers.

    Args:
        avatar: Its avatar.safetensors.
        others: Those of avatars to show beside it.
        capture: The person's capture, with a CROSS sequence of each driver.
        drivers: The drivers' captures.
        out: The film, at most 5 MB.
        sequence: What the drivers act.
        size: Pixels a side of each panel.
        frames: How many of each driver; without it all.
    """
    from raf_lite.avatar.loading import load_avatars
    from raf_lite.captures import open_capture
    from raf_lite.viewing import comparison_video

    acting = {driver.subject: driver for driver in map(open_capture, drivers)}
    print(
        comparison_video(
            out,
            load_avatars([avatar, *others]),
            open_capture(capture),
            acting,
            size=size,
            sequence=sequence,
            frames=slice(frames),
        )
    )
    return 0


def export(
    avatar: Positional[Path],
    others: Positional[tuple[Path, ...]] = (),
    *,
    ply: Path | None = None,
    glb: Path | None = None,
    basis: Path | None = None,
    sequence: Path | None = None,
    player: Path | None = None,
    video: Path | None = None,
    frame: int | None = None,
    relative: Relative = None,
    neutral: int | None = None,
) -> int:
    """Write an avatar as files that other programs open, or as one page that plays it.

    Args:
        avatar: Its avatar.safetensors.
        others: More of them, for --player only.
        ply: One expression as 3DGS PLY.
        glb: One expression as glTF with KHR_gaussian_splatting.
        basis: The learned basis, under this name with .safetensors and with .json.
        sequence: A folder with a PLY for each frame of the video.
        player: An HTML page that works without a server or a network.
        video: Whose expressions it shows, encoded first, unless it is; without it the avatar's neutral one.
        frame: Of the video, for --ply and --glb; without it 0.
        relative: Take out the video's mean, or its neutral frame of this number, and put the avatar's own
            in; without it what the avatar's form asks for.
        neutral: The video's neutral frame, the same as its number for --relative.
    """
    from raf_lite.avatar.loading import load_avatars
    from raf_lite.descriptors.encode_video import find_encoding
    from raf_lite.export import Driver, export_avatars

    relative = _taken_out(relative, neutral)
    if video is None and (frame is not None or relative is not None):
        raise ValueError(
            "--frame, --relative and --neutral say what is taken from a video; name it with --video"
        )
    driver = Driver(video.stem, find_encoding(video), relative, frame or 0) if video else None
    print(
        *export_avatars(
            load_avatars([avatar, *others], "cpu"),
            ply=ply,
            glb=glb,
            basis=basis,
            sequence=sequence,
            player=player,
            driver=driver,
        ),
        sep="\n",
    )
    return 0


def submit(
    avatar: Positional[Path],
    capture: Positional[Path],
    others: Positional[tuple[tuple[Path, Path], ...]] = (),
    *,
    out: Path = Path("out/submission.zip"),
) -> int:
    """Write the NeRSemble benchmark's zip for its monocular task.

    Args:
        avatar: One person's avatar.safetensors.
        capture: That person's capture.
        others: An avatar and its capture for each further person, one after the other.
        out: The zip.
    """
    from raf_lite.avatar import GaussianAvatar
    from raf_lite.captures import open_capture
    from raf_lite.captures.submission import check_submission
    from raf_lite.evaluation.submission import submit_avatars

    people = [(GaussianAvatar.load(one), open_capture(own)) for one, own in ((avatar, capture), *others)]
    print(submit_avatars(out, people))
    for problem in check_submission(out):
        print(f"not complete yet: {problem}")
    return 0
