"""What one worker process of a data build does: render and encode a bank donor, or one sequence of a capture.

Apart from `build`, since results on disk are reused as long as this file and what it calls stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from raf_lite._files import write_npz
from raf_lite.bank import encode_thumbnail
from raf_lite.descriptors import LandmarkPCA, MediaPipeEncoder
from raf_lite.rig.head import BakedHead, HeadModel, head_pose_matrix
from raf_lite.rig.pack import load_pack
from raf_lite.rig.studio import Person, camera, studio_cameras
from raf_lite.rig.writer import write_sequence


@dataclass(frozen=True)
class BuildSettings:
    """What is rendered. Seeds of subjects, drivers and donors are disjoint ranges, so no person plays two
    parts."""

    size: int = 256  # pixels a side
    fps: int = 12  # a gesture of six frames then lasts half a second
    crf: int = 24
    subjects: tuple[tuple[int, int], ...] = ((1, 1003), (2, 1002))  # (participant id, person seed)
    drivers: tuple[tuple[int, int], ...] = ((101, 2002), (102, 2003), (103, 2004))
    train_sequences: tuple[str, ...] = ()
    frames: int = 26  # a sequence, or as many as its script needs
    cross_sequences: tuple[str, ...] = ()
    donors: int = 220
    donor_seed: int = 10_000
    donor_frames: int = 84
    thumbnail_every: int = 5
    thumbnail_size: int = 64
    pca_components: int = 64


@cache
def _head_model() -> HeadModel:
    return HeadModel(load_pack())


@cache
def _encoder() -> MediaPipeEncoder:
    return MediaPipeEncoder()


@cache
def _bake(seed: int) -> tuple[Person, BakedHead]:
    person = Person.from_seed(seed)
    return person, _head_model().bake(person.shape, person.look)


def donor_job(work: Path, settings: BuildSettings, donor: int) -> None:
    """Render and encode one bank donor: row 0 is the neutral, the others a random performance."""
    seed = settings.donor_seed + donor
    person, head = _bake(seed)
    _bake.cache_clear()
    performance = person.perform_random(settings.donor_frames)
    poses = head_pose_matrix(performance.head_rotation, performance.head_translation)
    front = camera(0, 0, settings.size)
    images = np.concatenate(
        [head.render(w, [front], pose)[0] for w, pose in zip(performance.weights, poses, strict=True)]
    )
    seen = _encoder().detect(images)
    thumbnails = {}
    for row in range(0, settings.donor_frames, settings.thumbnail_every):
        margin = settings.size // 6  # the face, without the rim of the picture
        face = Image.fromarray(images[row]).crop(
            (margin, margin, settings.size - margin, settings.size - margin)
        )
        face = face.resize((settings.thumbnail_size, settings.thumbnail_size), Image.Resampling.LANCZOS)
        thumbnails[row] = np.frombuffer(encode_thumbnail(np.asarray(face), quality=72), np.uint8)
    write_npz(
        work / "donors" / f"{donor:04d}.npz",
        blendshapes=seen.blendshapes,
        landmarks=seen.landmarks,
        pose=seen.encoder_pose,
        found=seen.face_found,
        weights=performance.weights,
        archetype=performance.archetype,
        head_rotation=performance.head_rotation,
        thumbnail_rows=np.array(list(thumbnails)),
        thumbnail_bytes=np.concatenate(list(thumbnails.values())),
        thumbnail_sizes=np.array([len(t) for t in thumbnails.values()]),
    )


def sequence_job(
    work: Path,
    settings: BuildSettings,
    pid: int,
    face_seed: int,
    actor_seed: int,
    sequence: str,
    name: str,
    serials: list[str] | None,
) -> None:
    """Render `sequence` as performed by the actor on the face of `face_seed`; the two differ in CROSS answers
    only."""
    _, head = _bake(face_seed)
    performance = Person.from_seed(actor_seed).perform(sequence, settings.frames)
    pca = LandmarkPCA.load(work / "landmark_pca.npz")

    def annotate(frames: np.ndarray) -> dict[str, np.ndarray]:
        seen = _encoder().detect(frames)
        return {
            "blendshapes": seen.blendshapes.astype(np.float16),
            "face_found": seen.face_found,
            "landmarks_pca": pca.encode_landmarks(seen.landmarks).astype(np.float16),
            "encoder_pose": seen.encoder_pose.astype(np.float32),
        }

    write_sequence(
        work / "mini_nersemble" / f"{pid:03d}",
        name,
        head,
        performance,
        studio_cameras(settings.size, serials),
        settings.fps,
        crf=settings.crf,
        annotate=annotate,
    )
