"""Avatars against the truth: every case of the protocols rendered, measured, and pooled into one table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from raf_lite._files import write_json
from raf_lite.avatar import Drivable, GaussianAvatar, aligned_poses, own_reference, same_descriptor
from raf_lite.captures import Camera, Capture, block_mean, shrink_factor
from raf_lite.descriptors import Detections, MediaPipeEncoder
from raf_lite.evaluation.identity import cosines
from raf_lite.evaluation.lpips import NETS
from raf_lite.evaluation.metrics import encoder_errors, half_pixel_shift, picture_errors, shaking
from raf_lite.evaluation.networks import Networks, perceptual_errors
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
    "landmarks_mouth",
    "landmarks_eyes",
    "aed",
    "aed_mouth",
    "aed_eyes",
)
# Columns that a table has where they were measured.
MEASURED = (
    *(f"jitter{part}" for part in ("", "_mouth", "_eyes")),
    *(f"lpips_{net}{part}" for net in NETS for part in ("", "_face")),
    "identity",
)
RUN = 60  # frames in a row, at most, in which jitter is measured
NETWORK_PICTURES = 16  # that networks are asked about, of all own and cross-driven sequences together


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
    # A frame at a time: those of a film may be of 4K before they are made small.
    rows, places = np.unique(frames, return_inverse=True)
    seen = capture.each_over_white(sequence, serial, rows.tolist())
    pictures = np.concatenate([block_mean(frame[None] / np.float32(255), factor) for frame in seen])[places]
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
    networks: Networks | None = None,
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
    columns are NaN. networks: for LPIPS and identity there (`networks_at_hand`). out: a JSON
    file with the table, the same by sequence, and `settings`. frame_step: see `driving_cases`, whose errors
    are raised. align: grade held-out frames of the encoder's camera a second time, each head moved rigidly to
    where its face fits the picture best (all of the picture, where a capture has no landmarks): rows
    "<name> (aligned)".

    Of a film, pixels below the neck do not count (`Capture.counts`).

    Returns a table with a row for each (group, avatar), and a "noise floor" row a group for what depends on
    the encoder: ground truth against itself shifted by half a pixel. Columns: views (how many pictures), psnr
    and ssim of whole frames; psnr_face, ssim_face, flip_face and mae_* (by region) as
    `raf_lite.evaluation.metrics.picture_errors` defines them, NaN without landmarks in the capture; landmarks
    (pixels at `size`) and aed. The slow ones, SSIM and FLIP, are taken from the first camera only. And, where
    they were measured: jitter, in captures of one camera with an encoder, how the avatar's landmarks shake
    (`raf_lite.evaluation.metrics.shaking`) over how the truth's do, in up to RUN frames in a row, driven by
    the person's own (how the head moves does not count, so that aligned rows have none); lpips_* at the
    size at which avatars are rendered, of the whole picture and of the face's box
    (`raf_lite.evaluation.networks.perceptual_errors`), and identity, the cosine of the face recognition
    descriptors of avatar and truth, which asks the encoder where the face is: both of about NETWORK_PICTURES
    pictures, evenly of all own and cross-driven sequences, two of each at least.

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
    descriptor, reference = same_descriptor(avatars), own_reference(first)
    cases = list(driving_cases(capture, drivers, descriptor, frame_step, reference))
    runs = {}
    if encoder is not None and len(capture.cameras) == 1:
        runs = _runs(driving_cases(capture, drivers, descriptor, 1, reference))
    asked = max(2, NETWORK_PICTURES // max(1, sum(case.protocol in ("self", "cross") for case in cases)))
    rows = []
    for case in tqdm(cases, desc="grading", disable=not progress):
        groups, run = frame_groups(case, labels), runs.get(case.sequence)
        judges = _Judges(encoder, networks or Networks(), asked)
        for name, errors in _errors_of_case(case, run, avatars, capture, size, judges, align):
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
    frames = pd.DataFrame(rows)
    measured = [column for column in MEASURED if column in frames]
    frames = frames.reindex(columns=["avatar", "group", "sequence", *COLUMNS, *measured])
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


def _runs(cases: Iterator[Case]) -> dict[str, Case]:
    """The longest stretch of frames in a row of each own sequence, up to RUN of them."""
    runs = {}
    for case in cases:
        if case.protocol == "self":
            gaps = np.flatnonzero(np.diff(case.frames) != 1) + 1
            rows = max(np.split(np.arange(len(case.frames)), gaps), key=len)[:RUN]
            runs[case.sequence] = replace(
                case,
                frames=case.frames[rows],
                descriptors=case.descriptors[rows],
                head_poses=case.head_poses[rows],
            )
    return runs


@dataclass(frozen=True)
class _Judges:
    """Who looks at pictures: an encoder, and networks, which are asked about `asked` pictures of a case."""

    encoder: MediaPipeEncoder | None
    networks: Networks
    asked: int


def _errors_of_case(
    case: Case,
    run: Case | None,
    avatars: Mapping[str, Drivable],
    capture: Capture,
    size: int,
    judges: _Judges,
    align: bool,
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(avatar, column -> [T]) for every avatar and camera, the noise floor first. run: frames in a row of the
    same sequence, to measure jitter in."""
    answers = [_answer(capture, case.sequence, serial, case.frames, size) for serial in case.serials]
    seeing, shake = None, None
    if case.protocol in ("self", "cross"):
        seeing = _Seeing.of(answers[0], judges)
        if judges.encoder is not None:
            yield NOISE_FLOOR, seeing.errors(half_pixel_shift(answers[0].pictures), moved=0.5)
    if run is not None and judges.encoder is not None and case.protocol == "self":
        shake = _Shake.of(
            run, _answer(capture, run.sequence, run.serials[0], run.frames, size), judges.encoder
        )
    for name, avatar in avatars.items():
        shown = avatar.render(case.descriptors, case.head_poses, [answer.camera for answer in answers])
        for c, answer in enumerate(answers):
            errors = _picture_columns(shown[:, c], answer, slow=c == 0)
            if seeing is not None and c == 0:
                errors |= seeing.errors(shown[:, c])
                if shake is not None:
                    errors |= {k: np.full(len(shown), v) for k, v in shake.jitter(avatar).items()}
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
class _Shake:
    """Frames in a row from one camera, and how the truth's landmarks shake in them."""

    run: Case
    camera: Camera
    encoder: MediaPipeEncoder
    own: dict[str, float]

    @classmethod
    def of(cls, run: Case, truth: Answer, encoder: MediaPipeEncoder) -> _Shake:
        return cls(run, truth.camera, encoder, shaking(encoder.detect(truth.pictures).landmarks))

    def jitter(self, avatar: Drivable) -> dict[str, float]:
        """How the avatar's landmarks shake over how the truth's do, by column."""
        shown = avatar.render(self.run.descriptors, self.run.head_poses, [self.camera])[:, 0]
        found = shaking(self.encoder.detect(shown).landmarks)
        return {
            "jitter" if region == "face" else f"jitter_{region}": found[region] / own if own > 0 else np.nan
            for region, own in self.own.items()
        }


