"""Films of real people into avatars, and how good they are:

    python benchmarks/real_people.py FOLDER [CLIP ...]

FOLDER holds films, one person each, of your own or of anybody who agreed; encodings and mattes are written
beside them, avatars and strips under --out. Only numbers go into benchmarks/results/real_people.json: no
picture of anybody is part of this project.

Of each film the last 30 % of the frames of use are held out; those that `raf-lite train` leaves out (a hidden
face, a matte that misses it) are in no figure. Columns of each film:

- train_s: seconds of `raf-lite train`, encoding and matting included where they were not there before;
- psnr, psnr_face, mae_*, landmarks*, aed*, jitter*, and where `raf-lite data metrics` brought the networks
  lpips_* and identity: `evaluate`'s, as tracked and aligned;
- box_psnr: PSNR over the box of the landmarks at the training size (without the neck's soft edge and what is
  below), as tracked and aligned;
- side_found: in how many of the views from 30 degrees left and right MediaPipe finds a face;
- side_landmarks: there, the distance to the landmarks of the front view turned by 30 degrees, in percent of
  the distance of the outer eye corners (median);
- lips: correlation of the inner lips' distance (over that of the outer eye corners), of the avatar from the
  front, driven by its held-out frames, and in these; lips_open: the widest tenth of the first over the widest
  tenth of the second;
- jitter: driven by the next film's person, the mean second difference of the landmarks over the driver's own;
- identity_own, identity_driven: the cosine of the mean face recognition descriptor of the avatar from the
  front, driven by its own held-out frames and by that person, and of those held-out frames; identity_kept:
  the second over the first.

And, of several films with that network, how it tells their people apart: cosines of all pairs of SOME frames
of each, of one film and of two (`identity`: the least, 5th percentile, median, 95th and largest).

--no-landmark-motion, --prior and --retrieval NAME (with --bank) train in another way; the rows of that are
kept beside the others, under `variants` by its name ("without riding", "over the prior", "centred", ...),
with their own summary.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import raf_lite  # noqa: F401  (first: it sets torch's threads to wait without spinning)

# isort: split
import numpy as np
import pandas as pd
from machine import RESULTS, describe_machine
from PIL import Image
from scipy.spatial.transform import Rotation

from raf_lite._files import write_json
from raf_lite.avatar import GaussianAvatar, aligned_poses, driven_by, frontal_camera, turned
from raf_lite.bank import ExpressionBank
from raf_lite.captures import Capture, iter_video
from raf_lite.captures.formats.encoding import VIDEOS
from raf_lite.course import train_video
from raf_lite.course.own_video import NAME, used_frames
from raf_lite.descriptors import MediaPipeEncoder
from raf_lite.descriptors.encode_video import find_encoding
from raf_lite.descriptors.forms import capture_descriptors
from raf_lite.evaluation import networks_at_hand
from raf_lite.evaluation.grading import ALIGNED, MEASURED
from raf_lite.evaluation.identity import FaceIdentity, cosines
from raf_lite.evaluation.metrics import shaking
from raf_lite.evaluation.regions import face_regions
from raf_lite.manifest import find_data
from raf_lite.retrieval import SETTINGS
from raf_lite.training import PRESETS, TrainConfig

HELD_OUT, ANGLE, SIDE_SIZE, DRIVEN, SOME = 0.3, 30.0, 384, 90, 16
COLUMNS = ("psnr", "psnr_face", "mae_face", "mae_mouth", "mae_eyes", "landmarks", "landmarks_mouth")
COLUMNS += ("landmarks_eyes", "aed", "aed_mouth", "aed_eyes", *MEASURED)
EYES = (33, 263)  # outer corners
INNER_LIPS = ((82, 87), (13, 14), (312, 317))  # upper and lower, as MediaPipe numbers them


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


def from_the_front(avatar: GaussianAvatar, values: np.ndarray) -> np.ndarray:
    """Pictures uint8 [T, SIDE_SIZE, SIDE_SIZE, 3] for descriptors [T, D], with a head that is held."""
    camera = frontal_camera(avatar, SIDE_SIZE)
    poses = turned(avatar, camera, np.tile(np.eye(3), (len(values), 1, 1)))
    return (avatar.render(values, poses, [camera])[:, 0] * 255 + 0.5).astype(np.uint8)


def lip_distance(landmarks: np.ndarray) -> np.ndarray:
    """Of landmarks [T, 478, 3], over the distance of the outer eye corners: [T]."""
    upper, lower = np.array(INNER_LIPS).T
    apart = np.linalg.norm(landmarks[:, upper] - landmarks[:, lower], axis=-1).mean(1)
    return apart / np.linalg.norm(landmarks[:, EYES[0]] - landmarks[:, EYES[1]], axis=-1)


def lips(shown: np.ndarray, filmed: np.ndarray, encoder: MediaPipeEncoder) -> dict:
    """Columns lips and lips_open of pictures of an avatar and of the landmarks [T, 478, 3] that drove it."""
    ours, theirs = lip_distance(encoder.detect(shown).landmarks), lip_distance(filmed)
    seen = np.isfinite(ours)
    if seen.sum() < 3:
        return {"lips": None, "lips_open": None}
    ours, theirs = ours[seen], theirs[seen]
    return {
        "lips": round(float(np.corrcoef(ours, theirs)[0, 1]), 3),
        "lips_open": round(float(np.quantile(ours, 0.9) / np.quantile(theirs, 0.9)), 3),
    }


def jitter(shown: np.ndarray, driver: np.ndarray) -> float | None:
    """Mean second difference of the landmarks [T, 478, 3] in pictures of an avatar over that of the driver's
    own, each in units of its eye distance and in the head's own frame."""
    found = shaking(shown)["face"] / shaking(driver)["face"]
    return round(found, 3) if np.isfinite(found) else None


