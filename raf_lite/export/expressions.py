"""Named expressions for avatars of landmarks, whose own dimensions say nothing to anybody: directions that
the bank gives.

The bank holds blendshapes and landmarks of the same frames. Each frame minus its donor's mean, landmarks are
predicted from the named blendshapes by ridge regression; a row of the weights is what the landmarks do where
that score goes from 0 to 1 and the others stay. Fitted on 150 donors of the shipped bank, they explain 76 %
of the variance in frames of the other 70.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from raf_lite._forms import column, parts
from raf_lite.avatar import GaussianAvatar
from raf_lite.bank.statistics import donor_means
from raf_lite.bank.storage import read_columns
from raf_lite.descriptors import BLENDSHAPE_NAMES
from raf_lite.manifest import find_data

RIDGE = 1e-2  # of the mean variance of the scores
_BOTH_SIDES = ("mouthSmile", "mouthStretch", "eyeBlink")
EXPRESSIONS = {
    name: tuple(f"{name}{side}" for side in ("Left", "Right")) if name in _BOTH_SIDES else (name,)
    for name in (
        "jawOpen",
        "mouthSmile",
        "mouthPucker",
        "mouthFunnel",
        "mouthStretch",
        "mouthLeft",
        "mouthRight",
        "browInnerUp",
        "eyeBlink",
    )
}
"""Of each, the blendshapes whose mean it is."""


def expression_directions(avatar: GaussianAvatar) -> dict[str, np.ndarray]:
    """What each of EXPRESSIONS at full adds to the avatar's descriptor, float32 [D], by name; empty for an
    avatar of anything but landmarks, and where there is no shipped bank."""
    if parts(avatar.descriptor)[0] != "landmarks":
        return {}
    try:
        found = bank_directions(find_data() / "bank")
    except FileNotFoundError:
        return {}
    return found if all(len(d) == len(avatar.descriptor_mean) for d in found.values()) else {}


@cache
def bank_directions(folder: Path) -> dict[str, np.ndarray]:
    """The same from a bank's folder that has both columns."""
    columns = read_columns(folder)
    centred = {}
    for name in ("blendshapes", column("landmarks")):
        _, means, member = donor_means(columns[name]["descriptors"], columns[name]["donors"])
        centred[name] = columns[name]["descriptors"] - means[member]
    scores = np.stack(
        [
            centred["blendshapes"][:, [BLENDSHAPE_NAMES.index(n) for n in names]].mean(1)
            for names in EXPRESSIONS.values()
        ],
        1,
    )
    return dict(zip(EXPRESSIONS, ridge(scores, centred[column("landmarks")]), strict=True))


def ridge(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Weights float32 [S, D] with which scores [N, S] predict values [N, D], both of mean zero.

    >>> scores = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    >>> weights = ridge(scores, scores @ np.array([[3.0], [5.0]]))  # squares are 2 and 8, their mean 5
    >>> bool(np.allclose(weights, [[3 * 2 / 2.05], [5 * 8 / 8.05]]))
    True
    """
    square = scores.T @ scores
    weight = RIDGE * np.trace(square) / len(square)
    return np.linalg.solve(square + weight * np.eye(len(square)), scores.T @ values).astype(np.float32)
