"""Builds everything under `data/`: two subjects, three drivers and a bank of other people, all rendered and
encoded.

The work is cut into jobs (a bank donor, a sequence of a capture). Each leaves its result in a work folder
whose name is a fingerprint of the code and settings that made it, so a build goes on where it was stopped,
and stale results are never mixed with new ones. Only a finished build is moved into `data/`.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

import raf_lite
from raf_lite._files import cache_dir, copy_flushed, read_npz, sha256_file, sync_folder, write_json
from raf_lite.avatar.prior import PRIOR
from raf_lite.bank import write_bank
from raf_lite.captures.formats.nersemble import write_calibration, write_metadata
from raf_lite.descriptors import ENCODER, LandmarkPCA, MediaPipeEncoder
from raf_lite.manifest import write_manifest
from raf_lite.rig.jobs import BuildSettings, donor_job, sequence_job
from raf_lite.rig.pack import find_pack, load_pack
from raf_lite.rig.scripts import HOLDOUT_SEQUENCES
from raf_lite.rig.studio import FRONTAL, studio_cameras

SETTINGS = BuildSettings(
    train_sequences=(
        "EXP-1-head",
        "EXP-2-eyes",
        "EXP-3-cheeks+nose",
        "EXP-4-lips",
        "EXP-5-mouth",
        "EXP-6-tongue-1",
        "EXP-7-tongue-2",
        "EXP-8-jaw-1",
        "EXP-9-jaw-2",
        "EMO-2-surprise+fear",
        "EMO-3-angry+sad",
        "EMO-4-disgust+happy",
        "SEN-01-cramp_small_danger",
        "SEN-02-same_phrase_thirty_times",
        "SEN-03-pluck_bright_rose",
        "SEN-04-two_plus_seven",
    ),
    cross_sequences=("EMO-1-shout+laugh", "FREE", "SEN-09-frown_events_bad"),
)

# A CROSS answer is graded from the front and from the hold-out cameras.
CROSS_CAMERAS = (FRONTAL, "222200046", "222200039")
ORIGINS = {
    "mini_nersemble": (
        "rendered by `raf-lite data build` with ICT-FaceKit at commit "
        "da5f95a607f5e6b37755b38d3385d7f2853732e5; descriptors by MediaPipe Face Landmarker float16/1"
    ),
    "bank": "rendered and encoded by `raf-lite data build`, as mini_nersemble, but other identities",
}
LICENCE = (
    "CC-BY-4.0; rendered with ICT-FaceKit (MIT, USC Institute for Creative Technologies), encoded with"
    " MediaPipe (Apache-2.0, Google)"
)
CONVENTIONS = {
    "world": (
        "x to the subject's left, y up, z out of the face; cm; the head stands in world axes at head pose"
        " identity"
    ),
    "cameras": "world_2_cam is 4x4, OpenCV axes (x right, y down, z forward); pixel centres at +0.5",
    "light": (
        "one broad key lamp, a fill and a faint rim lamp, fixed in the world (the head turns under them), and"
        " ambient light; directions stand in raf_lite/rig/head.py"
    ),
    "colour": "8-bit sRGB (gamma 2.2) over white; alpha maps hold the coverage of each pixel by the head",
    "camera_positions": (
        "serials and hold-out roles are NeRSemble's; where each camera stands is ours"
        " (raf_lite/rig/studio.py)"
    ),
}


def _fingerprint(settings: BuildSettings) -> str:
    """Hash of the settings, of the rig, and of every source file that shapes a rendered or encoded frame."""
    digest = hashlib.sha256(repr(asdict(settings)).encode())
    package = Path(raf_lite.__file__).parent
    for name in (
        "_kernels.py",
        "rig/appearance.py",
        "rig/expressions.py",
        "rig/head.py",
        "rig/raster.py",
        "rig/scripts.py",
        "rig/studio.py",
        "rig/writer.py",
        "rig/jobs.py",
        "captures/video.py",
        "descriptors/mediapipe.py",
        "descriptors/landmarks.py",
    ):
        digest.update((package / name).read_bytes())
    pack = find_pack()
    digest.update(sha256_file(pack).encode() if pack else b"no rig")
    return digest.hexdigest()[:16]


def _run(jobs: int, tasks: list[tuple], what: str) -> None:
    """Run (function, *arguments) tasks in `jobs` spawned processes with progress; the first failure stops the
    build."""
    if not tasks:
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(*task) for task in tasks]
        try:
            for future in tqdm(as_completed(futures), total=len(futures), desc=what):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _sequence_tasks(work: Path, settings: BuildSettings) -> list[tuple]:
    """Every sequence of every capture that is not whole yet."""
    wanted = []
    for pid, seed in settings.subjects:
        for sequence in (*settings.train_sequences, *HOLDOUT_SEQUENCES):
            wanted.append((pid, seed, seed, sequence, sequence, None))
        for driver, driver_seed in settings.drivers:
            for sequence in settings.cross_sequences:
                wanted.append(
                    (pid, seed, driver_seed, sequence, f"CROSS-{driver}-{sequence}", list(CROSS_CAMERAS))
                )
    for pid, seed in settings.drivers:
        for sequence in settings.cross_sequences:
            wanted.append((pid, seed, seed, sequence, sequence, [FRONTAL]))
    return [
        (sequence_job, work, settings, *job)
        for job in wanted
        if not (work / "mini_nersemble" / f"{job[0]:03d}" / "annotations" / f"{job[4]}.npz").exists()
    ]


def _read_donor(work: Path, donor: int) -> dict[str, np.ndarray]:
    """What `donor_job` wrote."""
    return read_npz(
        work / "donors" / f"{donor:04d}.npz", mend="delete it and run `raf-lite data build` again"
    )


def _fit_landmark_pca(work: Path, settings: BuildSettings) -> None:
    """Align all the bank's landmarks and fit their PCA, on the bank only: subjects and drivers have no part
    in it."""
    landmarks = []
    for donor in range(settings.donors):
        data = _read_donor(work, donor)
        landmarks.append(data["landmarks"][data["found"]])
    pca = LandmarkPCA.fit(np.concatenate(landmarks), settings.pca_components, encoder=ENCODER)
    pca.save(work / "landmark_pca.npz")


def _write_bank(work: Path, settings: BuildSettings) -> None:
    """Gather the donors into one bank; donor ids are shuffled, so that they say nothing about the seeds."""
    pca = LandmarkPCA.load(work / "landmark_pca.npz")
    ids = np.random.default_rng(settings.donor_seed).permutation(settings.donors)
    rows, thumbnails, start = [], {}, 0
    for donor in np.argsort(ids):
        data = _read_donor(work, donor)
        found = data["found"]
        position = np.cumsum(found) - 1 + start
        bounds = np.concatenate([[0], np.cumsum(data["thumbnail_sizes"])])
        for k, row in enumerate(data["thumbnail_rows"]):
            if found[row]:
                thumbnails[int(position[row])] = data["thumbnail_bytes"][bounds[k] : bounds[k + 1]].tobytes()
        rows.append(
            {
                "blendshapes": data["blendshapes"][found],
                "landmarks_pca": pca.encode_landmarks(data["landmarks"][found]),
                "donors": np.full(found.sum(), ids[donor], np.int32),
                "neutral": (np.arange(len(found)) == 0)[found],
                "encoder_pose": data["pose"][found],
                "weights": data["weights"][found].astype(np.float16),
                "archetype": data["archetype"][found],
                "head_rotation": data["head_rotation"][found].astype(np.float16),
            }
        )
        start += int(found.sum())
    joined = {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}
    write_bank(
        work / "bank",
        columns={name: joined[name].astype(np.float16) for name in ("blendshapes", "landmarks_pca")},
        donors=joined["donors"],
        encoder=ENCODER,
        neutral=joined["neutral"],
        encoder_pose=joined["encoder_pose"].astype(np.float32),
        thumbnails=thumbnails,
        truth={name: joined[name] for name in ("weights", "archetype", "head_rotation")},
    )
    shutil.copyfile(work / "landmark_pca.npz", work / "bank" / "landmark_pca.npz")


def _write_participants(work: Path, settings: BuildSettings) -> None:
    """Calibration, the description of each capture and the metadata tables that NeRSemble's own reader asks
    for."""
    root = work / "mini_nersemble"
    for kind, people in (("subject", settings.subjects), ("driver", settings.drivers)):
        for pid, _ in people:
            folder = root / f"{pid:03d}"
            write_calibration(folder, studio_cameras(settings.size, None if kind == "subject" else [FRONTAL]))
            write_json(
                folder / "capture.json",
                {
                    "kind": kind,
                    "fps": settings.fps,
                    "units": "cm",
                    "head_pose_source": "rig",
                    "encoder": ENCODER,
                    "neutral": {"sequence": "EXP-1-head" if kind == "subject" else "FREE", "frame": 0},
                    "background": "white, composited with the alpha maps",
                },
            )
    write_metadata(root)


def build_data(data_dir: Path, *, jobs: int = 2, settings: BuildSettings = SETTINGS) -> None:
    """Build `data_dir/mini_nersemble`, `data_dir/bank` and `data_dir/MANIFEST.json`.

    Takes about twenty minutes on two cores. May be stopped at any time; the same call goes on where it was.
    Raises FileNotFoundError where the rig or the encoder's model is missing, with what to do.
    """
    load_pack()
    MediaPipeEncoder().close()
    work = cache_dir("build", _fingerprint(settings))
    print(f"raf-lite data build: intermediate results in {work}")
    _run(
        jobs,
        [
            (donor_job, work, settings, donor)
            for donor in range(settings.donors)
            if not (work / "donors" / f"{donor:04d}.npz").exists()
        ],
        "bank donors",
    )
    if not (work / "landmark_pca.npz").exists():
        _fit_landmark_pca(work, settings)
    _run(jobs, _sequence_tasks(work, settings), "sequences")
    _write_participants(work, settings)
    _write_bank(work, settings)
    _put_in_place(work, data_dir)


def _put_in_place(work: Path, data_dir: Path) -> None:
    """Replace what is built by what was built in `work`.

    Copies come first, then the folders change places, then the manifest is written: who is stopped in between
    leaves a folder that the manifest does not fit, which `verify_manifest` says, and the same build mends.
    """
    targets = [data_dir / part for part in ("mini_nersemble", "bank")]
    beside = [(t, t.with_name(f".{t.name}.new"), t.with_name(f".{t.name}.old")) for t in targets]
    for target, fresh, old in beside:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        without = shutil.ignore_patterns(".*")  # the bank's lock
        shutil.copytree(work / target.name, fresh, ignore=without, copy_function=copy_flushed)
    for target, fresh, old in beside:
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    sync_folder(data_dir)
    for _, _, old in beside:
        shutil.rmtree(old, ignore_errors=True)
    # Learned from what has just been replaced.
    shutil.rmtree(data_dir / "checkpoints", ignore_errors=True)
    (data_dir / PRIOR).unlink(missing_ok=True)
    write_manifest(data_dir, origin=ORIGINS, licence=LICENCE, conventions=CONVENTIONS)
