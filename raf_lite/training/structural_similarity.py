"""Structural similarity (Wang et al. 2004), 11x11 Gaussian window with sigma 1.5, as a loss: value and
gradient.

Convolutions and their gradients in torch took half of a training step on a CPU. There, one numba kernel now
filters just what the formula needs; on other devices torch does. The numbers are the same (a test compares
them).
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from raf_lite._kernels import kernel, launch

WINDOW, SIGMA = 11, 1.5
BORDER = WINDOW - 1  # pixels a side that have no whole window around them, both sides together
C1, C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def gaussian_window() -> Tensor:
    """The window along one axis (it is separable), [11], summing to 1."""
    x = torch.arange(WINDOW, dtype=torch.float32) - BORDER / 2
    window = torch.exp(-(x**2) / (2 * SIGMA**2))
    return window / window.sum()


def ssim(a: Tensor, b: Tensor) -> Tensor:  # [C, H, W, 3] each, values in [0, 1] -> scalar
    """Mean structural similarity over all 11x11 windows that lie wholly inside the pictures.

    The value is that of torchmetrics (a test compares them). Raises ValueError for pictures of other shapes.

    >>> picture = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    >>> round(float(ssim(picture, picture)), 4), float(ssim(picture, 1 - picture)) < 0
    (1.0, True)
    """
    if a.shape != b.shape or a.dim() != 4 or a.shape[3] != 3 or min(a.shape[1:3]) < WINDOW:
        raise ValueError(
            f"ssim compares pictures of the same shape [C, H, W, 3] with at least {WINDOW} pixels a side, got"
            f" {list(a.shape)} and {list(b.shape)}"
        )
    if a.device.type == "cpu" and a.dtype == torch.float32:
        return _Ssim.apply(a, b)
    return ssim_torch(a, b)


def ssim_torch(a: Tensor, b: Tensor) -> Tensor:
    """The same in plain torch, for any device and float dtype."""
    # All pictures are channels of one depthwise convolution: with pictures as a batch of one channel it takes
    # far longer.
    stack = torch.cat([a, b, a * a + b * b, a * b]).permute(0, 3, 1, 2).flatten(0, 1)
    rows = gaussian_window().to(a).view(1, 1, WINDOW, 1).expand(len(stack), -1, -1, -1)
    blurred = F.conv2d(F.conv2d(stack, rows, groups=len(stack)), rows.transpose(2, 3), groups=len(stack))
    mean_a, mean_b, squares, products = blurred.chunk(4)
    means, mean_squares = mean_a * mean_b, mean_a**2 + mean_b**2
    return (
        (2 * means + C1)
        * (2 * (products - means) + C2)
        / ((mean_squares + C1) * (squares - mean_squares + C2))
    ).mean()


# ------------------------------------------------------------------------------------------------- on a CPU

U = np.uint64  # with signed indices numba tests for negative ones, and nothing vectorises
W0, W1, W2, W3, W4, W5 = (
    np.float32(w) for w in gaussian_window()[:6].tolist()
)  # the other five mirror these
C1_F, C2_F, ONE, TWO = np.float32(C1), np.float32(C2), np.float32(1), np.float32(2)


@kernel()
def _filter(
    source: np.ndarray, start: np.uint64, step: np.uint64, target: np.ndarray, size: np.uint64
) -> None:
    """target[i] = weighted sum of source[start + i + k step] for k from 0 to 10; flat arrays."""
    for i in range(size):
        j = i + start
        target[i] = (
            W0 * (source[j] + source[j + U(10) * step])
            + W1 * (source[j + step] + source[j + U(9) * step])
            + W2 * (source[j + U(2) * step] + source[j + U(8) * step])
            + W3 * (source[j + U(3) * step] + source[j + U(7) * step])
            + W4 * (source[j + U(4) * step] + source[j + U(6) * step])
            + W5 * source[j + U(5) * step]
        )


@kernel()
def _similarity_row(
    blurred: np.ndarray,
    stride: np.uint64,
    size: np.uint64,
    first: np.ndarray,
    second: np.ndarray,
    third: np.ndarray,
) -> np.float32:
    """Sum of SSIM along a row, and its derivatives by the window's mean of a, of a^2 + b^2 and of a b.

    blurred: means of a, b, a^2 + b^2, a b, each `stride` after the one before.
    """
    total = np.float32(0)
    for i in range(size):
        a, b, squares, products = (
            blurred[i],
            blurred[i + stride],
            blurred[i + U(2) * stride],
            blurred[i + U(3) * stride],
        )
        means, mean_squares = a * b, a * a + b * b
        top1, top2 = TWO * means + C1_F, TWO * (products - means) + C2_F
        bottom1, bottom2 = ONE / (mean_squares + C1_F), ONE / (squares - mean_squares + C2_F)
        both = bottom1 * bottom2
        value = top1 * top2 * both
        total += value
        first[i] = TWO * (b * (top2 - top1) * both - a * value * (bottom1 - bottom2))
        second[i] = -value * bottom2
        third[i] = TWO * top1 * both
    return total


@kernel(parallel=True)
def similarity(a: np.ndarray, b: np.ndarray, totals: np.ndarray, gradient: np.ndarray) -> None:
    """Fill totals [C * 3], sums of SSIM over each plane of pictures a, b [C, H, W, 3], and gradient, theirs
    by a.

    Rows are filtered across as they come in and kept in one strip, from which the filter down then reads; the
    way back is the same filters over the derivatives, framed with zeros.
    """
    height, width = a.shape[1], a.shape[2]
    inner = width - BORDER
    framed = inner + 2 * BORDER  # columns of a row of derivatives, with their frame of zeros
    for plane in nb.prange(totals.shape[0]):
        picture, channel = plane // 3, plane % 3
        raw = np.zeros(4 * width + BORDER, np.float32)
        across = np.zeros((height, 4 * width), np.float32)
        rows = across.reshape(-1)
        for y in range(height):
            for x in range(width):
                p, q = a[picture, y, x, channel], b[picture, y, x, channel]
                raw[x], raw[width + x], raw[2 * width + x], raw[3 * width + x] = p, q, p * p + q * q, p * q
            _filter(raw, U(0), U(1), across[y], U(4 * width))
        derivatives = np.zeros((height + BORDER, 3 * framed), np.float32)
        blurred = np.empty(4 * width, np.float32)
        total = 0.0
        for y in range(height - BORDER):
            _filter(rows, U(y * 4 * width), U(4 * width), blurred, U(4 * width))
            row = derivatives[y + BORDER]
            total += _similarity_row(
                blurred, U(width), U(inner), row[BORDER:], row[framed + BORDER :], row[2 * framed + BORDER :]
            )
        totals[plane] = total
        flat = derivatives.reshape(-1)
        down, spread = np.zeros(3 * framed + BORDER, np.float32), np.empty(3 * framed, np.float32)
        for y in range(height):
            _filter(flat, U(y * 3 * framed), U(3 * framed), down, U(3 * framed))
            _filter(down, U(0), U(1), spread, U(3 * framed))
            for x in range(width):
                p, q = a[picture, y, x, channel], b[picture, y, x, channel]
                gradient[picture, y, x, channel] = (
                    spread[x] + TWO * p * spread[framed + x] + q * spread[2 * framed + x]
                )


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        pictures = [x.detach().contiguous().numpy() for x in (a, b)]
        windows = a.shape[0] * 3 * (a.shape[1] - BORDER) * (a.shape[2] - BORDER)
        totals = np.empty(a.shape[0] * 3)
        gradients: list[Tensor | None] = [None, None]
        with launch("ssim"):
            for k in (
                (0, 1) if ctx.needs_input_grad[1] else (0,)
            ):  # symmetric: the second one's gradient is that of the swap
                gradient = np.empty_like(pictures[k])
                similarity(pictures[k], pictures[1 - k], totals, gradient)
                gradients[k] = torch.from_numpy(gradient).div_(windows)
        ctx.save_for_backward(*gradients)
        return a.new_tensor(totals.sum() / windows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(
            g * gradient if wanted else None
            for gradient, wanted in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=True)
        )
