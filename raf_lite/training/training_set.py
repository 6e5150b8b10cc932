"""The frames that an avatar is trained on: decoded and scaled once, kept in memory, or on disk where they are
too many."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm.auto import tqdm

from raf_lite._files import DAMAGE, cache_dir, locked, named_in_errors, read_json, write_json
from raf_lite._forms import own_reference, parts, relative_to
from raf_lite.captures import Capture, Split, shrink_factor
from raf_lite.captures.capture import over_white
from raf_lite.captures.masks import judge_masks, require_mask
from raf_lite.descriptors.forms import capture_encoder, landmark_displacements, raw_descriptors
from raf_lite.training.config import TrainConfig

# Pictures uint8 [F, C, H, W, 3], masks [F, C, H, W], and how much pixels count [F, C, H, W], or None.
_Arrays = tuple[np.ndarray, np.ndarray, np.ndarray | None]

MEMORY_BYTES = 2 << 30  # pictures that need more go to disk
_NAMES = ("images", "masks", "counts")  # of the files of those that are on disk
_ZEROS = 1 << 24  # bytes written at a time
CACHE_BYTES = (
    64 << 30
)  # of all training sets on disk together; the ones that were not used for longest make room


@dataclass(frozen=True)
class TrainingSet:
    """Every training frame of a capture, decoded and scaled once.

    images: uint8 [F, C, H, W, 3], over white. masks: uint8 [F, C, H, W]. descriptors: float32 [F, D].
    head_poses: [F, 4, 4]. cameras: C, scaled to the pictures. names: (sequence, frame) of each row. neutral:
    the row of the neutral frame. front: the camera that sees the face from the front. fingerprint: where
    pictures lie on disk, what they were made from. subject: the person's id ("" where nobody says). encoder:
    what made the descriptors (None where the capture does not say). seen: bool [F, C], which camera filmed
    which frame (None: each did); what was not filmed is black and outside the mask. held_out: float32 [M, D],
    descriptors of the person's other sequences, of which nothing is learned: a bank that holds them holds the
    person. landmarks: float64 [L, 3] of the face in head space at the neutral frame, where they are known and
    one camera films (the Gaussians then start over them), displacements are there or a motion prior is placed
    on them. displacements: float64
    [D, L, 3], how far one unit of each dimension moves them (None: asked for by nobody, or not known).
    reference: float32 [D], what was taken out of all
    descriptors, where their form is relative: the mean of the training frames, or the neutral frame's (None:
    they are as the encoder gave them). counts: uint8 [F, C, H, W], how much each pixel counts (None: all do
    wholly); what counts less is neither head nor background, and the pictures show it as it was filmed.

    Conventions: docs/conventions.md#pictures-colours-and-masks, docs/conventions.md#head-pose,
    docs/conventions.md#descriptors.

    >>> from dataclasses import replace
    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> capture = replace(open_capture(find_data() / "mini_nersemble" / "001"), sequences=("EXP-1-head",))
    >>> data = TrainingSet.from_capture(capture, TrainConfig(size=64), progress=False)
    >>> data.images.shape, data.descriptors.shape
    ((26, 4, 64, 64, 3), (26, 52))
    """

    images: np.ndarray
    masks: np.ndarray
    descriptors: np.ndarray
    head_poses: np.ndarray
    cameras: list
    names: list[tuple[str, int]]
    neutral: int
    front: int = 0
    fingerprint: str = ""
    subject: str = ""
    encoder: str | None = None
    seen: np.ndarray | None = None
    held_out: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    reference: np.ndarray | None = None
    displacements: np.ndarray | None = None
    counts: np.ndarray | None = None

    @classmethod
    def from_capture(cls, capture: Capture, config: TrainConfig, *, progress: bool = True) -> TrainingSet:
        """Read the training sequences and cameras of the capture's default split.

        Each video is decoded once, a frame at a time, and scaled down as it is read. Pictures of more than
        MEMORY_BYTES are kept in the cache folder, where a run that was stopped goes on. Frames without a face
        are left out and counted; cameras that did not film a sequence are left out of it, and named.
        Raises ValueError where head poses or masks are missing, a mask can be no head's
        (`raf_lite.captures.masks`), no frame is left, the descriptors come from several encoders, or the disk
        has no room.
        """
        split = capture.split("default")
        sequences, serials = _filmed(capture, split)
        encoder = _encoder(capture, sequences, config.descriptor)
        found, descriptors, poses, names = {}, [], [], []
        for sequence in sequences:
            values = raw_descriptors(capture, sequence, config.descriptor)
            head_poses = capture.require_head_poses(sequence)
            found[sequence] = np.isfinite(values).all(1)
            descriptors.append(values[found[sequence]])
            poses.append(head_poses[found[sequence]])
            names += [(sequence, int(t)) for t in np.flatnonzero(found[sequence])]
        if not names:
            raise ValueError(
                f"{capture.root}: the encoder found no face in any training frame; check the frontal camera's"
                " video"
            )
        missed = sum(int((~f).sum()) for f in found.values())
        if missed:
            print(f"{missed} training frames without a face were left out")
        descriptors = np.concatenate(descriptors).astype(np.float32)

        factors = {s: shrink_factor(capture.cameras[s], config.size) for s in serials}
        cameras = [capture.cameras[s].scaled(1 / factors[s]) for s in serials]
        if len({(c.width, c.height) for c in cameras}) > 1:
            sizes = ", ".join(f"{c.serial} {c.width}x{c.height}" for c in cameras)
            raise ValueError(
                f"{capture.root}: the training cameras have pictures of several sizes ({sizes}); open the"
                " capture with a crop that makes them alike"
            )
        for sequence in sequences:
            judge_masks(capture, sequence, [s for s in serials if s in capture.cameras_of(sequence)])
        (images, masks, counts), fingerprint = _pictures(
            capture, found, factors, cameras[0].height, cameras[0].width, progress
        )
        filming = {s: [serial in capture.cameras_of(s) for serial in serials] for s in sequences}
        seen = np.array([filming[sequence] for sequence, _ in names])
        neutral = _neutral_row(capture, names, descriptors, seen)
        held_out = _held_out(capture, sequences, config.descriptor)
        reference = own_reference(parts(config.descriptor)[1], descriptors[neutral], descriptors)
        if reference is not None:
            descriptors = relative_to(descriptors, reference)
            held_out = None if held_out is None else relative_to(held_out, reference)
        landmarks, displacements = _landmarks(capture, *names[neutral]), None
        if config.landmark_motion and landmarks is not None:
            displacements = landmark_displacements(landmarks, config.descriptor)
        return cls(
            images,
            masks,
            descriptors,
            np.concatenate(poses),
            cameras,
            names,
            neutral,
            serials.index(capture.encoder_camera) if capture.encoder_camera in serials else 0,
            fingerprint,
            capture.subject,
            encoder,
            None if seen.all() else seen,
            held_out,
            landmarks if len(serials) == 1 or displacements is not None or config.prior else None,
            reference,
            displacements,
            counts,
        )


def _filmed(capture: Capture, split: Split) -> tuple[list[str], list[str]]:
    """The training sequences and cameras of which there is something; prints what is missing."""
    filming = {
        s: [c for c in split.train_cameras if c in capture.cameras_of(s)] for s in split.train_sequences
    }
    sequences = [s for s, cameras in filming.items() if cameras]
    serials = [c for c in split.train_cameras if any(c in cameras for cameras in filming.values())]
    if not sequences:
        raise ValueError(
            f"{capture.root}: no training camera has filmed a training sequence; check its split, or copy it"
            " again"
        )
    for sequence in (s for s in filming if s not in sequences):
        print(f"no training camera has filmed {sequence}, which is left out")
    for serial in (c for c in split.train_cameras if c not in serials):
        print(f"camera {serial} has filmed no training sequence and is left out")
    for sequence in sequences:
        missing = [c for c in serials if c not in filming[sequence]]
        if missing:
            print(f"{sequence} was not filmed by camera(s) {', '.join(missing)}: trained with the others")
    return sequences, serials


def _encoder(capture: Capture, sequences: list[str], descriptor: str) -> str | None:
    """What made the training descriptors. ValueError where several did."""
    made = {capture_encoder(capture, sequence, descriptor): sequence for sequence in reversed(sequences)}
    if len(made) > 1:
        (one, first), (other, second) = list(made.items())[:2]
        raise ValueError(
            f"{capture.root}: the '{descriptor}' of {first} come from encoder '{one or 'unknown'}' and those"
            f" of {second} from '{other or 'unknown'}'; encode the capture again"
        )
    return next(iter(made))


def _landmarks(capture: Capture, sequence: str, frame: int) -> np.ndarray | None:
    """The face's landmarks [L, 3] in head space, as many as there are; None where the capture has none."""
    own = capture.annotations(sequence).get("landmarks_head")
    if own is not None:
        return own[frame].astype(np.float64)
    world = capture.landmarks68(sequence)
    if world is None:
        return None
    pose = capture.require_head_poses(sequence)[frame]
    return (world[frame] - pose[:3, 3]) @ pose[:3, :3]


