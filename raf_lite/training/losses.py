"""What training minimises: L1 and structural similarity of the picture, agreement of the mask, small
offsets."""

from __future__ import annotations

from torch import Tensor

from raf_lite.training.structural_similarity import ssim


def counted(shown: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """What is shown [C, H, W, K], with the truth [C, H, W, K] in its place as far as pixels do not count
    (counts [C, H, W] in [0, 1]): no term of the loss, no window of SSIM and no gradient comes of them.

    >>> import torch
    >>> shown, truth = torch.ones(1, 1, 3, 1), torch.zeros(1, 1, 3, 1)
    >>> counted(shown, truth, torch.tensor([[[1.0, 0.25, 0.0]]])).flatten().tolist()
    [1.0, 0.25, 0.0]
    """
    return truth + counts[..., None] * (shown - truth)


def reconstruction_loss(
    image: Tensor,
    alpha: Tensor,
    offsets: Tensor,
    target: Tensor,
    mask: Tensor,
    *,
    ssim_weight: float,
    mask_weight: float,
    offset_weight: float,
) -> dict[str, Tensor]:
    """image, target: [C, H, W, 3]; alpha: [C, H, W, 1]; mask: [C, H, W]; offsets: [N, 13]. Returns the terms
    and `total`.

    Conventions: docs/conventions.md#pictures-colours-and-masks.

    >>> import torch
    >>> image, alpha, offsets = (
    ...     torch.full((1, 16, 16, 3), 0.5),
    ...     torch.ones(1, 16, 16, 1),
    ...     torch.zeros(100, 13),
    ... )
    >>> weights = {"ssim_weight": 0.0, "mask_weight": 1.0, "offset_weight": 1.0}
    >>> float(reconstruction_loss(image, alpha, offsets, image + 0.25, alpha[..., 0], **weights)["total"])
    0.25
    """
    terms = {
        "l1": (image - target).abs().mean(),
        "ssim": 1 - ssim(image, target),
        "mask": (alpha[..., 0] - mask).abs().mean(),
        "offset": offsets.square().mean(),
    }
    terms["total"] = (
        (1 - ssim_weight) * terms["l1"]
        + ssim_weight * terms["ssim"]
        + mask_weight * terms["mask"]
        + offset_weight * terms["offset"]
    )
    return terms
