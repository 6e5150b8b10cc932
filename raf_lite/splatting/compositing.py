"""Step two on a CPU: 2D Gaussians into tiles and blended, forward and backward, as numba kernels and an
autograd Function.

How it is made fast without C:

- A 16x16 tile is two strips of 8 columns x 16 rows, kept strip after strip in one flat float32 buffer. The
  pixels that a Gaussian can reach within a strip form whole rows, thus one contiguous range whose length is a
  multiple of 8, and the loop over it has no branch: LLVM turns it into SIMD code.
- The reached rows come from the exact ellipse {alpha >= 1/255}; rows in which every pixel is finished are
  left out.
- The backward pass adds into one slot per (Gaussian, tile) intersection, in the order of the tile lists so
  that no two threads write to the same cache line, and a second kernel sums the slots of each Gaussian in
  fixed order. No atomics, so the result is the same to the last bit for any number of threads.
- 2^t is a polynomial on the fraction and integer arithmetic on the exponent bits; the exponent is clamped
  above the denormals, which would be slow.

The backward pass walks back to front, as gsplat's does: the colour behind a Gaussian is then a sum of what it
is, not a difference of two nearly equal numbers.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from raf_lite._kernels import kernel, launch
from raf_lite.splatting.binning import (
    COLOR,
    FUSED,
    MX,
    MY,
    OPACITY,
    PACKED,
    SLACK,
    P,
    Q,
    R,
    bin_tiles,
    prepare,
)
from raf_lite.splatting.reference import ALPHA_MAX, ALPHA_MIN, TILE, TRANSMITTANCE_MIN

F = np.float32
ZERO, HALF, ONE = F(0), F(0.5), F(1)
ALPHA_MIN_F, ALPHA_MAX_F, TRANSMITTANCE_MIN_F = F(ALPHA_MIN), F(ALPHA_MAX), F(TRANSMITTANCE_MIN)

STRIP = 8  # columns of a strip: one AVX register of float32
PAIR = 2 * STRIP  # pixels of two rows of a strip
STRIPS = TILE // STRIP
STRIP_PIXELS = STRIP * TILE
TILE_PIXELS = TILE * TILE
BATCH = 16  # Gaussians between two looks for finished rows
EVERYTHING = F(1e30)  # above any number of Gaussians; an infinity would be undefined under fastmath

# Planes of the pixel buffer. Unsigned: with signed indices numba tests for negative ones, and nothing
# vectorises.
U = np.uint64
PLANE = U(TILE_PIXELS)
AT_X, AT_Y, AT_T, AT_STOP, AT_VIS, AT_BEHIND, AT_EXTRA, AT_COLOR = (U(k * TILE_PIXELS) for k in range(8))
AT_COLOR1, AT_COLOR2 = U(AT_COLOR + PLANE), U(AT_COLOR + PLANE + PLANE)
PLANES_BEFORE_COLOR = 7

# Lanes of a batch: the fields of `packed` up to SLACK under their own numbers, then the rows found from them.
LANE_MX, LANE_MY, LANE_RX, LANE_RY, LANE_SLANT, LANE_SPAN = (U(k * BATCH) for k in range(6))
LANE_NARROW, LANE_LOWEST_X, LANE_SLACK, LANE_FIRST, LANE_END = (U(k * BATCH) for k in range(6, 11))
LANES = 11

# Columns of a gradient slot: sums over pixels of s, s dx, s dy, s dx^2, s dx dy, s dy^2 with s = dL/dsigma,
# then of dL/dcolor.
MOMENTS = 6


def _exp2_coefficients() -> list[np.float32]:
    """2^f on [-1, 0] by a polynomial of degree 5 through Chebyshev nodes; relative error 2e-7."""
    nodes = -0.5 - 0.5 * np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    fit = np.polynomial.chebyshev.Chebyshev.fit(nodes, np.exp2(nodes), 5, domain=[-1, 0])
    return [F(c) for c in fit.convert(kind=np.polynomial.Polynomial, domain=[-1, 1]).coef]


E0, E1, E2, E3, E4, E5 = _exp2_coefficients()
LOWEST_EXPONENT = F(-24.0)  # 2^-24 is far below 1/255 and far above the denormals


@kernel()
def exp2_negative(t: np.float32) -> np.float32:
    """2^t for t <= 0; anything below 2^-24 comes out as 2^-24."""
    t = max(t, LOWEST_EXPONENT)
    whole = np.int32(t)  # towards zero, so the fraction is in (-1, 0]
    f = t - F(whole)
    mantissa = ((((E5 * f + E4) * f + E3) * f + E2) * f + E1) * f + E0
    return mantissa * np.int32(np.int32(whole + 127) << 23).view(np.float32)


# ------------------------------------------------------------------------------------------------- blending


@kernel()
def _find_reach(
    packed: np.ndarray,
    flatten_ids: np.ndarray,
    begin: int,
    end: int,
    x0: int,
    y0: int,
    lanes: np.ndarray,
    reach: np.ndarray,
) -> None:
    """reach[at, 2 strip] and [at, 2 strip + 1], for at in [begin, end): first and end row that the Gaussian's
    ellipse can reach.

    A batch at a time: gathered into `lanes`, where the cache misses overlap, then computed without branches
    or lookups, so that LLVM makes SIMD code of it.
    """
    size = U(end - begin)
    for j in range(size):
        g = flatten_ids[begin + np.int64(j)]
        for field in range(SLACK + 1):
            lanes[U(field * BATCH) + j] = packed[g, field]
    for strip in range(STRIPS):
        column, row = F(x0 + strip * STRIP) + HALF, F(y0) + HALF  # of the strip's first pixel centre
        for j in range(size):
            left, mean_row = column - lanes[LANE_MX + j], lanes[LANE_MY + j] - row
            right = left + F(STRIP - 1)
            rx, ry, slack = lanes[LANE_RX + j], lanes[LANE_RY + j], lanes[LANE_SLACK + j]
            slant, lowest = lanes[LANE_SLANT + j], lanes[LANE_LOWEST_X + j]
            span, narrow = lanes[LANE_SPAN + j], lanes[LANE_NARROW + j]
            # Within the strip, y is largest (smallest) at the column nearest to where it is so overall.
            x = min(max(-lowest, left), right)
            highest = np.sqrt(max(ZERO, span - narrow * x * x)) - slant * x
            highest = ry if x == -lowest else highest
            x = min(max(lowest, left), right)
            deepest = -np.sqrt(max(ZERO, span - narrow * x * x)) - slant * x
            deepest = -ry if x == lowest else deepest
            # Clamped before the conversion: the ellipse of a huge Gaussian may lie beyond the range of the
            # integers.
            first = np.int32(np.ceil(min(max(mean_row + deepest - slack, ZERO), F(TILE))))
            end_row = np.int32(np.floor(max(min(mean_row + highest + slack, F(TILE - 1)), -ONE))) + np.int32(
                1
            )
            end_row = np.int32(0) if left > rx + slack else end_row
            end_row = np.int32(0) if right < -rx - slack else end_row
            lanes[LANE_FIRST + j] = F(first)
            lanes[LANE_END + j] = F(end_row)
        for j in range(size):
            reach[begin + np.int64(j), 2 * strip] = np.uint8(lanes[LANE_FIRST + j])
            reach[begin + np.int64(j), 2 * strip + 1] = np.uint8(lanes[LANE_END + j])


@kernel()
def _pixel_range(reach: np.ndarray, at: int, strip: int, window: np.ndarray) -> tuple[np.uint64, np.uint64]:
    """First pixel in the buffer and number of row pairs to blend into: the reached rows that are in the
    window.

    In pairs, since two rows fill an AVX-512 vector and a single one would go through the loop's slow
    remainder.
    """
    first = max(np.int64(reach[at, 2 * strip]), window[strip, 0])
    end = min(np.int64(reach[at, 2 * strip + 1]), window[strip, 1])
    pair = first >> 1
    return U(strip * STRIP_PIXELS + pair * PAIR), U(((end + 1) >> 1) - pair if end > first else 0)


@kernel()
def _blend(
    buf: np.ndarray, start: np.uint64, pairs: np.uint64, packed: np.ndarray, g: int, number: np.float32
) -> None:
    """Blend one Gaussian into the pixels from `start` on. Transmittance > 0: open; < 0: finished with that
    magnitude."""
    mx, my, p, q, r, opacity = (
        packed[g, MX],
        packed[g, MY],
        packed[g, P],
        packed[g, Q],
        packed[g, R],
        packed[g, OPACITY],
    )
    c0, c1, c2 = packed[g, COLOR], packed[g, COLOR + 1], packed[g, COLOR + 2]
    for i in range(start, start + pairs * U(PAIR)):
        dx, dy = mx - buf[i + AT_X], my - buf[i + AT_Y]
        along, across = p * dx + q * dy, r * dy
        alpha = min(ALPHA_MAX_F, opacity * exp2_negative(-(along * along + across * across)))
        alpha = alpha if alpha >= ALPHA_MIN_F else ZERO
        before = buf[i + AT_T]
        after = before * (ONE - alpha)
        open_ = after > TRANSMITTANCE_MIN_F
        vis = alpha * before if open_ else ZERO
        buf[i + AT_T] = after if open_ else -abs(before)
        buf[i + AT_STOP] = number if open_ else buf[i + AT_STOP]
        buf[i + AT_VIS] = vis
        buf[i + AT_COLOR] += vis * c0
        buf[i + AT_COLOR1] += vis * c1
        buf[i + AT_COLOR2] += vis * c2


@kernel()
def _blend_backward(
    buf: np.ndarray,
    start: np.uint64,
    pairs: np.uint64,
    packed: np.ndarray,
    g: int,
    number: np.float32,
    gradient_slots: np.ndarray,
    at: int,
) -> None:
    """Gradients of one Gaussian from the pixels from `start` on, added to its slot; the pixels step back to
    before it."""
    mx, my, p, q, r, opacity = (
        packed[g, MX],
        packed[g, MY],
        packed[g, P],
        packed[g, Q],
        packed[g, R],
        packed[g, OPACITY],
    )
    c0, c1, c2 = packed[g, COLOR], packed[g, COLOR + 1], packed[g, COLOR + 2]
    s, sx, sy, sxx, sxy, syy, k0, k1, k2 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    for i in range(start, start + pairs * U(PAIR)):
        dx, dy = mx - buf[i + AT_X], my - buf[i + AT_Y]
        along, across = p * dx + q * dy, r * dy
        raw = opacity * exp2_negative(-(along * along + across * across))
        alpha = min(ALPHA_MAX_F, raw)
        alpha = alpha if (alpha >= ALPHA_MIN_F and number <= buf[i + AT_STOP]) else ZERO
        inverse = ONE / (ONE - alpha)
        before = buf[i + AT_T] * inverse
        buf[i + AT_T] = before
        vis = alpha * before
        buf[i + AT_VIS] = vis
        g0, g1, g2 = buf[i + AT_COLOR], buf[i + AT_COLOR1], buf[i + AT_COLOR2]
        g_vis = c0 * g0 + c1 * g1 + c2 * g2 + buf[i + AT_EXTRA]
        behind = buf[i + AT_BEHIND]
        buf[i + AT_BEHIND] = behind + g_vis * vis
        # dL/dalpha = before g_vis - behind / (1 - alpha), dalpha/dsigma = -alpha; none where alpha is held at
        # its maximum
        g_sigma = raw * (behind * inverse - before * g_vis) if (alpha > ZERO and raw <= ALPHA_MAX_F) else ZERO
        k0 += vis * g0
        k1 += vis * g1
        k2 += vis * g2
        s += g_sigma
        gx, gy = g_sigma * dx, g_sigma * dy
        sx += gx
        sy += gy
        sxx += gx * dx
        sxy += gx * dy
        syy += gy * dy
    gradient_slots[at, 0] += s
    gradient_slots[at, 1] += sx
    gradient_slots[at, 2] += sy
    gradient_slots[at, 3] += sxx
    gradient_slots[at, 4] += sxy
    gradient_slots[at, 5] += syy
    gradient_slots[at, MOMENTS] += k0
    gradient_slots[at, MOMENTS + 1] += k1
    gradient_slots[at, MOMENTS + 2] += k2


@kernel()
def _drop_finished_rows(buf: np.ndarray, window: np.ndarray) -> bool:
    """Shrink each strip's window [first row, end row) past rows whose pixels are all finished; True while any
    row is left."""
    left = False
    for strip in range(STRIPS):
        low, high = window[strip, 0], window[strip, 1]
        while low < high:
            best = -ONE
            for i in range(
                U(strip * STRIP_PIXELS + low * STRIP), U(strip * STRIP_PIXELS + low * STRIP + STRIP)
            ):
                best = max(best, buf[i + AT_T])
            if best > ZERO:
                break
            low += 1
        while high > low:
            best = -ONE
            for i in range(
                U(strip * STRIP_PIXELS + high * STRIP - STRIP), U(strip * STRIP_PIXELS + high * STRIP)
            ):
                best = max(best, buf[i + AT_T])
            if best > ZERO:
                break
            high -= 1
        window[strip, 0], window[strip, 1] = low, high
        left = left or high > low
    return left


@kernel(parallel=True)
def blend_forward(
    packed: np.ndarray,
    colors: np.ndarray,
    flatten_ids: np.ndarray,
    offsets: np.ndarray,
    order: np.ndarray,
    background: np.ndarray,
    width: int,
    height: int,
    threads: int,
    reach: np.ndarray,
    render: np.ndarray,
    transmittance: np.ndarray,
    stop: np.ndarray,
) -> None:
    """Fill render [C, H, W, D], transmittance [C, H, W] and stop [C, H, W], the number in the tile's list,
    counted from 1, of the last Gaussian blended into a pixel. Thread k takes tiles order[k], order[k +
    threads], ...
    """
    channels = colors.shape[1]
    columns, rows = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    extra = max(0, channels - FUSED)
    for thread in nb.prange(threads):
        buf = np.empty((PLANES_BEFORE_COLOR + FUSED + extra) * TILE_PIXELS, np.float32)
        window, lanes = np.empty((STRIPS, 2), np.int64), np.empty(LANES * BATCH, np.float32)
        for turn in range(thread, order.shape[0], threads):
            tile = order[turn]
            c, y0, x0 = tile // (columns * rows), tile // columns % rows * TILE, tile % columns * TILE
            tile_rows = min(TILE, height - y0)
            buf[:] = ZERO
            for strip in range(STRIPS):
                window[strip, 0], window[strip, 1] = 0, tile_rows
                for y in range(TILE):
                    for x in range(STRIP):
                        i = U(strip * STRIP_PIXELS + y * STRIP + x)
                        px = x0 + strip * STRIP + x
                        buf[i + AT_X], buf[i + AT_Y] = F(px) + HALF, F(y0 + y) + HALF
                        buf[i + AT_T] = ONE if (y < tile_rows and px < width) else -ONE
            begin = offsets[tile]
            for batch in range(begin, offsets[tile + 1], BATCH):
                batch_end = min(batch + BATCH, offsets[tile + 1])
                _find_reach(packed, flatten_ids, batch, batch_end, x0, y0, lanes, reach)
                for at in range(batch, batch_end):
                    g = flatten_ids[at]
                    for strip in range(STRIPS):
                        lo, pairs = _pixel_range(reach, at, strip, window)
                        if pairs == 0:
                            continue
                        _blend(buf, lo, pairs, packed, g, F(at - begin + 1))
                        for k in range(extra):
                            color = colors[g % colors.shape[0], FUSED + k]
                            plane = AT_COLOR + U(FUSED + k) * PLANE
                            for i in range(lo, lo + pairs * U(PAIR)):
                                buf[i + plane] += buf[i + AT_VIS] * color
                if not _drop_finished_rows(buf, window):
                    break
            for y in range(tile_rows):
                for x in range(min(TILE, width - x0)):
                    i = U(x // STRIP * STRIP_PIXELS + y * STRIP + x % STRIP)
                    final = abs(buf[i + AT_T])
                    transmittance[c, y0 + y, x0 + x] = final
                    stop[c, y0 + y, x0 + x] = buf[i + AT_STOP]
                    for k in range(channels):
                        render[c, y0 + y, x0 + x, k] = (
                            buf[i + AT_COLOR + U(k) * PLANE] + final * background[c, k]
                        )


@kernel()
def _open_rows(row_stop: np.ndarray, strip: int, number: np.float32, window: np.ndarray) -> np.float32:
    """Set a strip's window (first row, last row + 1) to the rows that count when Gaussian `number` is reached
    from the back.

    A row counts from the last Gaussian on that was blended into it, whose number is its `row_stop`. Returns
    the largest `row_stop` outside the window, which is where the window has to grow again; 0 if all rows are
    in.
    """
    low, high = TILE, 0
    for y in range(TILE):
        if row_stop[strip, y] >= number:
            low, high = min(low, y), y + 1
    waiting = ZERO
    for y in range(TILE):
        if y < low or y >= high:
            waiting = max(waiting, row_stop[strip, y])
    window[strip, 0], window[strip, 1] = min(low, high), high
    return waiting


@kernel(parallel=True)
def blend_backward(
    packed: np.ndarray,
    colors: np.ndarray,
    flatten_ids: np.ndarray,
    offsets: np.ndarray,
    order: np.ndarray,
    background: np.ndarray,
    width: int,
    height: int,
    threads: int,
    reach: np.ndarray,
    transmittance: np.ndarray,
    stop: np.ndarray,
    g_render: np.ndarray,
    g_alpha: np.ndarray,
    gradient_slots: np.ndarray,
) -> None:
    """Fill gradient_slots [M, 6 + max(D, 3)], zeros at first, from the gradients of render and alpha."""
    channels = colors.shape[1]
    columns, rows = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    extra = max(0, channels - FUSED)
    for thread in nb.prange(threads):
        buf = np.empty((PLANES_BEFORE_COLOR + FUSED + extra) * TILE_PIXELS, np.float32)
        window = np.empty((STRIPS, 2), np.int64)
        row_stop = np.empty((STRIPS, TILE), np.float32)
        waiting = np.empty(STRIPS, np.float32)
        for turn in range(thread, order.shape[0], threads):
            tile = order[turn]
            c, y0, x0 = tile // (columns * rows), tile // columns % rows * TILE, tile % columns * TILE
            buf[:] = ZERO
            last = ZERO
            for strip in range(STRIPS):
                for y in range(TILE):
                    row_stop[strip, y] = ZERO
                    for x in range(STRIP):
                        i = U(strip * STRIP_PIXELS + y * STRIP + x)
                        px, py = x0 + strip * STRIP + x, y0 + y
                        buf[i + AT_X], buf[i + AT_Y] = F(px) + HALF, F(py) + HALF
                        if px < width and py < height:
                            final = transmittance[c, py, px]
                            g_final = -g_alpha[c, py, px, 0]
                            for k in range(channels):
                                g = g_render[c, py, px, k]
                                buf[i + AT_COLOR + U(k) * PLANE] = g
                                g_final += g * background[c, k]
                            buf[i + AT_T] = final
                            buf[i + AT_BEHIND] = final * g_final
                            buf[i + AT_STOP] = stop[c, py, px]
                            row_stop[strip, y] = max(row_stop[strip, y], stop[c, py, px])
                    last = max(last, row_stop[strip, y])
                waiting[strip] = EVERYTHING
            begin = offsets[tile]
            for at in range(begin + np.int64(last) - 1, begin - 1, -1):
                g = flatten_ids[at]
                number = F(at - begin + 1)
                for strip in range(STRIPS):
                    if number <= waiting[strip]:
                        waiting[strip] = _open_rows(row_stop, strip, number, window)
                    lo, pairs = _pixel_range(reach, at, strip, window)
                    if pairs == 0:
                        continue
                    if extra > 0:
                        for i in range(lo, lo + pairs * U(PAIR)):
                            buf[i + AT_EXTRA] = ZERO
                        for k in range(extra):
                            color = colors[g % colors.shape[0], FUSED + k]
                            plane = AT_COLOR + U(FUSED + k) * PLANE
                            for i in range(lo, lo + pairs * U(PAIR)):
                                buf[i + AT_EXTRA] += buf[i + plane] * color
                    _blend_backward(buf, lo, pairs, packed, g, number, gradient_slots, at)
                    for k in range(extra):
                        plane = AT_COLOR + U(FUSED + k) * PLANE
                        total = ZERO
                        for i in range(lo, lo + pairs * U(PAIR)):
                            total += buf[i + AT_VIS] * buf[i + plane]
                        gradient_slots[at, MOMENTS + FUSED + k] += total


@kernel(parallel=True)
def gather(
    conics: np.ndarray,
    opacities: np.ndarray,
    starts: np.ndarray,
    positions: np.ndarray,
    gradient_slots: np.ndarray,
    g_means2d: np.ndarray,
    g_conics: np.ndarray,
    g_opacities: np.ndarray,
    g_colors: np.ndarray,
) -> None:
    """Sum each Gaussian's slots, and turn the moments into gradients. All outputs are zeros at first."""
    shared = g_colors.shape[0] == 1
    for n in nb.prange(conics.shape[1]):
        for c in range(conics.shape[0]):
            first, end = starts[c * conics.shape[1] + n], starts[c * conics.shape[1] + n + 1]
            if first == end:
                continue
            s, sx, sy, sxx, sxy, syy = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
            for k in range(first, end):
                at = positions[k]
                s += gradient_slots[at, 0]
                sx += gradient_slots[at, 1]
                sy += gradient_slots[at, 2]
                sxx += gradient_slots[at, 3]
                sxy += gradient_slots[at, 4]
                syy += gradient_slots[at, 5]
                for channel in range(g_colors.shape[2]):
                    g_colors[0 if shared else c, n, channel] += gradient_slots[at, MOMENTS + channel]
            xx, xy, yy = conics[c, n, 0], conics[c, n, 1], conics[c, n, 2]
            g_means2d[c, n, 0], g_means2d[c, n, 1] = xx * sx + xy * sy, xy * sx + yy * sy
            g_conics[c, n, 0], g_conics[c, n, 1], g_conics[c, n, 2] = HALF * sxx, sxy, HALF * syy
            g_opacities[c, n] = -s / opacities[c, n]


