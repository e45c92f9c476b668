"""The one place where value ranges are converted: uint8 images (H, W, 3) and float tensors (3, H, W) in [-1, 1].

Both functions take batches too: any axes before these three are kept.
"""

import numpy as np
import torch
from torch import Tensor


def to_tensor(image: np.ndarray) -> Tensor:
    """uint8 or float (0-255 scale, unclipped) (H, W, 3) → float32 (3, H, W), 0 ↦ -1 and 255 ↦ 1."""
    # astype copies, whatever the type: a float image must not be changed in place.
    return torch.from_numpy(image.astype(np.float32, order="C")).mul_(2.0 / 255.0).sub_(1.0).movedim(-1, -3)


def to_uint8(tensor: Tensor) -> np.ndarray:
    """float (3, H, W), clamped to [-1, 1] and rounded → uint8 (H, W, 3). NaN becomes 0."""
    scaled = tensor.float().add(1.0).mul_(127.5).nan_to_num_(0.0).clamp_(0.0, 255.0).round_()
    return scaled.to(torch.uint8).movedim(-3, -1).contiguous().cpu().numpy()
