"""Squared error and SSIM of two images in one pass: a loop over rows, in float64, compiled for the CPU.

Each loop over a row's samples is a function of its own with one array to write, which LLVM makes vector code of.
"""

import numpy as np

from imagewizard.compiling import compiled
from imagewizard.metrics.formula import C1, C2, MARGIN, SAMPLES

# Samples of a row at a time: their sums, 60 kB, stay in the processor's cache, and columns that two strips share cost
# little.
STRIP = 768


def compare(clean: np.ndarray, image: np.ndarray) -> tuple[float, float]:
    """Sums of the squared error over all samples, and of SSIM over all windows inside the image.

    Both images are (H, W, C), C-contiguous, uint8, float32 or float64.
    """
    rows = [each.reshape(len(each), -1).view() for each in (clean, image)]
    for each in rows:
        each.flags.writeable = False  # one of the two is compiled: numba tells them apart
    return _compare(*rows, clean.shape[2])


@compiled
def _compare(clean: np.ndarray, image: np.ndarray, step: int) -> tuple[float, float]:
    """The sums, of images whose rows are flat: neighbours of a channel are `step` apart."""
    length, margin = clean.shape[1], MARGIN * step
    squared_error = similarity = 0.0
    for left in range(0, max(1, length - margin), STRIP):
        end = min(left + STRIP + margin, length)
        errors, similarities = _strip(clean, image, left, end, step)
        squared_error += errors[: end - left if end == length else STRIP].sum()
        similarity += similarities[: max(0, end - left - margin)].sum()
    return squared_error, similarity


@compiled
def _strip(clean: np.ndarray, image: np.ndarray, left: int, end: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """For each column from `left` to `end`, sums down the image of squared error and of SSIM.

    SSIM counts for the column where its window begins; those of the last 6 pixels mean nothing. The sums over a
    window's rows move from one row to the next: the new row is added, the one before the window is taken off.
    """
    length = end - left
    no_clean, no_image = np.zeros(length, clean.dtype), np.zeros(length, image.dtype)
    errors, similarities = np.zeros(length), np.zeros(length)
    columns, windows = np.zeros(4 * length + MARGIN * step), np.zeros(4 * length)  # of four quantities, end to end
    c0, c1, c2, c3 = columns[:length], columns[length:], columns[2 * length :], columns[3 * length :]
    w0, w1, w2, w3 = windows[:length], windows[length:], windows[2 * length :], windows[3 * length :]
    for row in range(len(clean)):
        y, x = clean[row][left:end], image[row][left:end]
        if row <= MARGIN:
            _move(y, x, no_clean, no_image, c0, c1, c2, c3)
        else:
            above = row - MARGIN - 1
            _move(y, x, clean[above][left:end], image[above][left:end], c0, c1, c2, c3)
        _add_error(y, x, errors)
        if row >= MARGIN:
            _add_sevens(columns, step, windows)
            _add_similarity(w0, w1, w2, w3, similarities)
    return errors, similarities


@compiled
def _move(y, x, old_y, old_x, y_sum, x_sum, squares, products):  # type: ignore[no-untyped-def]  # all are arrays
    """Adds a row to the columns' sums of y, x, y² + x² and y x, and takes an old one off."""
    for i in range(len(y)):
        a, b, c, d = np.float64(y[i]), np.float64(x[i]), np.float64(old_y[i]), np.float64(old_x[i])
        y_sum[i] += a - c
        x_sum[i] += b - d
        squares[i] += (a * a + b * b) - (c * c + d * d)
        products[i] += a * b - c * d


@compiled
def _add_error(y: np.ndarray, x: np.ndarray, errors: np.ndarray) -> None:
    for i in range(len(y)):
        error = np.float64(y[i]) - np.float64(x[i])
        errors[i] += error * error


@compiled
def _add_sevens(columns: np.ndarray, step: int, windows: np.ndarray) -> None:
    """Sums of seven columns that are `step` apart."""
    c1, c2, c3 = columns[step:], columns[2 * step :], columns[3 * step :]
    c4, c5, c6 = columns[4 * step :], columns[5 * step :], columns[6 * step :]
    for i in range(len(windows)):
        windows[i] = ((columns[i] + c1[i]) + (c2[i] + c3[i])) + ((c4[i] + c5[i]) + c6[i])


@compiled
def _add_similarity(y_sum, x_sum, squares, products, similarities):  # type: ignore[no-untyped-def]  # all are arrays
    """Adds the SSIM of the windows with these sums."""
    for i in range(len(similarities)):
        product = y_sum[i] * x_sum[i]
        sum_squares = y_sum[i] * y_sum[i] + x_sum[i] * x_sum[i]
        covariance, variances = SAMPLES * products[i] - product, SAMPLES * squares[i] - sum_squares
        above = (2 * product + C1) * (2 * covariance + C2)
        similarities[i] += above / ((sum_squares + C1) * (variances + C2))
