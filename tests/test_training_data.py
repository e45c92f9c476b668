"""Training samples: a function of seed, epoch and image alone, and each image once an epoch."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagewizard.errors import UserError
from imagewizard.training_data import TrainingBatch, batches, load_folder, sample

SIGMA = (2.0, 60.0)


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def flat(count: int) -> dict[str, np.ndarray]:
    """Images of one grey each, which tells them apart in a batch."""
    return {f"{i}.png": np.full((24, 24, 3), i, np.uint8) for i in range(count)}


def take(
    images: dict[str, np.ndarray], steps: int, *, seed: int = 0, size: int = 3, start: int = 0
) -> list[TrainingBatch]:
    return list(itertools.islice(batches(images, seed, size, 16, SIGMA, start), steps))


def same(a: TrainingBatch, b: TrainingBatch) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("clean", "noise", "sigmas"))


# --- the folder


def write(folder: Path, name: str, size: tuple[int, int] = (8, 6)) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image(size[1], size[0])).save(path, format="PNG")


def test_folder_is_searched_recursively_and_broken_files_are_told(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "sub/deep/c.png"):
        write(tmp_path, name)
    (tmp_path / "broken.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    images, broken = load_folder(str(tmp_path))
    assert list(images) == ["a.JPG", "b.png", "sub/deep/c.png"]
    assert broken == ["broken.png", "empty.jpg"]
    assert all(pixels.shape == (6, 8, 3) and pixels.dtype == np.uint8 for pixels in images.values())


@pytest.mark.parametrize("content", ["none", "empty", "broken"])
def test_folder_without_images_is_refused(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "photos"
    if content != "none":
        folder.mkdir()
    if content == "broken":
        (folder / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=rf"^data: {folder} [^\n]+; give [^\n]+$"):
        load_folder(str(folder))


# --- one sample


def test_sample_is_a_crop_turned_or_flipped() -> None:
    picture = image(20, 30)
    crops = {}
    for top, left in itertools.product(range(5), range(15)):
        patch = picture[top : top + 16, left : left + 16]
        for turns, flipped in itertools.product(range(4), (False, True)):
            turned = np.rot90(patch, turns)
            crops[(turned[:, ::-1] if flipped else turned).tobytes()] = (top, left, turns, flipped)
    drawn = [sample(picture, (0, epoch, "a"), 16, SIGMA) for epoch in range(500)]
    found = [crops[np.ascontiguousarray(s.clean[0]).tobytes()] for s in drawn]
    for place, count in enumerate((5, 15, 4, 2)):  # every row, column, turn and flip comes up
        assert len({what[place] for what in found}) == count


def test_sample_has_the_documented_types_and_ranges() -> None:
    samples = [sample(image(20, 30), (0, epoch, "a"), 16, SIGMA) for epoch in range(300)]
    first = samples[0]
    assert (first.clean.shape, first.clean.dtype) == ((1, 16, 16, 3), np.uint8)
    assert (first.noise.shape, first.noise.dtype) == ((1, 16, 16, 3), np.float32)
    noise = np.concatenate([s.noise for s in samples])
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    sigmas = np.concatenate([s.sigmas for s in samples])
    assert SIGMA[0] <= sigmas.min() < 4 and 58 < sigmas.max() <= SIGMA[1]
    assert abs(sigmas.mean() - 31) < 3  # uniform


@pytest.mark.parametrize(("height", "width"), [(10, 40), (40, 10), (10, 10), (5, 3), (1, 1)])
def test_smaller_images_are_reflected(height: int, width: int) -> None:
    picture = image(height, width)
    clean = sample(picture, (0, 0, "a"), 16, SIGMA).clean[0]
    assert clean.shape == (16, 16, 3)
    padded = np.pad(picture, ((0, max(0, 16 - height)), (0, max(0, 16 - width)), (0, 0)), mode="reflect")
    views = [np.rot90(view, turns) for view in (clean, clean[:, ::-1]) for turns in range(4)]
    places = itertools.product(range(padded.shape[0] - 15), range(padded.shape[1] - 15))
    windows = [padded[top : top + 16, left : left + 16] for top, left in places]
    assert any(np.array_equal(view, window) for view in views for window in windows)


# --- batches


def test_batches_hang_on_the_seed_alone() -> None:
    images = flat(5)
    again = dict(reversed(images.items()))
    for a, b in zip(take(images, 6), take(again, 6), strict=True):
        assert same(a, b)
    assert not any(same(a, b) for a, b in zip(take(images, 6), take(images, 6, seed=1), strict=True))


@pytest.mark.parametrize("size", [1, 3, 7])
def test_going_on_from_a_step_gives_the_same_batches(size: int) -> None:
    images = flat(5)
    from_start = take(images, 12, size=size)
    for a, b in zip(from_start[7:], take(images, 5, size=size, start=7), strict=True):
        assert same(a, b)
    assert not same(from_start[6], from_start[7])


def test_samples_do_not_hang_on_the_batch_size() -> None:
    ones = take(flat(5), 12, size=1)
    for size in (2, 4):
        for step, batch in enumerate(take(flat(5), 12 // size, size=size)):
            for place in range(size):
                part = TrainingBatch(*(getattr(batch, n)[[place]] for n in ("clean", "noise", "sigmas")))
                assert same(part, ones[step * size + place])


def test_an_image_has_one_sample_an_epoch_whatever_the_others_are() -> None:
    few, many = flat(3), flat(8)
    by_image = [
        {int(batch.clean[0, 0, 0, 0]): batch for batch in take(images, len(images), size=1)} for images in (few, many)
    ]
    for grey in range(3):
        assert same(by_image[0][grey], by_image[1][grey])


def test_each_epoch_draws_each_image_once_in_an_order_of_its_own() -> None:
    greys = [int(grey) for batch in take(flat(10), 15, size=4) for grey in batch.clean[:, 0, 0, 0]]
    epochs = [greys[start : start + 10] for start in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_noise_and_level_are_new_each_epoch() -> None:
    drawn = take(flat(1), 50, size=1)
    assert len({batch.noise.tobytes() for batch in drawn}) == 50
    assert len({float(batch.sigmas[0]) for batch in drawn}) == 50


def test_batch_is_larger_than_the_epoch() -> None:
    (batch,) = take(flat(2), 1, size=5)
    assert batch.clean.shape == (5, 16, 16, 3)
    assert sorted(batch.clean[:4, 0, 0, 0]) == [0, 0, 1, 1]
    assert not np.array_equal(batch.noise[0], batch.noise[2]) and not np.array_equal(batch.noise[0], batch.noise[3])
