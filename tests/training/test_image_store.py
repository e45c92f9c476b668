"""Training images are decoded once while memory allows; broken and benchmark images are detected."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagewizard.config.train import TrainImage
from imagewizard.errors import UserError
from imagewizard.training import image_store, versions
from imagewizard.training.image_store import BenchmarkImageError, ImageStore, LoadedImage, UnusableImageError
from tests.support.bsds500_files import FINGERPRINTS, picture
from tests.support.sample_files import BROKEN, photo, write_broken_files

SIZE = 20 * 30 * 3  # bytes of one decoded image


def write(folder: Path, name: str, seed: int = 0) -> str:
    Image.fromarray(photo(20, 30, seed)).save(folder / name)
    return str(folder / name)


def is_kept(store: ImageStore, uri: str) -> bool:
    """Whether the store has the image in memory: its file is gone during the call."""
    path = Path(uri)
    aside = path.rename(path.with_suffix(".aside"))
    try:
        store.load(uri)
    except UnusableImageError:
        return False
    finally:
        aside.rename(path)
    return True


def test_image_is_decoded(tmp_path: Path) -> None:
    assert np.array_equal(ImageStore().load(write(tmp_path, "a.png", 5)), photo(20, 30, 5))


def test_images_are_identified_by_their_uris(tmp_path: Path) -> None:
    store = ImageStore()
    uris = [write(tmp_path, "a.png", 1), f"file://{write(tmp_path, 'b.png', 2)}"]
    for _ in range(2):
        assert [np.array_equal(store.load(uri), photo(20, 30, seed)) for seed, uri in enumerate(uris, 1)] == [True] * 2


def test_recently_used_images_stay_in_memory(tmp_path: Path) -> None:
    store = ImageStore(kept_bytes=2 * SIZE)
    a, b, c = (write(tmp_path, f"{name}.png", seed) for seed, name in enumerate("abc"))
    store.load(a)
    store.load(b)
    assert is_kept(store, b) and is_kept(store, a)  # now b is the least recently used
    store.load(c)
    assert is_kept(store, a) and is_kept(store, c)
    assert not is_kept(ImageStore(), b)


def test_evicted_image_is_read_again(tmp_path: Path) -> None:
    store = ImageStore(kept_bytes=2 * SIZE)
    uris = [write(tmp_path, f"{seed}.png", seed) for seed in range(5)]
    for _ in range(2):
        for seed, uri in enumerate(uris):
            assert np.array_equal(store.load(uri), photo(20, 30, seed))
    assert [is_kept(store, uri) for uri in (uris[3], uris[4], uris[2])] == [True, True, False]


def test_image_larger_than_the_memory_limit_is_still_loaded(tmp_path: Path) -> None:
    store = ImageStore(kept_bytes=SIZE - 1)
    large = write(tmp_path, "large.png")
    assert np.array_equal(store.load(large), photo(20, 30, 0))
    assert not is_kept(store, large)
    Image.fromarray(photo(8, 8, 1)).save(tmp_path / "small.png")
    store.load(str(tmp_path / "small.png"))
    assert is_kept(store, str(tmp_path / "small.png"))  # the free memory is as before


def test_broken_images_are_unusable_with_a_reason(tmp_path: Path) -> None:
    for name in write_broken_files(tmp_path, len(BROKEN)):
        with pytest.raises(UnusableImageError) as error:
            ImageStore().load(str(tmp_path / name))
        assert str(error.value) and "\n" not in str(error.value)


def test_broken_image_is_remembered(tmp_path: Path) -> None:
    store, path = ImageStore(), tmp_path / "a.png"
    path.write_bytes(b"\x89PNG")
    with pytest.raises(UnusableImageError) as first:
        store.load(str(path))
    write(tmp_path, "a.png")  # within a run, a skipped image stays skipped
    with pytest.raises(UnusableImageError) as second:
        store.load(str(path))
    assert str(first.value) == str(second.value)


def test_image_of_the_benchmark_is_recognised_by_its_content(tmp_path: Path) -> None:
    name, digits = next(iter(FINGERPRINTS.items()))
    store, path = ImageStore(), tmp_path / "holiday.jpg"
    Image.fromarray(np.rot90(picture(digits))).save(path, quality=90)
    for _ in range(2):  # also at the second load
        with pytest.raises(BenchmarkImageError, match=f"^{name}$"):
            store.load(str(path))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (16, 16)])
def test_small_and_flat_images_are_fine(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(np.full((*size, 3), 128, np.uint8)).save(tmp_path / "flat.png")
    assert ImageStore().load(str(tmp_path / "flat.png")).shape == (*size, 3)


# --- noisy versions


def test_photographs_are_made_on_demand_and_kept(tmp_path: Path) -> None:
    store, image = ImageStore(), TrainImage("a.png", write(tmp_path, "a.png", 5))
    clean = store.load(image.uri)
    first = [store.version(image, clean, number, 7) for number in range(2)]
    assert np.array_equal(first[1].pixels, versions.photographed(clean, "a.png", 1, 7).pixels)
    assert [store.version(image, clean, number, 7) is first[number] for number in range(2)] == [True, True]
    assert not np.array_equal(store.version(image, clean, 1, 8).pixels, first[1].pixels)


def test_recently_used_versions_stay_in_memory(tmp_path: Path) -> None:
    image = TrainImage("a.png", write(tmp_path, "a.png", 5))
    clean = ImageStore().load(image.uri)
    store = ImageStore(kept_bytes=2 * clean.nbytes)
    first = [store.version(image, clean, number, 0) for number in (0, 1)]
    assert store.version(image, clean, 0, 0) is first[0]
    store.version(image, clean, 2, 0)
    assert store.version(image, clean, 0, 0) is first[0]
    assert store.version(image, clean, 1, 0) is not first[1]


def test_version_of_a_pair_is_its_noisy_image(tmp_path: Path) -> None:
    image = TrainImage("a", write(tmp_path, "clean.png", 5), write(tmp_path, "noisy.png", 6))
    found = image_store.load(image, image.key, camera=0.5)
    assert isinstance(found, LoadedImage) and len(found.versions) == 1
    assert np.array_equal(found.clean, photo(20, 30, 5))
    assert np.array_equal(found.versions[0].pixels, photo(20, 30, 6))


def test_pair_is_not_used_unless_both_images_can_be_and_fit(tmp_path: Path) -> None:
    clean = write(tmp_path, "clean.png", 5)
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.fromarray(photo(21, 30, 6)).save(tmp_path / "high.png")
    reasons = {"high": r"differ in size \(30 x 21 and 30 x 20\)", "broken": "not an image", "gone": "No such file"}
    for name, reason in reasons.items():
        image = TrainImage("a", clean, str(tmp_path / f"{name}.png"))
        assert re.search(reason, str(image_store.load(image, image.key)))
        assert isinstance(image_store.load(image, image.key), str)


def test_pair_of_two_sizes_is_remembered(tmp_path: Path) -> None:
    clean = write(tmp_path, "clean.png", 5)
    noisy = tmp_path / "high.png"
    Image.fromarray(photo(21, 30, 6)).save(noisy)
    store, pair = ImageStore(), TrainImage("a", clean, str(noisy))
    for _ in range(2):
        with pytest.raises(UnusableImageError, match="differ in size"):
            store.version(pair, store.load(clean), 0, 0)
        noisy.unlink(missing_ok=True)


@pytest.mark.parametrize("side", ["noisy", "clean"])
def test_pair_of_the_benchmark_is_refused(tmp_path: Path, side: str) -> None:
    name, digits = next(iter(FINGERPRINTS.items()))
    bear = picture(digits)
    Image.fromarray(bear).save(tmp_path / f"{side}.png")
    other = "clean" if side == "noisy" else "noisy"
    Image.fromarray(bear // 2).save(tmp_path / f"{other}.png")
    image = TrainImage("a", str(tmp_path / "clean.png"), str(tmp_path / "noisy.png"))
    with pytest.raises(UserError, match=rf"^data\.pairs: a is CBSD68's {name}, of the benchmark; take it out$"):
        image_store.load(image, image.key)


def test_images_without_camera_have_no_versions(tmp_path: Path) -> None:
    image = TrainImage("a.png", write(tmp_path, "a.png", 5))
    for camera, count in ((0.0, 0), (0.1, versions.PHOTOGRAPHS)):
        found = image_store.load(image, image.key, camera=camera)
        assert isinstance(found, LoadedImage) and len(found.versions) == count
