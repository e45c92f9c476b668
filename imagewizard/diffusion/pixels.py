"""The one place where value ranges are converted: integer images (H, W, C) and float tensors (C, H, W) in [-1, 1].

All functions also take batches: they keep any axes before these three.
"""

import numpy as np
import torch
from torch import Tensor

WHITE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
"""The greatest value of a pixel."""
_TYPES = {np.dtype(np.uint8): torch.uint8, np.dtype(np.uint16): torch.uint16}


def to_tensor(image: np.ndarray) -> Tensor:
    """uint8 or float (0-255 scale, unclipped) (H, W, C) → float32 (C, H, W), 0 ↦ -1 and 255 ↦ 1."""
    # astype copies, whatever the type: a float image must not be changed in place.
    return torch.from_numpy(image.astype(np.float32, order="C")).mul_(2.0 / 255.0).sub_(1.0).movedim(-1, -3)


def to_network(images: Tensor) -> Tensor:
    """float32 (H, W, C), 0-255 scale, unclipped → float32 (C, H, W), 0 ↦ -1 and 255 ↦ 1, on its device."""
    return images.mul(2.0 / 255.0).sub_(1.0).movedim(-1, -3)


def from_bytes(image: Tensor) -> Tensor:
    """uint8 tensor (H, W, C) → float32 (C, H, W), 0 ↦ -1 and 255 ↦ 1, on its device.

    One rounding, so that compiled or not every device gives the same bits.
    """
    return ((2 * image.int() - 255).float() * (1.0 / 255.0)).movedim(-1, -3)


def to_float(tensor: Tensor) -> np.ndarray:
    """float (C, H, W), [-1, 1] scale → float32 (H, W, C), 0-255 scale, neither clamped nor rounded."""
    return tensor.float().add(1.0).mul_(255.0 / 2.0).movedim(-3, -1).contiguous().cpu().numpy()


def to_uint8(tensor: Tensor) -> np.ndarray:
    """float (3, H, W), clamped to [-1, 1] and rounded → uint8 (H, W, 3). NaN becomes 0."""
    return to_pixels(tensor, np.dtype(np.uint8))


def to_pixels(tensor: Tensor, dtype: np.dtype) -> np.ndarray:
    """float (C, H, W), clamped to [-1, 1] and rounded → uint8 or uint16 (H, W, C), 1 ↦ 255 or 65535. NaN becomes 0."""
    return to_levels(tensor, dtype).cpu().numpy()


def to_levels(tensor: Tensor, dtype: np.dtype) -> Tensor:
    """As `to_pixels`, but a tensor on the device of the first one."""
    white = WHITE[dtype]
    scaled = tensor.float().add(1.0).mul_(white / 2).nan_to_num_(0.0).clamp_(0.0, white).round_()
    return scaled.to(_TYPES[dtype]).movedim(-3, -1).contiguous()
