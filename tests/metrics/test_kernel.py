"""The compiled comparison: every kind of sample, and strips that together are the whole image."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from imagewizard.metrics import kernel

KINDS = (np.uint8, np.float32, np.float64)
RANDOM = np.random.default_rng(0)


def expected(clean: np.ndarray, image: np.ndarray) -> tuple[float, float]:
    """scikit-image's, as sums."""
    clean, image = clean.astype(float), image.astype(float)
    windows = (image.shape[0] - 6) * (image.shape[1] - 6) * image.shape[2]
    similarity = structural_similarity(clean, image, channel_axis=-1, data_range=255)
    return float(((clean - image) ** 2).sum()), similarity * windows


@pytest.mark.parametrize(("clean_kind", "image_kind"), [*product(KINDS, KINDS)])
def test_every_kind_of_sample(clean_kind: type, image_kind: type) -> None:
    values = RANDOM.uniform(0, 255, (30, 40, 3))
    clean, image = values.astype(clean_kind), (values * 0.8 + 20).astype(image_kind)
    exact = {"rel": 1e-7 if clean_kind is image_kind is np.uint8 else 1e-9}
    assert kernel.compare(clean, image) == pytest.approx(expected(clean, image), **exact)


@pytest.mark.parametrize("image", ["white", "the negative", "almost the same", "one level more"])
def test_whole_numbers_stay_exact_in_sums_of_float32(image: str) -> None:
    """Squares are as great as they get here, and variances as small; rows are many."""
    clean = np.where(RANDOM.integers(0, 2, (400, 60, 3)) > 0, np.uint8(255), np.uint8(0))
    if image == "one level more":
        clean = np.full_like(clean, 254)
    compared = {
        "white": np.full_like(clean, 255),
        "the negative": 255 - clean,
        "almost the same": np.clip(clean.astype(int) + RANDOM.integers(-1, 2, clean.shape), 0, 255).astype(np.uint8),
        "one level more": np.full_like(clean, 255),
    }[image]
    squared_error, similarity = kernel.compare(clean, compared)
    windows = (400 - 6) * (60 - 6) * 3
    assert squared_error == expected(clean, compared)[0]
    assert similarity / windows == pytest.approx(expected(clean, compared)[1] / windows, abs=2e-7)


@pytest.mark.parametrize("samples", [-1, 0, 1, 5, 6, 7, 300, 768])
@pytest.mark.parametrize("channels", [1, 3])
def test_strips_make_up_the_image(samples: int, channels: int) -> None:
    """Widths about those where another strip begins."""
    width = kernel.STRIP // channels + samples
    clean = RANDOM.integers(0, 256, (12, width, channels), dtype=np.uint8)
    image = RANDOM.uniform(-30, 290, clean.shape).astype(np.float32)
    assert kernel.compare(clean, image) == pytest.approx(expected(clean, image), rel=1e-9)


def test_numba_is_not_imported_before_a_score_and_torch_takes_its_place():
    code = """
import sys
import numpy as np
from imagewizard.metrics import Reference
assert not {"numba", "torch"} & {*sys.modules}
if "without" in sys.argv:
    sys.modules["numba"] = None
reference, image = Reference(np.zeros((20, 20, 3), np.uint8)), np.full((20, 20, 3), 9, np.uint8)
print(f"{reference.psnr(image):.6f} {reference.ssim(image):.6f}", "torch" in sys.modules)
"""

    def printed(*arguments: str) -> str:
        run = [sys.executable, "-c", code, *arguments]
        return subprocess.run(run, check=True, capture_output=True, text=True).stdout

    assert printed() == "29.045953 0.074312 False\n"
    assert printed("without") == "29.045953 0.074312 True\n"
