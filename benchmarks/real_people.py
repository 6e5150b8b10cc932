"""Films of real people into avatars, and how good they are:

    python benchmarks/real_people.py FOLDER [CLIP ...]

FOLDER holds films, one person each, of your own or of anybody who agreed; encodings and mattes are written
beside them, avatars and strips under --out. Only numbers go into benchmarks/results/real_people.json: no
picture of anybody is part of this project.

Of each film the last 30 % of the frames are held out. Columns of each film:

- train_s: seconds of `raf-lite train`, encoding and matting included where they were not there before;
- psnr, psnr_face, mae_face, mae_mouth, mae_eyes: `evaluate`'s, as tracked and aligned;
- box_psnr: PSNR over the box of the landmarks at the training size (without the neck's soft edge and what is
  below), as tracked and aligned;
- side_found: in how many of the views from 30 degrees left and right MediaPipe finds a face;
- side_landmarks: there, the distance to the landmarks of the front view turned by 30 degrees, in percent of
  the distance of the outer eye corners (median);
- jitter: driven by the next film's person, the mean second difference of the landmarks over the driver's own.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import raf_lite  # noqa: F401  (first: it sets torch's threads to wait without spinning)

# isort: split
import numpy as np
from machine import RESULTS, describe_machine
from PIL import Image
from scipy.spatial.transform import Rotation

from raf_lite._files import write_json
from raf_lite.avatar import GaussianAvatar, aligned_poses, driven_by, frontal_camera, turned
from raf_lite.captures import Capture
from raf_lite.captures.formats.encoding import VIDEOS
from raf_lite.course.own_video import open_own, train_video
from raf_lite.descriptors import MediaPipeEncoder
from raf_lite.descriptors.encode_video import VideoDetections, find_encoding
from raf_lite.descriptors.forms import capture_descriptors
from raf_lite.evaluation.regions import face_regions
from raf_lite.training import PRESETS, TrainConfig

HELD_OUT, ANGLE, SIDE_SIZE, DRIVEN = 0.3, 30.0, 384, 90
COLUMNS = ("psnr", "psnr_face", "mae_face", "mae_mouth", "mae_eyes")
EYES = (33, 263)  # outer corners


def box_psnr(avatar: GaussianAvatar, capture: Capture, most: int = 30) -> tuple[dict, np.ndarray]:
    """PSNR in dB over the box of the landmarks, mean over held-out frames, "tracked" and "aligned"; and a
    strip of truth above avatar."""
    (sequence,) = capture.split().holdout_sequences
    values = capture_descriptors(capture, sequence, avatar.descriptor)
    found = np.flatnonzero(np.isfinite(values).all(1))
    rows = found[:: max(1, len(found) // most)]
    camera = capture.cameras[capture.encoder_camera]
    truth = capture.over_white(sequence, capture.encoder_camera, rows) / np.float32(255)
    poses = capture.require_head_poses(sequence)[rows]
    world = capture.landmarks68(sequence)[rows]
    faces = np.stack([face_regions(camera.project(p)[0], camera.height, camera.width)["face"] for p in world])
    counts = capture.counts(sequence, capture.encoder_camera, rows)
    counts = np.ones(truth.shape[:3], bool) if counts is None else counts > 0.99
    fitted = aligned_poses(avatar, values[rows], poses, camera, truth, faces * counts)
    out = {}
    for name, tried in (("tracked", poses), ("aligned", fitted)):
        shown = avatar.render(values[rows], tried, [camera])[:, 0]
        psnr = []
        for image, true, points, counted in zip(shown, truth, world, counts, strict=True):
            u = camera.project(points)[0]
            low, high = np.clip(u.min(0), 0, None).astype(int), np.ceil(u.max(0)).astype(int)
            box = np.s_[low[1] : high[1], low[0] : high[0]]
            error = np.square(image[box] - true[box])[counted[box]]
            psnr.append(-10 * np.log10(max(1e-10, float(error.mean()))))
        out[name] = round(float(np.mean(psnr)), 2)
    picked = np.linspace(0, len(rows) - 1, 6).round().astype(int)
    return out, np.concatenate([np.concatenate(list(p[picked]), 1) for p in (truth, shown)])


def from_the_side(
    avatar: GaussianAvatar, values: np.ndarray, encoder: MediaPipeEncoder
) -> tuple[dict, np.ndarray]:
    """Faces found, and their landmarks' distance, in views ANGLE degrees aside of descriptors [T, D]; and a
    strip of them."""
    camera = frontal_camera(avatar, SIDE_SIZE)
    views = {}
    for angle in (0.0, -ANGLE, ANGLE):
        turn = Rotation.from_euler("y", angle, degrees=True).as_matrix()
        poses = turned(avatar, camera, np.tile(turn, (len(values), 1, 1)))
        views[angle] = (avatar.render(values, poses, [camera])[:, 0] * 255 + 0.5).astype(np.uint8)
    seen = {angle: encoder.detect(pictures) for angle, pictures in views.items()}
    found, errors = [], []
    for angle in (-ANGLE, ANGLE):
        turn = Rotation.from_euler("y", angle, degrees=True).as_matrix()
        both = seen[0.0].face_found & seen[angle].face_found
        found += (seen[angle].face_found | ~seen[0.0].face_found).tolist()
        for t in np.flatnonzero(both):
            front = seen[0.0].landmarks[t].astype(float)
            expected = (front - front.mean(0)) @ turn.T
            side = seen[angle].landmarks[t, :, :2].astype(float)
            shift = np.median(side - expected[:, :2], axis=0)
            eyes = np.linalg.norm(front[EYES[0]] - front[EYES[1]])
            errors.append(100 * np.linalg.norm(side - expected[:, :2] - shift, axis=1).mean() / eyes)
    strip = np.concatenate([views[angle][len(values) // 2] for angle in (-ANGLE, 0.0, ANGLE)], 1) / 255
    return {
        "side_found": round(float(np.mean(found)), 3),
        "side_landmarks": round(float(np.median(errors)), 2) if errors else None,
    }, strip


def jitter(
    avatar: GaussianAvatar, driver: VideoDetections, encoder: MediaPipeEncoder
) -> tuple[float | None, np.ndarray]:
    """Mean second difference of the avatar's landmarks, driven with a head that is held, over the driver's
    own, each in units of its eye distance and in the head's own frame; and a strip of it."""
    frames = min(DRIVEN, len(driver))
    values = driven_by(avatar, driver)[:frames]
    camera = frontal_camera(avatar, SIDE_SIZE)
    poses = turned(avatar, camera, np.tile(np.eye(3), (frames, 1, 1)))
    shown = (avatar.render(values, poses, [camera])[:, 0] * 255 + 0.5).astype(np.uint8)
    seen = encoder.detect(shown)

    def shake(landmarks: np.ndarray, found: np.ndarray) -> float:
        from raf_lite.descriptors.landmarks import align_landmarks

        aligned = align_landmarks(landmarks)[..., :2]
        whole = found[2:] & found[1:-1] & found[:-2]
        second = np.linalg.norm(np.diff(aligned, 2, axis=0), axis=-1)
        return float(second[whole].mean())

    own = shake(driver.landmarks[:frames], driver.face_found[:frames])
    strip = np.concatenate(list(shown[np.linspace(0, frames - 1, 6).astype(int)]), 1) / 255
    return round(
        shake(seen.landmarks, seen.face_found) / own, 3
    ) if seen.face_found.sum() > 3 else None, strip


