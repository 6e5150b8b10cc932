"""Before blending on a CPU: each 2D Gaussian's constants in one row of memory, and the tiles' lists in depth
order."""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from raf_lite._kernels import kernel
from raf_lite.splatting.reference import TILE

F = np.float32
ZERO = F(0)
FUSED = 3  # channels blended inside the main loop; fewer are padded with zeros, more take one short loop each

# Row of `packed`: all that blending needs to know of a Gaussian, in one cache line of 16 float32.
MX, MY = 0, 1  # mean, pixels
RX, RY = 2, 3  # half extents of the ellipse {alpha >= 1/255}
SLANT, SPAN, NARROW = (
    4,
    5,
    6,
)  # that ellipse at column x from the mean: y = -SLANT x +- sqrt(SPAN - NARROW x^2)
LOWEST_X = 7  # column at which it reaches y = -RY; y = +RY lies opposite
SLACK = 8  # pixels by which rounding may have shrunk these bounds
P, Q, R = (
    9,
    10,
    11,
)  # alpha = opacity * 2^-((P dx + Q dy)^2 + (R dy)^2): a sum of squares, so rounding can't make it exceed 1
OPACITY, COLOR = 12, 13  # colour in 13, 14, 15
PACKED = 16


@kernel(parallel=True)
def prepare(
    means2d: np.ndarray,
    conics: np.ndarray,
    colors: np.ndarray,
    opacities: np.ndarray,
    radii: np.ndarray,
    width: int,
    height: int,
    packed: np.ndarray,
    boxes: np.ndarray,
    tiles_per_gauss: np.ndarray,
) -> None:
    """Fill packed [C * N, 16], boxes [C, N, 4] (first and end tile in x, in y) and tiles_per_gauss [C, N]
    (zeros at first)."""
    columns, rows = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    count, channels = radii.shape[1], colors.shape[1]
    for n in nb.prange(count):
        for c in range(radii.shape[0]):
            if radii[c, n, 0] <= 0:
                continue
            mx, my, rx, ry = means2d[c, n, 0], means2d[c, n, 1], F(radii[c, n, 0]), F(radii[c, n, 1])
            inv_tile = F(1.0 / TILE)
            x0 = np.int32(min(max(ZERO, np.floor((mx - rx) * inv_tile)), F(columns)))
            x1 = np.int32(min(max(ZERO, np.ceil((mx + rx) * inv_tile)), F(columns)))
            y0 = np.int32(min(max(ZERO, np.floor((my - ry) * inv_tile)), F(rows)))
            y1 = np.int32(min(max(ZERO, np.ceil((my + ry) * inv_tile)), F(rows)))
            boxes[c, n, 0], boxes[c, n, 1], boxes[c, n, 2], boxes[c, n, 3] = x0, x1, y0, y1
            tiles_per_gauss[c, n] = (x1 - x0) * (y1 - y0)

            # float64: the determinant of a needle's conic is a small difference
            xx, xy, yy = np.float64(conics[c, n, 0]), np.float64(conics[c, n, 1]), np.float64(conics[c, n, 2])
            det = max(xx * yy - xy * xy, 1e-30 * xx * yy)
            to_log2 = math.sqrt(0.5 / math.log(2.0))
            g = c * count + n
            packed[g, MX], packed[g, MY] = mx, my
            root = math.sqrt(xx)
            packed[g, P], packed[g, Q], packed[g, R] = (
                to_log2 * root,
                to_log2 * xy / root,
                to_log2 * math.sqrt(det) / root,
            )
            packed[g, OPACITY] = opacities[c, n]
            for k in range(FUSED):
                packed[g, COLOR + k] = colors[g % colors.shape[0], k] if k < channels else ZERO
            reach = (
                max(0.0, 2.0 * math.log(np.float64(opacities[c, n]) * 255.0)) + 1e-3
            )  # squared Mahalanobis radius
            half_x, half_y = math.sqrt(reach * yy / det), math.sqrt(reach * xx / det)
            packed[g, RX], packed[g, RY] = half_x, half_y
            packed[g, SLANT], packed[g, SPAN], packed[g, NARROW] = xy / yy, reach / yy, det / (yy * yy)
            packed[g, LOWEST_X], packed[g, SLACK] = xy / xx * half_y, 0.002 + 1e-5 * (half_x + half_y)


@kernel(parallel=True)
def bin_tiles(
    radii: np.ndarray,
    boxes: np.ndarray,
    depth_bits: np.ndarray,
    starts: np.ndarray,
    columns: int,
    rows: int,
    tile_bits: int,
    flatten_ids: np.ndarray,
    isect_ids: np.ndarray,
    positions: np.ndarray,
    offsets: np.ndarray,
) -> None:
    """Tile lists in depth order, per camera: sort the visible Gaussians once by depth, then append them to
    their tiles.

    depth_bits [C, N] uint32: positive floats sort like their bits. starts [C * N + 1]: running sum of
    tiles_per_gauss. positions [M]: where in the lists the intersections of Gaussian 0, then those of Gaussian
    1, ... ended up.
    """
    cameras, count = radii.shape[0], radii.shape[1]
    tiles = columns * rows
    for c in nb.prange(cameras):
        keys, ids = np.empty(count, np.uint32), np.empty(count, np.int32)
        other_keys, other_ids = np.empty(count, np.uint32), np.empty(count, np.int32)
        cursor = np.zeros(tiles + 1, np.int64)
        visible = 0
        for n in range(count):
            if radii[c, n, 0] > 0:
                keys[visible] = depth_bits[c, n]
                ids[visible] = n
                visible += 1
                for y in range(boxes[c, n, 2], boxes[c, n, 3]):
                    for x in range(boxes[c, n, 0], boxes[c, n, 1]):
                        cursor[y * columns + x + 1] += 1
        cursor[0] = starts[c * count]
        for t in range(tiles):
            cursor[t + 1] += cursor[t]
            offsets[c * tiles + t] = cursor[t]

        # Three stable passes of 11 bits sort 32-bit keys; np.argsort would take several times as long.
        for turn in range(3):
            shift = np.uint32(11 * turn)
            heads = np.zeros(2049, np.int64)
            for k in range(visible):
                heads[((keys[k] >> shift) & np.uint32(2047)) + np.uint32(1)] += 1
            for k in range(2048):
                heads[k + 1] += heads[k]
            for k in range(visible):
                digit = (keys[k] >> shift) & np.uint32(2047)
                other_keys[heads[digit]], other_ids[heads[digit]] = keys[k], ids[k]
                heads[digit] += 1
            keys, other_keys = other_keys, keys
            ids, other_ids = other_ids, ids

        for k in range(visible):
            n = ids[k]
            slot = starts[c * count + n]
            for y in range(boxes[c, n, 2], boxes[c, n, 3]):
                for x in range(boxes[c, n, 0], boxes[c, n, 1]):
                    tile = y * columns + x
                    at = cursor[tile]
                    cursor[tile] = at + 1
                    flatten_ids[at] = c * count + n
                    isect_ids[at] = (
                        (np.int64(c) << (32 + tile_bits)) | (np.int64(tile) << 32) | np.int64(keys[k])
                    )
                    positions[slot] = at
                    slot += 1
