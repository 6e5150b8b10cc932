"""Avatars against the truth: every case of the protocols rendered, measured, and pooled into one table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from raf_lite._files import write_json
from raf_lite.avatar import Drivable, GaussianAvatar, aligned_poses, own_reference, same_descriptor
from raf_lite.captures import Camera, Capture, block_mean, shrink_factor
from raf_lite.descriptors import Detections, MediaPipeEncoder
from raf_lite.evaluation.metrics import encoder_errors, half_pixel_shift, picture_errors
from raf_lite.evaluation.protocols import GROUPS, Case, archetype_labels, driving_cases, frame_groups
from raf_lite.evaluation.regions import REGIONS, face_regions

NOISE_FLOOR = "noise floor"
ALIGNED = " (aligned)"
WHOLLY = 0.99  # of a pixel's count: those of the neck's soft edge are left out too
COLUMNS = (
    "psnr",
    "psnr_face",
    "ssim",
    "ssim_face",
    "flip_face",
    *(f"mae_{region}" for region in REGIONS),
    "landmarks",
    "aed",
)


@dataclass(frozen=True)
class Answer:
    """The truth from one camera."""

    camera: Camera
    pictures: np.ndarray  # [T, H, W, 3] in [0, 1], over white
    regions: (
        dict[str, np.ndarray] | None
    )  # of the face: masks bool [T, H, W]; None without landmarks to draw them by
    counts: np.ndarray | None = None  # bool [T, H, W], pixels that count wholly; None where all do

    def counted(self, shown: np.ndarray) -> np.ndarray:
        """Pictures [T, H, W, 3] with the truth where pixels do not count, so that no window or filter of a
        metric that reaches there finds a difference."""
        return shown if self.counts is None else np.where(self.counts[..., None], shown, self.pictures)


def _answer(capture: Capture, sequence: str, serial: str, frames: np.ndarray, size: int) -> Answer:
    """The truth at `size` pixels a side (block averages) with the camera to match."""
    full = capture.cameras[serial]
    factor = shrink_factor(full, size)
    camera = full.scaled(1 / factor)
    pictures = block_mean(capture.over_white(sequence, serial, frames) / np.float32(255), factor)
    counts = capture.counts(sequence, serial, frames)
    if counts is not None:
        counts = block_mean(counts, factor) > WHOLLY
    landmarks = capture.landmarks68(sequence)
    if landmarks is None:
        return Answer(camera, pictures, None, counts)
    masks = [
        face_regions(camera.project(points)[0], camera.height, camera.width) for points in landmarks[frames]
    ]
    regions = {name: np.stack([m[name] for m in masks]) > 0 for name in REGIONS}
    if counts is not None:
        regions = {name: region & counts for name, region in regions.items()}
    return Answer(camera, pictures, regions, counts)


def frame_errors(
    avatar: Drivable,
    capture: Capture,
    sequence: str,
    descriptors: np.ndarray,
    frames: np.ndarray,
    *,
    size: int,
) -> dict[str, np.ndarray]:
    """What an avatar shows for descriptors [T, D] against `frames` [T] of a sequence, frame by frame, on the
    encoder's camera.

    The avatar gets the frames' own head poses. size: pixels a side at which it is rendered; pictures are
    compared at half of it. Returns the mean absolute error in grey levels of 255 for each of REGIONS, [T].
    Raises ValueError for a capture that has no landmarks or head poses.

    >>> from raf_lite import GaussianAvatar, open_capture
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001")
    >>> frames = np.array([10, 20])
    >>> errors = frame_errors(
    ...     avatar, capture, "FREE", capture.descriptors("FREE", "blendshapes")[frames], frames, size=64
    ... )
    >>> {region: values.shape for region, values in errors.items()}
    {'face': (2,), 'mouth': (2,), 'eyes': (2,), 'cheeks+nose': (2,)}
    """
    poses = capture.require_head_poses(sequence)[frames]
    answer = _answer(capture, sequence, capture.encoder_camera, np.asarray(frames), size)
    if answer.regions is None:
        raise ValueError(
            f"{capture.root}: {sequence} has no landmarks to find mouth and eyes by; use a rendered capture"
        )
    shown = avatar.render(descriptors, poses, [answer.camera])[:, 0]
    return picture_errors(shown, answer.pictures, answer.regions, ["mae"])["mae"]


def evaluate(
    avatars: Mapping[str, Drivable],
    capture: Capture,
    drivers: Mapping[str, Capture],
    *,
    size: int,
    out: str | os.PathLike | None = None,
    encoder: MediaPipeEncoder | None = None,
    frame_step: int = 2,
    settings: dict | None = None,
    align: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Grade avatars side by side on the same frames.

    avatars: name -> what is graded, all driven by one descriptor; the first one is the baseline. A relative
    descriptor is relative to what the baseline's training took out for the person, and to each driver's own.
    drivers: participant id -> capture. size: pixels a side at which avatars are rendered; pictures are
    compared at half of it. encoder: for landmark error and AED on the encoder's camera; without one those
    columns are NaN. out: a JSON file with the table, the same by sequence, and `settings`. frame_step: see
    `driving_cases`, whose errors are raised. align: grade held-out frames of the encoder's camera a second
    time, each head moved rigidly to where its face fits the picture best (all of the picture, where a capture
    has no landmarks): rows "<name> (aligned)".

    Of a film, pixels below the neck do not count (`Capture.counts`).

    Returns a table with a row for each (group, avatar), and a "noise floor" row a group for what depends on
    the encoder: ground truth against itself shifted by half a pixel. Columns: views (how many pictures), psnr
    and ssim of whole frames; psnr_face, ssim_face, flip_face and mae_* (by region) as
    `raf_lite.evaluation.metrics.picture_errors` defines them, NaN without landmarks in the capture; landmarks
    (pixels at `size`) and aed. The slow ones, SSIM and FLIP, are taken from the first camera only.

    >>> from dataclasses import replace
    >>> from raf_lite import GaussianAvatar, open_capture
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001")
    >>> capture = replace(capture, sequences=("EXP-1-head", "FREE"), cross_sequences=())
    >>> table = evaluate({"centred": avatar}, capture, {}, size=64, frame_step=50, progress=False)
    >>> int(table.loc[("self", "centred"), "views"])
    9
    """
    labels, first = archetype_labels(capture), next(iter(avatars.values()))
    rows = []
    for case in tqdm(
        list(driving_cases(capture, drivers, same_descriptor(avatars), frame_step, own_reference(first))),
        desc="grading",
        disable=not progress,
    ):
        groups = frame_groups(case, labels)
        for name, errors in _errors_of_case(case, avatars, capture, size, encoder, align):
            rows += [
                {
                    "avatar": name,
                    "group": group,
                    "sequence": case.sequence,
                    **{k: float(v[t]) for k, v in errors.items()},
                }
                for t, names in enumerate(groups)
                for group in names
            ]
    frames = pd.DataFrame(rows).reindex(columns=["avatar", "group", "sequence", *COLUMNS])
    table = _pool(frames, ["group", "avatar"])
    names = [shown for name in avatars for shown in (name, f"{name}{ALIGNED}")]
    table = table.loc[[(g, a) for g in GROUPS for a in (*names, NOISE_FLOOR) if (g, a) in table.index]]
    if out is not None:
        by_sequence = _pool(frames, ["group", "sequence", "avatar"])
        write_json(
            Path(out),
            {
                "settings": settings or {},
                "size": size,
                "baseline": next(iter(avatars)),
                "table": _records(table),
                "by_sequence": _records(by_sequence),
            },
        )
    return table


