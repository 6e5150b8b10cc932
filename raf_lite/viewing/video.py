"""Comparison videos: driver, ground truth, each avatar and its error, side by side, with captions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from raf_lite.avatar import Drivable, same_descriptor, within_views
from raf_lite.captures import Capture, write_video
from raf_lite.descriptors.forms import capture_descriptors

CAPTION_HEIGHT = 24
ERROR_FULL_SCALE = 64 / 255  # a difference of 64 grey levels is drawn in the darkest red
MAX_BYTES = 5_000_000
SYNTHETIC = "synthetic: an avatar, made with raf_lite; the person did not do this"  # in a film's metadata


def error_map(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Absolute difference of pictures [..., 3] as a colour: white is none, then orange, dark red is 64 grey
    levels or more.

    Conventions: docs/conventions.md#pictures-colours-and-masks.

    >>> black = np.zeros((1, 2, 3))
    >>> error_map(black, black + [[[0.0], [0.5]]]).round(2).tolist()
    [[[1.0, 1.0, 1.0], [0.35, 0.0, 0.05]]]
    """
    x = np.clip(np.abs(image - truth).mean(-1) / ERROR_FULL_SCALE, 0, 1)[..., None]
    stops = np.array([[1.0, 1.0, 1.0], [1.0, 0.75, 0.35], [0.85, 0.25, 0.15], [0.35, 0.0, 0.05]])
    position = x * (len(stops) - 1)
    low = np.minimum(position.astype(int), len(stops) - 2)[..., 0]
    return stops[low] + (stops[low + 1] - stops[low]) * (position - low[..., None])


