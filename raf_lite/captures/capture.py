"""A multi-view capture of one person, whatever its format on disk: videos, masks, cameras, head poses,
descriptors, splits."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from raf_lite.captures.cameras import Camera, rigid_problem
from raf_lite.captures.source import Source

# Head poses are kept as float32, and come from trackers that round.
_ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Split:
    """What an avatar may be trained on, and what it is then tested on. A name is never on both sides.

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> split = open_capture(find_data() / "mini_nersemble" / "001").split()
    >>> split.holdout_sequences[0], split.holdout_cameras
    ('FREE', ('222200046', '222200039'))
    """

    name: str
    train_sequences: tuple[str, ...]
    holdout_sequences: tuple[str, ...]
    train_cameras: tuple[str, ...]
    holdout_cameras: tuple[str, ...]


@dataclass(frozen=True)
class SplitRule:
    """A named split as data. A sequence belongs to a list if its name starts with one of the list's prefixes,
    or, with `exact`, if it is in the list.

    unused_sequences are neither trained on nor tested. train_cameras: None for all that are not held out.
    """

    holdout_sequences: tuple[str, ...] = ()
    unused_sequences: tuple[str, ...] = ()
    holdout_cameras: tuple[str, ...] = ()
    train_cameras: tuple[str, ...] | None = None
    exact: bool = False


def over_white(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A frame uint8 [H, W, 3] with white where its mask in [0, 1] [H, W] is not; as it is, where its
    background is white already.

    What was rendered or cut out over white has soft edges that hold some white; laid over white again, they
    would be too bright.

    >>> frame, mask = np.full((2, 2, 3), 40, np.uint8), np.array([[1.0, 1.0], [0.0, 0.0]])
    >>> over_white(frame, mask)[:, 0, 0].tolist()
    [40, 255]
    """
    background = frame[mask < 0.02]
    is_white = np.count_nonzero(background >= 250) * 2 >= background.size
    return frame if is_white else composite_white(frame, mask)


