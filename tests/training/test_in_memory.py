"""Samples from memory follow `samples.places` for any number of workers; unusable images are reported."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from imagewizard.config.train import TrainImage, TrainTask
from imagewizard.errors import UserError
from imagewizard.training import in_memory, samples, versions
from imagewizard.training.batches import Batch
from imagewizard.training.image_store import ImageStore
from imagewizard.training.worker import Worker
from tests.support import training_parts
from tests.support.bsds500_files import FINGERPRINTS
from tests.support.bsds500_files import picture as benchmark_picture
from tests.support.training_parts import CPU, IMAGES, config, pieces, trainer


@pytest.fixture
def images(tmp_path: Path) -> tuple[TrainImage, ...]:
    """The pictures in training_parts, as files."""
    for i in range(IMAGES):
        Image.fromarray(training_parts.picture(i)).save(tmp_path / f"{i}.png")
    return tuple(TrainImage(f"{i}.png", str(tmp_path / f"{i}.png")) for i in range(IMAGES))


def drawn(task: TrainTask, rank: int, workers: int, steps: int, first: int = 0) -> tuple[list[list[Batch]], set[str]]:
    run = trainer(task.config)
    run.step = first
    skipped: set[str] = set()
    shares = in_memory.shares(task, Worker(rank, workers, CPU), run, skipped)
    return list(islice(shares, steps)), skipped


def task(images: tuple[TrainImage, ...], micro: int = 2, **changes: object) -> TrainTask:
    return TrainTask(config(**changes), len(images), [], micro, 1, images)


def assert_equal(found: Batch, expected: Batch) -> None:
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_batches_follow_the_places(images: tuple[TrainImage, ...]) -> None:
    job = task(images)
    found, skipped = drawn(job, 0, 1, steps=130)  # more than are computed at once
    assert skipped == set()
    for step in (0, 1, 63, 64, 129):
        for mine, expected in zip(found[step], pieces(training_parts.batch(job.config, step), 2), strict=True):
            assert_equal(mine, expected)


def test_workers_take_the_rows_in_turn(images: tuple[TrainImage, ...]) -> None:
    job = task(images, optimizer={"batch_size": 6})  # three rows a step, for two workers
    whole, _ = drawn(job, 0, 1, steps=70)
    halves = [drawn(job, rank, 2, steps=70)[0] for rank in range(2)]
    for step in range(70):
        for row, expected in enumerate(whole[step], start=3 * step):
            mine = halves[row % 2][step]
            assert_equal(mine[[r for r in range(3 * step, 3 * step + 3) if r % 2 == row % 2].index(row)], expected)


def test_resumed_run_draws_the_same_samples(images: tuple[TrainImage, ...]) -> None:
    whole, _ = drawn(task(images), 0, 1, steps=9)
    rest, _ = drawn(task(images), 0, 1, steps=4, first=5)
    for step in range(4):
        for mine, expected in zip(rest[step], whole[step + 5], strict=True):
            assert_equal(mine, expected)


def test_photographs_and_pairs_are_drawn_with_white_noise_among_them(
    images: tuple[TrainImage, ...], tmp_path: Path
) -> None:
    pair = TrainImage("pairs/0", images[0].uri, images[1].uri)
    job = task((*images, pair), data={"camera": 0.5}, optimizer={"batch_size": IMAGES + 1}, micro=IMAGES + 1)
    found, skipped = drawn(job, 0, 1, steps=30)  # an epoch each
    white, _ = drawn(task((*images, pair), optimizer={"batch_size": IMAGES + 1}, micro=IMAGES + 1), 0, 1, steps=30)
    assert skipped == set()
    store, table = ImageStore(), samples.levels(job.config.sigma)
    kinds = []
    for epoch, [batch] in enumerate(found):
        sigmas = (127.5 * ((1 - batch.alpha_bar) / batch.alpha_bar).sqrt()).flatten().tolist()
        for at, index in enumerate(samples.places(0, IMAGES + 1, epoch * (IMAGES + 1), IMAGES + 1)[1].tolist()):
            image, key = job.in_memory[index], samples.key(0, job.in_memory[index].image_id)
            number = samples.version(versions.share(image, 0.5), versions.count(image, 0.5), key, epoch)
            kinds.append((image.key, number))
            if number is None:
                assert_equal(*(Batch(*(part[at] for part in share[0])) for share in (found[epoch], white[epoch])))
                continue
            original = store.load(image.uri)
            version = store.version(image, original, number, 0)
            pixels, noisy = (samples.crop(each, 16, key, epoch) for each in (original, version.pixels))
            level = table[np.abs(table - version.sigmas[0]).argmin()]
            assert sigmas[at] == pytest.approx(level, abs=1e-3)
            expected = (noisy.astype(np.float32) - pixels).transpose(2, 0, 1) / np.float32(level)
            np.testing.assert_allclose(batch.eps[at].numpy(), expected, atol=1e-5)
            np.testing.assert_allclose(batch.clean[at].numpy(), pixels.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    assert set(kinds) == {("data.pairs", 0), ("data.train", None), *(("data.train", i) for i in range(4))}
    assert 60 < kinds.count(("data.train", None)) < 120


def test_pair_of_two_sizes_is_skipped(images: tuple[TrainImage, ...], tmp_path: Path) -> None:
    Image.fromarray(training_parts.picture(0)[1:]).save(tmp_path / "low.png")
    _, skipped = drawn(task((*images, TrainImage("pairs/0", images[0].uri, str(tmp_path / "low.png")))), 0, 1, steps=1)
    assert skipped == {"pairs/0: its noisy and its clean image differ in size (30 x 23 and 30 x 24)"}
    with pytest.raises(UserError, match=r"^data\.pairs: pairs/0: .*no other can be used either; give clean images$"):
        drawn(task((TrainImage("pairs/0", images[0].uri, str(tmp_path / "low.png")),)), 0, 1, steps=1)


def clean(share: list[Batch]) -> Tensor:
    return torch.cat([batch.clean for batch in share])


def test_unusable_images_are_reported_and_replaced(images: tuple[TrainImage, ...]) -> None:
    Path(images[2][1]).write_bytes(b"\x89PNG")
    Image.fromarray(training_parts.picture(4)[:8]).save(images[4][1])
    found, skipped = drawn(task(images, data={"small": "skip"}), 0, 1, steps=30)
    assert sorted(text.split(":")[0] for text in skipped) == ["2.png", "4.png"]
    assert any("smaller than the crop of 16" in text for text in skipped)
    expected, _ = drawn(task(images[:2] + images[3:4] + images[5:]), 0, 1, steps=1)
    assert clean(found[0]).shape == clean(expected[0]).shape


def test_no_usable_image_ends_the_run(images: tuple[TrainImage, ...]) -> None:
    for image in images:
        Path(image.uri).write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"^data\.train: 0\.png: .*no other can be used either; give clean images$"):
        drawn(task(images), 0, 1, steps=1)


def test_image_of_the_benchmark_ends_the_run(images: tuple[TrainImage, ...]) -> None:
    name, digits = next(iter(FINGERPRINTS.items()))
    Image.fromarray(benchmark_picture(digits)).save(images[3][1])
    with pytest.raises(UserError, match=rf"^data\.train: 3\.png is CBSD68's {name}, of the benchmark; take it out$"):
        drawn(task(images), 0, 1, steps=1)


def test_small_batches_are_drawn_several_at_once() -> None:
    most = in_memory.DRAWN_BYTES // in_memory.SAMPLE_BYTES
    assert in_memory.rows_at_once(64, 1, 8, 96) == 16  # 17 fit
    assert in_memory.rows_at_once(64, 1, 128, 96) == 1
    assert in_memory.rows_at_once(64, 1, most, 16) == 1  # not even one
    assert in_memory.rows_at_once(64, 1, 1, 16) == 64
    assert in_memory.rows_at_once(192, 2, 1, 16) == 32  # a share of 96
    assert in_memory.rows_at_once(64, 3, 1, 16) == 1


def test_as_many_are_drawn_at_once_as_told() -> None:
    calls: list[int] = []

    def draw(indices: Tensor, epochs: Tensor) -> Batch:
        calls.append(len(indices))
        return Batch(indices, epochs, indices, epochs)

    rows = torch.arange(12).view(6, 2)
    found = list(in_memory.drawn(draw, rows, rows + 100, 3))
    assert calls == [6, 6]
    assert [batch.clean.tolist() for batch in found] == rows.tolist()
    assert [batch.eps.tolist() for batch in found] == (rows + 100).tolist()
