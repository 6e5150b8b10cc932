"""IMavatar / MonoGaussianAvatar: one camera, videos of one person, FLAME parameters of DECA in a JSON file.

    {video}/flame_params.json     frames[]: file_path (no ending), world_mat 3x4, expression 50, pose 15,
                                  bbox, flame_keypoints; shape_params, intrinsics [fx, fy, cx, cy]
    {video}/image/N.png  {video}/mask/N.png

Traps: the camera looks along its *negative* z axis with y up, which is why `intrinsics` has a negative fx (x
to the right, divided by a negative z); OpenCV's axes follow by turning y and z. `intrinsics` are shares of
the picture's size, except in older files, whose numbers are pixels of a 512 px picture. Files are counted
from 1 and frames from 0: the name in `file_path` decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from raf_lite.captures.cameras import OPENGL_AXES, Camera
from raf_lite.captures.formats._files import field, in_time, inside, natural, numbers, read_json
from raf_lite.captures.formats.images import Parsed, View
from raf_lite.captures.pictures import picture_size

SERIAL = "0"
FPS = 25.0  # IMavatar extracts 25 frames a second
PARAMS = "flame_params.json"
_OLD_SIZE = 512
# Positions in the 15 numbers of `pose`: global rotation, neck, jaw, eyes.
_JAW = slice(6, 9)


def is_imavatar(path: Path) -> bool:
    """Whether folders of videos with FLAME parameters lie in this folder, or in a folder of the same name in
    it."""
    return bool(_videos(path))


def _videos(path: Path) -> list[Path]:
    for root in (path, path / path.name):
        found = sorted(
            (file.parent for file in root.glob(f"*/{PARAMS}")), key=lambda video: natural(video.name)
        )
        if found:
            return found
    return [path] if (path / PARAMS).is_file() else []


def parse_imavatar(path: Path) -> Parsed:
    """A sequence a video; the last one, by name, is held out, as the authors do with their test videos.
    Descriptors: `flame_exp` [T, 50] and `flame_exp_jaw` [T, 53].

    The camera moves with the tracked head, which still turns by FLAME's global and neck rotation, about
    joints that only the licensed model knows. Head poses are therefore left open, and `world_mat` is kept as
    the annotation `tracked_root` [T, 4, 4]."""
    views, annotations, annotation_files = {}, {}, {}
    cameras: dict[str, Camera] = {}
    videos = _videos(path)
    if not videos:
        raise FileNotFoundError(f"{path} has no {PARAMS}, nor has a folder in it; copy the capture again")
    for video in videos:
        file = video / PARAMS
        top = read_json(file)
        frames = field(top, "frames", str(file))
        if not isinstance(frames, list) or not frames:
            raise ValueError(f"{file}: frames is no list, or an empty one; track the video again")
        intrinsics = numbers(field(top, "intrinsics", str(file)), (4,), f"{file}, intrinsics")
        images, masks, exps, jaws, roots = [], [], [], [], []
        for number, frame in in_time(frames, "file_path", file):
            where = f"{file} frame {number}"
            name = field(frame, "file_path", where)
            if not np.allclose(
                numbers(frame.get("intrinsics", intrinsics), (4,), f"{where}, intrinsics"),
                intrinsics,
                rtol=1e-4,
            ):
                raise ValueError(
                    f"{where}: its intrinsics are unlike those at the top; a lens must not zoom, leave those "
                    "frames out"
                )
            images.append(inside(path, f"{name}.png", f"{where}, file_path", video))
            # The last "image" of the path is the folder's; a video may bear the word in its own name.
            head, _, tail = str(name).rpartition("image")
            masks.append(inside(path, f"{head}mask{tail}.png", f"{where}, file_path", video))
            world_mat = np.eye(4)
            world_mat[:3] = numbers(field(frame, "world_mat", where), (3, 4), f"{where}, world_mat")
            if world_mat[2, 3] >= 0:
                raise ValueError(
                    f"{where}: world_mat puts the head behind the camera, which looks along -z in this"
                    " format; write world_mat with OpenGL's axes"
                )
            roots.append(OPENGL_AXES @ world_mat)
            exps.append(numbers(field(frame, "expression", where), (50,), f"{where}, expression"))
            jaws.append(numbers(field(frame, "pose", where), (15,), f"{where}, pose")[_JAW])
        height, width, _ = picture_size(images[0], f"{file} frame 0")
        now = _camera(intrinsics, width, height, file)
        camera = cameras.setdefault(SERIAL, now)
        if not np.allclose(now.K, camera.K, atol=0.5) or now.width != camera.width:
            raise ValueError(
                f"{file}: its intrinsics or size differ from those of the other videos; open the videos one"
                " by one"
            )
        has_masks = [mask.is_file() for mask in masks]
        if any(has_masks) and not all(has_masks):
            raise FileNotFoundError(
                f"there is no mask {masks[has_masks.index(False)]}; copy it, or remove all masks"
            )
        views[video.name] = {SERIAL: View(images, masks if all(has_masks) else None, [videos[0] / PARAMS])}
        annotation_files[video.name] = [file]
        exp = np.stack(exps).astype(np.float32)
        annotations[video.name] = {
            "flame_exp": exp,
            "flame_exp_jaw": np.concatenate([exp, np.stack(jaws).astype(np.float32)], 1),
            "tracked_root": np.stack(roots),
        }
    names = list(views)
    return Parsed(
        subject=path.name,
        fps=FPS,
        views=views,
        cameras=cameras,
        annotations=annotations,
        annotation_files=annotation_files,
        holdout_sequences=tuple(names[-1:]) if len(names) > 1 else (),
    )


def _camera(intrinsics: np.ndarray, width: int, height: int, file: Path) -> Camera:
    fx, fy, cx, cy = intrinsics
    scale = np.array([width, height]) / (_OLD_SIZE if cy > 1 else 1)
    if fx >= 0:
        raise ValueError(
            f"{file}: intrinsics has fx = {fx:g}, which is negative in this format (its camera looks along"
            " -z); negate it, or convert the file's axes"
        )
    K = np.array([[-fx * scale[0], 0, cx * scale[0]], [0, fy * scale[1], cy * scale[1]], [0, 0, 1]])
    try:
        return Camera(SERIAL, np.eye(4), K, width, height)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