def _errors_of_case(
    case: Case,
    avatars: Mapping[str, Drivable],
    capture: Capture,
    size: int,
    encoder: MediaPipeEncoder | None,
    align: bool,
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(avatar, column -> [T]) for every avatar and camera, the noise floor first."""
    answers = [_answer(capture, case.sequence, serial, case.frames, size) for serial in case.serials]
    seeing = None
    if encoder is not None and case.protocol in ("self", "cross"):
        seeing = _Seeing(encoder, encoder.detect(answers[0].pictures))
        yield NOISE_FLOOR, seeing.errors(half_pixel_shift(answers[0].pictures), moved=0.5)
    for name, avatar in avatars.items():
        shown = avatar.render(case.descriptors, case.head_poses, [answer.camera for answer in answers])
        for c, answer in enumerate(answers):
            errors = _picture_columns(shown[:, c], answer, slow=c == 0)
            if seeing is not None and c == 0:
                errors |= seeing.errors(shown[:, c])
            yield name, errors
        if align and case.protocol == "self" and isinstance(avatar, GaussianAvatar):
            answer = answers[0]
            poses = aligned_poses(
                avatar,
                case.descriptors,
                case.head_poses,
                answer.camera,
                answer.pictures,
                answer.counts if answer.regions is None else answer.regions["face"],
            )
            shown = avatar.render(case.descriptors, poses, [answer.camera])[:, 0]
            errors = _picture_columns(shown, answer, slow=True)
            yield f"{name}{ALIGNED}", errors | (seeing.errors(shown) if seeing is not None else {})


@dataclass(frozen=True)
class _Seeing:
    """An encoder, and what it sees in the truth."""

    encoder: MediaPipeEncoder
    truth: Detections

    def errors(self, pictures: np.ndarray, moved: float = 0) -> dict[str, np.ndarray]:
        """landmarks and aed, [T], of pictures in which everything lies `moved` pixels further right and
        down."""
        seen = self.encoder.detect(pictures)
        errors = encoder_errors(
            seen.landmarks[..., :2] - moved, seen.blendshapes, self.truth.landmarks, self.truth.blendshapes
        )
        return {measure: regions["face"] for measure, regions in errors.items()}


def _picture_columns(shown: np.ndarray, answer: Answer, slow: bool) -> dict[str, np.ndarray]:
    """Errors of whole frames by measure, and of the face's regions by measure_region; slow: SSIM and FLIP
    too."""
    shown = answer.counted(shown)
    whole = {"frame": np.ones(shown.shape[:3], bool) if answer.counts is None else answer.counts}
    errors = picture_errors(shown, answer.pictures, whole, ["psnr", "ssim"] if slow else ["psnr"])
    columns = {measure: regions["frame"] for measure, regions in errors.items()}
    if answer.regions is not None:
        measures = ["mae", "psnr", "ssim", "flip"] if slow else ["mae", "psnr"]
        by_region = picture_errors(shown, answer.pictures, answer.regions, measures)
        columns |= {
            f"{measure}_{region}": values
            for measure, regions in by_region.items()
            for region, values in regions.items()
        }
    return columns


def _pool(frames: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Means over frames and cameras; `views` counts the pictures."""
    grouped = frames.groupby(keys, sort=False)
    return pd.concat([grouped.size().rename("views"), grouped[list(COLUMNS)].mean()], axis=1)


def _records(table: pd.DataFrame) -> list[dict]:
    """Rows as plain dicts; NaN, which JSON has not, becomes None."""
    return [
        {k: None if v != v else round(v, 5) if isinstance(v, float) else v for k, v in record.items()}
        for record in table.reset_index().to_dict("records")
    ]


def change_from_baseline(table: pd.DataFrame) -> pd.DataFrame:
    """Percent change of every error column against the group's first avatar (negative = better); PSNR as a
    difference in dB.

    >>> rows = pd.MultiIndex.from_product([["self"], ["plain", "raf"]])
    >>> table = pd.DataFrame(
    ...     {"psnr": [30.0, 31.0], "psnr_face": [28.0, 28.0], "mae_mouth": [4.0, 3.0]}, index=rows
    ... )
    >>> change_from_baseline(table).loc[("self", "raf")].to_dict()
    {'psnr dB': 1.0, 'psnr_face dB': 0.0, 'mae_mouth %': -25.0}
    """
    errors = [c for c in table.columns if c != "views" and not c.startswith(("psnr", "ssim"))]
    out = []
    for group, name in table.index:
        row = table.loc[(group, name)]
        base = table.loc[group].iloc[0]
        if name in (NOISE_FLOOR, table.loc[group].index[0]):
            continue
        change = {f"{c} %": 100 * (row[c] / base[c] - 1) for c in errors}
        out.append(
            {
                "group": group,
                "avatar": name,
                "psnr dB": row["psnr"] - base["psnr"],
                "psnr_face dB": row["psnr_face"] - base["psnr_face"],
                **change,
            }
        )
    return pd.DataFrame(out).set_index(["group", "avatar"])
