"""The constants of PSNR and SSIM, which the versions for CPUs and for tensors share.

SSIM is that of Wang et al. 2004 in scikit-image's default form: windows of 7x7 with uniform weights, sample covariance.
With sums over a window's N samples in the place of means, squares of means are N² times the formula's, and sample
(co)variances N (N - 1) times; so are the constants that are added to them.
"""

import math

PSNR_CAP = 100.0
"""In dB; equal images get it."""
MARGIN = 6
"""How much smaller than the image the map of SSIM is, of windows that lie within the image."""
SAMPLES = (MARGIN + 1) ** 2
C1 = (0.01 * 255 * SAMPLES) ** 2
C2 = (0.03 * 255) ** 2 * SAMPLES * (SAMPLES - 1)


def decibels(squared_error: float, count: int) -> float:
    """PSNR of `count` samples whose squared errors, 0-255 scale, have the given sum. Of a NaN it is NaN."""
    if squared_error == 0.0:
        return PSNR_CAP
    return min(10 * (math.log10(255**2 * count) - math.log10(squared_error)), PSNR_CAP)