def _held_out(capture: Capture, trained: list[str], descriptor: str) -> np.ndarray | None:
    """Descriptors [M, D] of the sequences that are not trained on, as far as there are any; None where there
    are none."""
    rows = []
    for sequence in (s for s in (*capture.sequences, *capture.cross_sequences) if s not in trained):
        with contextlib.suppress(ValueError, FileNotFoundError):  # not encoded, or no face
            values = raw_descriptors(capture, sequence, descriptor)
            rows.append(values[np.isfinite(values).all(1)])
    return np.concatenate(rows) if rows else None


def _neutral_row(
    capture: Capture, names: list[tuple[str, int]], descriptors: np.ndarray, seen: np.ndarray
) -> int:
    """The row of the capture's neutral frame; where nobody named one, of the frame that is nearest to the
    mean expression among those that most cameras have filmed."""
    if capture.neutral is None:
        away = np.linalg.norm(descriptors - descriptors.mean(0), axis=1)
        return int(np.where(seen.sum(1) == seen.sum(1).max(), away, np.inf).argmin())
    if capture.neutral not in names:
        raise ValueError(
            f"{capture.root}: its neutral frame {capture.neutral} is no usable training frame; name a"
            " sequence and frame of the training set under 'neutral' in capture.json"
        )
    return names.index(capture.neutral)


