"""What was found out about a film's frames, kept as `frames.json` beside the avatar, so as to be found once.

Cuts, and what hides the face, are read off the film, for minutes where it is long; what the matte misses off
the matte. The file lists them with all frames that are used, for people to read, and says what they were made
from: the film and its encoding in the words of `raf_lite.captures.origin`, the settings, and RULE. Anything
else makes them anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from raf_lite._files import read_json, write_json
from raf_lite.captures.matting import frame_spans, spanned_frames
from raf_lite.captures.origin import ORIGIN, is_made_from, origin
from raf_lite.course.film_frames import FilmFrames

# Another number where the same film and settings would give other frames.
RULE = "film-frames-1"


class FramesFile:
    """`frames.json` of the film `video` of `total` frames, encoded as `encoding`.

    settings: plain values on which the found depends besides. One that is damaged, or was made from something
    else, is as good as none, with a sentence.
    """

    def __init__(
        self, path: Path, video: Path, encoding: Path, total: int, settings: Mapping[str, int | float | str]
    ) -> None:
        self.path, self._video, self._files, self._total = path, video, [video, encoding], total
        self._settings = {"rule": RULE, **settings}
        self._found = self._read() if path.is_file() else {}

    def frames(
        self, what: str, find: Callable[[], Sequence[int]], made_from: Path | None = None
    ) -> list[int]:
        """Rising numbers of frames: those of the file, or else what `find` gives, to be written next.

        made_from: one more file that they depend on."""
        kept = self._found.get(what)
        if kept and (made_from is None or (kept.keys() >= set(ORIGIN) and is_made_from([made_from], kept))):
            return spanned_frames(kept["frames"])
        found = list(find())
        of = {} if made_from is None else {name: str(text) for name, text in origin([made_from]).items()}
        self._found[what] = {"frames": frame_spans(found), **of}
        return found

    def write(self, frames: FilmFrames) -> None:
        """Write the file: which frames are used, and what was found so far."""
        of = {name: str(text) for name, text in origin(self._files).items()}
        made_from = {**self._settings, **of}
        write_json(
            self.path,
            {"film": self._video.name, **frames.as_dict(), "found": self._found, "made_from": made_from},
        )

    def _read(self) -> dict[str, dict[str, str]]:
        """What the file has found, by name; empty where it is of no use."""
        try:
            values = read_json(self.path, dict)
            of, found = values.get("made_from"), values.get("found")
            if not isinstance(of, dict) or not isinstance(found, dict):
                raise ValueError(f"{self.path} does not say what it was made from")
            told = all(isinstance(of.get(name), str) for name in ORIGIN)
            if not told or not all(_is_found(value, self._total) for value in found.values()):
                raise ValueError(f"{self.path} is damaged")
            if {name: of.get(name) for name in self._settings} != self._settings:
                raise ValueError(f"{self.path} was made with other settings")
            if not is_made_from(self._files, of):
                raise ValueError(f"{self.path} was made from another film, or another encoding of it")
        except ValueError as error:
            print(f"{error}: looking through {self._video} again")
            return {}
        return found


def _is_found(value: object, total: int) -> bool:
    """Whether this is what `frames` keeps of a film of `total` frames."""
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        return False
    words = value.get("frames", "-")
    if any(int(number) >= total for number in re.findall("[0-9]+", words)):
        return False
    try:
        numbers = spanned_frames(words)
    except ValueError:
        return False
    return numbers == sorted(set(numbers))
