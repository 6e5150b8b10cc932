"""Rendered heads written in other projects' layouts, each with the traps of its format, to be read back by
our readers.

What a format can't say (a landmark's pixel) is returned beside it, computed with the renderer's own cameras.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from raf_lite.captures import Camera, write_video
from raf_lite.captures.formats.nersemble import write_calibration
from raf_lite.rig.expressions import Style, units
from raf_lite.rig.head import HeadModel, head_pose_matrix
from raf_lite.rig.pack import find_pack, load_pack
from raf_lite.rig.scripts import perform_random
from raf_lite.rig.studio import Person, look_at

FRAMES = 6
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Scene:
    """A few frames of a head. images [T, C, H, W, 3], masks [T, C, H, W], poses [T, 4, 4], landmarks in head
    space [T, 68, 3], pixels [T, C, 68, 2] where the renderer's cameras see them."""

    cameras: list[Camera]
    images: np.ndarray
    masks: np.ndarray
    poses: np.ndarray
    landmarks: np.ndarray
    pixels: np.ndarray


@cache
def scene() -> Scene:
    """Six frames, three cameras of 96x80 pixels with a principal point off the middle, and a moving head."""
    cameras = [
        Camera(
            str(k),
            look_at(azimuth, elevation),
            np.array([[230.0, 0, 45 + 2 * k], [0, 235.0, 43 - k], [0, 0, 1]]),
            96,
            80,
        )
        for k, (azimuth, elevation) in enumerate(((0, 0), (25, 8), (-30, -5)))
    ]
    if find_pack() is None:
        pytest.skip(
            "the ICT-FaceKit rig is not here; run `raf-lite data rig`, or set RAF_LITE_ICT to its pack"
        )
    person = Person.from_seed(4242)
    head = HeadModel(load_pack()).bake(person.shape, person.look)
    style = Style(np.ones(len(units()), np.float32), np.zeros(len(units()), np.float32))
    acted = perform_random(style, np.random.default_rng(0), 8 * 4)
    rows = slice(4, 4 + 4 * FRAMES, 4)
    poses = head_pose_matrix(acted.head_rotation[rows] * 2, acted.head_translation[rows])
    rendered = [head.render(w, cameras, pose) for w, pose in zip(acted.weights[rows], poses, strict=True)]
    landmarks = np.stack([head.landmarks68(w) for w in acted.weights[rows]])
    world = np.einsum("tij,tlj->tli", poses[:, :3, :3], landmarks) + poses[:, None, :3, 3]
    pixels = np.stack([[c.project(points)[0] for c in cameras] for points in world])
    return Scene(
        cameras,
        np.stack([r[0] for r in rendered]),
        np.stack([r[1] for r in rendered]),
        poses,
        landmarks,
        pixels,
    )


def _png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def made_up(size: int, seed: int = 0) -> np.ndarray:
    """Made-up descriptors [FRAMES, size]: what they are does not matter to a reader, that they come back
    does."""
    return np.random.default_rng(seed).normal(size=(FRAMES, size)).astype(np.float32)


def write_vhap(root: Path, *, sequence: str = "306_EMO-1", test_from: int = 4, first_step: int = 0) -> Path:
    """One exported sequence: camera 2 is validation's, frames from `test_from` on are test's, steps start at
    `first_step`."""
    s, folder = scene(), root / sequence
    frames: dict[str, list] = {"train": [], "val": [], "test": []}
    expr, jaw = made_up(100), made_up(3, 1)
    for t in range(FRAMES):
        np.savez(
            _made(folder / "flame_param") / f"{t:05d}.npz",
            expr=expr[t : t + 1],
            jaw_pose=jaw[t : t + 1],
            rotation=np.zeros((1, 3)),
            neck_pose=np.zeros((1, 3)),
            translation=np.zeros((1, 3)),
            shape=np.zeros(300),
        )
        for c, camera in enumerate(s.cameras):
            _png(folder / f"images/{t:05d}_{c:02d}.png", s.images[t, c])
            _png(folder / f"fg_masks/{t:05d}_{c:02d}.png", s.masks[t, c])
            split = "test" if t >= test_from else "val" if c == 2 else "train"
            matrix = np.linalg.inv(camera.world_to_camera)
            matrix[:3, 1:3] *= -1
            frames[split].append(
                {
                    "timestep_index": first_step + t,
                    "camera_index": c,
                    "camera_id": f"2222000{c}",
                    "transform_matrix": matrix.tolist(),
                    "file_path": f"images/{t:05d}_{c:02d}.png",
                    "fg_mask_path": f"fg_masks/{t:05d}_{c:02d}.png",
                    "flame_param_path": f"flame_param/{t:05d}.npz",
                    "fl_x": camera.K[0, 0],
                    "fl_y": camera.K[1, 1],
                    "cx": camera.K[0, 2],
                    "cy": camera.K[1, 2],
                    "w": camera.width,
                    "h": camera.height,
                }
            )
    for split, listed in frames.items():
        (folder / f"transforms_{split}.json").write_text(json.dumps({"frames": listed}))
    return folder