@dataclass(frozen=True)
class _Seeing:
    """What an encoder and networks say of pictures from one camera, against what they see in the truth."""

    answer: Answer
    judges: _Judges
    truth: Detections | None
    rows: np.ndarray  # of the pictures that networks are asked about
    identity: np.ndarray | None  # the truth's, [len(rows), 128]

    @classmethod
    def of(cls, answer: Answer, judges: _Judges) -> _Seeing:
        truth = None if judges.encoder is None else judges.encoder.detect(answer.pictures)
        count = len(answer.pictures)
        rows = np.unique(np.linspace(0, count - 1, min(count, judges.asked)).round().astype(int))
        identity = None
        if truth is not None and judges.networks.identity is not None:
            identity = judges.networks.identity.descriptors(answer.pictures[rows], truth.landmarks[rows])
        return cls(answer, judges, truth, rows, identity)

    def errors(self, pictures: np.ndarray, moved: float = 0) -> dict[str, np.ndarray]:
        """By column, [T], of pictures in which everything lies `moved` pixels further right and down."""
        rows, regions, networks = self.rows, self.answer.regions, self.judges.networks
        asked, columns = {}, {}
        if networks.lpips:
            faces = None if regions is None else regions["face"][rows]
            shown = self.answer.counted(pictures)[rows]
            asked |= perceptual_errors(networks.lpips, shown, self.answer.pictures[rows], faces)
        if self.judges.encoder is not None and self.truth is not None:
            seen = self.judges.encoder.detect(pictures)
            errors = encoder_errors(
                seen.landmarks[..., :2] - moved,
                seen.blendshapes,
                self.truth.landmarks,
                self.truth.blendshapes,
            )
            columns |= {
                measure if region == "face" else f"{measure}_{region}": values
                for measure, regions in errors.items()
                for region, values in regions.items()
            }
            if networks.identity is not None and self.identity is not None:
                found = networks.identity.descriptors(pictures[rows], seen.landmarks[rows])
                asked["identity"] = cosines(found, self.identity)
        for column, values in asked.items():
            columns[column] = np.full(len(pictures), np.nan)
            columns[column][rows] = values
        return columns


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
    columns = [column for column in frames if column not in ("avatar", "group", "sequence")]
    return pd.concat([grouped.size().rename("views"), grouped[columns].mean()], axis=1)


def _records(table: pd.DataFrame) -> list[dict]:
    """Rows as plain dicts; NaN, which JSON has not, becomes None."""
    return [
        {k: None if v != v else round(v, 5) if isinstance(v, float) else v for k, v in record.items()}
        for record in table.reset_index().to_dict("records")
    ]


def change_from_baseline(table: pd.DataFrame) -> pd.DataFrame:
    """Percent change of every error column against the group's first avatar (negative = better); PSNR as a
    difference in dB. Similarities (SSIM, identity) and jitter, of which less is not better without end, are
    left out.

    >>> rows = pd.MultiIndex.from_product([["self"], ["plain", "raf"]])
    >>> table = pd.DataFrame(
    ...     {"psnr": [30.0, 31.0], "psnr_face": [28.0, 28.0], "mae_mouth": [4.0, 3.0]}, index=rows
    ... )
    >>> change_from_baseline(table).loc[("self", "raf")].to_dict()
    {'psnr dB': 1.0, 'psnr_face dB': 0.0, 'mae_mouth %': -25.0}
    """
    no_error = ("views", "psnr", "ssim", "identity", "jitter")
    errors = [c for c in table.columns if not c.startswith(no_error)]
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
