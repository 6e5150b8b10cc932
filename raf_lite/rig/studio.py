"""The rendered studio: NeRSemble's camera names on an arc round the head, and the people who sit in it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from raf_lite.captures.cameras import Camera
from raf_lite.rig.appearance import Appearance
from raf_lite.rig.expressions import Style
from raf_lite.rig.scripts import Performance, frames_needed, perform, perform_random

# Serial of NeRSemble v2 -> (azimuth, elevation) in degrees; positive azimuth is to the subject's left.
# Which camera stands where is our choice; which are held out is NeRSemble's.
CAMERA_ANGLES = {
    "222200037": (0.0, 0.0),  # frontal: trains, and feeds the encoder
    "220700191": (42.0, 4.0),
    "222200036": (-42.0, 4.0),
    "222200048": (3.0, 27.0),
    "222200046": (21.0, 10.0),  # held out
    "222200039": (-23.0, -7.0),  # held out
}
FRONTAL = "222200037"
DISTANCE = 85.0  # cm from camera to target
TARGET = np.array([0.0, 0.5, 2.0])  # cm, world
FIELD_OF_VIEW = 21.5  # degrees, both ways


def look_at(
    azimuth: float, elevation: float, distance: float = DISTANCE, target: np.ndarray = TARGET
) -> np.ndarray:
    """World-to-camera [4, 4], OpenCV axes, of a camera that looks at `target` (cm) from the given angles
    (degrees)."""
    az, el = np.deg2rad([azimuth, elevation])
    outwards = np.array([np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)])
    forward = -outwards
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = -pose[:3, :3] @ (target + distance * outwards)
    return pose


def camera(
    azimuth: float, elevation: float, size: int, serial: str = "free", distance: float = DISTANCE
) -> Camera:
    """A square camera of `size` pixels that sees the whole head."""
    focal = size / 2 / np.tan(np.deg2rad(FIELD_OF_VIEW / 2))
    K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
    return Camera(
        serial=serial, world_to_camera=look_at(azimuth, elevation, distance), K=K, width=size, height=size
    )


def studio_cameras(size: int, serials: list[str] | None = None) -> dict[str, Camera]:
    """The studio's cameras by serial (default: all six), `size` x `size` pixels."""
    return {serial: camera(*CAMERA_ANGLES[serial], size, serial) for serial in serials or CAMERA_ANGLES}


@dataclass(frozen=True)
class Person:
    """A rendered person: shape, looks and way of moving, all drawn from one seed."""

    seed: int
    shape: np.ndarray  # [100] coefficients
    look: Appearance
    style: Style

    @classmethod
    def from_seed(cls, seed: int) -> Person:
        """Shape coefficients are normal with deviation 0.9, cut at 2: beyond, the rig's PCA makes
        caricatures."""
        shape, look, style = (np.random.default_rng([seed, stream]) for stream in range(3))
        return cls(
            seed=seed,
            shape=np.clip(shape.normal(0, 0.9, 100), -2, 2),
            look=Appearance.random(look),
            style=Style.random(style),
        )

    def perform(self, sequence: str, frames: int) -> Performance:
        """How this person acts a sequence, in `frames` frames or as many as its script needs.

        It depends on the person and the sequence's name alone: a CROSS answer moves exactly as its driver
        does.
        """
        stream = int.from_bytes(hashlib.sha256(sequence.encode()).digest()[:4], "little")
        return perform(
            sequence,
            self.style,
            np.random.default_rng([self.seed, stream]),
            max(frames, frames_needed(sequence)),
        )

    def perform_random(self, frames: int) -> Performance:
        """This person's random performance, as the bank's donors give it: always the same one."""
        return perform_random(self.style, np.random.default_rng([self.seed, 7]), frames)