def _pictures(
    capture: Capture,
    found: dict[str, np.ndarray],
    factors: dict[str, int],
    height: int,
    width: int,
    progress: bool,
) -> tuple[_Arrays, str]:
    """Pictures, masks, how much pixels count, and their fingerprint ("" in memory)."""
    shape = (sum(int(f.sum()) for f in found.values()), len(factors), height, width)
    shapes = {"images": (*shape, 3), "masks": shape}
    if any(_counts(capture, sequence, serial) for sequence in found for serial in factors):
        shapes["counts"] = shape
    total = sum(int(np.prod(s, dtype=np.int64)) for s in shapes.values())
    if total <= MEMORY_BYTES:
        images, masks, counts = (np.zeros(shapes[n], np.uint8) if n in shapes else None for n in _NAMES)
        assert images is not None and masks is not None
        arrays = images, masks, counts
        _read_videos(capture, found, factors, progress, lambda: arrays, [], lambda done: None)
        return arrays, ""
    fingerprint = _fingerprint(capture, found, factors, counted="counts" in shapes)
    folder = cache_dir("frames") / fingerprint
    with locked(cache_dir("locks", fingerprint)):
        done = _kept(folder, shapes, [(sequence, serial) for sequence in found for serial in factors])
        if done is None:
            done = []
            _make_room(folder, total)
            for name, whole in shapes.items():
                _reserve(folder / f"{name}.npy", whole)
            write_json(folder / "done.json", done)
        # Mapped anew for each video, or the pages that were written would all stay in our memory.
        _read_videos(
            capture,
            found,
            factors,
            progress,
            lambda: _mapped(folder, "r+"),
            done,
            lambda done: write_json(folder / "done.json", done),
        )
    # Nobody writes to them from here on; "c" lets torch take them without complaint.
    return _mapped(folder, "c"), fingerprint


