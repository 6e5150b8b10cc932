"""Gaussian Head Avatar (GHA): multi-view frames with fitted BFM parameters.

    images/{f:04d}/{image,mask}_{cam}.jpg     cameras/{f:04d}/camera_{cam}.npz: extrinsic 3x4 (OpenCV),
    intrinsic 3x3 (pixels) params/{f:04d}/params.npz: exp_coeff (1, 64), pose (1, 6) = rotation vector and
    translation, scale (1,), id_coeff (1, 80)

A point x of the fitted head lies at R (s x) + T in the world. Traps: cameras are stored once a frame and must
not differ between frames; the principal point is anywhere (GHA itself crops it to the middle); nothing is
held out. Masks are stored as JPEG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from raf_lite.captures.cameras import Camera
from raf_lite.captures.formats._files import check_order, natural, numbers, read_arrays
from raf_lite.captures.formats.images import Parsed, View
from raf_lite.captures.pictures import picture_size

SEQUENCE = "all"
FPS = 24.3  # GHA's preprocessing of NeRSemble keeps every third of 73 frames a second; the files do not tell
COEFFICIENTS = 64


def is_gha(path: Path) -> bool:
    """Whether a folder has GHA's three folders."""
    return all((path / name).is_dir() for name in ("images", "cameras", "params"))


def parse_gha(path: Path) -> Parsed:
    """One sequence `all`. Descriptors: `bfm_exp` [T, 64]. Head poses: the fit's. Cameras whose images are
    missing in some frame are a fault."""
    if not is_gha(path):
        raise FileNotFoundError(
            f"{path} has not all of images/, cameras/ and params/; copy the capture again"
        )
    frames = sorted((folder.name for folder in (path / "images").iterdir() if folder.is_dir()), key=natural)
    if not frames:
        raise FileNotFoundError(f"{path / 'images'} has no frame folders; copy the capture again")
    check_order(frames, f"{path / 'images'} holds the folders")
    serials = sorted(
        {
            file.stem.removeprefix("image_")
            for f in frames
            for file in (path / "images" / f).glob("image_*.jpg")
            if not file.stem.startswith("image_lowres_")
        },
        key=natural,
    )
    if not serials:
        raise FileNotFoundError(f"{path / 'images'} has no */image_*.jpg; copy the capture again")
    cameras, views = {}, {}
    for serial in serials:
        images = [_present(path / "images" / f / f"image_{serial}.jpg") for f in frames]
        masks = [path / "images" / f / f"mask_{serial}.jpg" for f in frames]
        has_masks = [mask.is_file() for mask in masks]
        if any(has_masks) and not all(has_masks):
            raise FileNotFoundError(
                f"there is no mask {masks[has_masks.index(False)]}; copy it, or remove all masks of {serial}"
            )
        calibration = [path / "cameras" / f / f"camera_{serial}.npz" for f in frames]
        views[serial] = View(images, masks if all(has_masks) else None, calibration)
        height, width, _ = picture_size(images[0], f"{path}, camera {serial}")
        for frame, file in zip(frames, calibration, strict=True):
            camera = _camera(serial, file, width, height)
            first = cameras.setdefault(serial, camera)
            if (
                np.abs(first.world_to_camera - camera.world_to_camera).max() > 1e-4
                or np.abs(first.K - camera.K).max() > 1e-2
            ):
                raise ValueError(
                    f"{path / 'cameras' / frame}: camera {serial} differs from that of frame {frames[0]};"
                    " cameras of a capture must not move"
                )
    descriptors, poses = [], []
    files = [path / "params" / frame / "params.npz" for frame in frames]
    for file in files:
        arrays = read_arrays(file, ("exp_coeff", "pose"))
        descriptors.append(numbers(arrays["exp_coeff"].reshape(-1), (COEFFICIENTS,), f"{file}, exp_coeff"))
        six = numbers(arrays["pose"].reshape(-1), (6,), f"{file}, pose")
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = Rotation.from_rotvec(six[:3]).as_matrix(), six[3:]
        poses.append(pose)
    return Parsed(
        subject=path.name,
        fps=FPS,
        views={SEQUENCE: views},
        cameras=cameras,
        head_pose_source="GHA's BFM fit",
        annotation_files={SEQUENCE: files},
        annotations={
            SEQUENCE: {"bfm_exp": np.stack(descriptors).astype(np.float32), "head_pose": np.stack(poses)}
        },
    )


def _present(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"there is no image {path}; copy it, or remove that frame's folders")
    return path


def _camera(serial: str, file: Path, width: int, height: int) -> Camera:
    arrays = read_arrays(file, ("extrinsic", "intrinsic"))
    world_to_camera = np.eye(4)
    extrinsic = arrays["extrinsic"]
    world_to_camera[:3] = numbers(
        extrinsic[:3] if extrinsic.ndim == 2 else extrinsic, (3, 4), f"{file}, extrinsic"
    )
    K = numbers(arrays["intrinsic"], (3, 3), f"{file}, intrinsic")
    K[0, 1] = 0.0 if abs(K[0, 1]) < 1e-6 * abs(K[0, 0]) else K[0, 1]
    try:
        return Camera(serial, world_to_camera, K, width, height)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