def write_vhap_union(root: Path) -> Path:
    """Two sequences beside a union folder whose transforms name `../{sequence}/...`; time steps run on over
    both."""
    union = _made(root / "UNION_306")
    merged: dict[str, list] = {"train": [], "val": [], "test": []}
    for k, sequence in enumerate(("EMO-1", "FREE")):
        folder = write_vhap(root, sequence=sequence, test_from=99 if k == 0 else 0)
        for split, listed in merged.items():
            for frame in json.loads((folder / f"transforms_{split}.json").read_text())["frames"]:
                frame["timestep_index"] += k * FRAMES
                for name in ("file_path", "fg_mask_path", "flame_param_path"):
                    frame[name] = f"../{sequence}/{frame[name]}"
                listed.append(frame)
    for split, listed in merged.items():
        (union / f"transforms_{split}.json").write_text(json.dumps({"frames": listed}))
    return union


def write_nersemble_benchmark(root: Path) -> Path:
    """Participant 306 of the benchmark's mono task: videos, alpha maps, intrinsics by camera, and FLAME
    tracking in metres of another scale."""
    s, folder = scene(), root / "306"
    cameras = {
        serial: Camera(serial, c.world_to_camera, c.K, c.width, c.height)
        for serial, c in zip(("222200037", "222200046", "222200039"), s.cameras, strict=True)
    }
    write_calibration(folder, cameras)
    for sequence in ("EXP-8-jaw-1", "FREE"):
        place = _made(folder / "sequences" / sequence)
        for c, serial in enumerate(cameras):
            write_video(place / "images" / f"cam_{serial}.mp4", s.images[:, c], 24.3)
            write_video(place / "alpha_maps" / f"cam_{serial}.mp4", s.masks[:, c], 24.3, gray=True)
        np.savez(
            _made(place / "tracking") / "flame2023_tracking_v2.npz",
            shape=np.zeros((1, 300)),
            expression=made_up(100),
            rotation=Rotation.from_matrix(s.poses[:, :3, :3]).as_euler("XYZ"),
            rotation_matrices=s.poses[:, :3, :3],
            translation=s.poses[:, :3, 3],
            jaw=made_up(3, 1),
            frames=np.arange(FRAMES),
            scale=np.full((1, 1), 4.0),
            neck=np.zeros((FRAMES, 3)),
            eyes=np.zeros((FRAMES, 6)),
        )
    hidden = _made(
        folder / "sequences" / "SEN-09-frown_events_bad" / "tracking"
    )  # videos are the benchmark's secret
    shutil.copy(folder / "sequences/FREE/tracking/flame2023_tracking_v2.npz", hidden)
    return folder


