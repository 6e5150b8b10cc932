"""Which frames of a film an avatar is trained on, and films of which none comes.

- Before anything takes minutes, PROBED frames are looked at (`probe_film`).
- Of a film with cuts the longest shot is taken. A cut is a change of the whole picture that stands alone:
  more than CUT grey levels above every change within AROUND frames. Slow dissolves are not found.
- Left out are frames without a face, those in which it runs out of the picture, and those in which something
  is before it (`raf_lite.course.occlusion`).
- The end is held out, HELD_OUT frames at most. Of what is before it TRAINED frames are trained on: where
  there are more, half of them evenly spread over time, then, one by one, the frame that is farthest in
  blendshapes and head pose from all that are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter
from scipy.spatial.transform import Rotation
from tqdm.auto import tqdm

from raf_lite.captures.matting import frame_spans, iter_matte
from raf_lite.captures.video import count_frames, count_keyframes, iter_thumbnails, sample_video, video_frames
from raf_lite.course.occlusion import HIDDEN, JUDGED, TOO_MANY, face_colours, occlusion_scores
from raf_lite.descriptors import MediaPipeEncoder
from raf_lite.descriptors.encode_video import VideoDetections

PROBED = 12
TRAINED, HELD_OUT = 1000, 400  # frames, at most
LEAST = 10  # frames with a face; of fewer no avatar comes
CUT, AROUND, SIDE = 12.0, 4, 32  # grey levels, frames, and pixels of the pictures that are compared
_STILL = 4  # grey levels; a still photograph as a film differs by less from frame to frame
_OUTSIDE = 0.02  # of the landmarks; more is a face that runs out of the picture
_COVERED = 0.8  # of the landmarks lie on the matte of the person whose face it is
SHOT, NO_FACE, OUT, HIDES, MISSES = (
    "are of another shot",
    "show no face",
    "have a face that runs out of the picture",
    "have something before the face",
    "have a matte that misses the face",
)


@dataclass(frozen=True)
class FilmFrames:
    """Numbers of a film's frames, rising: what is trained on, what is held out, and what is left out, by why.

    total: of all frames. cuts: the first frames of new shots.
    """

    total: int
    trained: tuple[int, ...]
    held_out: tuple[int, ...]
    left_out: Mapping[str, tuple[int, ...]]
    cuts: tuple[int, ...] = ()

    @property
    def used(self) -> list[int]:
        """Those that are trained on and those that are held out."""
        return [*self.trained, *self.held_out]

    def without(self, frames: Sequence[int], why: str) -> FilmFrames:
        """The same, some frames left out."""
        gone = frozenset(frames)
        if not gone:
            return self
        return replace(
            self,
            trained=tuple(t for t in self.trained if t not in gone),
            held_out=tuple(t for t in self.held_out if t not in gone),
            left_out={**self.left_out, why: tuple(sorted(gone))},
        )

    def report(self, video: Path, fps: float) -> str:
        """What a user should know of it, in lines."""
        lines = []
        if self.cuts:
            cuts = ", ".join(f"{cut} ({cut / fps:.1f} s)" for cut in self.cuts[:8])
            more = ", ..." if len(self.cuts) > 8 else ""
            lines.append(f"{video} is cut at frame {cuts}{more}: its longest shot is used")
        for why, frames in self.left_out.items():
            lines.append(f"{len(frames)} frames {why} and are left out: {_shortened(frames)}")
        lines.append(
            f"of {self.total} frames {len(self.trained)} are trained on and {len(self.held_out)} held out"
        )
        return "\n".join(lines)

    def as_dict(self) -> dict:
        """Plain values, for JSON; frames as 0-24,30,32-40."""
        return {
            "frames": self.total,
            "trained": frame_spans(self.trained),
            "held_out": frame_spans(self.held_out),
            "left_out": {why: frame_spans(frames) for why, frames in self.left_out.items()},
            "cuts": list(self.cuts),
        }


def probe_film(video: Path) -> None:
    """ValueError for a film of which no avatar comes, by PROBED frames spread over it: no face, several
    people, a still picture."""
    small, faces = [], []
    with MediaPipeEncoder(num_faces=2) as encoder:
        for number, picture in enumerate(_spread_pictures(video)):
            faces.append(len(encoder.faces(picture, number)[0]))
            small.append(np.asarray(Image.fromarray(picture).convert("L").resize((64, 64)), int))
    if not any(faces):
        raise ValueError(
            f"{video}: no face was found in {len(faces)} frames spread over it; give a video in which the"
            " face is larger, or seen from the front"
        )
    crowd = sum(count > 1 for count in faces)
    if crowd > len(faces) / 2:
        raise ValueError(
            f"{video}: {crowd} of {len(faces)} frames spread over it show several faces, and a matte would"
            " keep them all; give a film of one person, or a folder of images with masks of your own"
        )
    if max(int(np.abs(picture - small[0]).max()) for picture in small) < _STILL:
        raise ValueError(f"{video} shows a still picture: nothing in it moves; film the face as it speaks")


def _spread_pictures(video: Path) -> Iterator[np.ndarray]:
    """PROBED frames spread over a film, or all: keyframes, unless there are too few of them."""
    asked = np.unique(np.linspace(0, count_frames(video) - 1, PROBED).round().astype(int)).tolist()
    if count_keyframes(video) < len(asked):
        return video_frames(video, asked)
    return (picture for _, picture in sample_video(video, PROBED))


def check_film(encoding: VideoDetections, video: Path) -> None:
    """ValueError for a film of which no avatar comes, by all of its frames."""
    crowd = int((encoding.faces > 1).sum())
    if crowd > 0.1 * len(encoding):
        raise ValueError(
            f"{video}: {crowd} of {len(encoding)} frames show several faces, and a matte would keep them all;"
            " give a film of one person, or a folder of images with masks of your own"
        )
    seen = encoding.landmarks[encoding.face_found]
    if len(seen) < LEAST:
        raise ValueError(f"{video}: a face was found in {len(seen)} frames only; film the face for longer")
    if float(seen.std(0).max()) < 0.5:
        raise ValueError(
            f"{video} shows a still picture: its face does not move by a pixel; film it as it speaks"
        )
    outside = face_found_outside(encoding)
    if 2 * len(outside) > len(seen):
        raise ValueError(
            f"{video}: the face runs out of the picture in {len(outside)} of {len(seen)} frames, first in"
            f" frame {outside[0]}; film it with the whole head in the picture"
        )


def face_found_outside(encoding: VideoDetections) -> np.ndarray:
    """Numbers of the frames whose face runs out of the picture."""
    found = np.flatnonzero(encoding.face_found)
    places = encoding.landmarks[found, :, :2]
    outside = ((places < 0) | (places > encoding.size)).any(-1).mean(-1)
    return found[outside > _OUTSIDE]


def require_both(frames: FilmFrames, video: Path) -> None:
    """ValueError where what was left out leaves too little of one part."""
    if len(frames.trained) < LEAST or not frames.held_out:
        raise ValueError(
            f"{video}: {len(frames.trained)} frames to train on and {len(frames.held_out)} to hold out are"
            f" left ({', '.join(f'{len(f)} {why}' for why, f in frames.left_out.items())}); film the face for"
            " longer, with nothing before it"
        )


def find_cuts(video: Path, *, progress: bool = True) -> list[int]:
    """The first frame of each new shot, rising."""
    change, before = [], None
    bar = tqdm(
        iter_thumbnails(video, SIDE),
        total=count_frames(video),
        desc=f"looking for cuts in {video.name}",
        unit="frame",
        disable=not progress,
    )
    for picture in bar:
        small = picture.astype(np.int16)
        change.append(0.0 if before is None else float(np.abs(small - before).mean()))
        before = small
    others = np.ones(2 * AROUND + 1, bool)
    others[AROUND] = False
    alone = np.array(change) - maximum_filter(change, footprint=others, mode="constant")
    return np.flatnonzero(alone > CUT).tolist()


def film_frames(
    video: Path,
    encoding: VideoDetections,
    held_out: float,
    *,
    cuts: Sequence[int] | None = None,
    progress: bool = True,
) -> FilmFrames:
    """Choose the frames of an encoded film. held_out: the share that its end is. cuts: where its shots begin
    (default: looked for).

    Raises ValueError where too few are left, or the share leaves nothing of one part.
    """
    total = len(encoding)
    cuts = find_cuts(video, progress=progress) if cuts is None else cuts
    shots = np.split(np.arange(total), list(cuts))
    shot = max(shots, key=lambda frames: int(encoding.face_found[frames].sum()))
    left_out: dict[str, tuple[int, ...]] = {}

    def leave_out(frames: np.ndarray, why: str) -> None:
        if len(frames):
            left_out[why] = tuple(frames.tolist())

    outside = face_found_outside(encoding)
    leave_out(np.setdiff1d(np.arange(total), shot), SHOT)
    leave_out(shot[~encoding.face_found[shot]], NO_FACE)
    leave_out(np.intersect1d(outside, shot), OUT)
    usable = np.setdiff1d(shot[encoding.face_found[shot]], outside)
    if len(usable) < LEAST:
        raise ValueError(
            f"{video}: {len(usable)} frames of one shot show the whole face; film it for longer, in one shot"
        )
    end = len(usable) - round(len(usable) * held_out)
    if not 0 < end < len(usable):
        raise ValueError(
            f"{video} has {len(usable)} frames of use, of which {held_out} can't be held out; give a share"
            " between 0 and 1 that leaves some of both"
        )
    trained = usable[:end]
    if end > TRAINED:
        trained = trained[spread_rows(_places(encoding, trained), TRAINED)]
    return FilmFrames(
        total, tuple(trained.tolist()), tuple(usable[end:][-HELD_OUT:].tolist()), left_out, tuple(cuts)
    )


def _places(encoding: VideoDetections, frames: np.ndarray) -> np.ndarray:
    """Blendshapes and head pose of some frames, [F, 58]: scores, radians, and shares of the distance."""
    poses = encoding.head_pose[frames]
    turn = Rotation.from_matrix(poses[:, :3, :3])
    turn = (turn.mean().inv() * turn).as_rotvec()
    return np.concatenate(
        [encoding.blendshapes[frames], turn, poses[:, :3, 3] / np.abs(poses[:, 2, 3]).mean()], 1
    )


def spread_rows(places: np.ndarray, most: int) -> np.ndarray:
    """Numbers of `most` of the rows [F, D], rising: half evenly spread, then always the row that is farthest
    from all that are taken.

    >>> spread_rows(np.array([0, 0, 0, 5, 0, 0, 0.0])[:, None], 3).tolist()
    [0, 3, 6]
    """
    taken = np.unique(np.linspace(0, len(places) - 1, (most + 1) // 2).round().astype(int)).tolist()
    away = np.full(len(places), np.inf)
    for row in taken:
        away = np.minimum(away, np.square(places - places[row]).sum(1))
    away[taken] = -1  # equal rows are taken too, once each
    while len(taken) < most:
        row = int(away.argmax())
        away = np.minimum(away, np.square(places - places[row]).sum(1))
        away[row] = -1
        taken.append(row)
    return np.sort(taken)


def hidden_faces(
    video: Path,
    encoding: VideoDetections,
    frames: Sequence[int],
    crop: tuple[int, int, int, int],
    downscale: int,
    *,
    progress: bool = True,
) -> list[int]:
    """Those of some frames in which something is before the face; none where they are too many to tell, or
    where fewer than JUDGED frames show what is usual.

    crop, downscale: the part of the pictures in which the head is, and by how much it is reduced.
    """
    if len(frames) < JUDGED:
        return []
    bar = tqdm(
        video_frames(video, frames, crop=crop, downscale=downscale),
        total=len(frames),
        desc="looking for what hides the face",
        unit="frame",
        disable=not progress,
    )
    places = encoding.landmarks[frames, :, :2]
    colours = np.stack(
        [face_colours(p, (at - crop[:2]) / downscale) for p, at in zip(bar, places, strict=True)]
    )
    hidden = occlusion_scores(colours, encoding.landmarks[frames], encoding.head_pose[frames]) > HIDDEN
    if hidden.mean() > TOO_MANY:
        print(
            f"{video}: the colours of the face change in {int(hidden.sum())} of {len(frames)} frames, by"
            " light or by what is before it, which cannot be told apart; none is left out for it"
        )
        return []
    return np.asarray(frames)[hidden].tolist()


def missed_faces(encoding: VideoDetections, frames: Sequence[int], matte: Path) -> list[int]:
    """Those of some frames whose matte misses the face. ValueError where most do."""
    width, height = encoding.size
    missed = []
    for frame, person in zip(frames, iter_matte(matte, frames), strict=True):
        x, y = np.clip(encoding.landmarks[frame, :, :2].astype(int), 0, [width - 1, height - 1]).T
        if (person[y, x] > 127).mean() < _COVERED:
            missed.append(frame)
    if 2 * len(missed) > len(frames):
        raise ValueError(
            f"{matte} misses the face in {len(missed)} of {len(frames)} frames, first in frame {missed[0]};"
            " film it in even light before a plain background, or give a folder of images with masks of your"
            " own"
        )
    return missed


def _shortened(frames: Sequence[int]) -> str:
    spans = frame_spans(frames).split(",")
    return ", ".join(spans[:8]) + (", ..." if len(spans) > 8 else "")