def measure(film: Path, driver: Path | None, out: Path, settings: TrainConfig) -> dict:
    """One film's row; its strip is written to `out`."""
    started = time.perf_counter()
    own = train_video(film, out / film.stem, settings, held_out=HELD_OUT, progress=False)
    row: dict = {"train_s": round(time.perf_counter() - started, 1)}
    for name, avatar in (("tracked", "avatar"), ("aligned", "avatar (aligned)")):
        row[name] = {c: round(float(own.table.loc[("self", avatar), c]), 3) for c in COLUMNS}
    encoding = find_encoding(film, progress=False)
    capture = open_own(film, encoding, settings.size, HELD_OUT)
    row["frames"] = len(encoding)
    row["turn_degrees"] = round(
        float(np.rad2deg(np.ptp(Rotation.from_matrix(encoding.head_pose[:, :3, :3]).as_rotvec()[:, 1]))), 1
    )
    row["box_psnr"], strip = box_psnr(own.avatar, capture)
    save_strip(strip, out / f"{film.stem}-held-out.png")
    (sequence,) = capture.split().holdout_sequences
    values = capture_descriptors(capture, sequence, own.avatar.descriptor)
    values = values[np.isfinite(values).all(1)]
    with MediaPipeEncoder() as encoder:
        aside, strip = from_the_side(own.avatar, values[:: max(1, len(values) // 20)], encoder)
        row |= aside
        save_strip(strip, out / f"{film.stem}-side.png")
        if driver is not None:
            row["driver"] = driver.stem
            row["jitter"], strip = jitter(own.avatar, find_encoding(driver, progress=False), encoder)
            save_strip(strip, out / f"{film.stem}-driven.png")
    return row


def save_strip(strip: np.ndarray, path: Path) -> None:
    """A picture in [0, 1] for the eyes of whoever runs this."""
    Image.fromarray((np.clip(strip, 0, 1) * 255 + 0.5).astype(np.uint8)).save(path)


def summary(rows: dict[str, dict]) -> dict:
    """Medians over the films that trained."""
    good = [row for row in rows.values() if "failed" not in row]
    middle = lambda values: round(float(np.median(list(values))), 3) if good else None  # noqa: E731
    return {
        "films": len(rows),
        "trained": len(good),
        "box_psnr_tracked": middle(row["box_psnr"]["tracked"] for row in good),
        "box_psnr_aligned": middle(row["box_psnr"]["aligned"] for row in good),
        "psnr_face_tracked": middle(row["tracked"]["psnr_face"] for row in good),
        "psnr_face_aligned": middle(row["aligned"]["psnr_face"] for row in good),
        "side_found": middle(row["side_found"] for row in good),
        "side_landmarks": middle(row["side_landmarks"] for row in good if row["side_landmarks"] is not None),
    }


def main() -> None:
    """Every film of a folder, each added to the results as soon as it is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("clips", nargs="*", help="names without ending; default: all films")
    parser.add_argument("--out", type=Path, default=Path("out/real_people"))
    parser.add_argument("--results", type=Path, default=RESULTS / "real_people.json")
    args = parser.parse_intermixed_args()
    films = sorted(f for f in args.folder.iterdir() if f.suffix.lower() in VIDEOS)
    films = [f for f in films if ".matte" not in f.name]
    chosen = [f for f in films if not args.clips or f.stem in args.clips]
    if not chosen:
        raise SystemExit(f"{args.folder} has no such film; name a folder of films ({', '.join(VIDEOS)})")
    args.out.mkdir(parents=True, exist_ok=True)
    settings = PRESETS["video"]
    result = json.loads(args.results.read_text(encoding="utf-8")) if args.results.is_file() else {}
    rows = result.get("films", {})
    for film in chosen:
        others = films[(films.index(film) + 1) % len(films)]
        try:
            rows[film.stem] = measure(film, others if others != film else None, args.out, settings)
        except (ValueError, FileNotFoundError) as error:
            rows[film.stem] = {"failed": str(error)}
        print(film.stem, json.dumps(rows[film.stem]), flush=True)
        write_json(
            args.results,
            {
                "machine": describe_machine(),
                "settings": settings.as_dict(),
                "held_out": HELD_OUT,
                "summary": summary(rows),
                "films": rows,
            },
        )


if __name__ == "__main__":
    main()
