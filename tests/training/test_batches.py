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
from imagewizard.training.batches import Batch, DecodedImages, Sampler
from tests.support.models import LINEAR
from tests.support.training_parts import CPU, config, picture

SCHEDULE = NoiseSchedule.from_config(LINEAR)


def test_crops_equal_numpys() -> None:
    shapes = [(20, 33), (16, 16), (10, 40), (50, 17), (5, 3)]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    keys = [samples.key(3, f"{i}.png") for i in range(len(images))]
    indices, epochs = torch.arange(200) % len(images), torch.arange(200) * 7919
    crops, found = DecodedImages(images, keys, 16, CPU)(indices, epochs)
    for at, (index, epoch) in enumerate(zip(indices.tolist(), epochs.tolist(), strict=True)):
        assert np.array_equal(crops[at].numpy(), samples.crop(images[index], 16, keys[index], epoch))
    assert torch.equal(found, key_tensor(keys)[indices])


def test_nothing_comes_from_numpys_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("samples must be drawn on the device")

    monkeypatch.setattr(np.random, "Philox", refuse)
    monkeypatch.setattr(np.random, "Generator", refuse)
    with pytest.raises(AssertionError):
        seeding.words(samples.key(0, "a"), 4)
    key = [samples.key(0, "a")]
    crops, keys = DecodedImages([picture(0)], key, 16, CPU)(torch.tensor([0]), torch.tensor([3]))
    batch = Sampler(config(data={"grey": 0.5}), SCHEDULE, CPU)(crops, keys, torch.tensor([3]))
    assert all(torch.isfinite(part).all() for part in batch)


def drawn(ids: list[str], epoch: int = 0, **changes: object) -> Batch:
    """A batch with one constant grey image per id."""
    job = config(**changes)
    clean = torch.stack([torch.full((16, 16, 3), ord(image_id), dtype=torch.uint8) for image_id in ids])
    keys = key_tensor([samples.key(job.seed, image_id) for image_id in ids])
    return Sampler(job, SCHEDULE, CPU)(clean, keys, torch.full((len(ids),), epoch))


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


def colourful(share: float) -> tuple[Tensor, Batch]:
    """(crops, batch) for 200 crops of a colour picture."""
    job = config(data={"grey": share})
    images = DecodedImages([picture(0)], [samples.key(0, "a")], 16, CPU)
    epochs = torch.arange(200)
    clean, keys = images(torch.zeros(200, dtype=torch.int64), epochs)
    return clean, Sampler(job, SCHEDULE, CPU)(clean, keys, epochs)


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
