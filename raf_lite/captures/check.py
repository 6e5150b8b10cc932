"""Says what a capture holds, and whether its cameras can be right: `raf-lite check`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from raf_lite._files import atomic_path
from raf_lite._install import needs
from raf_lite.captures.cameras import OPENGL_AXES, Camera, nearest_to_axes, project
from raf_lite.captures.capture import Capture
from raf_lite.captures.masks import judge_masks, landmarks_on_mask

with needs("captures"):
    import pandas as pd

COLUMNS = (
    "sequence",
    "frames",
    "cameras",
    "with masks",
    "descriptors",
    "split",
    "head poses",
)  # of Check.rows
# What people mistake for OpenCV's world-to-camera (or head-to-camera) matrices -> how to make those of it.
CONVENTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "OpenGL axes (y up, looking along -z)": lambda m: OPENGL_AXES @ m,
    "camera-to-world matrices": np.linalg.inv,
    "camera-to-world matrices with OpenGL axes": lambda m: np.linalg.inv(m @ OPENGL_AXES),
}
# How far an optical axis passes by the point that all cameras look at, divided by the camera's distance to
# that point. Above _SPREAD the cameras do not look at one head; above _SUSPICIOUS another convention is
# tried.
_SPREAD, _SUSPICIOUS = 0.2, 0.05
# Cameras round the origin whose matrices are inverted seem to stand close together, far from the origin.
# Their axes still meet, so they are told by the distance from the origin to that point, divided by the
# cameras' mean distance to it: above _FAR.
_FAR = 4.0


@dataclass(frozen=True)
class Check:
    """rows: a tuple for each sequence, of COLUMNS. problems: a sentence each.

    target: the point in the world that all cameras look at, [3], or None. reprojection: by sequence, where a
    capture has both, the share of the first frame's 3-D landmarks that fall on the mask.
    """

    rows: list[tuple]
    problems: list[str]
    target: np.ndarray | None
    reprojection: dict[str, float]

    def table(self) -> pd.DataFrame:
        """A row for each sequence: COLUMNS and, where landmarks could be tested, their share on the mask in
        percent."""
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        if self.reprojection:
            table["landmarks on mask"] = [
                f"{100 * self.reprojection[sequence]:.0f} %" if sequence in self.reprojection else ""
                for sequence in table["sequence"]
            ]
        return table


def report(capture: Capture, found: Check) -> str:
    """What `raf-lite check` prints of a capture and what was found in it: cameras, the table, a line for each
    problem."""
    return "\n".join(
        [
            (
                f"{len(capture.cameras)} camera(s), {capture.fps:g} frames a second, head poses from "
                f"{capture.head_pose_source or 'nobody'}"
            ),
            found.table().to_string(index=False),
            *(f"problem: {problem}" for problem in found.problems),
        ]
    )


def common_target(cameras: list[Camera]) -> np.ndarray | None:
    """The point nearest to all optical axes, [3], by least squares; None for one camera or parallel axes.

    Conventions: docs/conventions.md#axes-and-cameras.

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> cameras = open_capture(find_data() / "mini_nersemble" / "001").cameras
    >>> common_target(list(cameras.values())).round(1)
    array([0. , 0.5, 2. ])
    """
    return nearest_to_axes([c.center for c in cameras], [c.world_to_camera[2, :3] for c in cameras])


def _misses(cameras: list[Camera], target: np.ndarray) -> dict[str, float]:
    """How far each camera's axis misses their common target, as a share of its distance (inf: it is
    behind)."""
    out = {}
    for camera in cameras:
        x, y, depth = camera.world_to_camera[:3, :3] @ target + camera.world_to_camera[:3, 3]
        out[camera.serial] = float(np.hypot(x, y) / depth) if depth > 0 else float("inf")
    return out


def _remoteness(cameras: list[Camera], target: np.ndarray) -> float:
    """How far the common target is from the world's origin, in units of the mean distance from which the
    cameras look at it."""
    return float(np.linalg.norm(target) / np.linalg.norm([c.center - target for c in cameras], axis=1).mean())


def camera_problem(cameras: list[Camera]) -> str | None:
    """Why these cameras can't be round one head, with the convention that would explain it; None if they can.

    A small miss is no fault by itself (cameras are aimed by hand), but it is one where another reading of the
    same numbers makes the axes meet far better, or meet near the origin instead of far from it. One camera
    alone can't be judged.

    Conventions: docs/conventions.md#axes-and-cameras.

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> cameras = list(open_capture(find_data() / "mini_nersemble" / "001").cameras.values())
    >>> camera_problem(cameras) is None
    True
    >>> inverted = [
    ...     replace(camera, world_to_camera=np.linalg.inv(camera.world_to_camera)) for camera in cameras
    ... ]
    >>> camera_problem(inverted).split("; ")[1]
    "the file seems to hold camera-to-world matrices: convert them to OpenCV's world-to-camera"
    """
    target = common_target(cameras)
    if target is None:
        return None
    misses = _misses(cameras, target)
    worst = sorted(misses, key=misses.__getitem__, reverse=True)[:4]
    remote = max(misses.values()) < _SUSPICIOUS and _remoteness(cameras, target) > _FAR
    if max(misses.values()) < _SUSPICIOUS and not remote:
        return None
    for name, undo in CONVENTIONS.items():
        try:
            repaired = [replace(c, world_to_camera=undo(c.world_to_camera)) for c in cameras]
        except (ValueError, np.linalg.LinAlgError):
            continue
        target = common_target(repaired)
        if target is None:
            continue
        other = _misses(repaired, target)
        if remote:
            better = max(other.values()) < _SUSPICIOUS and _remoteness(repaired, target) < 1
        else:
            better = max(other.values()) < min(_SPREAD, max(misses.values()) / 4)
        if better:
            return (
                f"camera(s) {', '.join(worst)} do not look at a head from around it; the file seems to hold"
                f" {name}: convert them to OpenCV's world-to-camera"
            )
    if max(misses.values()) > _SPREAD:
        return f"camera(s) {', '.join(worst)} do not face what the others look at; correct their calibration"
    return None


def pose_problem(capture: Capture, sequence: str) -> str | None:
    """Why the head poses of a sequence can't be right (no head in the encoder camera's picture); None if they
    can, or are not there."""
    poses = capture.head_poses(sequence)
    if poses is None:
        return None
    camera = capture.cameras[capture.encoder_camera]
    views = camera.world_to_camera @ poses

    def seen(matrices: np.ndarray) -> float:
        pixels, _ = project(matrices[:, :3, 3], np.eye(4), camera.K)
        margin = 0.5 * np.array(
            [camera.width, camera.height]
        )  # a head's origin may lie in its neck, below the picture
        with np.errstate(invalid="ignore"):
            return float(((pixels > -margin) & (pixels < 3 * margin)).all(1).mean())

    if seen(views) > 0.9:
        return None
    for name, undo in CONVENTIONS.items():
        if seen(np.stack([undo(v) for v in views])) > 0.9:
            return (
                f"the head poses of {sequence} put the head outside the picture; the file seems to hold"
                f" {name}"
            )
    return (
        f"the head poses of {sequence} put the head outside the picture of camera {capture.encoder_camera};"
        " estimate them again"
    )


def check_capture(capture: Capture) -> Check:
    """Look at the header of every picture, film and mask, and at the pixels of some masks (which: see
    `raf_lite.captures.masks`).

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> found = check_capture(open_capture(find_data() / "mini_nersemble" / "001"))
    >>> found.problems, found.reprojection["FREE"]
    ([], 1.0)
    """
    split = capture.split()
    rows, problems, reprojection = [], [], {}
    trouble = camera_problem(list(capture.cameras.values()))
    problems += [trouble] if trouble else []
    for sequence in (*capture.sequences, *capture.cross_sequences):
        try:
            serials = capture.cameras_of(sequence)
            annotations = capture.annotations(sequence)
            masked = [s for s in serials if capture.source.mask_shape(sequence, s) is not None]
            descriptors = [n for n, a in annotations.items() if a.ndim == 2 and a.shape[1] > 4]
            parts = {
                "train": split.train_sequences,
                "held out": split.holdout_sequences,
                "cross": capture.cross_sequences,
            }
            part = next((name for name, members in parts.items() if sequence in members), "unused")
            rows.append(
                (
                    sequence,
                    capture.n_frames(sequence),
                    len(serials),
                    len(masked),
                    ", ".join(descriptors) or "none",
                    part,
                    "yes" if capture.head_poses(sequence) is not None else "no",
                )
            )
            trouble = pose_problem(capture, sequence)
            problems += [trouble] if trouble else []
            landmarks = capture.landmarks68(sequence)
            if landmarks is not None and capture.encoder_camera in masked:
                first = next(capture.source.iter_masks(sequence, capture.encoder_camera))
                reprojection[sequence] = landmarks_on_mask(
                    capture, capture.encoder_camera, landmarks[0], first
                )
            judge_masks(capture, sequence, serials)
        except (ValueError, FileNotFoundError) as error:
            problems.append(str(error))
    if not split.holdout_sequences and not split.holdout_cameras:
        problems.append(
            "nothing is held out: this capture can train an avatar, but its own frames can't test it"
        )
    return Check(rows, problems, common_target(list(capture.cameras.values())), reprojection)


def contact_sheet(capture: Capture, path: str | Path, *, height: int = 200, most: int = 24) -> Path:
    """A picture for every camera of the first sequence: its first frame, with axes at the head (or at what
    all cameras look at).

    Red x, green y and blue z lines bear their letters.

    >>> from raf_lite import open_capture
    >>> from raf_lite.manifest import find_data
    >>> sheet = contact_sheet(open_capture(find_data() / "mini_nersemble" / "001"), "sheet.png", height=100)
    >>> Image.open(sheet).height
    100
    """
    sequence = capture.first_filmed
    poses = capture.head_poses(sequence)
    pose = np.eye(4)
    if poses is not None:
        pose = poses[0]
    else:
        target = common_target(list(capture.cameras.values()))
        pose[:3, 3] = 0 if target is None else target
    tiles = []
    for serial in capture.cameras_of(sequence)[:most]:
        camera = capture.cameras[serial]
        picture = Image.fromarray(capture.first_frame(sequence, serial)).convert("RGB")
        draw = ImageDraw.Draw(picture)
        depth = float((camera.world_to_camera @ pose)[2, 3])
        length = 0.2 * abs(depth) * camera.height / camera.K[1, 1]
        ends = np.concatenate([pose[None, :3, 3], pose[:3, 3] + length * pose[:3, :3].T])
        pixels, _ = camera.project(ends)
        if (np.abs(pixels) < 30_000).all():  # neither NaN nor further off than Pillow can draw
            for name, colour, end in zip("xyz", ("#d62728", "#2ca02c", "#1f77b4"), pixels[1:], strict=True):
                draw.line([tuple(pixels[0]), tuple(end)], fill=colour, width=max(2, camera.height // 150))
                draw.text(tuple(end), name, fill=colour)
        # A picture of a few rows would otherwise become a band of millions of pixels.
        width = min(max(1, round(camera.width * height / camera.height)), 4 * height)
        picture = picture.resize((width, height))
        ImageDraw.Draw(picture).text((4, 4), serial, fill="#000000", stroke_width=2, stroke_fill="#ffffff")
        tiles.append(picture)
    columns = min(6, len(tiles))
    width = max(t.width for t in tiles)
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for k, tile in enumerate(tiles):
        sheet.paste(tile, (k % columns * width, k // columns * height))
    with atomic_path(path) as tmp:
        sheet.save(tmp, "PNG")
    return Path(path)
