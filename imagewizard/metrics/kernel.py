"""Squared error and SSIM of two images in one pass: a loop over rows, compiled for the CPU.

Sums are float64, or float32 for uint8 images, where they are whole numbers that it holds exactly, at half the price.
Each loop over a row's samples is a function of its own with one array to write, which LLVM makes vector code of.
"""

import numpy as np

from imagewizard.compiling import compiled
from imagewizard.metrics.formula import C1, C2, MARGIN, SAMPLES

# Samples of a row at a time: their sums, 60 kB, stay in the processor's cache, and columns that two strips share cost
# little.
STRIP = 768
# Rows that are summed up before their sums are added to float64 ones: float32 would round those of many more.
ROWS = 32
_C1, _C2 = np.float64(C1), np.float64(C2)


def compare(clean: np.ndarray, image: np.ndarray) -> tuple[float, float]:
    """Sums of the squared error over all samples, and of SSIM over all windows inside the image.

    Both images are (H, W, C), C-contiguous, uint8, float32 or float64.
    """
    rows = [each.reshape(len(each), -1).view() for each in (clean, image)]
    for each in rows:
        each.flags.writeable = False  # one of the two is compiled: numba tells them apart
    exact = clean.dtype == image.dtype == np.uint8
    return _compare(*rows, clean.shape[2], np.empty(0, np.float32 if exact else np.float64))


@compiled
def _compare(clean: np.ndarray, image: np.ndarray, step: int, like: np.ndarray) -> tuple[float, float]:
    """The sums, of images whose rows are flat: neighbours of a channel are `step` apart. `like`: of the sums' type."""
    length, margin = clean.shape[1], MARGIN * step
    squared_error = similarity = 0.0
    for left in range(0, max(1, length - margin), STRIP):
        end = min(left + STRIP + margin, length)
        errors, similarities = _strip(clean, image, left, end, step, like)
        squared_error += errors[: end - left if end == length else STRIP].sum()
        similarity += similarities[: max(0, end - left - margin)].sum()
    return squared_error, similarity


@compiled
def _strip(clean, image, left, end, step, like):  # type: ignore[no-untyped-def]  # -> tuple of two arrays
    """For each column from `left` to `end`, sums down the image of squared error and of SSIM: float64.

    SSIM counts for the column where its window begins; those of the last 6 pixels mean nothing. The sums over a
    window's rows move from one row to the next: the new row is added, the one before the window is taken off.
    """
    length = end - left
    no_clean, no_image = np.zeros(length, clean.dtype), np.zeros(length, image.dtype)
    errors, similarities = np.zeros(length), np.zeros(length)
    some_errors, some_similarities = np.zeros(length, like.dtype), np.zeros(length, like.dtype)
    # Of four quantities, end to end.
    columns, windows = np.zeros(4 * length + MARGIN * step, like.dtype), np.zeros(4 * length, like.dtype)
    c0, c1, c2, c3 = columns[:length], columns[length:], columns[2 * length :], columns[3 * length :]
    w0, w1, w2, w3 = windows[:length], windows[length:], windows[2 * length :], windows[3 * length :]
    for row in range(len(clean)):
        y, x = clean[row][left:end], image[row][left:end]
        if row <= MARGIN:
            _move(y, x, no_clean, no_image, c0, c1, c2, c3)
        else:
            above = row - MARGIN - 1
            _move(y, x, clean[above][left:end], image[above][left:end], c0, c1, c2, c3)
        _add_error(y, x, some_errors)
        if row >= MARGIN:
            _add_sevens(columns, step, windows)
            _add_similarity(w0, w1, w2, w3, some_similarities)
        if row % ROWS == ROWS - 1 or row == len(clean) - 1:
            _hand_over(some_errors, errors)
            _hand_over(some_similarities, similarities)
    return errors, similarities


@compiled
def _move(y, x, old_y, old_x, y_sum, x_sum, squares, products):  # type: ignore[no-untyped-def]  # all are arrays
    """Adds a row to the columns' sums of y, x, y² + x² and y x, and takes an old one off."""
    number = y_sum.dtype.type
    for i in range(len(y)):
        a, b, c, d = number(y[i]), number(x[i]), number(old_y[i]), number(old_x[i])
        y_sum[i] += a - c
        x_sum[i] += b - d
        squares[i] += (a * a + b * b) - (c * c + d * d)
        products[i] += a * b - c * d


@compiled
def _add_error(y: np.ndarray, x: np.ndarray, errors: np.ndarray) -> None:
    number = errors.dtype.type
    for i in range(len(y)):
        error = number(y[i]) - number(x[i])
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
    """Adds the SSIM of the windows with these sums. Differences are float64: float32 would not hold their terms."""
    number = similarities.dtype.type
    for i in range(len(similarities)):
        y, x = np.float64(y_sum[i]), np.float64(x_sum[i])
        product, sum_squares = y * x, y * y + x * x
        covariance = SAMPLES * np.float64(products[i]) - product
        variances = SAMPLES * np.float64(squares[i]) - sum_squares
        above = number(2 * product + _C1) * number(2 * covariance + _C2)
        similarities[i] += above / (number(sum_squares + _C1) * number(variances + _C2))


@compiled
def _hand_over(some: np.ndarray, sums: np.ndarray) -> None:
    """Adds `some` to `sums`, and leaves zeros there."""
    for i in range(len(some)):
        sums[i] += some[i]
        some[i] = 0
