"""The metrics that ask a network: LPIPS and the identity's cosine. They are measured where their networks are
at hand, and nothing is downloaded before somebody says `raf-lite data metrics`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from raf_lite._install import how_to_install
from raf_lite.evaluation.identity import FaceIdentity
from raf_lite.evaluation.lpips import LEAST_SIDE, LPIPS, NETS


@dataclass(frozen=True)
class Networks:
    """What `evaluate` may ask: LPIPS by the name of its network, and whose face it is.

    >>> Networks()
    Networks(lpips=mappingproxy({}), identity=None)
    """

    lpips: Mapping[str, LPIPS] = field(default_factory=lambda: MappingProxyType({}))
    identity: FaceIdentity | None = None


def networks_at_hand() -> Networks:
    """Those that are installed and fetched; what lacks is printed in one line, with how to get it.

    >>> import contextlib, io
    >>> with contextlib.redirect_stdout(io.StringIO()):
    ...     networks = networks_at_hand()
    >>> sorted(networks.lpips) in ([], ["alex", "vgg"])
    True
    """
    lpips: dict[str, LPIPS] = {}
    identity, lacking, how = None, [], set()
    try:
        lpips = {net: LPIPS.load(net) for net in NETS}
    except FileNotFoundError:
        lacking.append("LPIPS")
        how.add("run `raf-lite data metrics`")
    try:
        identity = FaceIdentity()
    except ImportError:
        lacking.append("identity")
        how |= {how_to_install("metrics"), "run `raf-lite data metrics`"}
    except FileNotFoundError:
        lacking.append("identity")
        how.add("run `raf-lite data metrics`")
    if lacking:
        print(
            f"{' and '.join(lacking)} left out of what is graded; to have them, {' and '.join(sorted(how))}"
        )
    return Networks(lpips, identity)


def perceptual_errors(
    lpips: Mapping[str, LPIPS], images: np.ndarray, truth: np.ndarray, faces: np.ndarray | None
) -> dict[str, np.ndarray]:
    """LPIPS of pictures [T, H, W, 3] in [0, 1] by each network: `lpips_NET` of the whole pictures and
    `lpips_NET_face` of the boxes round `faces`, masks bool [T, H, W]; [T] each.

    Pictures are compared as they are, not at half their size: what these networks see is texture. NaN where
    no face is drawn, and of pictures smaller than LEAST_SIDE; smaller faces get a box of that size."""
    size = images.shape[1:3]
    whole = [(slice(None), slice(None)) if min(size) >= LEAST_SIDE else None] * len(images)
    parts = {"": whole, "_face": [None] * len(images) if faces is None else [_box(face) for face in faces]}
    return {
        f"lpips_{net}{part}": np.array(
            [
                np.nan if box is None else network.distances(images[t][box][None], truth[t][box][None])[0]
                for t, box in enumerate(boxes)
            ]
        )
        for net, network in lpips.items()
        for part, boxes in parts.items()
    }


def _box(mask: np.ndarray) -> tuple[slice, slice] | None:
    """What holds a mask [H, W], LEAST_SIDE pixels a side at least; None for an empty one and in a picture
    smaller than that."""
    if not mask.any() or min(mask.shape) < LEAST_SIDE:
        return None
    sides = []
    for axis, length in enumerate(mask.shape):
        inside = np.flatnonzero(mask.any(1 - axis))
        start, stop = inside[0], inside[-1] + 1
        side = max(stop - start, LEAST_SIDE)
        start = int(np.clip((start + stop - side) // 2, 0, length - side))
        sides.append(slice(start, int(start + side)))
    return sides[0], sides[1]
