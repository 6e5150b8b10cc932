"""Avatars in the NeRSemble benchmark: hold-out sequences rendered as its monocular task asks for them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from raf_lite.avatar import GaussianAvatar, own_reference
from raf_lite.captures import Camera, Capture
from raf_lite.captures.submission import CAMERAS, SIZE, write_submission
from raf_lite.descriptors.forms import capture_descriptors


def submit_avatars(
    path: str | os.PathLike, people: Sequence[tuple[GaussianAvatar, Capture]], *, progress: bool = True
) -> Path:
    """Render the hold-out sequences of each capture's split "mono" from the task's four cameras, on white,
    into a zip.

    people: each avatar with its person's capture, whose folder bears the participant's number. The avatar is
    driven by the capture's stored descriptors, in its form, and head poses. In frames without a face it keeps
    the last expression that was found (before the first: the first), since the benchmark wants every frame.

    Raises ValueError that names the capture: no number, no hold-out sequences, no such camera, pictures that
    are not square, no head poses, or twice the same person.
    """
    videos, frames = {}, {}
    for avatar, capture in people:
        if not capture.subject.isdecimal():
            raise ValueError(
                f"{capture.root}: '{capture.subject}' is no participant's number; name the folder by it, as "
                "NeRSemble does"
            )
        participant, sequences = int(capture.subject), capture.split("mono").holdout_sequences
        if not sequences:
            raise ValueError(
                f"{capture.root} has no hold-out sequence of the split 'mono'; nothing can be submitted"
                " from it"
            )
        cameras = _cameras(capture)
        for sequence in sequences:
            if (participant, sequence) in frames:
                raise ValueError(
                    f"{capture.root}: participant {participant} is there twice; submit one avatar of each"
                    " person"
                )
            descriptors, poses = _driving(capture, sequence, avatar)
            frames[participant, sequence] = len(descriptors)
            for camera in cameras:
                videos[participant, sequence, camera.serial] = _rendered(avatar, descriptors, poses, camera)
    with tqdm(
        total=sum(frames.values()) * len(CAMERAS), desc="rendering", unit="frame", disable=not progress
    ) as bar:
        return write_submission(path, {key: _counted(video, bar) for key, video in videos.items()}, frames)


def _cameras(capture: Capture) -> list[Camera]:
    """The task's cameras at its resolution."""
    missing = [serial for serial in CAMERAS if serial not in capture.cameras]
    if missing:
        raise ValueError(
            f"{capture.root} has no camera {missing[0]}, which the benchmark asks for; add its calibration"
        )
    cameras = [capture.cameras[serial] for serial in CAMERAS]
    for camera in cameras:
        if camera.width != camera.height:
            raise ValueError(
                f"{capture.root}: camera {camera.serial} takes pictures of {camera.width}x{camera.height}"
                " (WxH) and the benchmark square ones; open the capture with a square crop"
            )
    return [camera.scaled(SIZE / camera.width) for camera in cameras]


def _driving(capture: Capture, sequence: str, avatar: GaussianAvatar) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors [T, D] and head poses [T, 4, 4] of every frame of a sequence."""
    descriptors = capture_descriptors(capture, sequence, avatar.descriptor, own_reference(avatar))
    poses = capture.require_head_poses(sequence)
    found = np.flatnonzero(
        np.isfinite(descriptors).all(1)
    )  # never empty: the capture refuses such a sequence
    last = np.searchsorted(found, np.arange(len(descriptors)), side="right") - 1
    return descriptors[found[last.clip(0)]], poses


def _rendered(
    avatar: GaussianAvatar, descriptors: np.ndarray, poses: np.ndarray, camera: Camera
) -> Iterator[np.ndarray]:
    """Pictures uint8 [512, 512, 3], one at a time."""
    for descriptor, pose in zip(descriptors, poses, strict=True):
        yield (avatar.render(descriptor[None], pose[None], [camera])[0, 0] * 255 + 0.5).astype(np.uint8)


def _counted(pictures: Iterator[np.ndarray], bar: tqdm) -> Iterator[np.ndarray]:
    for picture in pictures:
        bar.update()
        yield picture
