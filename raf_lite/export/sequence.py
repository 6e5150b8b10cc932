"""A moving avatar for programs without raf_lite: one PLY a frame, and an index."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from raf_lite._files import read_json, write_json
from raf_lite.avatar import GaussianAvatar
from raf_lite.export.placing import checked_descriptors, checked_pose
from raf_lite.export.ply import write_ply

INDEX = "sequence.json"


def _fingerprint(avatar: GaussianAvatar, *arrays: np.ndarray) -> str:
    """sha256 of everything that decides the frames."""
    digest = hashlib.sha256(
        json.dumps(
            [avatar.similarity.centre.tolist(), avatar.similarity.radius, avatar.origin().get("front")],
            sort_keys=True,
        ).encode()
    )
    for name, tensor in avatar.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write_sequence(
    avatar: GaussianAvatar,
    descriptors: np.ndarray,
    folder: str | os.PathLike,
    head_poses: np.ndarray | None = None,
    *,
    fps: float = 24.0,
) -> Path:
    """Write frame_00000.ply, frame_00001.ply, ... as `write_ply` does, and sequence.json. Returns the index's
    path.

    No kept standard stores splats that deform (see `write_glb`); numbered PLY files are what programs that
    play splats take. The order of the Gaussians is the same in every frame. descriptors: [T, D]. head_poses:
    [T, 4, 4], see `place`; the head holds still if None. fps: frames a second, for the index only. One frame
    at a time is in memory. A run that was stopped goes on where it was when it is called again; the index
    says `"complete": true` at the end.

    Raises ValueError for what `place` refuses, naming the frame, for numbers of poses and frames that differ,
    and where the folder holds the frames of something else.

    >>> from raf_lite import GaussianAvatar
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> from raf_lite.avatar import resting_descriptor
    >>> index = write_sequence(avatar, np.tile(resting_descriptor(avatar), (2, 1)), "frames")
    >>> sorted(path.name for path in index.parent.iterdir())
    ['frame_00000.ply', 'frame_00001.ply', 'sequence.json']
    """
    folder, values = Path(folder), checked_descriptors(avatar, descriptors, "write_sequence")
    if head_poses is not None and len(head_poses) != len(values):
        raise ValueError(
            f"write_sequence: there are {len(head_poses)} head poses for {len(values)} descriptors; give each"
            " frame one"
        )
    poses = np.stack(
        [
            checked_pose(None if head_poses is None else head_poses[t], f"write_sequence, frame {t}")
            for t in range(len(values))
        ]
    )
    if not fps > 0:
        raise ValueError(f"write_sequence: fps is {fps}; give the frames a second, above 0")
    names = [f"frame_{t:05d}.ply" for t in range(len(values))]
    index = {
        "frames": names,
        "fps": fps,
        "gaussians": len(avatar.means),
        "descriptor": avatar.descriptor,
        "fingerprint": _fingerprint(avatar, values, poses),
        "complete": False,
    }
    if (folder / INDEX).exists():
        there = read_json(folder / INDEX, dict, "name another folder or delete it")
        if there.get("fingerprint") != index["fingerprint"]:
            raise ValueError(
                f"{folder} holds the frames of another avatar or sequence; name another folder or delete it"
            )
    elif any(folder.glob("frame_*.ply")):
        raise ValueError(
            f"{folder} holds frames without {INDEX}, so nobody knows whose they are; name another folder"
        )
    write_json(folder / INDEX, index)
    for name, descriptor, pose in zip(names, values, poses, strict=True):
        if not (folder / name).exists():  # written whole or not at all
            write_ply(avatar, descriptor, folder / name, pose)
    write_json(folder / INDEX, index | {"complete": True})
    return folder / INDEX
