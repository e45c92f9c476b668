"""How close an image is to its reference, on the 0-255 scale. METRICS lists the numbers for it.

PSNR and SSIM equal scikit-image's to 1e-6. They are made for a bulk job, where scikit-image's SSIM would cost more than
the rest of the row: `Reference` compares images in memory, on one core; `device.scores` a batch of tensors.
"""

from imagewizard.metrics.formula import PSNR_CAP
from imagewizard.metrics.scores import METRICS, Metric, Reference, psnr

__all__ = ["METRICS", "PSNR_CAP", "Metric", "Reference", "psnr"]
