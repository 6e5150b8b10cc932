"""Renders a performance to disk in the NeRSemble v2 raw layout, with annotations and, apart, the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from raf_lite._files import write_npz
from raf_lite.captures import Camera, read_video, write_video
from raf_lite.rig.head import BakedHead, head_pose_matrix
from raf_lite.rig.scripts import Performance
from raf_lite.rig.studio import FRONTAL

ALPHA_CRF = 6  # masks are smooth and without texture: they bear a coarser quantiser

# Encoder output of decoded frames uint8 [T, H, W, 3] -> arrays to store beside the sequence, each with T
# rows.
Annotate = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def write_sequence(
    participant: Path,
    sequence: str,
    head: BakedHead,
    performance: Performance,
    cameras: Mapping[str, Camera],
    fps: float,
    *,
    crf: int,
    annotate: Annotate | None = None,
) -> None:
    """Render one sequence from every camera and write its videos, alpha maps, annotations and truth.

    participant: the folder `{root}/{pid:03d}`. The encoder reads the *decoded* frontal video, as it would for
    a user, so the stored descriptors carry the codec's noise. The annotations file is written last: a
    sequence without one is not whole."""
    poses = head_pose_matrix(performance.head_rotation, performance.head_translation)
    frames = [
        head.render(weights, list(cameras.values()), pose)
        for weights, pose in zip(performance.weights, poses, strict=True)
    ]
    folder = participant / "sequences" / sequence
    for c, serial in enumerate(cameras):
        write_video(
            folder / "images" / f"cam_{serial}.mp4", [images[c] for images, _ in frames], fps, crf=crf
        )
        write_video(
            folder / "alpha_maps" / f"cam_{serial}.mp4",
            [masks[c] for _, masks in frames],
            fps,
            crf=crf + ALPHA_CRF,
            gray=True,
        )
    write_npz(
        participant / "truth" / f"{sequence}.npz",
        weights=performance.weights.astype(np.float16),
        archetype=performance.archetype,
        amplitude=performance.amplitude.astype(np.float16),
        peak=performance.peak.astype(np.float16),
    )
    encoded = {} if annotate is None else annotate(read_video(folder / "images" / f"cam_{FRONTAL}.mp4"))
    landmarks = np.stack(
        [head.landmarks68(w, pose) for w, pose in zip(performance.weights, poses, strict=True)]
    )
    write_npz(
        participant / "annotations" / f"{sequence}.npz",
        head_pose=poses.astype(np.float32),
        landmarks68=np.round(landmarks * 256).astype(np.float32) / 256,
        **encoded,
    )  # 0.04 mm: compresses well