def identity(
    own: np.ndarray, driven: np.ndarray, truth: np.ndarray, network: FaceIdentity, encoder: MediaPipeEncoder
) -> dict:
    """Columns identity_* of pictures [T, H, W, 3] of an avatar driven by its own frames and by another's, and
    of those own frames."""
    means = []
    for pictures in (own, driven, truth):
        some = pictures[:: max(1, len(pictures) // 20)]
        found = network.descriptors(some, encoder.detect(some).landmarks)
        means.append(np.nanmean(found / np.linalg.norm(found, axis=1, keepdims=True), axis=0))
    kept = [float(cosines(mean, means[2])) for mean in means[:2]]
    return {
        "identity_own": round(kept[0], 3),
        "identity_driven": round(kept[1], 3),
        "identity_kept": round(kept[1] / kept[0], 3),
    }


def told_apart(films: list[Path], network: FaceIdentity) -> dict:
    """Cosines between frames of one film and between frames of different films, in five numbers each."""
    seen = []
    for film in films:
        encoding = find_encoding(film, progress=False)
        found = np.flatnonzero(encoding.face_found)
        rows = np.unique(found[np.linspace(0, len(found) - 1, SOME).astype(int)])
        pictures = [picture for t, picture in enumerate(iter_video(film)) if t in rows]
        seen.append(network.descriptors(np.stack(pictures), encoding.landmarks[rows]))
    whose = np.repeat(np.arange(len(films)), [len(one) for one in seen])
    i, j = np.triu_indices(len(whose), 1)
    all_seen = np.concatenate(seen)
    values, same = cosines(all_seen[i], all_seen[j]), whose[i] == whose[j]
    return {
        name: np.nanpercentile(values[rows], (0, 5, 50, 95, 100)).round(3).tolist()
        for name, rows in (("one person", same), ("two people", ~same))
    }


def measure(
    film: Path, driver: Path | None, out: Path, settings: TrainConfig, bank: ExpressionBank | None
) -> dict:
    """One film's row; its strip is written to `out`."""
    started = time.perf_counter()
    own = train_video(film, out / film.stem, settings, bank=bank, held_out=HELD_OUT, progress=False)
    row: dict = {"train_s": round(time.perf_counter() - started, 1)} | graded(own.table)
    encoding = find_encoding(film, progress=False)
    capture = own.capture
    row["frames"] = len(encoding)
    row["turn_degrees"] = round(
        float(np.rad2deg(np.ptp(Rotation.from_matrix(encoding.head_pose[:, :3, :3]).as_rotvec()[:, 1]))), 1
    )
    row["box_psnr"], strip = box_psnr(own.avatar, capture)
    save_strip(strip, out / f"{film.stem}-held-out.png")
    (sequence,) = capture.split().holdout_sequences
    values = capture_descriptors(capture, sequence, own.avatar.descriptor)
    found = np.flatnonzero(np.isfinite(values).all(1))
    values, network = values[found], networks_at_hand().identity
    with MediaPipeEncoder() as encoder:
        aside, strip = from_the_side(own.avatar, values[:: max(1, len(values) // 20)], encoder)
        row |= aside
        save_strip(strip, out / f"{film.stem}-side.png")
        rows = slice(None, None, max(1, len(found) // 60))
        frames = used_frames(
            film, encoding, out / film.stem, settings.size, held_out=HELD_OUT, progress=False
        )
        filmed = encoding.landmarks[np.asarray(frames.held_out)[found[rows]]]
        row |= lips(from_the_front(own.avatar, values[rows]), filmed, encoder)
        if driver is not None:
            row["driver"] = driver.stem
            acting = find_encoding(driver, progress=False)
            driven = from_the_front(own.avatar, driven_by(own.avatar, acting)[: min(DRIVEN, len(acting))])
            row["jitter"] = jitter(encoder.detect(driven).landmarks, acting.landmarks[: len(driven)])
            some = driven[np.linspace(0, len(driven) - 1, 6).astype(int)]
            save_strip(np.concatenate(list(some), 1) / 255, out / f"{film.stem}-driven.png")
            if network is not None:
                rows = slice(None, None, max(1, len(found) // 20))
                truth = capture.over_white(sequence, capture.encoder_camera, found[rows])
                shown = from_the_front(own.avatar, values[rows])
                row |= identity(shown, driven, truth, network, encoder)
    return row


def graded(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """What of COLUMNS `evaluate` measured of held-out frames, "tracked" and "aligned"."""
    rows = {"tracked": table.loc[("self", NAME)], "aligned": table.loc[("self", f"{NAME}{ALIGNED}")]}
    return {
        name: {c: round(float(row[c]), 4) for c in COLUMNS if c in row and row[c] == row[c]}
        for name, row in rows.items()
    }


def films_in(folder: Path) -> list[Path]:
    """The films of a folder by name; ends with a sentence where there are none."""
    films = sorted(f for f in folder.iterdir() if f.suffix.lower() in VIDEOS)
    films = [f for f in films if ".matte" not in f.name and ".classes" not in f.name]
    if not films:
        raise SystemExit(f"{folder} has no film; name a folder of films ({', '.join(VIDEOS)})")
    return films


def save_strip(strip: np.ndarray, path: Path) -> None:
    """A picture in [0, 1] for the eyes of whoever runs this."""
    Image.fromarray((np.clip(strip, 0, 1) * 255 + 0.5).astype(np.uint8)).save(path)


def summary(rows: dict[str, dict]) -> dict:
    """Medians over the films that trained."""
    good = [row for row in rows.values() if "failed" not in row]
    middle = lambda values: round(float(np.median(list(values))), 3) if good else None  # noqa: E731

    def where_measured(pick: Callable[[dict], float | None]) -> float | None:
        values = [pick(row) for row in good if pick(row) is not None]
        return middle(values) if values else None

    return {
        "films": len(rows),
        "trained": len(good),
        "box_psnr_tracked": middle(row["box_psnr"]["tracked"] for row in good),
        "box_psnr_aligned": middle(row["box_psnr"]["aligned"] for row in good),
        "psnr_face_tracked": middle(row["tracked"]["psnr_face"] for row in good),
        "psnr_face_aligned": middle(row["aligned"]["psnr_face"] for row in good),
        "lips": where_measured(lambda row: row.get("lips")),
        "lips_open": where_measured(lambda row: row.get("lips_open")),
        "side_found": middle(row["side_found"] for row in good),
        "side_landmarks": middle(row["side_landmarks"] for row in good if row["side_landmarks"] is not None),
        "jitter": where_measured(lambda row: row.get("jitter")),
        "identity_kept": where_measured(lambda row: row.get("identity_kept")),
        "identity_aligned": where_measured(lambda row: row["aligned"].get("identity")),
        "lpips_alex_face_aligned": where_measured(lambda row: row["aligned"].get("lpips_alex_face")),
        "lpips_vgg_face_aligned": where_measured(lambda row: row["aligned"].get("lpips_vgg_face")),
        "aed_aligned": where_measured(lambda row: row["aligned"].get("aed")),
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
    parser.add_argument(
        "--no-landmark-motion", action="store_true", help="Gaussians do not ride on landmarks"
    )
    parser.add_argument("--prior", action="store_true", help="they move as other people's faces do, too")
    parser.add_argument("--retrieval", choices=SETTINGS, metavar="NAME", help="a setting, such as centred")
    parser.add_argument("--bank", type=Path, help="of the retrieval (default: the shipped one)")
    args = parser.parse_intermixed_args()
    films = films_in(args.folder)
    chosen = [f for f in films if not args.clips or f.stem in args.clips]
    if not chosen:
        raise SystemExit(f"{args.folder} has no such film; it has {', '.join(f.stem for f in films)}")
    settings = PRESETS["video"].with_(
        retrieval=args.retrieval, landmark_motion=not args.no_landmark_motion, prior=args.prior
    )
    bank = None
    if args.retrieval:
        bank = ExpressionBank.load(args.bank or find_data() / "bank", descriptor=settings.descriptor)
    ways = ["without riding"] * args.no_landmark_motion + ["over the prior"] * args.prior
    ways += [args.retrieval] * bool(args.retrieval)
    variant = ", ".join(ways)
    out = args.out / variant
    out.mkdir(parents=True, exist_ok=True)
    result = json.loads(args.results.read_text(encoding="utf-8")) if args.results.is_file() else {}
    kept = result.setdefault("variants", {}).setdefault(variant, {}) if variant else result
    rows = kept.setdefault("films", {})
    network = networks_at_hand().identity
    if network is not None and len(chosen) > 1 and not variant:
        result["identity"] = told_apart(chosen, network)
    for film in chosen:
        others = films[(films.index(film) + 1) % len(films)]
        try:
            rows[film.stem] = measure(film, others if others != film else None, out, settings, bank)
        except (ValueError, FileNotFoundError) as error:
            rows[film.stem] = {"failed": str(error)}
        print(film.stem, json.dumps(rows[film.stem]), flush=True)
        kept |= {
            "machine": describe_machine(),
            "settings": settings.as_dict(),
            "held_out": HELD_OUT,
            "summary": summary(rows),
        }
        write_json(args.results, result)


if __name__ == "__main__":
    main()