def write_insta(root: Path, *, flip: bool = False) -> Path:
    """The frontal camera; the head stands still and the camera moves. flip: write NeRF's axes, which INSTA
    does not have."""
    s, folder, exp = scene(), root / "insta", made_up(100)
    camera, frames = s.cameras[0], []
    for t in range(FRAMES):
        _png(folder / f"images/{t:05d}.png", np.dstack([s.images[t, 0], s.masks[t, 0]]))
        path = _made(folder / "flame/exp") / f"{t:05d}.txt"
        np.savetxt(path, exp[t], fmt="%.8f")
        matrix = np.linalg.inv(camera.world_to_camera @ s.poses[t])
        if flip:
            matrix[:3, 1:3] *= -1
        frames.append(
            {
                "transform_matrix": matrix.tolist(),
                "file_path": f"images/{t:05d}.png",
                "exp_path": f"flame/exp/{t:05d}.txt",
            }
        )
    top = {
        "fl_x": camera.K[0, 0],
        "fl_y": camera.K[1, 1],
        "cx": camera.K[0, 2],
        "cy": camera.K[1, 2],
        "w": float(camera.width),
        "h": float(camera.height),
    }
    for name, listed in (
        ("train", frames[:4]),
        ("test", frames[4:]),
        ("val", frames[5:]),
    ):  # validation is a part of test
        (folder / f"transforms_{name}.json").write_text(json.dumps(top | {"frames": listed}))
    return folder


def write_gha(root: Path) -> Path:
    """Every camera, with the head's pose as a rotation vector and a translation, and a scale of the fitted
    model."""
    s, folder, exp = scene(), root / "031", made_up(64)
    for t in range(FRAMES):
        name = f"{t:04d}"
        for c, camera in enumerate(s.cameras):
            path = _made(folder / "images" / name)
            Image.fromarray(s.images[t, c]).save(path / f"image_2222{c}.jpg", quality=98, subsampling=0)
            Image.fromarray(np.dstack([s.masks[t, c]] * 3)).save(path / f"mask_2222{c}.jpg", quality=98)
            Image.fromarray(s.images[t, c][::2, ::2]).save(path / f"image_lowres_2222{c}.jpg")
            np.savez(
                _made(folder / "cameras" / name) / f"camera_2222{c}.npz",
                extrinsic=camera.world_to_camera[:3],
                intrinsic=camera.K,
            )
        pose = np.concatenate([Rotation.from_matrix(s.poses[t, :3, :3]).as_rotvec(), s.poses[t, :3, 3]])[None]
        np.savez(
            _made(folder / "params" / name) / "params.npz",
            id_coeff=np.zeros((1, 80)),
            exp_coeff=exp[t : t + 1],
            pose=pose,
            scale=np.array([1.0]),
        )
    return folder


def write_imavatar(root: Path, *, pixels: bool = False) -> Path:
    """Two videos of the frontal camera; files are counted from 1. pixels: intrinsics of the older files, for
    a 512 px picture."""
    s, folder = scene(), root / "yufeng"
    camera = s.cameras[0]
    size = np.array([camera.width, camera.height])
    scale = size / 512 if pixels else size
    fx, fy, cx, cy = (
        camera.K[0, 0] / scale[0],
        camera.K[1, 1] / scale[1],
        camera.K[0, 2] / scale[0],
        camera.K[1, 2] / scale[1],
    )
    for name, rows in (("MVI_1810", range(4)), ("MVI_1814", range(4, FRAMES))):
        frames = []
        for number, t in enumerate(rows):
            video = folder / "yufeng" / name
            _png(video / f"image/{number + 1}.png", s.images[t, 0])
            _png(video / f"mask/{number + 1}.png", s.masks[t, 0])
            world_mat = OPENGL @ camera.world_to_camera @ s.poses[t]
            frames.append(
                {
                    "file_path": f"./image/{number + 1}",
                    "world_mat": world_mat[:3].tolist(),
                    "expression": made_up(50)[t].tolist(),
                    "pose": made_up(15, 1)[t].tolist(),
                    "bbox": [-0.5, -0.5, 0.5, 0.5],
                    "flame_keypoints": [[0, 0]],
                }
            )
        (video / "flame_params.json").write_text(
            json.dumps({"frames": frames, "shape_params": [0] * 100, "intrinsics": [-fx, fy, cx, cy]})
        )
    return folder


def write_images(root: Path, *, masks: bool = True) -> Path:
    """A folder of the frontal camera's images, numbered without leading zeros from 8 on."""
    s, folder = scene(), root / "phone"
    for t in range(FRAMES):
        _png(folder / f"frame{t + 8}.png", s.images[t, 0])
        if masks:
            _png(folder / f"masks/frame{t + 8}.png", s.masks[t, 0])
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