def caption_panels(panels: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
    """Panels [H, W, 3] in [0, 1] side by side, each under its caption: uint8 [H + 24, sum of W, 3].

    >>> caption_panels([np.zeros((32, 64, 3)), np.ones((32, 64, 3))], ["black", "white"]).shape
    (56, 128, 3)
    """
    picture = np.concatenate([(np.clip(p, 0, 1) * 255 + 0.5).astype(np.uint8) for p in panels], 1)
    sheet = Image.new("RGB", (picture.shape[1], picture.shape[0] + CAPTION_HEIGHT), "white")
    sheet.paste(Image.fromarray(picture), (0, CAPTION_HEIGHT))
    draw, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(size=15), 0
    for panel, text in zip(panels, captions, strict=True):
        draw.text((left + 6, 3), text, fill="black", font=font)
        left += panel.shape[1]
    return np.asarray(sheet)


def comparison_frames(
    avatars: Mapping[str, Drivable],
    capture: Capture,
    driver: Capture,
    cross_sequence: str,
    size: int = 256,
    frames: slice = slice(None),
) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] of one CROSS sequence: driver | ground truth | an avatar and its error, for
    each avatar.

    size: pixels a side at which each avatar is rendered; driver and ground truth are shown at their own
    resolution where that is `size`, else scaled down. The driver's descriptors are in the avatars' form,
    relative to the driver's own mean or neutral. Raises ValueError where pictures are smaller (nothing is
    enlarged), where the driver's sequence has no head poses, or where avatars are driven by different
    descriptors.

    >>> from raf_lite import GaussianAvatar, open_capture
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> capture, driver = (open_capture(find_data() / "mini_nersemble" / person) for person in ("001", "101"))
    >>> comparison_frames(
    ...     {"centred": avatar}, capture, driver, "CROSS-101-FREE", size=128, frames=slice(2)
    ... ).shape
    (2, 152, 512, 3)
    """
    _, sequence = capture.cross_parts(cross_sequence)
    values = capture_descriptors(driver, sequence, same_descriptor(avatars))
    kept = np.flatnonzero(np.isfinite(values).all(1))[frames]
    poses = driver.require_head_poses(sequence)[kept]
    camera = capture.cameras[capture.encoder_camera]
    if camera.width < size:
        raise ValueError(
            f"{capture.root}: its pictures have {camera.width} pixels and {size} were asked for; "
            "choose a smaller size"
        )
    view = camera.scaled(size / camera.width)

    def fit(images: np.ndarray) -> np.ndarray:
        if images.shape[2] == size:
            return images / np.float32(255)
        resized = [
            Image.fromarray(i).resize((view.width, view.height), Image.Resampling.LANCZOS) for i in images
        ]
        return np.stack([np.asarray(i) for i in resized]) / np.float32(255)

    acted = fit(driver.frames(sequence, driver.encoder_camera)[kept])
    truth = fit(capture.over_white(cross_sequence, capture.encoder_camera, kept))
    shown = {n: a.render(values[kept], poses, [view])[:, 0] for n, a in avatars.items()}
    captions = ["driver", "ground truth", *(c for n in avatars for c in (n, "error, dark = large"))]
    sheets = []
    for t in range(len(kept)):
        pairs = [p for n in avatars for p in (shown[n][t], error_map(shown[n][t], truth[t]))]
        sheets.append(caption_panels([acted[t], truth[t], *pairs], captions))
    return np.stack(sheets)


def held_out_video(path: str | os.PathLike, avatar: Drivable, capture: Capture, sequence: str) -> Path:
    """Write an H.264 mp4 of an avatar beside the frames of one sequence that it was not trained on, seen by
    the encoder's camera and driven by what the encoder saw there.

    Frames without a face are left out. A head that turns farther than 20 degrees beyond the avatar's training
    views is followed so far (`raf_lite.avatar.within_views`), and the caption says so.
    Raises ValueError where the sequence has no descriptors or head poses.

    >>> from raf_lite import GaussianAvatar, open_capture
    >>> from raf_lite.manifest import find_data
    >>> avatar = GaussianAvatar.load(find_data() / "checkpoints" / "001-centred.safetensors")
    >>> capture = open_capture(find_data() / "mini_nersemble" / "001", downscale=4)
    >>> held_out_video("held_out.mp4", avatar, capture, "FREE").name
    'held_out.mp4'
    """
    values = capture_descriptors(capture, sequence, avatar.descriptor)
    kept = np.flatnonzero(np.isfinite(values).all(1))
    camera = capture.cameras[capture.encoder_camera]
    poses, over = within_views(avatar, camera, capture.require_head_poses(sequence))

    def panels() -> Iterator[np.ndarray]:
        truths = capture.each_over_white(sequence, capture.encoder_camera, kept.tolist())
        for t, truth in zip(kept, truths, strict=True):
            shown = avatar.render(values[t : t + 1], poses[t : t + 1], [camera])[0, 0]
            said = "avatar: turns no farther" if over[t] else "avatar"
            sheet = caption_panels([truth / np.float32(255), shown], ["held out", said])
            yield sheet[: len(sheet) // 2 * 2, : sheet.shape[1] // 2 * 2]

    write_video(path, panels(), capture.fps, comment=SYNTHETIC)
    return Path(path)


def comparison_video(
    path: str | os.PathLike,
    avatars: Mapping[str, Drivable],
    capture: Capture,
    drivers: Mapping[str, Capture],
    *,
    size: int = 256,
    sequence: str = "FREE",
    frames: slice = slice(None),
) -> Path:
    """Write an H.264 mp4 of at most 5 MB: every driver's `sequence` in turn, as `comparison_frames` draws it.

    Raises ValueError where the capture has no CROSS sequence of that name.
    """
    path = Path(path)
    parts = [
        comparison_frames(avatars, capture, drivers[driver], f"CROSS-{driver}-{sequence}", size, frames)
        for driver in drivers
        if f"CROSS-{driver}-{sequence}" in capture.cross_sequences
    ]
    if not parts:
        raise ValueError(
            f"{capture.root} has no CROSS sequence '{sequence}' of drivers {', '.join(drivers)}; choose"
            " another one"
        )
    film = np.concatenate(parts)
    for crf in (20, 24, 28, 32, 36):  # the best quality that fits
        write_video(path, film, capture.fps, crf=crf, comment=SYNTHETIC)
        if path.stat().st_size <= MAX_BYTES:
            return path
    raise ValueError(f"{path} is over {MAX_BYTES / 1e6:g} MB even at low quality; film fewer frames")
