"""Self- and cross-driving: which frames an avatar is asked for, what drives it, and what the answer is compared with.

The words: *training views* are training frames from training cameras; *hold-out cameras* the same moments from cameras that
training never saw; *self* the person's own hold-out sequences, of which *self-seen* are frames of archetypes that training has,
*self-unseen* of archetypes that it has not, *self-strong* those of the seen that have an amplitude >= 1; *cross* another
person's expressions. In cross-driving the avatar gets the **driver's** descriptors and head poses and nothing else; the CROSS
sequence of the capture is the exact answer and is opened for its pictures (and, to draw regions, its landmarks) only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from raf_lite._files import write_json
from raf_lite.captures import Camera, Capture, block_mean, shrink_factor
from raf_lite.evaluation.metrics import (
    descriptor_distance,
    flip,
    half_pixel_shift,
    landmark_error,
    mean_absolute_error,
    psnr,
    ssim,
)
from raf_lite.evaluation.regions import REGIONS, face_regions

GROUPS = ("training views", "hold-out cameras", "self", "self-seen", "self-unseen", "self-strong", "cross")
NOISE_FLOOR = "noise floor"


@dataclass(frozen=True)
class Case:
    """Frames of one sequence from some cameras: what drives the avatar, and where the truth is."""

    protocol: str  # "training views", "hold-out cameras", "self" or "cross"
    sequence: str  # of the capture, whose pictures are the truth
    serials: tuple[str, ...]
    frames: np.ndarray  # [T] indices
    descriptors: np.ndarray  # [T, D]
    head_poses: np.ndarray  # [T, 4, 4]


def driving_cases(capture: Capture, drivers: Mapping[str, Capture], descriptor: str, frame_step: int = 2) -> Iterator[Case]:
    """Every case that a capture allows. frame_step: of hold-out and cross frames; training frames are six times sparser.

    Frames in which the encoder found no face cannot drive and are left out, as are cameras that did not film a sequence. Raises
    ValueError for a CROSS sequence whose driver is not given, and for a sequence without head poses.

    Conventions: docs/conventions.md#descriptors, docs/conventions.md#head-pose.

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> people = {name: open_capture(find_data() / "mini_nersemble" / name) for name in ("001", "101", "102", "103")}
    >>> cases = list(driving_cases(people.pop("001"), people, "blendshapes"))
    >>> cases[-1].protocol, cases[-1].sequence, cases[-1].descriptors.shape
    ('cross', 'CROSS-103-SEN-09-frown_events_bad', (21, 52))
    """
    split = capture.split("default")

    def usable(source, sequence, step, middle=False):
        values = source.descriptors(sequence, descriptor)
        kept = np.flatnonzero(np.isfinite(values).all(1))
        kept = kept[(len(kept) - 1) % step // 2 if middle else 0::step]
        return kept, values[kept], source.require_head_poses(sequence)[kept]

    def filmed(sequence, serials):
        return tuple(s for s in serials if s in capture.cameras_of(sequence))

    for sequence in split.train_sequences:
        # Sequences begin with the neutral face, which sparse frames counted from the start would nearly all show.
        frames = usable(capture, sequence, 6 * frame_step, middle=True)
        for protocol, serials in (("training views", split.train_cameras), ("hold-out cameras", split.holdout_cameras)):
            if filmed(sequence, serials):
                yield Case(protocol, sequence, filmed(sequence, serials), *frames)
    for sequence in split.holdout_sequences:
        serials = filmed(sequence, (capture.encoder_camera, *split.holdout_cameras))
        if serials:
            yield Case("self", sequence, serials, *usable(capture, sequence, frame_step))
    for name in capture.cross_sequences:
        driver, sequence = capture.cross_parts(name)
        if driver not in drivers:
            raise ValueError(f"{capture.root}: the answer {name} needs driver {driver}; pass its capture in `drivers`")
        serials = filmed(name, (capture.encoder_camera, *split.holdout_cameras))
        yield Case("cross", name, serials, *usable(drivers[driver], sequence, frame_step))


def _labels(capture: Capture) -> dict[str, tuple[np.ndarray, np.ndarray]] | None:
    """For each hold-out sequence: is the frame's archetype seen in training [T], and is it strong [T]; None without truth.

    Neutral frames are neither seen nor unseen (-1 of int8).
    """
    split = capture.split("default")
    try:
        seen = {a for s in split.train_sequences for a in np.unique(capture.truth(s)["archetype"]) if a >= 0}
        labels = {}
        for sequence in split.holdout_sequences:
            truth = capture.truth(sequence)
            archetype = truth["archetype"]
            labels[sequence] = (np.where(archetype < 0, -1, np.isin(archetype, list(seen))), truth["amplitude"] >= 1)
        return labels
    except FileNotFoundError:
        return None


def _groups(case: Case, labels) -> list[list[str]]:
    """The names of the groups that each frame of a case counts in."""
    if case.protocol != "self" or labels is None:
        return [[case.protocol] for _ in case.frames]
    seen, strong = (x[case.frames] for x in labels[case.sequence])
    names = {-1: ["self"], 0: ["self", "self-unseen"], 1: ["self", "self-seen"]}
    return [names[int(s)] + ["self-strong"] * bool(s == 1 and hard) for s, hard in zip(seen, strong, strict=True)]


def _region_masks(camera: Camera, landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """Masks [T, H, W] of each of REGIONS for landmarks [T, 68, 3] in world space."""
    masks = [face_regions(camera.project(points)[0], camera.height, camera.width) for points in landmarks]
    return {name: np.stack([m[name] for m in masks]) for name in REGIONS}


def _scaled_truth(capture: Capture, case: Case, serial: str, size: int) -> tuple[np.ndarray, Camera]:
    """Ground truth [T, h, w, 3] in [0, 1] at `size` pixels (block averages) and the camera to match."""
    camera = capture.cameras[serial]
    factor = shrink_factor(camera, size)
    truth = capture.over_white(case.sequence, serial, case.frames) / np.float32(255)
    return block_mean(truth, factor), camera.scaled(1 / factor)


def frame_errors(avatar, capture: Capture, sequence: str, descriptors: np.ndarray, frames: np.ndarray, *,
                 size: int) -> dict[str, np.ndarray]:
    """What an avatar shows for descriptors [T, D] against `frames` [T] of a sequence, frame by frame, on the encoder's camera.

    The avatar gets the frames' own head poses. size: pixels a side at which pictures are compared. Returns the mean absolute
    error in grey levels of 255 for each of REGIONS, [T]. Raises ValueError for a capture that has no landmarks or head poses.

    >>> from raf_lite import GaussianAvatar, open_capture
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001")
    >>> frames = np.array([10, 20])
    >>> errors = frame_errors(avatar, capture, "FREE", capture.descriptors("FREE", "blendshapes")[frames], frames, size=64)
    >>> {region: values.shape for region, values in errors.items()}
    {'face': (2,), 'mouth': (2,), 'eyes': (2,), 'cheeks+nose': (2,)}
    """
    landmarks = capture.landmarks68(sequence)
    if landmarks is None:
        raise ValueError(f"{capture.root}: {sequence} has no landmarks to find mouth and eyes by; use a rendered capture")
    poses = capture.require_head_poses(sequence)[frames]
    case = Case("self", sequence, (capture.encoder_camera,), np.asarray(frames), descriptors, poses)
    truth, camera = _scaled_truth(capture, case, capture.encoder_camera, size)
    masks = _region_masks(camera, landmarks[frames])
    shown = avatar.render(descriptors, poses, [camera])[:, 0]
    return {region: mean_absolute_error(shown, truth, masks[region]) for region in REGIONS}


def evaluate(avatars: Mapping[str, object], capture: Capture, drivers: Mapping[str, Capture], *, size: int,
             out: str | os.PathLike | None = None, encoder=None, frame_step: int = 2, settings: dict | None = None,
             progress: bool = True) -> pd.DataFrame:
    """Grade avatars side by side on the same frames.

    avatars: name -> something with `render(descriptors, head_poses, cameras) -> [T, C, H, W, 3]` and `descriptor`; the first one
    is the baseline. drivers: participant id -> capture. size: pixels a side at which pictures are compared. encoder: a
    MediaPipeEncoder for landmark error and AED on the encoder's camera; without one those columns are NaN. out: a JSON file with
    the table, the same by sequence, and `settings`.

    Returns a table with a row for each (group, avatar), and a "noise floor" row a group for what depends on the encoder: ground
    truth against itself shifted by half a pixel. Columns: views, psnr and psnr_face (dB), ssim, flip (face), mae_* (grey levels
    of 255, by region), landmarks (pixels at `size`), aed. The slow ones, ssim and flip, are taken from the first camera only.

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
    labels = _labels(capture)
    descriptor = next(iter(avatars.values())).descriptor
    cases = list(driving_cases(capture, drivers, descriptor, frame_step))
    rows = []
    for case in tqdm(cases, desc="grading", disable=not progress):
        groups = _groups(case, labels)
        truth, cameras = zip(*(_scaled_truth(capture, case, serial, size) for serial in case.serials), strict=True)
        landmarks = capture.landmarks68(case.sequence)
        masks = None
        if landmarks is not None:
            masks = [_region_masks(camera, landmarks[case.frames]) for camera in cameras]
        graded = encoder is not None and case.protocol in ("self", "cross") and capture.encoder_camera in case.serials
        if graded:
            front = case.serials.index(capture.encoder_camera)
            reference = encoder.detect(truth[front])
            shifted = encoder.detect(half_pixel_shift(truth[front]))
            floor = {"landmarks": landmark_error(shifted.landmarks - [0.5, 0.5, 0], reference.landmarks),
                     "aed": descriptor_distance(shifted.blendshapes, reference.blendshapes)}
            rows += [{"avatar": NOISE_FLOOR, "group": group, "sequence": case.sequence, "landmarks": floor["landmarks"][t],
                      "aed": floor["aed"][t]} for t, names in enumerate(groups) for group in names]
        for name, avatar in avatars.items():
            shown = avatar.render(case.descriptors, case.head_poses, list(cameras))
            seen = encoder.detect(shown[:, front]) if graded else None
            for c, answer in enumerate(truth):
                images = shown[:, c]
                values = {"psnr": psnr(images, answer)}
                if c == 0:
                    values["ssim"] = ssim(images, answer)
                if masks is not None:
                    values["psnr_face"] = psnr(images, answer, masks[c]["face"])
                    values |= {f"mae_{r}": mean_absolute_error(images, answer, masks[c][r]) for r in REGIONS}
                    if c == 0:
                        values["flip"] = flip(images, answer, masks[c]["face"])
                if graded and c == front:
                    values["landmarks"] = landmark_error(seen.landmarks, reference.landmarks)
                    values["aed"] = descriptor_distance(seen.blendshapes, reference.blendshapes)
                for t, names in enumerate(groups):
                    row = {k: float(v[t]) for k, v in values.items()}
                    rows += [{"avatar": name, "group": group, "sequence": case.sequence, **row} for group in names]
    frames = pd.DataFrame(rows)
    columns = ["psnr", "psnr_face", "ssim", "flip", *(f"mae_{r}" for r in REGIONS), "landmarks", "aed"]
    frames = frames.reindex(columns=["avatar", "group", "sequence", *columns])
    table = _pool(frames, ["group", "avatar"], columns)
    order = [(g, a) for g in GROUPS for a in (*avatars, NOISE_FLOOR) if (g, a) in table.index]
    table = table.loc[order]
    if out is not None:
        by_sequence = _pool(frames, ["group", "sequence", "avatar"], columns)
        write_json(Path(out), {"settings": settings or {}, "size": size, "baseline": next(iter(avatars)),
                               "table": _records(table), "by_sequence": _records(by_sequence)})
    return table


