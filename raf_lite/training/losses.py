"""What training minimises: L1 and structural similarity of the picture, agreement of the mask, small offsets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_window(size: int = 11, sigma: float = 1.5) -> Tensor:
    """The 1-D window of SSIM (Wang et al. 2004), [size], summing to 1."""
    x = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    window = torch.exp(-(x**2) / (2 * sigma**2))
    return window / window.sum()


def ssim(a: Tensor, b: Tensor) -> Tensor:  # [C, H, W, 3] each, values in [0, 1] -> scalar
    """Mean structural similarity, 11x11 window with sigma 1.5, without padding.

    The value is that of torchmetrics (a test compares them). The window is separable, and all pictures are channels of one
    depthwise convolution: with pictures as a batch of one channel, its gradient took two thirds of a training step on a CPU.
    """
    stack = torch.cat([a, b, a * a, b * b, a * b]).permute(0, 3, 1, 2).flatten(0, 1)
    rows = gaussian_window().to(a).view(1, 1, 11, 1).expand(len(stack), -1, -1, -1)
    blurred = F.conv2d(F.conv2d(stack, rows, groups=len(stack)), rows.transpose(2, 3), groups=len(stack))
    mean_a, mean_b, aa, bb, ab = blurred.chunk(5)
    var_a, var_b, cov = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    return (((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()


def reconstruction_loss(image: Tensor, alpha: Tensor, offsets: Tensor, target: Tensor, mask: Tensor, *, ssim_weight: float,
                        mask_weight: float, offset_weight: float) -> dict[str, Tensor]:
    """image, target: [C, H, W, 3]; alpha: [C, H, W, 1]; mask: [C, H, W]; offsets: [N, 13]. Returns the terms and `total`."""
    terms = {"l1": (image - target).abs().mean(), "ssim": 1 - ssim(image, target),
             "mask": (alpha[..., 0] - mask).abs().mean(), "offset": offsets.square().mean()}
    terms["total"] = ((1 - ssim_weight) * terms["l1"] + ssim_weight * terms["ssim"] + mask_weight * terms["mask"]
                      + offset_weight * terms["offset"])
    return terms