def _counts(capture: Capture, sequence: str, serial: str) -> bool:
    """Whether some pixels of a camera count less than others."""
    return serial in capture.cameras_of(sequence) and capture.stream_counts(sequence, serial) is not None


def _kept(
    folder: Path, shapes: dict[str, tuple[int, ...]], videos: list[tuple[str, str]]
) -> list[tuple[str, str]] | None:
    """Which of the videos have their pictures in a folder, from an earlier run; None where it has none, or is
    damaged, which is printed."""
    if not (folder / "done.json").is_file():
        return None
    try:
        done = [tuple(video) for video in read_json(folder / "done.json", list)]
        # Mapped as a copy: to be written, a file that was cut would be made longer, with black pictures.
        arrays = dict(zip(_NAMES, _mapped(folder, "c"), strict=True))
        whole = {n: (a.shape, a.dtype) for n, a in arrays.items() if a is not None}
        if whole != {n: (shape, np.dtype(np.uint8)) for n, shape in shapes.items()} or any(
            video not in videos for video in done
        ):
            raise ValueError("they are of another size or number, or of another recording")
    except DAMAGE as error:
        why = str(error) if isinstance(error, ValueError) else type(error).__name__
        print(f"the training pictures kept in {folder} are damaged ({why}) and are read again")
        return None
    os.utime(folder)
    return done


def _read_videos(
    capture: Capture,
    found: dict[str, np.ndarray],
    factors: dict[str, int],
    progress: bool,
    arrays: Callable[[], _Arrays],
    done: list[tuple[str, str]],
    note: Callable[[list[tuple[str, str]]], None],
) -> None:
    """Fill pictures and masks from every video that is not `done`; `arrays` gives where to, `note` is told of
    each one's end."""
    starts = dict(zip(found, np.cumsum([0, *(int(f.sum()) for f in found.values())]), strict=False))
    columns = {serial: c for c, serial in enumerate(factors)}
    videos = [
        (sequence, serial)
        for sequence in found
        for serial in factors
        if serial in capture.cameras_of(sequence)
    ]
    with tqdm(
        total=sum(len(found[sequence]) for sequence, _ in videos),
        desc="reading frames",
        unit="frame",
        disable=not progress,
    ) as bar:
        for sequence, serial in videos:
            if (sequence, serial) not in done:
                images, masks, counts = arrays()
                _read_video(
                    capture,
                    sequence,
                    serial,
                    factors[serial],
                    found[sequence],
                    starts[sequence],
                    columns[serial],
                    images,
                    masks,
                    counts,
                )
                for array in (images, masks, counts):
                    if isinstance(array, np.memmap):
                        array.flush()
                done.append((sequence, serial))
                note(done)
            bar.update(len(found[sequence]))


def _reserve(path: Path, shape: tuple[int, ...]) -> None:
    """Make a uint8 npy of this shape whose bytes the disk has set aside: into a file with holes, a write
    through memory ends the process (SIGBUS) once the disk is full. Raises OSError, and leaves no file, where
    there is no room."""
    try:
        with named_in_errors(path), open(path, "wb") as file:
            np.lib.format.write_array_header_2_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            start, size = file.tell(), int(np.prod(shape, dtype=np.int64))
            if hasattr(os, "posix_fallocate"):
                file.flush()
                os.posix_fallocate(file.fileno(), start, size)
            else:
                for at in range(0, size, _ZEROS):
                    file.write(bytes(min(_ZEROS, size - at)))
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _mapped(folder: Path, mode: Literal["r+", "c"]) -> _Arrays:
    """What a folder holds, read from and written to the disk as it is used."""
    images, masks = (np.load(folder / f"{name}.npy", mmap_mode=mode) for name in _NAMES[:2])
    counts = folder / "counts.npy"
    return images, masks, np.load(counts, mmap_mode=mode) if counts.is_file() else None


