"""Is what retrieval finds for real people nearer than chance? No human judged: landmarks, blendshapes and
head poses of one encoder did.

A judge compares how two faces depart from their own person's mean: landmarks in the head's own frame and the
picture plane (mean distance over the 478, in percent of the distance of the outer eye corners), blendshapes
(mean absolute difference). Head pose is the angle between the encoder's rotations. What was searched by
blendshapes is judged by something else by landmarks alone, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from real_films import Rows, rows_for
from scipy.spatial.transform import Rotation

from raf_lite.descriptors.encode_video import VideoDetections
from raf_lite.descriptors.forms import landmark_basis
from raf_lite.retrieval import RetrievalAugmentation

DRAWN = 16  # random rows for each frame, as many as "paper-k16" and "centred" choose from


class Judge:
    """What is compared of some rows: each one's departure from the mean of its person."""

    def __init__(self, rows: Rows) -> None:
        basis = landmark_basis().basis.reshape(-1, 478, 3)[..., :2].reshape(-1, 956)
        self.landmarks = rows.bank("landmarks-mean").descriptors @ basis
        self.blendshapes = rows.bank("blendshapes-mean").descriptors
        self.turns = Rotation.from_matrix(rows.poses[:, :3, :3].astype(float))

    def of(self, bank: Judge, found: np.ndarray) -> dict[str, float]:
        """Mean differences between these F rows and rows `found` [F, n] of a bank."""
        landmarks = blendshapes = degrees = 0.0
        for t, rows in enumerate(found):  # one at a time: all at once would be gigabytes
            apart = (bank.landmarks[rows] - self.landmarks[t]).reshape(len(rows), 478, 2)
            landmarks += np.linalg.norm(apart, axis=-1).mean()
            blendshapes += np.abs(bank.blendshapes[rows] - self.blendshapes[t]).mean()
            degrees += np.rad2deg((self.turns[t].inv() * bank.turns[rows]).magnitude()).mean()
        return {
            "landmarks": round(100 * float(landmarks) / len(found), 4),
            "blendshapes": round(float(blendshapes) / len(found), 5),
            "degrees": round(float(degrees) / len(found), 3),
        }

    def of_their_mean(self) -> dict[str, float]:
        """The same against the person's own mean face, which is what no expression would be."""
        landmarks = np.linalg.norm(self.landmarks.reshape(-1, 478, 2), axis=-1).mean()
        return {
            "landmarks": round(100 * float(landmarks), 4),
            "blendshapes": round(float(np.abs(self.blendshapes).mean()), 5),
        }


def neighbours_line(
    clip: str, descriptor: str, bank: str, films: Mapping[str, VideoDetections], settings: tuple[str, ...]
) -> dict:
    """What named settings of retrieval find in a bank for every frame of one film with a face, what random
    rows are, and the own mean face."""
    own, rows = Rows.of_films({clip: films[clip]}), rows_for(clip, films, bank)
    asked, searched = own.bank(descriptor).descriptors, rows.bank(descriptor)
    us, them = Judge(own), Judge(rows)
    found = {}
    for name in settings:
        near = RetrievalAugmentation.named(searched, name).fit(asked).neighbours
        found[name] = us.of(them, near)
    drawn = np.random.default_rng(0).integers(len(searched), size=(len(asked), DRAWN))
    found |= {"random rows": us.of(them, drawn), "own mean": us.of_their_mean()}
    return {
        "key": f"neighbours {clip} {descriptor} {bank}",
        "clip": clip,
        "descriptor": descriptor,
        "bank": bank,
        "frames": len(asked),
        "bank_rows": len(searched),
        "found": found,
    }
