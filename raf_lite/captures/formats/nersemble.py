"""The NeRSemble v2 layout, read and written: the raw dataset, the benchmark's folders and the captures that
`rig` renders.

    {pid:03d}/calibration/camera_params.json      world_2_cam {serial: 4x4 OpenCV}, intrinsics: one 3x3 or
    {serial: 3x3} {pid:03d}/sequences/{SEQ}/images/cam_{serial}.mp4
    {pid:03d}/sequences/{SEQ}/alpha_maps/cam_{serial}.mp4        (benchmark, rendered)
    {pid:03d}/sequences/{SEQ}/tracking/flame2023_tracking_v2.npz (benchmark; FLAME expressions and head poses)
    {pid:03d}/capture.json, annotations/{SEQ}.npz, truth/{SEQ}.npz     (rendered; ours)

Layout and names: `nersemble_data` 0.0.6 and `nersemble_benchmark` 0.2.0 on PyPI.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raf_lite._files import atomic_path, read_npz, write_json
from raf_lite.captures.attached import attached_poses
from raf_lite.captures.cameras import Camera
from raf_lite.captures.capture import Capture, SplitRule
from raf_lite.captures.formats._files import numbers, read_arrays, read_json
from raf_lite.captures.source import Source
from raf_lite.captures.video import iter_video, probe_video, sample_video, video_frames

CALIBRATION = "calibration/camera_params.json"
NOTES = "capture.json"
TRACKING = "tracking/flame2023_tracking_v2.npz"
ENCODER_CAMERA = "222200037"  # the frontal one
RAW_FPS = 73.0

SEQUENCES = (
    "BACKGROUND",
    "GLASSES",
    "EXP-1-head",
    "EXP-2-eyes",
    "EXP-3-cheeks+nose",
    "EXP-4-lips",
    "EXP-5-mouth",
    "EXP-6-tongue-1",
    "EXP-7-tongue-2",
    "EXP-8-jaw-1",
    "EXP-9-jaw-2",
    "HAIR",
    "FREE",
    "EMO-1-shout+laugh",
    "EMO-2-surprise+fear",
    "EMO-3-angry+sad",
    "EMO-4-disgust+happy",
    "SEN-01-cramp_small_danger",
    "SEN-02-same_phrase_thirty_times",
    "SEN-03-pluck_bright_rose",
    "SEN-04-two_plus_seven",
    "SEN-05-glow_eyes_sweet_girl",
    "SEN-06-problems_wise_chief",
    "SEN-07-fond_note_friend",
    "SEN-08-clothes_and_lodging",
    "SEN-09-frown_events_bad",
    "SEN-10-port_strong_smokey",
)

_HOLDOUT_SEQUENCES = ("FREE", "EMO-1-shout+laugh", "SEN-09-", "SEN-10-")
SPLITS = {
    # GLASSES and HAIR change how the person looks, not the expression.
    "default": SplitRule(_HOLDOUT_SEQUENCES, ("GLASSES", "HAIR"), ("222200046", "222200039")),
    # nersemble_benchmark.constants: BENCHMARK_NVS_*, BENCHMARK_MONO_FLAME_AVATAR_*
    "nvs": SplitRule(holdout_cameras=("222200046", "222200037", "222200039")),
    "mono": SplitRule(
        _HOLDOUT_SEQUENCES,
        ("GLASSES", "HAIR", "EXP-6-tongue-1", "EXP-7-tongue-2"),
        ("222200046", "220700191", "222200039"),
        ("222200037",),
    ),
}


def is_nersemble(path: Path) -> bool:
    """Whether this folder is one participant in the NeRSemble layout."""
    return (path / CALIBRATION).is_file()


def open_nersemble(
    path: Path, downscale: int, crop: tuple[int, int, int, int] | None, cache_bytes: int
) -> Capture:
    """`open_capture` for a participant folder of this layout."""
    filmed = {
        folder.parent.name for folder in path.glob("sequences/*/images") if any(folder.glob("cam_*.mp4"))
    }
    # The benchmark keeps the videos of its hold-out sequences to itself and gives their tracking.
    names = sorted(filmed | {file.parent.parent.name for file in path.glob(f"sequences/*/{TRACKING}")})
    if not filmed:
        raise FileNotFoundError(
            f"{path} has no video sequences/*/images/cam_*.mp4; download or write the capture again"
        )
    # NeRSemble's own order, then anything else by name.
    names.sort(key=lambda name: SEQUENCES.index(name) if name in SEQUENCES else len(SEQUENCES))
    videos = {
        file.stem.removeprefix("cam_"): file
        for name in reversed(names)
        for file in sorted((path / "sequences" / name / "images").glob("cam_*.mp4"))
    }
    cameras, shared = _read_cameras(path / CALIBRATION, videos)
    notes_path = path / NOTES
    notes = read_json(notes_path) if notes_path.is_file() else {}
    encoder = notes.get("encoder")
    if encoder is not None and not isinstance(encoder, str):
        raise ValueError(f"{notes_path}: encoder is {encoder!r}, not a name; correct it")
    source = NersembleSource(
        path,
        {serial: (c.height, c.width) for serial, c in cameras.items()},
        encoder,
        downscale=downscale,
        crop=crop,
    )

    tracked = any((path / "sequences" / name / TRACKING).is_file() for name in names)
    # The raw dataset's cameras ran at 73 fps; the benchmark's videos (intrinsics per camera) are thinned out.
    recorded = RAW_FPS if shared else probe_video(videos[next(iter(videos))]).fps
    try:
        neutral = (
            (str(notes["neutral"]["sequence"]), int(notes["neutral"]["frame"]))
            if "neutral" in notes
            else None
        )
        fps = float(notes.get("fps", recorded))
        if not 0 <= fps < np.inf:
            raise ValueError(f"fps is {fps}")
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"{notes_path}: fps must be a number and neutral {{sequence, frame}} ({error!r}); correct it"
        ) from error
    if neutral and neutral[0] not in names:
        raise ValueError(
            f"{notes_path}: the neutral frame is in {neutral[0]}, of which there is no video; name one of"
            f" {names}"
        )
    return Capture(
        subject=path.resolve().name,
        root=path,
        fps=fps,
        cameras=source.framed(cameras),
        source=source,
        split_rules=SPLITS,
        cache_bytes=cache_bytes,
        sequences=tuple(name for name in names if not name.startswith("CROSS-")),
        cross_sequences=tuple(name for name in names if name.startswith("CROSS-")),
        encoder_camera=ENCODER_CAMERA if ENCODER_CAMERA in cameras else next(iter(cameras)),
        head_pose_source=notes.get("head_pose_source", "FLAME" if tracked else None)
        or attached_poses(map(source.annotation_file, names)),
        neutral=neutral,
    )


@dataclass(frozen=True)
class NersembleSource(Source):
    """Reads one participant's files."""

    path: Path
    sizes: Mapping[str, tuple[int, int]]  # height and width on disk, by serial
    encoder: str | None  # what made the descriptors of annotations/, by capture.json

    def video_path(self, sequence: str, serial: str) -> Path:
        return self.path / "sequences" / sequence / "images" / f"cam_{serial}.mp4"

    def mask_path(self, sequence: str, serial: str) -> Path:
        return self.path / "sequences" / sequence / "alpha_maps" / f"cam_{serial}.mp4"

    def tracking_path(self, sequence: str) -> Path:
        return self.path / "sequences" / sequence / TRACKING

    def annotation_file(self, sequence: str) -> Path:
        return self.path / "annotations" / f"{sequence}.npz"

    def pictures(self, sequence: str, serial: str) -> list[Path]:
        video = self.video_path(sequence, serial)
        return [video] if video.is_file() else []

    def encoder_of(self, sequence: str, descriptor: str) -> str | None:
        file = self.annotation_file(sequence)
        annotated = file.is_file() and read_npz(file, (), optional=(descriptor,))
        return super().encoder_of(sequence, descriptor) or (self.encoder if annotated else None)

    def cameras_of(self, sequence: str) -> tuple[str, ...]:
        return tuple(
            sorted(
                file.stem.removeprefix("cam_")
                for file in (self.path / "sequences" / sequence / "images").glob("cam_*.mp4")
            )
        )

    def files(self, sequence: str, serial: str) -> list[Path]:
        return [
            file
            for file in (
                self.video_path(sequence, serial),
                self.mask_path(sequence, serial),
                self.path / CALIBRATION,
                self.tracking_path(sequence),
                self.annotation_file(sequence),
                self.path / NOTES,
            )
            if file.is_file()
        ]

    def stored_size(self, serial: str) -> tuple[int, int]:
        return self.sizes[serial]

    def video_shape(self, sequence: str, serial: str) -> tuple[int, int, int]:
        return _header_shape(self.video_path(sequence, serial))

    def mask_shape(self, sequence: str, serial: str) -> tuple[int, int, int] | None:
        path = self.mask_path(sequence, serial)
        return _header_shape(path) if path.is_file() else None

    def iter_frames(
        self, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        path = self.video_path(sequence, serial)
        if rows is not None:
            return video_frames(path, rows, crop=self.crop, downscale=self.downscale)
        return iter_video(path, crop=self.crop, downscale=self.downscale)

    def iter_masks(
        self, sequence: str, serial: str, rows: Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        path = self.mask_path(sequence, serial)
        if not path.is_file():
            raise FileNotFoundError(
                f"there are no masks {path}; the raw NeRSemble dataset has none: take the benchmark's, or "
                "matte the videos"
            )
        if rows is not None:
            return video_frames(path, rows, crop=self.crop, downscale=self.downscale, gray=True)
        return iter_video(path, crop=self.crop, downscale=self.downscale, gray=True)

    def sample_masks(self, sequence: str, serial: str, most: int) -> Iterator[tuple[int, np.ndarray]]:
        return sample_video(
            self.mask_path(sequence, serial), most, crop=self.crop, downscale=self.downscale, gray=True
        )

    def read_annotations(self, sequence: str) -> dict[str, np.ndarray]:
        tracking = self.tracking_path(sequence)
        return _read_tracking(tracking) if tracking.is_file() else {}

    def read_truth(self, sequence: str) -> dict[str, np.ndarray]:
        path = self.path / "truth" / f"{sequence}.npz"
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}: only rendered captures know the truth")
        return read_arrays(path)

    def describe(self, sequence: str, serial: str | None = None, what: str = "images") -> str:
        if serial is None:
            return str(self.path / "sequences" / sequence)
        return str((self.mask_path if what == "masks" else self.video_path)(sequence, serial))


def _read_tracking(path: Path) -> dict[str, np.ndarray]:
    """The benchmark's FLAME tracking: `flame_expr` [T, 100], `flame_expr_jaw` [T, 103], and `head_pose` [T,
    4, 4].

    FLAME stands in the world as scale * rotation * x + translation; the scale is left to the head space,
    which makes the pose rigid. What the neck's joint turns is not in it: where the joint lies, only the FLAME
    model knows.
    """
    read = read_arrays(path, ("expression", "jaw", "rotation_matrices", "translation"))
    frames = len(read["expression"]) if read["expression"].ndim else 0
    shapes = {
        "expression": (-1, 100),
        "jaw": (frames, 3),
        "rotation_matrices": (frames, 3, 3),
        "translation": (frames, 3),
    }
    expression, jaw, rotation, translation = (
        numbers(read[n], shape, f"{path}: {n}") for n, shape in shapes.items()
    )
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = rotation, translation
    return {
        "flame_expr": expression.astype(np.float32),
        "head_pose": poses,
        "flame_expr_jaw": np.concatenate([expression, jaw], 1).astype(np.float32),
    }


def write_calibration(participant_dir: str | os.PathLike, cameras: Mapping[str, Camera]) -> None:
    """Write `calibration/camera_params.json` (and an identity `color_calibration.json`), which `open_capture`
    and `nersemble_data` read back exactly.

    Cameras that share one K are written like the raw dataset (one 3x3; `nersemble_data` reads only that),
    others like the benchmark (one per serial).
    """
    Ks = {serial: camera.K.tolist() for serial, camera in cameras.items()}
    first = next(iter(Ks.values()))
    folder = Path(participant_dir, "calibration")
    write_json(
        folder / "camera_params.json",
        {
            "world_2_cam": {serial: camera.world_to_camera.tolist() for serial, camera in cameras.items()},
            "intrinsics": first if all(K == first for K in Ks.values()) else Ks,
        },
    )
    write_json(folder / "color_calibration.json", {serial: np.eye(3).tolist() for serial in cameras})


def write_metadata(root: str | os.PathLike) -> None:
    """Write `metadata_sequences.csv` of a folder of participants: a row each, an x for each sequence that has
    videos."""
    with (
        atomic_path(Path(root, "metadata_sequences.csv")) as tmp,
        open(tmp, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["ID", *SEQUENCES])
        for participant in sorted(p for p in Path(root).iterdir() if p.is_dir() and is_nersemble(p)):
            writer.writerow(
                [
                    int(participant.name),
                    *("x" if (participant / "sequences" / name).is_dir() else "" for name in SEQUENCES),
                ]
            )


def _read_cameras(path: Path, videos: Mapping[str, Path]) -> tuple[dict[str, Camera], bool]:
    """Cameras at the size of their videos, and whether they share one K.

    videos: one video of each serial that has any. A calibrated camera without a video (the benchmark hides
    them) is taken to have the size of the first one that has.
    """
    params = read_json(path)
    try:
        world_to_camera, intrinsics = dict(params["world_2_cam"]), params["intrinsics"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} needs the fields world_2_cam (by serial) and intrinsics; take NeRSemble's "
            "own file, or write one with write_calibration"
        ) from error
    shared = not isinstance(intrinsics, dict)
    for serial, video in videos.items():
        if serial not in world_to_camera or not (shared or serial in intrinsics):
            raise ValueError(
                f"{path} has no camera {serial}, of which there is a video {video}; add its calibration, or"
                " remove its videos"
            )
    sizes = {serial: probe_video(video) for serial, video in videos.items()}
    any_size = next(iter(sizes.values()))
    cameras = {}
    for serial, matrix in world_to_camera.items():
        if not shared and serial not in intrinsics:
            raise ValueError(f"{path}: intrinsics has no camera {serial}, which world_2_cam has; add it")
        size = sizes.get(serial, any_size)
        try:
            cameras[serial] = Camera(
                serial, matrix, intrinsics if shared else intrinsics[serial], size.width, size.height
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return cameras, shared


def _header_shape(path: Path) -> tuple[int, int, int]:
    info = probe_video(path)
    return info.frames, info.height, info.width
