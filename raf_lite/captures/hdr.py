"""HDR films on a screen that is not HDR: HLG and PQ signals (ITU-R BT.2100) as sRGB pictures.

What a film says in light is kept up to reference white, 203 cd/m2 (ITU-R BT.2408: 75 % of an HLG signal, 58 %
of PQ), which becomes 255; brighter light is clipped, and so are colours that sRGB does not have. HLG is shown
as on a screen of 1,000 cd/m2, whose system gamma is 1.2.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageFilter

PQ, HLG = 16, 18  # transfer characteristics by their numbers in ITU-T H.273
REFERENCE_WHITE = 203.0  # cd/m2
_HLG_PEAK = 1000.0
# From BT.2020's primaries to BT.709's, which are sRGB's (ITU-R BT.2087).
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])  # of BT.2020's primaries
_NODES = 33  # a side of the table; between its nodes colours are interpolated


def hlg_light(signal: np.ndarray) -> np.ndarray:
    """HLG signals in [0, 1], [..., 3], as light on a screen of 1,000 cd/m2.

    >>> float(hlg_light(np.full(3, 0.75))[0].round())
    203.0
    """
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return _HLG_PEAK * scene * (scene @ _LUMINANCE)[..., None] ** 0.2


def pq_light(signal: np.ndarray) -> np.ndarray:
    """PQ signals in [0, 1] as light in cd/m2.

    >>> float(pq_light(np.array(0.5806889)).round())
    203.0
    """
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    return 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


@cache
def _table(transfer: int) -> ImageFilter.Color3DLUT:
    blue, green, red = np.meshgrid(*[np.linspace(0, 1, _NODES)] * 3, indexing="ij")  # red changes fastest
    signal = np.stack([red, green, blue], -1)
    light = (hlg_light if transfer == HLG else pq_light)(signal) / REFERENCE_WHITE
    light = light @ _TO_BT709.T
    # Clipped after interpolation (the table holds -2 to 2), which would blur a kink at white.
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clip(0) ** (1 / 2.4) - 0.055).clip(-2, 2)
    return ImageFilter.Color3DLUT(_NODES, srgb.astype(np.float32).ravel())


def is_hdr(transfer: int) -> bool:
    """Whether a transfer characteristic, by its number in ITU-T H.273, is HLG's or PQ's."""
    return transfer in (PQ, HLG)


def to_sdr(image: np.ndarray, transfer: int) -> np.ndarray:
    """A picture uint8 [H, W, 3] of this transfer as sRGB; as it is, where the transfer is neither HLG nor
    PQ."""
    if not is_hdr(transfer):
        return image
    return np.asarray(Image.fromarray(image).filter(_table(transfer)))
