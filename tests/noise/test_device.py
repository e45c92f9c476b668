"""torch's random numbers equal numpy's Philox, bit for bit."""

import numpy as np
import pytest
import torch

from imagewizard import seeding
from imagewizard.noise import device, normal

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
