"""What training minimises: L1 and structural similarity of the picture, agreement of the mask, small offsets."""

from __future__ import annotations

from torch import Tensor

from raf_lite.training.structural_similarity import ssim


def reconstruction_loss(image: Tensor, alpha: Tensor, offsets: Tensor, target: Tensor, mask: Tensor, *, ssim_weight: float,
                        mask_weight: float, offset_weight: float) -> dict[str, Tensor]:
    """image, target: [C, H, W, 3]; alpha: [C, H, W, 1]; mask: [C, H, W]; offsets: [N, 13]. Returns the terms and `total`."""
    terms = {"l1": (image - target).abs().mean(), "ssim": 1 - ssim(image, target),
             "mask": (alpha[..., 0] - mask).abs().mean(), "offset": offsets.square().mean()}
    terms["total"] = ((1 - ssim_weight) * terms["l1"] + ssim_weight * terms["ssim"] + mask_weight * terms["mask"]
                      + offset_weight * terms["offset"])
    return terms
