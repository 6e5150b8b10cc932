"""Made-up people for the examples: what a face tracker and a camera would have given, in small.

A "frame" is where 60 points of a face are, so that no renderer is needed. Everybody makes the same eight
kinds of movement. A tracker describes them by a descriptor that shows the movement, but also, a little, whose
face it is: the trouble that RAF is about.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from raf_lite.bank import ExpressionBank

MOVEMENTS, POINTS = 8, 60


@dataclass(frozen=True)
class Data:
    """descriptors [T, D] and frames [T, 60, 3] of the person to learn; neutral [60, 3]; a bank of 40 other
    people; descriptors [M, D] of somebody else who drives, and the person's frames [M, 60, 3] that they ask
    for."""

    descriptors: np.ndarray
    frames: np.ndarray
    neutral: np.ndarray
    bank: ExpressionBank
    driver_descriptors: np.ndarray
    driver_frames: np.ndarray


def people(dim: int, sizes: np.ndarray | float = 1.0, seed: int = 0) -> Data:
    """Draw everybody. dim: D, numbers of a descriptor. sizes: [D] or a number, how large each of them is."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(MOVEMENTS, dim)) / np.sqrt(MOVEMENTS)
    basis = rng.normal(size=(MOVEMENTS, POINTS, 3)) * 0.05
    neutral = rng.normal(size=(POINTS, 3)) * 0.4

    def tracked(movements: np.ndarray) -> np.ndarray:
        """The descriptors of one new person who makes these movements [T, 8]: float32 [T, D]."""
        whose = 0.4 * rng.normal(size=dim)
        lively = rng.uniform(0.8, 1.25, MOVEMENTS)
        noise = 0.03 * rng.normal(size=(len(movements), dim))
        return ((movements * lively @ directions + whose + noise) * sizes).astype(np.float32)

    def filmed(movements: np.ndarray) -> np.ndarray:
        """The frames of the person to learn: float32 [T, 60, 3]. Movements saturate, as faces do."""
        return (neutral + np.einsum("tm,mpc->tpc", np.tanh(movements), basis)).astype(np.float32)

    def acted(count: int) -> np.ndarray:
        return rng.exponential(0.6, (count, MOVEMENTS)) * (rng.random((count, MOVEMENTS)) < 0.4)

    own, others = acted(200), acted(100)
    bank = ExpressionBank.from_arrays(
        np.concatenate([tracked(acted(60)) for _ in range(40)]), np.repeat(np.arange(40), 60)
    )
    return Data(tracked(own), filmed(own), neutral.astype(np.float32), bank, tracked(others), filmed(others))


class Log:
    """Watches a training loop from outside: what it was fed, what it was compared with, how well it does."""

    def __init__(self):
        self.losses, self.replaced, self.checksum = [], [], 0

    def step(self, seen, tracked, target, loss) -> None:
        """seen: descriptors [B, D] that the model got. tracked: the tracker's. target: the frames [B, 60, 3]
        of the loss."""
        self.replaced += (np.asarray(seen) != np.asarray(tracked)).any(1).tolist()
        self.checksum = zlib.crc32(np.ascontiguousarray(target, np.float32), self.checksum)
        self.losses.append(loss)

    def finish(self, answers, driver_frames) -> None:
        """answers: the model's frames [M, 60, 3] for the driver's descriptors. Prints four lines, `name:
        value`."""
        error = np.linalg.norm(np.asarray(answers) - driver_frames, axis=2).mean()
        print(f"loss: {np.mean(self.losses[:10]):.6f} -> {np.mean(self.losses[-10:]):.6f}")
        print(f"descriptors replaced: {np.mean(self.replaced):.3f}")
        print(f"checksum of the frames in the loss: {self.checksum:08x}")
        print(f"error when somebody else drives: {error:.5f}")
