"""The 68 images of CBSD68 are recognised, and no others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imagewizard.datasets import cbsd68
from imagewizard.images import formats
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import decode_rgb
from tests.support.bsds500_files import FINGERPRINTS, picture
from tests.support.sample_files import encoded, photo


def decoded(path: Path) -> np.ndarray:
    return decode_rgb(path.read_bytes(), 1 << 26)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return decode_rgb(encoded(Image.fromarray(image), "JPEG", quality=quality), 1 << 26)


def resized(image: np.ndarray, factor: float) -> np.ndarray:
    height, width = image.shape[:2]
    return np.array(Image.fromarray(image).resize((round(factor * width), round(factor * height))))


def turned(image: np.ndarray, way: int) -> np.ndarray:
    """One of the 8 turns and flips of an image."""
    return np.rot90(image if way < 4 else image[:, ::-1], way % 4)


def grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(np.array(Image.fromarray(image).convert("L"))[:, :, None], 3, axis=2)


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda image: image,
    "JPEG 50": lambda image: jpeg(image, 50),
    "half": lambda image: resized(image, 0.5),
    "double": lambda image: resized(image, 2),
    "grey": grey,
    "half, JPEG 50, turned": lambda image: turned(jpeg(resized(image, 0.5), 50), 5),
}


def test_a_fingerprint_holds_the_signs_of_the_lowest_cosines() -> None:
    digits = FINGERPRINTS["101085"]
    assert cbsd68.fingerprint(picture(digits)) == digits
    assert cbsd68.fingerprint(picture(digits, 700, 900)) == digits


def test_there_are_68_names_in_order_with_256_bits_each() -> None:
    names = cbsd68.names()
    assert len(names) == 68 and names == sorted(FINGERPRINTS)
    assert all(len(bytes.fromhex(digits)) == 32 for digits in FINGERPRINTS.values())


@pytest.mark.parametrize("way", range(8))
@pytest.mark.parametrize("size", [(321, 481), (1100, 700)])
def test_turns_and_flips_are_the_same_picture(way: int, size: tuple[int, int]) -> None:
    for name in cbsd68.names()[::17]:
        assert cbsd68.match(turned(picture(FINGERPRINTS[name], *size), way)) == name


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_benchmark_picture_is_recognised(copy: Callable[[np.ndarray], np.ndarray]) -> None:
    for name in cbsd68.names()[::9]:
        assert cbsd68.match(copy(picture(FINGERPRINTS[name]))) == name


@pytest.mark.parametrize("value", [0, 1, 127, 255])
@pytest.mark.parametrize("size", [(1, 1), (3, 500), (321, 481), (512, 512)])
def test_flat_pictures_of_any_size_are_not_recognised(value: int, size: tuple[int, int]) -> None:
    assert cbsd68.match(np.full((*size, 3), value, np.uint8)) is None


def test_other_pictures_are_not_recognised() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 481).astype(np.uint8)[None, :, None], (321, 481, 3))
    noise = np.random.default_rng(0).integers(0, 256, (321, 481, 3), dtype=np.uint8)
    dead_leaves = [photo(96, 144, seed) for seed in range(8)]
    for image in (ramp, ramp[::-1, ::-1], noise, *dead_leaves):
        assert cbsd68.match(image) is None


def test_a_mixture_of_two_is_not_recognised() -> None:
    """Half of the bits of one, half of another: 48 or more away from both."""
    first, second = list(FINGERPRINTS.values())[:2]
    assert cbsd68.match(picture(first[:32] + second[32:])) is None


def test_scikit_images_samples_are_not_recognised() -> None:
    samples = sorted(p for p in (Path(data.__file__).parent).iterdir() if formats.is_image_name(p.name))
    assert len(samples) > 10
    for path in samples:
        try:
            image = decoded(path)
        except ImageError:  # some samples are floating-point images for testing readers
            continue
        assert cbsd68.match(image) is None, path


def test_the_stored_fingerprints_match_cbsd68(shared_data: Path) -> None:
    found = {path.stem: cbsd68.fingerprint(decoded(path)) for path in sorted((shared_data / "cbsd68").iterdir())}
    assert found == FINGERPRINTS


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_copies_of_cbsd68_are_recognised(shared_data: Path, copy: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in sorted((shared_data / "cbsd68").iterdir())[::4]:
        assert cbsd68.match(copy(decoded(path))) == path.stem


@pytest.mark.long
@pytest.mark.parametrize("quality", [50, 75])
@pytest.mark.parametrize("factor", [0.5, 1, 2])
def test_every_copy_of_every_image_is_recognised(shared_data: Path, quality: int, factor: float) -> None:
    for path in sorted((shared_data / "cbsd68").iterdir()):
        copy = jpeg(resized(decoded(path), factor), quality)
        assert [cbsd68.match(turned(copy, way)) for way in range(8)] == [path.stem] * 8


@pytest.mark.long
@pytest.mark.parametrize("folder", ["bsds500/train", "bsds500/test", "photos", "kodak24"])
def test_no_other_photo_is_recognised(shared_data: Path, folder: str) -> None:
    paths = [path for path in (shared_data / folder).rglob("*") if formats.is_image_name(path.name)]
    assert len(paths) >= 24
    assert [path for path in paths if cbsd68.match(decoded(path))] == []
