"""A button that records one's own camera into a file beside the notebook; the recording goes to the kernel
and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import anywidget
import traitlets

from raf_lite._files import atomic_path
from raf_lite.captures.video import probe_video

MOST_SECONDS = 60
MOST_BYTES = 64 << 20  # a minute at the bit rate that webcam.js asks for is half of it
TYPES = {"video/webm": ".webm", "video/mp4": ".mp4"}  # what browsers record


def camera_script(name: str) -> str:
    """The code of a widget in this folder that uses the camera, with camera.js in front of it: a widget is
    one module."""
    return "".join(Path(__file__).with_name(file).read_text(encoding="utf-8") for file in ("camera.js", name))


class Webcam(anywidget.AnyWidget):
    """Made by `webcam`. `path` is where a recording goes, `saved` says whether one is there that was made by
    this widget."""

    _esm = camera_script("webcam.js")
    seconds = traitlets.Int().tag(sync=True)

    def __init__(self, path: Path, seconds: int) -> None:
        super().__init__(seconds=seconds)
        self.path, self.saved = path, False
        self._parts: list[bytes] = []
        self.on_msg(self._received)

    def __repr__(self) -> str:
        """What is shown where widgets are not: at most 110 characters, which is all that ipywidgets 7
        prints."""
        return (
            "No widgets here, so no recording: film with a phone or a camera app, and give the file's path."
        )

    def _received(self, _widget: Webcam, content: dict, buffers: list) -> None:
        """One part of a recording, in order; with the last one the file is written. Answers with a sentence
        either way."""
        try:
            text = self._take(content, buffers)
        except (ValueError, OSError) as error:
            self._parts, text = [], f"Not saved: {error}"
        if text:
            self.send({"text": text})

    def _take(self, content: dict, buffers: list) -> str:
        """ "" while parts are missing. Raises ValueError, a sentence for the learner."""
        part, parts, size, kind = (content.get(name) for name in ("part", "parts", "size", "type"))
        if kind not in TYPES:
            raise ValueError(
                f"the browser recorded '{kind}', and only {' or '.join(TYPES)} are taken; use another browser"
            )
        if not isinstance(size, int) or size > MOST_BYTES:
            raise ValueError(f"the recording is larger than {MOST_BYTES >> 20} MB; record fewer seconds")
        if part == 0:
            self._parts = []
        if part != len(self._parts) or len(buffers) != 1 or not isinstance(parts, int):
            raise ValueError("a part of the recording was lost on the way; record again")
        self._parts.append(bytes(buffers[0]))
        if len(self._parts) < parts:
            return ""
        video, self._parts = b"".join(self._parts), []
        if not video:
            raise ValueError(
                "the recording is empty; check that the camera is not covered or switched off, and record"
                " again"
            )
        if len(video) != size:
            raise ValueError("a part of the recording was lost on the way; record again")
        with atomic_path(self.path) as tmp:
            tmp.write_bytes(video)
            try:
                info = probe_video(tmp)
            except ValueError:
                raise ValueError(
                    "what arrived is no video that can be read; record again, or use another browser"
                ) from None
        self.saved = True
        return (
            f"Saved {self.path.name}: {info.width}x{info.height} pixels, {len(video) / 1e6:.1f} MB. It stays"
            " on the machine on which this notebook computes."
        )


def webcam(path: str | os.PathLike, seconds: int = 8) -> Webcam:
    """A widget with a button that records `seconds` of the camera, without sound, and writes them to `path`,
    atomically.

    path: ends in .webm or .mp4; whichever of the two a browser makes is written, since readers look into the
    file. An older recording is replaced. The recording goes from the browser to the kernel; where the kernel
    is another machine's, to that one. Where there is no camera, no permission, or no widget manager, a
    sentence says so.

    Raises ValueError for another suffix, or seconds that are not from 1 to 60.

    >>> webcam("me.webm", seconds=5).seconds
    5
    """
    path = Path(path)
    if path.suffix.lower() not in TYPES.values():
        raise ValueError(
            f"{path} does not end in {' or '.join(TYPES.values())}, which browsers record; name it so"
        )
    if not 1 <= seconds <= MOST_SECONDS:
        raise ValueError(f"{seconds} seconds cannot be recorded; give a number from 1 to {MOST_SECONDS}")
    return Webcam(path, int(seconds))
