"""torch's random numbers equal numpy's Philox, bit for bit."""

import numpy as np
import pytest
import torch

from imagewizard import seeding
from imagewizard.noise import device, normal
from imagewizard.noise.synthetic import Gaussian, Independent, PoissonGaussian

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
INDEPENDENT = [Gaussian(25.0), Gaussian(12.3, 40.7), PoissonGaussian(0.37, 4.1), PoissonGaussian(0.0, 0.0)]
KEYS = [seeding.key(1, "a", i) for i in range(5)] + [0, 1, 2**64, 2**127 + 5, 2**128 - 1]
EPOCHS = [0, 1, 2, 3, 7, 0, 100_000, 5, 2**40, 1]


@pytest.mark.parametrize("stream", [0, 1, 9])
@pytest.mark.parametrize("count", [1, 4, 400, 13824])
def test_words_equal_numpys(count: int, stream: int) -> None:
    counters = device.counters(count, torch.device("cpu"))
    found = device.words(device.key_tensor(KEYS), torch.tensor(EPOCHS), stream, counters)
    blocks = -(-count // 4) * 4
    expected = [seeding.words(key, blocks, stream, epoch) for key, epoch in zip(KEYS, EPOCHS, strict=True)]
    assert found.dtype == torch.int64
    assert np.array_equal(found.numpy().view(np.uint64), np.stack(expected))


def test_normals_equal_numpys_without_numpys_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = np.stack(
        [normal.standard_normal(seeding.words(k, 4000, 1, e)) for k, e in zip(KEYS, EPOCHS, strict=True)]
    )

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("torch's numbers must not come from numpy")

    monkeypatch.setattr(np.random, "Philox", refuse)
    monkeypatch.setattr(np.random, "Generator", refuse)
    with pytest.raises(AssertionError):
        seeding.words(KEYS[0], 4)
    counters = device.counters(4000, torch.device("cpu"))
    words = device.words(device.key_tensor(KEYS), torch.tensor(EPOCHS), 1, counters)
    found = device.standard_normal(words, device.table(torch.device("cpu")))
    assert found.dtype == torch.float32 and np.array_equal(found.numpy(), expected)


def test_halves_come_low_first() -> None:
    words = torch.tensor([[0x0123456789ABCDEF, -1]])
    assert device.halves(words).tolist() == [[0x89ABCDEF, 0x01234567, 0xFFFFFFFF, 0xFFFFFFFF]]


@pytest.mark.gpu
def test_a_gpu_draws_the_same() -> None:
    gpu = torch.device("cuda")
    counters = device.counters(4000, torch.device("cpu"))
    keys, epochs = device.key_tensor(KEYS), torch.tensor(EPOCHS)
    expected = device.standard_normal(device.words(keys, epochs, 1, counters), device.table(counters.device))
    found = device.standard_normal(device.words(keys.to(gpu), epochs.to(gpu), 1, counters.to(gpu)), device.table(gpu))
    assert torch.equal(found.cpu(), expected)


def pictures() -> np.ndarray:
    """Two of colour, one of them in its last pixel alone, two grey ones. A plane has one value over three blocks."""
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3), dtype=np.uint8)
    images[1:] = images[1:, :, :, :1]
    images[1, -1, -1, 2] ^= 1
    return images


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("noise", INDEPENDENT, ids=str)
def test_a_batch_gets_the_noise_of_its_images(noise: Independent, channels: int, where: str) -> None:
    images, ids = pictures()[..., :channels], ["a", "b/c.png", "d", "e"]
    clean = torch.from_numpy(np.ascontiguousarray(images)).to(where)
    found = noise.add_batch(clean, ids, 3)
    assert found.dtype == torch.float32 and found.device.type == where and clean.dtype == torch.uint8
    expected = np.stack([noise.add(image, name, 3) for image, name in zip(images, ids, strict=True)])
    assert found.cpu().numpy().tobytes() == expected.tobytes()


def test_values_that_are_drawn_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, ids = torch.from_numpy(pictures()), ["a", "b", "c", "d"]
    whole = Gaussian(25.0).add_batch(clean, ids, 0)
    for blocks in (1, 8, 50):
        monkeypatch.setattr(device, "BLOCKS", blocks)
        assert torch.equal(Gaussian(25.0).add_batch(clean, ids, 0), whole)


@pytest.mark.gpu
def test_adding_noise_does_not_wait_for_the_gpu() -> None:
    clean = torch.from_numpy(pictures()).to("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for noise in INDEPENDENT:
            noise.add_batch(clean, ["a", "b", "c", "d"], 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
