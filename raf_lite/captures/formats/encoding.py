"""The encoding of a film or of a folder of images: where it lies, and whether it was made from what lies
there now.

    clip.mp4.encoding.npz       beside clip.mp4; phone.encoding.npz beside the folder phone
    clip.encoding.npz           the name that older versions gave: read where the other is not there

An encoding says what it was made from, in the words of `raf_lite.captures.origin`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from raf_lite._files import read_npz
from raf_lite._names import VIDEOS as VIDEOS
from raf_lite.captures.origin import ORIGIN, is_made_from
from raf_lite.captures.video import count_frames

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def encoding_file(path: Path) -> Path:
    """Where the encoding of a film or folder is written: beside it, under its whole name."""
    path = path.resolve() if path.name in ("", "..") else path
    return path.parent / f"{path.name}.encoding.npz"


def found_encoding(path: Path) -> Path | None:
    """The encoding beside a film or folder, also under the name of older versions; None where there is
    none."""
    files = [encoding_file(path)] + [path.parent / f"{path.stem}.encoding.npz"] * path.is_file()
    return next((file for file in files if file.is_file()), None)


def picture_files(path: Path) -> list[Path]:
    """What an encoding of `path` is made from: the film itself, or the images that lie in the folder, by
    name."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in IMAGES)


def encoding_problem(path: Path, file: Path) -> str | None:
    """Why the encoding `file` is not one of the film or folder `path` as it is now, in words; None if it is.

    One of an older version says nothing of its source: it is believed where it is younger than the pictures,
    has as many frames, and no other film beside it bears the name. Raises as `read_npz` for a damaged one.
    """
    files = picture_files(path)
    read = read_npz(file, ("face_found",), optional=ORIGIN, mend=f"encode {path} again")
    if len(read) == 3:
        return (
            None if is_made_from(files, read) else f"{file} was made from other pictures than those of {path}"
        )
    twins = [other.name for other in _twins(path) if file != encoding_file(path)]
    if twins:
        return f"{file} does not say whether it was made from {path.name} or from {twins[0]}"
    if file.stat().st_mtime_ns < max(f.stat().st_mtime_ns for f in files):
        return f"{file} does not say what it was made from, and is older than {path}"
    frames = count_frames(path) if path.is_file() else len(files)
    if read["face_found"].size != frames:
        return f"{file} has {read['face_found'].size} frames and {path} has {frames}"
    return None


def _twins(path: Path) -> Iterable[Path]:
    """Other films beside `path` that differ from it in the ending only."""
    if not path.is_file():
        return []
    return (
        file
        for file in path.parent.iterdir()
        if file.stem == path.stem and file.suffix.lower() in VIDEOS and file.name != path.name
    )
