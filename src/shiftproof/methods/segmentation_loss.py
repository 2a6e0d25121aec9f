"""The loss of the segmentation head, as a pure function of logits and masks."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def segmentation_loss(logits: Tensor, masks: Tensor, gamma: float = 4.0) -> Tensor:
    """Focal loss plus L1 (DeSTSeg, CVPR 2023).

    The focal loss (Lin et al., ICCV 2017) weighs the cross-entropy of a position by (1 - q) ** gamma, where q is the
    predicted probability of the correct class: an easy position has almost no weight. L1 still has a gradient there.

    A mask of the images' size is averaged down to the logits': a position that is half covered has the target one
    half, and the focal loss weights both classes by their share.

    Args:
        logits: [B, h, w]; any float dtype, computed in float32.
        masks: [B, H, W] in [0, 1], H >= h, W >= w.
        gamma: 0 leaves the plain cross-entropy.

    Returns:
        scalar float32, mean over positions, at least 0.

    >>> import torch
    >>> sure, mask = torch.tensor([[[-20.0, 20.0]]]), torch.tensor([[[0.0, 1.0]]])
    >>> round(segmentation_loss(sure, mask).item(), 4), round(segmentation_loss(sure, 1 - mask).item(), 4)
    (0.0, 21.0)
    """
    logits, masks = logits.float(), masks.float()
    if masks.shape != logits.shape:
        masks = F.adaptive_avg_pool2d(masks.unsqueeze(1), (logits.shape[-2], logits.shape[-1])).squeeze(1)
    probability = logits.sigmoid()
    # softplus(-x) is -log sigmoid(x), and 1 - sigmoid(x) is sigmoid(-x): nothing overflows, whatever the logit.
    defect = (-logits).sigmoid() ** gamma * F.softplus(-logits)
    good = probability**gamma * F.softplus(logits)
    return (masks * defect + (1 - masks) * good).mean() + (probability - masks).abs().mean()
