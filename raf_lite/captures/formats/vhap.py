"""VHAP / GaussianAvatars exports: `transforms*.json`, images and FLAME parameters, of one sequence or a union
of several.

    transforms.json, transforms_{train,val,test}.json     frames[]: timestep_index, camera_index, camera_id,
                                                          transform_matrix, file_path, fg_mask_path,
                                                          flame_param_path; cx cy fl_x fl_y h w
    images/{t:05d}_{cam:02d}.png  fg_masks/...  flame_param/{t:05d}.npz

Traps: `transform_matrix` is camera to world with OpenGL axes (its columns 1 and 2 change sign before it is
inverted). Principal point and focal length stand at the top of the file or in each frame. Files of a union
lie in folders beside it (`../{SEQ}/...`), and its `timestep_index` runs on over them, so that time is ordered
by index and not by file name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from raf_lite.captures.cameras import OPENGL_AXES, Camera
from raf_lite.captures.formats._files import field, inside, numbers, read_arrays, read_json, whole
from raf_lite.captures.formats.images import Parsed, View
from raf_lite.captures.pictures import picture_size

FPS = 24.3  # of GaussianAvatars' NeRSemble exports (every third of 73 frames a second); the files do not tell
_SPLITS = ("train", "val", "test")
_INTRINSICS = ("fl_x", "fl_y", "cx", "cy", "w", "h")
_FLAME = {"expr": 100, "jaw_pose": 3, "rotation": 3, "neck_pose": 3}


def is_vhap(path: Path) -> bool:
    """Whether a folder has transforms whose frames name a camera and a time step (INSTA's name neither)."""
    for name in ("transforms_train.json", "transforms.json"):
        if (path / name).is_file():
            frames = read_json(path / name).get("frames")
            return (
                isinstance(frames, list)
                and bool(frames)
                and isinstance(frames[0], Mapping)
                and "camera_index" in frames[0]
            )
    return False


def parse_vhap(path: Path) -> Parsed:
    """Read every transforms file of a folder. Descriptors: `flame_expr` [T, 100] and `flame_expr_jaw` [T,
    103].

    Cameras that `val` shows and `train` does not are held out; so are the time steps of `test`. FLAME's head
    pose turns about joints that only the licensed model knows, so head poses are left to `fit_head_poses`.
    """
    names = [
        (split, path / f"transforms_{split}.json")
        for split in _SPLITS
        if (path / f"transforms_{split}.json").is_file()
    ]
    if not names:
        names = [("train", path / "transforms.json")]
    cameras: dict[str, Camera] = {}
    records: dict[tuple[str, str], dict[int, dict[str, tuple]]] = defaultdict(lambda: defaultdict(dict))
    seen_in: dict[str, set[str]] = defaultdict(set)
    for split, file in names:
        top = read_json(file)
        frames = field(top, "frames", str(file))
        if not isinstance(frames, list):
            raise ValueError(f"{file}: frames is no list; export the sequence again")
        for number, frame in enumerate(frames):
            where = f"{file} frame {number}"
            serial = f"{whole(field(frame, 'camera_index', where), f'{where}, camera_index'):02d}"
            step = whole(field(frame, "timestep_index", where), f"{where}, timestep_index")
            image = inside(path.parent, field(frame, "file_path", where), f"{where}, file_path", path)
            camera = _camera(serial, top, frame, where)
            before = cameras.setdefault(serial, camera)
            if np.abs(before.world_to_camera - camera.world_to_camera).max() > 1e-4:
                raise ValueError(
                    f"{where}: camera {serial} stands elsewhere than in frames before; cameras of a capture"
                    " must not move, export it again"
                )
            if np.abs(before.K - camera.K).max() > 1e-2 or (before.width, before.height) != (
                camera.width,
                camera.height,
            ):
                raise ValueError(
                    f"{where}: camera {serial} has other intrinsics than in frames before"
                    f" ({', '.join(_INTRINSICS)}); a lens must not zoom, export each lens as a camera of"
                    " its own"
                )
            mask = frame.get("fg_mask_path")
            mask = None if mask is None else inside(path.parent, mask, f"{where}, fg_mask_path", path)
            flame = frame.get("flame_param_path")
            flame = None if flame is None else inside(path.parent, flame, f"{where}, flame_param_path", path)
            seen_in[serial].add(split)
            # Validation is the training time seen by other cameras.
            part = "test" if split == "test" else "train"
            folder = image.parent.parent.name
            for there in ("train", "test"):
                if serial in records[folder, there].get(step, {}):
                    raise ValueError(
                        f"{where}: time step {step} of {folder}, camera {serial}, stands a second time;"
                        " export the sequence again, or remove one of them"
                    )
            records[folder, part][step][serial] = (image, mask, flame)
    if not cameras:
        raise ValueError(f"{path}: its transforms have no frames; export the sequence again")
    held_out = sorted(s for s, splits in seen_in.items() if "train" not in splits and "val" in splits)
    return _assemble(path, cameras, [file for _, file in names], records, tuple(held_out))


def _camera(serial: str, top: Mapping, frame: Mapping, where: str) -> Camera:
    values = {}
    for name in _INTRINSICS:
        values[name] = float(
            numbers(frame[name] if name in frame else field(top, name, where), (), f"{where}, {name}")
        )
    matrix = numbers(field(frame, "transform_matrix", where), (4, 4), f"{where}, transform_matrix")
    camera_to_world = matrix @ OPENGL_AXES
    try:
        world_to_camera = np.linalg.inv(camera_to_world)
        world_to_camera[3] = matrix[3]
        K = np.array([[values["fl_x"], 0, values["cx"]], [0, values["fl_y"], values["cy"]], [0, 0, 1]])
        width, height = whole(values["w"], f"{where}, w"), whole(values["h"], f"{where}, h")
        return Camera(serial, world_to_camera, K, width, height)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def _assemble(
    path: Path,
    cameras: dict[str, Camera],
    transforms: list[Path],
    records: Mapping,
    held_out: tuple[str, ...],
) -> Parsed:
    records = {key: steps for key, steps in records.items() if steps}
    folders = {folder for folder, _ in records}
    views, annotations, annotation_files, holdout = {}, {}, {}, []
    for (folder, part), steps in sorted(records.items()):
        both = (folder, "train") in records and (folder, "test") in records
        name = f"{folder}-{part}" if both else folder if len(folders) > 1 else part
        holdout += [name] * (part == "test")
        order = sorted(steps)
        serials = sorted({serial for step in steps.values() for serial in step})
        complete = [step for step in order if len(steps[step]) == len(serials)]
        if len(complete) < len(order):
            lacking = next(step for step in order if step not in complete)
            absent = sorted(set(serials) - set(steps[lacking]))
            raise ValueError(
                f"{path}: time step {lacking} of {name} has no image of camera(s) {', '.join(absent)}; export"
                " the sequence again, or leave those frames out of every transforms file"
            )
        views[name] = {}
        for serial in serials:
            rows = [steps[step][serial] for step in order]
            masks = [mask for _, mask, _ in rows]
            if any(mask is None for mask in masks) and any(mask is not None for mask in masks):
                raise ValueError(
                    f"{path}: some frames of {name}, camera {serial}, name a fg_mask_path and some do not;"
                    " name all"
                )
            views[name][serial] = View(
                [image for image, _, _ in rows], None if masks[0] is None else masks, transforms
            )
        files = [next(iter(steps[step].values()))[2] for step in order]
        if all(file is not None for file in files):
            annotation_files[name] = files
            parameters = [_flame(file) for file in files]
            expr = np.stack([c["expr"] for c in parameters])
            annotations[name] = {
                "flame_expr": expr,
                "flame_expr_jaw": np.concatenate([expr, np.stack([c["jaw_pose"] for c in parameters])], 1),
            }
    for serial, camera in cameras.items():
        first = next(view[serial].images[0] for view in views.values() if serial in view)
        height, width, _ = picture_size(first, f"{path}, camera {serial}")
        if (height, width) != (camera.height, camera.width):
            raise ValueError(
                f"{first} is {width}x{height} (WxH), but the transforms say {camera.width}x{camera.height};"
                " export the images and the transforms at one size"
            )
    return Parsed(
        subject=path.name.split("_")[0] or path.name,
        fps=FPS,
        views=views,
        cameras=cameras,
        annotations=annotations,
        annotation_files=annotation_files,
        holdout_sequences=tuple(holdout),
        holdout_cameras=held_out,
    )


def _flame(path: Path) -> dict[str, np.ndarray]:
    """The parameters of one time step that drive expression."""
    arrays = read_arrays(path, tuple(_FLAME))
    return {
        name: numbers(arrays[name].reshape(-1), (size,), f"{path}, {name}").astype(np.float32)
        for name, size in _FLAME.items()
    }