def _read_video(
    capture: Capture,
    sequence: str,
    serial: str,
    factor: int,
    found: np.ndarray,
    row: int,
    column: int,
    images: np.ndarray,
    masks: np.ndarray,
    counts: np.ndarray | None,
) -> None:
    """Fill one column of some rows from one camera's video."""
    small = capture.reduced(factor)
    counted = small.stream_counts(sequence, serial)
    # The streams must end together: strict raises where one is longer than the header said.
    streams = zip(
        found,
        small.stream_frames(sequence, serial),
        small.stream_masks(sequence, serial),
        itertools.repeat(None, len(found)) if counted is None else counted,
        strict=True,
    )
    for frame_number, (keep, frame, mask, count) in enumerate(streams):
        if keep:
            require_mask(mask, capture, sequence, serial, frame_number)
            # What does not count is no background, which alone is white.
            shown = mask if count is None else mask + (255 - count)
            images[row, column] = over_white(frame, shown / np.float32(255))
            masks[row, column] = mask
            if counts is not None:
                counts[row, column] = 255 if count is None else count
            row += 1


def _fingerprint(
    capture: Capture, found: dict[str, np.ndarray], factors: dict[str, int], *, counted: bool = False
) -> str:
    """A name for what a training set is made from: the state of every file of its sequences and cameras, and
    the settings.

    found: the frames that are kept, by sequence. factors: the reduction, by serial. counted: whether some
    pixels count less than others. FileNotFoundError for a file that is gone."""
    source = capture.source
    digest = hashlib.sha256(repr((capture.subject, source.crop, source.downscale)).encode())
    if counted:
        digest.update(b"counts")
    for serial, factor in factors.items():
        camera = capture.cameras[serial]
        digest.update(repr((serial, factor, camera.width, camera.height, camera.K.tolist())).encode())
    for sequence, kept in found.items():
        digest.update(repr((sequence, len(kept))).encode() + kept.tobytes())
        digest.update(source.chosen(sequence).encode())
    # Cameras share their sequence's annotations: each file is asked once.
    files = dict.fromkeys(
        file for sequence in found for serial in factors for file in source.files(sequence, serial)
    )
    for name, size, modified in _states(files, capture.root.resolve()):
        digest.update(repr((name, size, modified)).encode())
    return digest.hexdigest()[:16]


def _states(files: Iterable[Path], root: Path) -> Iterator[tuple[str, int, int]]:
    """Name relative to the capture, size in bytes, and time of change in ns of each file."""
    folders: dict[
        str, str
    ] = {}  # names of folders are worked out once: captures have hundreds of thousands of files in few
    for file in files:
        folder, name = os.path.split(file)
        if folder not in folders:
            real = Path(folder).resolve()
            folders[folder] = os.path.relpath(real, root) if real.drive == root.drive else str(real)
        try:
            state = file.stat()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"there is no {file}; copy the capture again") from error
        yield f"{folders[folder]}/{name}", state.st_size, state.st_mtime_ns


def _make_room(folder: Path, needed: int) -> None:
    """Make an empty folder for `needed` bytes, removing the training sets that were not used for longest."""
    shutil.rmtree(folder, ignore_errors=True)
    others = sorted(
        (p for p in folder.parent.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True
    )
    sizes = {p: sum(f.stat().st_size for f in p.iterdir()) for p in others}
    while others and sum(sizes[p] for p in others) + needed > CACHE_BYTES:
        oldest = others.pop()
        with contextlib.suppress(
            PermissionError
        ):  # Windows lets nobody move a folder that another training reads from
            shutil.rmtree(oldest.rename(oldest.with_name(f"{oldest.name}.gone")))
    free = shutil.disk_usage(folder.parent).free
    if needed > min(free, CACHE_BYTES):
        raise ValueError(
            f"the training pictures need {needed / 1e9:.1f} GB on disk, and {folder.parent} may hold "
            f"{min(free, CACHE_BYTES) / 1e9:.1f} GB; train at a smaller size or on fewer sequences, or let "
            "RAF_LITE_CACHE name a larger disk"
        )
    folder.mkdir(parents=True)
