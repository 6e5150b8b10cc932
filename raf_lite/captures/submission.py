"""The zip that the NeRSemble benchmark takes for its monocular task ("mono FLAME avatar"), written and
checked.

    {pid:03d}/{SEQ}/cam_{serial}.mp4     512x512 pixels, 24.3 frames a second, x264 at crf 14

Of each of five people, four hold-out sequences are asked for, each from four cameras: the one that trains and
the three that are held out. The rules are those of the reader and writer in `nersemble_benchmark` 0.2.0 on
PyPI. How many frames each sequence has is known to the benchmark's server, and to whoever has its tracking of
the hold-out sequences; here the caller says it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from raf_lite._files import DAMAGE, atomic_path
from raf_lite._names import file_name
from raf_lite.captures.video import probe_video, write_video

# nersemble_benchmark.constants: BENCHMARK_MONO_FLAME_AVATAR_IDS, _SEQUENCES_TEST, _SERIALS; size, rate and
# crf from its writer.
PARTICIPANTS = (393, 404, 461, 477, 486)
SEQUENCES = ("FREE", "EMO-1-shout+laugh", "SEN-09-frown_events_bad", "SEN-10-port_strong_smokey")
CAMERAS = ("222200037", "222200046", "220700191", "222200039")
SIZE, FPS, CRF = 512, 24.3, 14
MOST_VIDEO_BYTES = 1 << 30  # ten minutes at this size and quality


def video_name(participant: int, sequence: str, serial: str) -> str:
    """Where a video lies in the zip. Raises ValueError for a sequence or serial that would lie elsewhere."""
    return f"{participant:03d}/{file_name(sequence, 'a sequence')}/cam_{file_name(serial, 'a camera')}.mp4"


def write_submission(
    path: str | os.PathLike,
    videos: Mapping[tuple[int, str, str], Iterable[np.ndarray]],
    frames: Mapping[tuple[int, str], int],
) -> Path:
    """Encode videos into a zip, atomically; the same pictures give the same bytes. Memory holds one video,
    compressed.

    videos: {(participant, sequence, serial): uint8 [512, 512, 3] sRGB pictures, in time order}; any iterable,
    also one that renders as it goes. frames: {(participant, sequence): how many frames are asked for}; each
    needs a video from each of CAMERAS.

    Raises ValueError that names participant, sequence and camera: a video that is missing or not asked for, a
    picture of another shape or dtype, more or fewer pictures than asked for.
    """
    path = Path(path)
    asked = {
        (participant, sequence, serial): count
        for (participant, sequence), count in frames.items()
        for serial in CAMERAS
    }
    for key in asked:
        if key not in videos:
            raise ValueError(
                f"{_named(*key)} is missing; every sequence needs a video from each of {', '.join(CAMERAS)}"
            )
    for key in videos:
        if key not in asked:
            raise ValueError(
                f"{_named(*key)} is not asked for; leave it out, or say in `frames` how many frames it has"
            )
    with (
        atomic_path(path) as tmp,
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(tmp, "w") as archive,
    ):
        video = Path(folder, "video.mp4")
        for key, count in asked.items():
            write_video(video, _checked(videos[key], count, _named(*key)), FPS, crf=CRF)
            # A fixed date; and stored, since H.264 does not shrink further.
            archive.writestr(zipfile.ZipInfo(video_name(*key)), video.read_bytes())
    return path


def check_submission(
    path: str | os.PathLike, frames: Mapping[tuple[int, str], int] | None = None
) -> list[str]:
    """What is wrong with a zip, a sentence a video; empty when it can be handed in.

    frames: as in `write_submission`. None for all that the benchmark asks for; a sequence's cameras must then
    have equally many. Other files in the zip do no harm, as in the benchmark's reader. Raises
    FileNotFoundError, or ValueError for what is no zip."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no submission {path}; write one with raf-lite submit, or correct the path"
        )
    wanted = dict.fromkeys((participant, sequence) for participant in PARTICIPANTS for sequence in SEQUENCES)
    wanted = wanted if frames is None else dict(frames)
    problems = []
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            for (participant, sequence), count in wanted.items():
                for serial in CAMERAS:
                    name = _named(participant, sequence, serial)
                    try:
                        video = Path(folder, "video.mp4")
                        member = archive.getinfo(video_name(participant, sequence, serial))
                        # H.264 does not shrink, so what unpacks to far more than it has here is no video.
                        if member.file_size > min(MOST_VIDEO_BYTES, 2 * path.stat().st_size):
                            raise ValueError(f"{member.file_size} bytes")
                        with archive.open(member) as stored, open(video, "wb") as file:
                            shutil.copyfileobj(stored, file)  # compares its checksum at the end
                        info = probe_video(video)
                    except KeyError:
                        problems.append(f"{name} is missing; add {video_name(participant, sequence, serial)}")
                        continue
                    except DAMAGE:
                        problems.append(f"{name} cannot be read as a video; write the submission again")
                        continue
                    if (info.width, info.height) != (SIZE, SIZE):
                        problems.append(
                            f"{name} is {info.width}x{info.height} (WxH); render it at {SIZE}x{SIZE}"
                        )
                    count = info.frames if count is None else count
                    if info.frames != count:
                        problems.append(
                            f"{name} has {info.frames} frames where {count} are asked for; render the whole"
                            " sequence"
                        )
    except DAMAGE as error:
        raise ValueError(f"{path} is no zip ({type(error).__name__}); write the submission again") from error
    return problems


def _named(participant: int, sequence: str, serial: str) -> str:
    return f"the video of participant {participant}, sequence {sequence}, camera {serial}"


def _checked(pictures: Iterable[np.ndarray], count: int, name: str) -> Iterator[np.ndarray]:
    """The pictures, as long as they are what the benchmark takes."""
    number = 0
    for number, picture in enumerate(pictures, 1):
        if picture.dtype != np.uint8 or picture.shape != (SIZE, SIZE, 3):
            raise ValueError(
                f"frame {number - 1} of {name} is {picture.dtype} {list(picture.shape)}; give uint8 "
                f"{[SIZE, SIZE, 3]}"
            )
        if number > count:
            break
        yield picture
    if number != count:
        found = "more" if number > count else number
        raise ValueError(
            f"{name} has {found} frames where {count} are asked for; render the whole sequence and no more"
        )