def _pool(frames: pd.DataFrame, keys: list[str], columns: list[str]) -> pd.DataFrame:
    """Means over frames and cameras; `views` counts the pictures."""
    grouped = frames.groupby(keys, sort=False)
    return grouped[columns].mean().assign(views=grouped.size())[["views", *columns]]


def _records(table: pd.DataFrame) -> list[dict]:
    """Rows as plain dicts; NaN and infinity (PSNR of equal pictures) become None, as JSON has neither."""
    flat = table.reset_index()
    return [{k: None if isinstance(v, float) and not np.isfinite(v) else round(v, 5) if isinstance(v, float) else v
             for k, v in record.items()} for record in flat.to_dict("records")]


def change_from_baseline(table: pd.DataFrame) -> pd.DataFrame:
    """Percent change of every error column against the group's first avatar (negative = better); PSNR as a difference in dB.

    >>> rows = pd.MultiIndex.from_product([["self"], ["plain", "raf"]])
    >>> table = pd.DataFrame({"psnr": [30.0, 31.0], "psnr_face": [28.0, 28.0], "mae_mouth": [4.0, 3.0]}, index=rows)
    >>> change_from_baseline(table).loc[("self", "raf")].to_dict()
    {'psnr dB': 1.0, 'psnr_face dB': 0.0, 'mae_mouth %': -25.0}
    """
    errors = [c for c in table.columns if c not in ("views", "psnr", "psnr_face", "ssim")]
    out = []
    for (group, name), row in table.iterrows():
        base = table.loc[group].iloc[0]
        if name in (NOISE_FLOOR, table.loc[group].index[0]):
            continue
        change = {f"{c} %": 100 * (row[c] / base[c] - 1) for c in errors}
        out.append({"group": group, "avatar": name, "psnr dB": row["psnr"] - base["psnr"],
                    "psnr_face dB": row["psnr_face"] - base["psnr_face"], **change})
    return pd.DataFrame(out).set_index(["group", "avatar"])
