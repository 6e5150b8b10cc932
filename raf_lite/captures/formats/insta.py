"""INSTA: one camera, a tracked head that stands still while the camera moves round it.

    transforms.json, transforms_{train,val,test}.json    frames[]: transform_matrix, file_path images/{id}.png
                                                         (RGBA), exp_path flame/exp/{id}.txt; fl_x fl_y cx cy
                                                         w h

Traps: `transform_matrix` is the inverse of an OpenCV world-to-camera matrix with **no** change of axes,
although the file looks like a NeRF's. `val` is the last 20 frames *of* test, not a set of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from raf_lite.captures.cameras import Camera
from raf_lite.captures.formats._files import field, in_time, inside, numbers, read_json, whole
from raf_lite.captures.formats.images import Parsed, View
from raf_lite.captures.pictures import picture_size

SERIAL = "0"
FPS = 25.0  # the tracker's default; the files do not tell
MAX_DESCRIPTOR_BYTES = 1 << 20


def is_insta(path: Path) -> bool:
    """Whether a folder has transforms whose frames name an expression file."""
    for name in ("transforms_train.json", "transforms.json"):
        if (path / name).is_file():
            frames = read_json(path / name).get("frames")
            return (
                isinstance(frames, list)
                and bool(frames)
                and isinstance(frames[0], Mapping)
                and "exp_path" in frames[0]
            )
    return False


def parse_insta(path: Path) -> Parsed:
    """Sequences `train` and, held out, `test`. Descriptors: `flame_exp` [T, E]. Head poses: the tracker's,
    seen by a camera that stands still."""
    names = [(part, path / f"transforms_{part}.json") for part in ("train", "test")]
    names = [(part, file) for part, file in names if file.is_file()] or [("train", path / "transforms.json")]
    views, annotations, annotation_files = {}, {}, {}
    cameras: dict[str, Camera] = {}
    for part, file in names:
        top = read_json(file)
        frames = field(top, "frames", str(file))
        if not isinstance(frames, list) or not frames:
            raise ValueError(f"{file}: frames is no list, or an empty one; export the video again")
        values = {
            n: float(numbers(field(top, n, str(file)), (), f"{file}, {n}"))
            for n in ("fl_x", "fl_y", "cx", "cy", "w", "h")
        }
        K = np.array([[values["fl_x"], 0, values["cx"]], [0, values["fl_y"], values["cy"]], [0, 0, 1]])
        try:
            now = Camera(
                SERIAL, np.eye(4), K, whole(values["w"], f"{file}, w"), whole(values["h"], f"{file}, h")
            )
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        camera = cameras.setdefault(SERIAL, now)
        if not np.allclose(now.K, camera.K) or (now.width, now.height) != (camera.width, camera.height):
            raise ValueError(
                f"{file}: its intrinsics differ from those of {names[0][1].name}; export both from one video"
            )
        camera = cameras[SERIAL] = now
        images, descriptors, poses, descriptor_files = [], [], [], []
        for number, frame in in_time(frames, "file_path", file):
            where = f"{file} frame {number}"
            for name in [name for name in values if isinstance(frame, Mapping) and name in frame]:
                if abs(float(numbers(frame[name], (), f"{where}, {name}")) - values[name]) > 1e-2:
                    raise ValueError(
                        f"{where}: its {name} is {frame[name]}, and {values[name]:g} at the top; a lens must"
                        " not zoom, leave those frames out"
                    )
            images.append(inside(path, field(frame, "file_path", where), f"{where}, file_path"))
            matrix = numbers(field(frame, "transform_matrix", where), (4, 4), f"{where}, transform_matrix")
            try:
                poses.append(np.linalg.inv(matrix))
            except np.linalg.LinAlgError as error:
                raise ValueError(
                    f"{where}: transform_matrix cannot be inverted; export the video again"
                ) from error
            descriptor_files.append(inside(path, field(frame, "exp_path", where), f"{where}, exp_path"))
            descriptors.append(_descriptor(descriptor_files[-1]))
        if len({len(values) for values in descriptors}) > 1:
            raise ValueError(f"{file}: its expression files have different lengths; export the video again")
        height, width, _ = picture_size(images[0], f"{file} frame 0")
        if (height, width) != (camera.height, camera.width):
            raise ValueError(
                f"{images[0]} is {width}x{height} (WxH), but {file.name} says {camera.width}x{camera.height};"
                " write the images at the size of the intrinsics"
            )
        views[part] = {SERIAL: View(images, calibration=[file for _, file in names])}
        annotation_files[part] = [file, *descriptor_files]
        annotations[part] = {"flame_exp": np.stack(descriptors), "head_pose": np.stack(poses)}
    return Parsed(
        subject=path.name,
        fps=FPS,
        views=views,
        cameras=cameras,
        annotations=annotations,
        annotation_files=annotation_files,
        holdout_sequences=("test",),
        head_pose_source="INSTA's tracker",
    )


def _descriptor(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; copy the capture again")
    if path.stat().st_size > MAX_DESCRIPTOR_BYTES:
        raise ValueError(f"{path} is far too long for an expression; copy it again")
    try:
        values = [float(text) for text in path.read_text(encoding="utf-8").split()]
    except ValueError as error:
        raise ValueError(f"{path} is not one number a line; export the video again") from error
    if not values or not np.isfinite(values).all():
        raise ValueError(f"{path} is empty or has values that are not finite; export the video again")
    return np.asarray(values, np.float32)
