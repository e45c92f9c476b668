"""Samples drawn on a device equal numpy's and do not depend on the batch; noise, levels and grey crops."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from imagewizard import seeding
from imagewizard.diffusion.schedule import NoiseSchedule, alpha_bar_of_sigma
from imagewizard.noise import normal
from imagewizard.noise.device import key_tensor
from imagewizard.training import samples
from imagewizard.training.batches import Batch, Crops, DecodedImages, Noisy, Sampler
from tests.support.models import LINEAR
from tests.support.training_parts import CPU, config, picture

SCHEDULE = NoiseSchedule.from_config(LINEAR)


def test_crops_equal_numpys() -> None:
    shapes = [(20, 33), (16, 16), (10, 40), (50, 17), (5, 3)]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    keys = [samples.key(3, f"{i}.png") for i in range(len(images))]
    indices, epochs = torch.arange(200) % len(images), torch.arange(200) * 7919
    found = DecodedImages(images, keys, 16, CPU)(indices, epochs)
    for at, (index, epoch) in enumerate(zip(indices.tolist(), epochs.tolist(), strict=True)):
        assert np.array_equal(found.clean[at].numpy(), samples.crop(images[index], 16, keys[index], epoch))
    assert torch.equal(found.keys, key_tensor(keys)[indices])


def test_nothing_comes_from_numpys_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("samples must be drawn on the device")

    monkeypatch.setattr(np.random, "Philox", refuse)
    monkeypatch.setattr(np.random, "Generator", refuse)
    with pytest.raises(AssertionError):
        seeding.words(samples.key(0, "a"), 4)
    key = [samples.key(0, "a")]
    crops = DecodedImages([picture(0)], key, 16, CPU)(torch.tensor([0]), torch.tensor([3]))
    batch = Sampler(config(data={"grey": 0.5}), SCHEDULE, CPU)(crops)
    assert all(torch.isfinite(part).all() for part in batch)


def drawn(ids: list[str], epoch: int = 0, **changes: object) -> Batch:
    """A batch with one constant grey image per id."""
    job = config(**changes)
    clean = torch.stack([torch.full((16, 16, 3), ord(image_id), dtype=torch.uint8) for image_id in ids])
    keys = key_tensor([samples.key(job.seed, image_id) for image_id in ids])
    return Sampler(job, SCHEDULE, CPU)(Crops(clean, keys, torch.full((len(ids),), epoch)))


def test_sample_does_not_depend_on_the_rest_of_the_batch() -> None:
    whole = drawn(["a", "b", "c", "d", "e"])
    for others in (["c"], ["e", "c"], ["c", "a", "b"], ["c", "c"]):
        part, at = drawn(others), others.index("c")
        assert all(torch.equal(mine[at], its[2]) for mine, its in zip(part, whole, strict=True))
    assert len({eps.numpy().tobytes() for eps in whole.eps}) == len(set(whole.timesteps.tolist())) == 5


def test_samples_differ_between_seeds_and_epochs() -> None:
    found = [drawn(["a"], epoch, seed=seed) for seed in range(5) for epoch in range(10)]
    assert len({batch.eps.numpy().tobytes() for batch in found}) == 50
    assert len({float(batch.timesteps) for batch in found}) == 50


def test_noise_equals_numpys_for_the_same_counters() -> None:
    key = samples.key(0, "a")
    values = normal.standard_normal(seeding.words(key, 16 * 16 * 3 // 2, samples.NOISE, 5))
    expected = values.reshape(16, 16, 3).transpose(2, 0, 1)
    assert np.array_equal(drawn(["a"], epoch=5).eps[0].numpy(), expected)


def test_batch_has_the_levels_and_the_range_of_the_network() -> None:
    batch = drawn([chr(33 + i) for i in range(90)], sigma=[20.0, 60.0])
    assert {part.dtype for part in batch} == {torch.float32}
    assert [tuple(part.shape) for part in batch] == [(90, 3, 16, 16), (90, 3, 16, 16), (90, 1, 1, 1), (90,)]
    values = torch.tensor([33.0 + i for i in range(90)]) * 2 / 255 - 1
    torch.testing.assert_close(batch.clean, values.view(-1, 1, 1, 1).expand(-1, 3, 16, 16))
    sigmas = 127.5 * ((1 - batch.alpha_bar) / batch.alpha_bar).sqrt().flatten()
    assert 20 <= sigmas.min() < 24 and 56 < sigmas.max() <= 60
    for sigma, alpha_bar, timestep in zip(sigmas.tolist(), batch.alpha_bar.flatten(), batch.timesteps, strict=True):
        assert abs(float(alpha_bar) - alpha_bar_of_sigma(sigma)) < 1e-6
        assert abs(float(timestep) - SCHEDULE.timestep(sigma)) < 1e-2


# --- noisy versions


LEVELS = samples.levels((20.0, 60.0))


def test_level_numbers_are_those_of_the_nearest_levels() -> None:
    sampler = Sampler(config(), SCHEDULE, CPU)
    found = sampler.level_numbers([(20.0, 60.0), (0.0, 900.0), (-1.0, -1.0)])
    assert found[:2].tolist() == [[0, samples.LEVELS - 1]] * 2 and found[2].tolist() == [-1, -1]
    for sigma in np.random.default_rng(0).uniform(20, 60, 20):
        assert sampler.level_numbers([(sigma, 60.0)])[0, 0] == np.abs(LEVELS - sigma).argmin()


def versions(sampler: Sampler, shapes: list[tuple[int, int]], counts: list[int], share: float) -> list[Noisy]:
    """Random versions of images: numbers of levels rise with the image and the version."""
    rng = np.random.default_rng(1)
    return [
        Noisy(
            [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for _ in range(count)],
            sampler.level_numbers([(25.0 + 5 * i + version, 40.0 + 5 * i + version) for version in range(count)]),
            share,
        )
        for i, (shape, count) in enumerate(zip(shapes, counts, strict=True))
    ]


def test_versions_are_cropped_as_their_images_and_chosen_as_numpy_does() -> None:
    shapes, counts = [(20, 33), (10, 40), (50, 17)], [4, 0, 1]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    keys = [samples.key(3, f"{i}.png") for i in range(3)]
    noisy = versions(Sampler(config(), SCHEDULE, CPU), shapes, counts, 0.6)
    noisy[1] = noisy[1]._replace(share=0.0)
    indices, epochs = torch.arange(300) % 3, torch.arange(300) * 7919
    found = DecodedImages(images, keys, 16, CPU, noisy)(indices, epochs)
    assert found.noisy is not None and found.levels is not None
    taken = []
    for at, (index, epoch) in enumerate(zip(indices.tolist(), epochs.tolist(), strict=True)):
        assert np.array_equal(found.clean[at].numpy(), samples.crop(images[index], 16, keys[index], epoch))
        number = samples.version(noisy[index].share, counts[index], keys[index], epoch)
        taken.append((index, number))
        if number is None:
            assert found.levels[at].tolist() == [-1, -1]
        else:
            expected = samples.crop(noisy[index].pixels[number], 16, keys[index], epoch)
            assert np.array_equal(found.noisy[at].numpy(), expected)
            assert torch.equal(found.levels[at], noisy[index].levels[number])
    assert set(taken) == {(0, None), *((0, i) for i in range(4)), (1, None), (2, None), (2, 0)}


def of_pair(share: float, grey: float, sigma: tuple[float, float] = (20.0, 60.0)) -> tuple[Crops, Batch]:
    """200 crops of a picture, of which `share` have the noise of another one."""
    sampler = Sampler(config(data={"grey": grey}, sigma=sigma), SCHEDULE, CPU)
    noisy = [Noisy([picture(1)], sampler.level_numbers([(30.0, 24.0)]), share)]
    images = DecodedImages([picture(0)], [samples.key(0, "a")], 16, CPU, noisy)
    crops = images(torch.zeros(200, dtype=torch.int64), torch.arange(200))
    return crops, sampler(crops)


def test_a_pair_has_its_own_noise_at_its_own_level() -> None:
    crops, batch = of_pair(1.0, 0.0)
    assert crops.noisy is not None
    sigmas = 127.5 * ((1 - batch.alpha_bar) / batch.alpha_bar).sqrt().flatten()
    torch.testing.assert_close(sigmas, torch.full((200,), 30.0), rtol=0, atol=0.01)
    x_t = batch.alpha_bar.sqrt() * batch.clean + (1 - batch.alpha_bar).sqrt() * batch.eps
    noisy = crops.noisy.permute(0, 3, 1, 2).float() * 2 / 255 - 1
    torch.testing.assert_close(x_t / batch.alpha_bar.sqrt(), noisy, rtol=0, atol=1e-5)


def test_crops_without_a_version_have_the_usual_noise() -> None:
    crops, batch = of_pair(0.5, 0.3)
    assert crops.levels is not None
    white = crops.levels[:, 0] < 0
    assert 70 < int(white.sum()) < 130
    _, usual = colourful(0.3)
    assert all(torch.equal(a[white], b[white]) for a, b in zip(batch, usual, strict=True))
    assert not torch.equal(batch.timesteps[~white], usual.timesteps[~white])


def test_a_grey_crop_of_a_pair_has_the_noise_and_the_level_of_the_grey_image() -> None:
    crops, batch = of_pair(1.0, 0.3)
    assert crops.noisy is not None
    grey = (batch.clean[:, :1] == batch.clean).flatten(1).all(dim=1)
    assert 35 <= int(grey.sum()) <= 85
    sigmas = 127.5 * ((1 - batch.alpha_bar) / batch.alpha_bar).sqrt().flatten()
    torch.testing.assert_close(sigmas, torch.where(grey, 24.0, 30.0), rtol=0, atol=0.01)
    noisy, clean = (
        np.asarray(Image.fromarray(each[grey][0].numpy()).convert("L")).astype(np.float32)
        for each in (crops.noisy, crops.clean)
    )
    found = batch.eps[grey][0] * sigmas[grey][0]
    torch.testing.assert_close(found, torch.from_numpy(noisy - clean).expand(3, 16, 16), rtol=0, atol=0.01)


# --- grey crops


def colourful(share: float) -> tuple[Tensor, Batch]:
    """(crops, batch) for 200 crops of a colour picture."""
    job = config(data={"grey": share})
    images = DecodedImages([picture(0)], [samples.key(0, "a")], 16, CPU)
    crops = images(torch.zeros(200, dtype=torch.int64), torch.arange(200))
    return crops.clean, Sampler(job, SCHEDULE, CPU)(crops)


def test_share_of_crops_is_grey_with_one_plane_of_noise() -> None:
    clean, batch = colourful(0.3)
    grey = (batch.eps[:, :1] == batch.eps).flatten(1).all(dim=1)
    assert 35 <= int(grey.sum()) <= 85
    assert torch.equal(grey, (batch.clean[:, :1] == batch.clean).flatten(1).all(dim=1))
    luma = np.asarray(Image.fromarray(clean[grey][0].numpy()).convert("L"))
    torch.testing.assert_close(batch.clean[grey][0, 0], torch.from_numpy(luma.copy()).float() * 2 / 255 - 1)
    _, none = colourful(0.0)
    assert all(torch.equal(a[~grey], b[~grey]) for a, b in zip(batch, none, strict=True))
    assert torch.equal(batch.eps[grey][:, 0], none.eps[grey][:, 0])