def composite_white(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Frames uint8 [..., H, W, 3] laid over white by masks in [0, 1] [..., H, W]: uint8.

    Conventions: docs/conventions.md#pictures-colours-and-masks.

    >>> composite_white(np.zeros((1, 2, 3), np.uint8), np.array([[1.0, 0.5]]))[0].tolist()
    [[0, 0, 0], [128, 128, 128]]
    """
    alpha = masks[..., None]
    return (frames * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)


def _stacked(frames: Iterator[np.ndarray]) -> np.ndarray:
    """Frames of one shape as [T, ...], without a second copy in memory."""
    first = next(frames)
    return np.fromiter(itertools.chain([first], frames), dtype=np.dtype((np.uint8, first.shape)))


@dataclass(eq=False)
class Capture:
    """One person's recordings, read lazily; each video is decoded once and kept, up to `cache_bytes`. Of one
    that would not fit, some frames are read without the others.

    subject: the person's id. root: the folder. fps: frames a second. cameras: by serial, at the size that
    frames have here. sequences: those to train and test on. cross_sequences: `CROSS-{driver}-{SEQ}`, this
    person's face with another one's expressions (exact answers for cross-driving, from rendered captures
    only); they are in no split. encoder_camera: the serial whose frames the stored descriptors come from.
    head_pose_source: who made the head poses (for example "rig"), or None. neutral: (sequence, frame) of a
    frame without expression, or None.
    Lengths are in the calibration's own unit (`rig` writes centimetres, NeRSemble metres).

    Conventions: docs/conventions.md#units, docs/conventions.md#head-pose.

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001")
    >>> capture.subject, len(capture.cameras), capture.neutral
    ('001', 6, ('EXP-1-head', 0))
    >>> capture.frames("FREE", capture.encoder_camera).shape
    (105, 256, 256, 3)
    >>> capture.descriptors("FREE", "blendshapes").shape, capture.head_poses("FREE").shape
    ((105, 52), (105, 4, 4))
    """

    subject: str
    root: Path
    fps: float
    sequences: tuple[str, ...]
    cross_sequences: tuple[str, ...]
    cameras: Mapping[str, Camera]
    encoder_camera: str
    source: Source
    split_rules: Mapping[str, SplitRule]
    head_pose_source: str | None = None
    neutral: tuple[str, int] | None = None
    cache_bytes: int = 2 << 30
    _videos: OrderedDict[tuple[str, str, str], np.ndarray] = field(
        default_factory=OrderedDict, init=False, repr=False
    )
    _annotations: dict[str, dict[str, np.ndarray]] = field(default_factory=dict, init=False, repr=False)

    # -- what there is
    # -----------------------------------------------------------------------------------------------

    def cameras_of(self, sequence: str) -> tuple[str, ...]:
        """Serials that have a video of `sequence`."""
        self._check_sequence(sequence)
        return self.source.cameras_of(sequence)

    def n_frames(self, sequence: str) -> int:
        """Frames of a sequence, by the header of its first camera's video; reading any other stream checks
        against it. A sequence without videos, of which a benchmark gives the descriptors alone, has as many
        as those."""
        serials = self.cameras_of(sequence)
        return (
            self.source.video_shape(sequence, serials[0])[0]
            if serials
            else len(next(iter(self._descriptors_alone(sequence))))
        )

    def _descriptors_alone(self, sequence: str) -> list[np.ndarray]:
        arrays = list(self._read_annotations(sequence).values())
        if not arrays or arrays[0].ndim == 0:
            raise FileNotFoundError(
                f"{self.source.describe(sequence)} has neither videos nor descriptors; copy the capture again"
            )
        return arrays

    def cross_parts(self, cross_sequence: str) -> tuple[str, str]:
        """`CROSS-{driver}-{SEQ}` -> (the driver's id, the sequence's name in the driver's own capture)."""
        if cross_sequence not in self.cross_sequences:
            raise ValueError(
                f"{self.root}: {cross_sequence!r} is no cross sequence; choose from"
                f" {list(self.cross_sequences)}"
            )
        _, driver, sequence = cross_sequence.split("-", 2)
        return driver, sequence

    def split(self, name: str = "default") -> Split:
        """A named split of the sequences and cameras that this capture has. Raises ValueError for an unknown
        name."""
        if name not in self.split_rules:
            raise ValueError(f"{self.root}: there is no split {name!r}; choose from {list(self.split_rules)}")
        rule = self.split_rules[name]

        def listed(sequence: str, names: tuple[str, ...]) -> bool:
            return sequence in names if rule.exact else sequence.startswith(names)

        held_out = tuple(s for s in self.sequences if listed(s, rule.holdout_sequences))
        train = tuple(s for s in self.sequences if s not in held_out and not listed(s, rule.unused_sequences))
        train_cameras = tuple(
            c
            for c in self.cameras
            if c not in rule.holdout_cameras and (rule.train_cameras is None or c in rule.train_cameras)
        )
        return Split(
            name, train, held_out, train_cameras, tuple(c for c in rule.holdout_cameras if c in self.cameras)
        )

    # -- pictures
    # ----------------------------------------------------------------------------------------------------

    def frames(self, sequence: str, serial: str) -> np.ndarray:
        """All frames of one camera: uint8 [T, H, W, 3] sRGB (divide by 255 for the package's float32 images),
        read-only.

        Raises FileNotFoundError (no such video) or ValueError (damaged; other size than the camera; other
        frame count than the sequence), each naming the file.
        """
        return self._cached("frames", sequence, serial)

    def stream_frames(
        self, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        """The frames of one camera, uint8 [H, W, 3], one by one; nothing is kept. rows: the rising numbers of
        those that are asked for (default: all). Errors as `frames`."""
        self._check_camera(sequence, serial)
        self._check_header(sequence, serial, self.source.video_shape(sequence, serial), "images")
        return self.source.iter_frames(sequence, serial, rows)

    def stream_masks(
        self, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        """The masks of one camera, uint8 [H, W], one by one, as `stream_frames`. Errors as `masks`."""
        self._check_camera(sequence, serial)
        shape = self.source.mask_shape(sequence, serial)
        if shape is not None:
            self._check_header(sequence, serial, shape, "masks")
        return self.source.iter_masks(sequence, serial, rows)

    def stream_counts(
        self, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray] | None:
        """How much each pixel of one camera counts, uint8 [H, W], one by one, as `stream_frames`; None where
        all do. Errors as `masks`."""
        self._check_camera(sequence, serial)
        return self.source.iter_counts(sequence, serial, rows)

    def reduced(self, factor: int) -> Capture:
        """The same capture with pictures and cameras at 1/factor of their size, each pixel the mean of a
        block; decoding it never holds more than one full picture."""
        return replace(
            self,
            cameras={serial: camera.scaled(1 / factor) for serial, camera in self.cameras.items()},
            source=self.source.reduced(factor),
        )

    def over_white(self, sequence: str, serial: str, indices: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Some frames (default: all) with white where the mask is not: uint8 [..., H, W, 3]. Frames that were
        rendered or cut out over white already, each judged by itself, are returned as they are, as are those
        without masks. Errors as `frames` and `masks`."""
        frames = self._some("frames", sequence, serial, indices)
        if self.source.mask_shape(sequence, serial) is None:
            return frames
        masks = self.masks(sequence, serial, indices)
        if frames.ndim == 3:
            return over_white(frames, masks)
        out = frames.copy()
        for row, mask in enumerate(masks):
            out[row] = over_white(frames[row], mask)
        return out

    def each_over_white(self, sequence: str, serial: str, rows: Sequence[int]) -> Iterator[np.ndarray]:
        """`over_white` of the frames of these rising numbers, uint8 [H, W, 3], one by one; of a video that
        does not fit into the cache, one is in memory."""
        frames = self._each("frames", sequence, serial, rows)
        if self.source.mask_shape(sequence, serial) is None:
            return frames
        masks = self._each("masks", sequence, serial, rows)
        pairs = zip(frames, masks, strict=True)
        return (over_white(frame, mask.astype(np.float32) / np.float32(255)) for frame, mask in pairs)

    @property
    def first_filmed(self) -> str:
        """The first sequence that has videos. FileNotFoundError where none has."""
        for sequence in (*self.sequences, *self.cross_sequences):
            if self.cameras_of(sequence):
                return sequence
        raise FileNotFoundError(f"{self.root} has no video of any sequence; copy the capture again")

    def first_frame(self, sequence: str, serial: str) -> np.ndarray:
        """The first frame of one camera, uint8 [H, W, 3], without decoding the others. Errors as `frames`."""
        self._check_camera(sequence, serial)
        return next(self.source.iter_frames(sequence, serial))

    def first_mask(self, sequence: str, serial: str) -> np.ndarray:
        """The first frame's mask, float32 [H, W] in [0, 1], without decoding the others. Errors as
        `masks`."""
        self._check_camera(sequence, serial)
        return next(self.source.iter_masks(sequence, serial)).astype(np.float32) / np.float32(255)

    def images(self, sequence: str, serial: str, indices: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Some frames (default: all) as float32 [..., H, W, 3] in [0, 1], sRGB. Errors as `frames`."""
        return self._some("frames", sequence, serial, indices).astype(np.float32) / np.float32(255)

    def masks(self, sequence: str, serial: str, indices: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Soft masks of the head, float32 [..., H, W] in [0, 1] (default: all frames).

        Raises FileNotFoundError (the capture has no masks) or ValueError (size or frame count unlike the
        images').
        """
        return self._some("masks", sequence, serial, indices).astype(np.float32) / np.float32(255)

    def counts(
        self, sequence: str, serial: str, indices: np.ndarray | slice = slice(None)
    ) -> np.ndarray | None:
        """How much each pixel counts in training and grading, float32 [..., H, W] in [0, 1] (default: all
        frames); None where all do.

        Less than 1 is what is neither head nor background: of a film, the person below the neck, by as much
        as the mask fades there. Errors as `masks`.
        """
        if self.stream_counts(sequence, serial) is None:
            return None
        return self._some("counts", sequence, serial, indices).astype(np.float32) / np.float32(255)

    # -- annotations
    # -------------------------------------------------------------------------------------------------

    def annotations(self, sequence: str) -> dict[str, np.ndarray]:
        """Everything stored beside a sequence's videos, by field; empty where there is nothing.

        The first axis of each array is the frame: ValueError that names file and field if its length is not
        the videos'."""
        self._check_sequence(sequence)
        if sequence not in self._annotations:
            arrays = self._read_annotations(sequence)
            n_frames = self.n_frames(sequence)
            for name, array in arrays.items():
                if array.ndim == 0 or len(array) != n_frames:
                    raise ValueError(
                        f"{self.root}: the annotation '{name}' of {sequence} has shape {list(array.shape)},"
                        f" but the videos have {n_frames} frames; annotate this sequence again"
                    )
            self._annotations[sequence] = arrays
        return self._annotations[sequence]

    def _read_annotations(self, sequence: str) -> dict[str, np.ndarray]:
        return self.source.read_annotations(sequence) | self.source.read_attached(
            sequence, self.encoder_camera
        )

    def encoder_of(self, sequence: str, name: str) -> str | None:
        """What made the stored descriptors `name`, as the capture says ("mediapipe-..."); None where it does
        not."""
        self._check_sequence(sequence)
        return self.source.encoder_of(sequence, name)

    def head_poses(self, sequence: str) -> np.ndarray | None:
        """Head-to-world rigid transforms, float64 [T, 4, 4]; None if the capture has none (see
        `require_head_poses`).

        Raises ValueError that names the first frame whose pose is not rigid.
        """
        poses = self.annotations(sequence).get("head_pose")
        if poses is None:
            return None
        poses = self._shaped(sequence, "head_pose", poses, (4, 4)).astype(np.float64)
        for frame, pose in enumerate(poses):
            problem = rigid_problem(pose, _ROTATION_TOLERANCE)
            if problem:
                raise ValueError(
                    f"{self.root}: the head pose of {sequence} frame {frame} {problem}; estimate it again"
                )
        return poses

    def require_head_poses(self, sequence: str) -> np.ndarray:
        """`head_poses`, where nothing can be done without them: ValueError that says how to make them if
        there are none."""
        poses = self.head_poses(sequence)
        if poses is None:
            raise ValueError(
                f"{self.root}: sequence {sequence} has no head poses; write them with raf-lite encode, or"
                " estimate them with raf_lite.captures.fit_head_poses and store them as head_pose [T, 4, 4]"
                f" in {self.source.annotation_file(sequence)} (raf_lite.captures.attach_head_poses)"
            )
        return poses

    def landmarks68(self, sequence: str) -> np.ndarray | None:
        """The 68 landmarks (iBUG order) in the world, float64 [T, 68, 3]; None if the capture has none."""
        landmarks = self.annotations(sequence).get("landmarks68")
        if landmarks is None:
            return None
        landmarks = self._shaped(sequence, "landmarks68", landmarks, (68, 3)).astype(np.float64)
        self._check_finite(sequence, "landmarks68", landmarks)
        return landmarks

    def face_found(self, sequence: str) -> np.ndarray:
        """Frames in which the encoder found a face, bool [T]; all of them where the capture does not tell."""
        found = self.annotations(sequence).get("face_found")
        if found is None:
            return np.ones(self.n_frames(sequence), bool)
        return self._shaped(sequence, "face_found", found, ()).astype(bool)

    def descriptors(self, sequence: str, name: str) -> np.ndarray:
        """Stored expression descriptors (for example "blendshapes", "landmarks_pca"), float32 [T, D].

        Rows of frames in which the encoder found no face are NaN. Raises ValueError that names the sequence,
        field and frame: no such field, not [T, D], a face found but a value that is not finite, no face in
        the whole sequence.
        """
        annotations = self.annotations(sequence)
        if name not in annotations:
            raise ValueError(
                f"{self.root}: {sequence} has no stored descriptors '{name}' (it has {sorted(annotations)});"
                " encode the capture first"
            )
        self._check_numeric(sequence, name, annotations[name])
        rows = annotations[name].astype(np.float32)
        if rows.ndim != 2:
            raise ValueError(
                f"{self.root}: '{name}' of {sequence} has shape {list(rows.shape)}, which is not [frames, "
                "dimensions]; encode the capture again"
            )
        found = self.face_found(sequence)
        if not found.any():
            raise ValueError(
                f"{self.root}: the encoder found no face in any frame of {sequence}; leave the sequence out"
                f" or check the video of camera {self.encoder_camera}"
            )
        self._check_finite(sequence, name, rows, only=found)
        rows[~found] = np.nan
        return rows

    def truth(self, sequence: str) -> dict[str, np.ndarray]:
        """GRADING ONLY: what a rendered capture knows exactly (true expression weights and so on), by field.

        No other method opens this file, and nothing that trains or drives an avatar may. FileNotFoundError if
        there is none."""
        self._check_sequence(sequence)
        return self.source.read_truth(sequence)

    # -- checks
    # ------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check every sequence without decoding it: sizes and frame counts of videos and masks, poses,
        landmarks.

        Raises on the first fault, like the method that would have met it.
        """
        for sequence in (*self.sequences, *self.cross_sequences):
            for serial in self.cameras_of(sequence):
                self.check_headers(sequence, serial)
            self.head_poses(sequence)
            self.landmarks68(sequence)
            self.face_found(sequence)

    def check_headers(self, sequence: str, serial: str) -> None:
        """Check sizes and numbers of one camera's pictures and masks, each by its header. Raises on the first
        fault."""
        self._check_header(sequence, serial, self.source.video_shape(sequence, serial), "images")
        mask_shape = self.source.mask_shape(sequence, serial)
        if mask_shape is not None:
            self._check_header(sequence, serial, mask_shape, "masks")
        self.source.check_headers(sequence, serial)

    def _check_sequence(self, sequence: str) -> None:
        if sequence not in self.sequences and sequence not in self.cross_sequences:
            raise ValueError(
                f"{self.root} has no sequence {sequence!r}; choose from "
                f"{[*self.sequences, *self.cross_sequences]}"
            )

    def _check_camera(self, sequence: str, serial: str) -> None:
        if serial not in self.cameras_of(sequence):
            raise ValueError(
                f"{self.source.describe(sequence)} has no video of camera {serial!r}; choose from "
                f"{list(self.cameras_of(sequence))}"
            )

    def _check_header(self, sequence: str, serial: str, shape: tuple[int, int, int], what: str) -> None:
        """Compare a file's size with its camera's, and its frames with the sequence's, before it is
        decoded."""
        height, width = self.source.stored_size(serial)
        file = self.source.describe(sequence, serial, what)
        if shape[1:] != (height, width):
            raise ValueError(
                f"{file}: the {what} are {shape[2]}x{shape[1]} (WxH), but camera {serial} takes images of "
                f"{width}x{height}; write them again at that size"
            )
        if shape[0] != self.n_frames(sequence):
            raise ValueError(
                f"{file}: there are {shape[0]} {what}, but camera {self.cameras_of(sequence)[0]} has"
                f" {self.n_frames(sequence)} images of {sequence}; recordings must be synchronous, write them"
                " again"
            )

    def _shaped(self, sequence: str, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if array.shape[1:] != shape:
            raise ValueError(
                f"{self.root}: '{name}' of {sequence} has shape {list(array.shape)}; give "
                f"{[len(array), *shape]}"
            )
        self._check_numeric(sequence, name, array)
        return array

    def _check_numeric(self, sequence: str, name: str, array: np.ndarray) -> None:
        if array.dtype.kind not in "fiub":
            raise ValueError(
                f"{self.root}: '{name}' of {sequence} holds {array.dtype} where numbers belong; annotate this"
                " sequence again"
            )

    def _check_finite(
        self, sequence: str, name: str, array: np.ndarray, only: np.ndarray | None = None
    ) -> None:
        bad = ~np.isfinite(array).reshape(len(array), -1).all(1)
        if only is not None:
            bad &= only
        if bad.any():
            raise ValueError(
                f"{self.root}: '{name}' of {sequence} frame {int(bad.argmax())} has values that are not"
                " finite; annotate this sequence again"
            )

    def _streamed(
        self, kind: str, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        """Frames, masks or counts one by one."""
        streams = {"frames": self.stream_frames, "masks": self.stream_masks, "counts": self.stream_counts}
        stream = streams[kind](sequence, serial, rows)
        assert stream is not None  # counts are asked for where there are some
        return stream

    def _fits(self, kind: str, sequence: str, serial: str) -> bool:
        """Whether the cache has room for the whole video."""
        self._check_camera(sequence, serial)
        camera = self.cameras[serial]
        one = camera.height * camera.width * (3 if kind == "frames" else 1)
        return self.n_frames(sequence) * one <= self.cache_bytes

    def _each(self, kind: str, sequence: str, serial: str, rows: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames of these rising numbers, one by one: of the whole video, which is kept, or without the
        others."""
        if self._fits(kind, sequence, serial):
            video = self._cached(kind, sequence, serial)
            return (video[row] for row in rows)
        return self._streamed(kind, sequence, serial, rows)

    def _some(self, kind: str, sequence: str, serial: str, indices: np.ndarray | slice) -> np.ndarray:
        """Frames of these numbers, likewise."""
        if self._fits(kind, sequence, serial):
            return self._cached(kind, sequence, serial)[indices]
        asked = np.arange(self.n_frames(sequence))[indices]
        rows, places = np.unique(asked, return_inverse=True)
        # The shape of no frame is that of one.
        read = _stacked(self._streamed(kind, sequence, serial, rows.tolist() or [0]))
        return read[places.reshape(np.shape(asked))]

    def _cached(self, kind: str, sequence: str, serial: str) -> np.ndarray:
        """The decoded video, from memory if it is there. The least recently used ones make room."""
        key = (kind, sequence, serial)
        if key not in self._videos:
            self._check_camera(sequence, serial)
            video = _stacked(self._streamed(kind, sequence, serial))
            video.setflags(write=False)
            held = sum(v.nbytes for v in self._videos.values())
            while self._videos and held + video.nbytes > self.cache_bytes:
                held -= self._videos.popitem(last=False)[1].nbytes
            if video.nbytes > self.cache_bytes:
                return video
            self._videos[key] = video
        self._videos.move_to_end(key)
        return self._videos[key]