# ------------------------------------------------------------------------------------------------- autograd


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy()


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,
        conics: Tensor,
        colors: Tensor,
        opacities: Tensor,
        backgrounds: Tensor | None,
        radii: Tensor,
        depths: Tensor,
        width: int,
        height: int,
    ) -> tuple[Tensor, ...]:
        device = means2d.device
        means, cons, cols, opas, rads, deps = (
            _array(t) for t in (means2d, conics, colors, opacities, radii, depths)
        )
        cameras, count = deps.shape
        columns, rows = -(-width // TILE), -(-height // TILE)
        background = np.zeros((cameras, cols.shape[2]), F) if backgrounds is None else _array(backgrounds)
        with launch("compositing forward"):
            packed = np.empty((cameras * count, PACKED), F)
            features = cols.reshape(-1, cols.shape[2])  # [C * N, D] or [N, D]
            boxes, tiles_per_gauss = (
                np.empty((cameras, count, 4), np.int32),
                np.zeros((cameras, count), np.int32),
            )
            prepare(means, cons, features, opas, rads, width, height, packed, boxes, tiles_per_gauss)
            starts = np.zeros(cameras * count + 1, np.int64)
            np.cumsum(tiles_per_gauss, out=starts[1:])
            total = int(starts[-1])
            flatten_ids, isect_ids, positions = (
                np.empty(total, kind) for kind in (np.int32, np.int64, np.int64)
            )
            offsets = np.full(cameras * columns * rows + 1, total, np.int64)
            tile_bits = (columns * rows).bit_length()
            bin_tiles(
                rads,
                boxes,
                deps.view(np.uint32),
                starts,
                columns,
                rows,
                tile_bits,
                flatten_ids,
                isect_ids,
                positions,
                offsets,
            )
            order = np.argsort(
                -np.diff(offsets), kind="stable"
            )  # longest first, so that the threads end together
            reach = np.empty((total, 2 * STRIPS), np.uint8)
            render = np.empty((cameras, height, width, cols.shape[2]), F)
            transmittance, stop = np.empty((cameras, height, width), F), np.empty((cameras, height, width), F)
            blend_forward(
                packed,
                features,
                flatten_ids,
                offsets,
                order,
                background,
                width,
                height,
                nb.get_num_threads(),
                reach,
                render,
                transmittance,
                stop,
            )
        ctx.save_for_backward(
            conics, colors, opacities
        )  # checked for changes in between, unlike what follows
        ctx.lists = packed, flatten_ids, positions, starts, offsets, order, reach
        ctx.pixels = background, transmittance, stop
        tiles = (
            tiles_per_gauss,
            isect_ids,
            flatten_ids,
            offsets[:-1].reshape(cameras, rows, columns).astype(np.int32),
        )
        tiles = [torch.from_numpy(a).to(device) for a in tiles]
        ctx.mark_non_differentiable(*tiles)
        return (
            torch.from_numpy(render).to(device),
            torch.from_numpy(1 - transmittance[..., None]).to(device),
            *tiles,
        )

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, to_render: Tensor, to_alpha: Tensor, *_: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        cons, cols, opas = (_array(t) for t in ctx.saved_tensors)
        packed, flatten_ids, positions, starts, offsets, order, reach = ctx.lists
        background, transmittance, stop = ctx.pixels
        height, width = transmittance.shape[1:]
        device, g_render, g_alpha = to_render.device, _array(to_render), _array(to_alpha)
        g_means2d, g_conics, g_opacities = (
            np.zeros((*opas.shape, 2), F),
            np.zeros_like(cons),
            np.zeros_like(opas),
        )
        g_colors, features = np.zeros_like(cols), cols.reshape(-1, cols.shape[2])
        with launch("compositing backward"):
            gradient_slots = np.zeros((len(positions), MOMENTS + max(FUSED, cols.shape[2])), F)
            blend_backward(
                packed,
                features,
                flatten_ids,
                offsets,
                order,
                background,
                width,
                height,
                nb.get_num_threads(),
                reach,
                transmittance,
                stop,
                g_render,
                g_alpha,
                gradient_slots,
            )
            gather(cons, opas, starts, positions, gradient_slots, g_means2d, g_conics, g_opacities, g_colors)
        g_background = None
        if ctx.needs_input_grad[4]:
            g_background = np.einsum("chw,chwd->cd", transmittance, g_render, dtype=np.float64).astype(F)
            g_background = torch.from_numpy(g_background).to(device)
        g_means2d, g_conics, g_colors, g_opacities = (
            torch.from_numpy(a).to(device) for a in (g_means2d, g_conics, g_colors, g_opacities)
        )
        return g_means2d, g_conics, g_colors, g_opacities, g_background, None, None, None, None


def composite(
    *arguments: Tensor | int | None,
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The same arguments and results as `reference.composite`, float32."""
    render, alphas, *tiles = _Composite.apply(*arguments)
    return render, alphas, tuple(tiles)
