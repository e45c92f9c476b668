"""The denoiser's result for an image does not depend on its size, its neighbours or the batch."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from imagewizard.config.denoise import DenoiseSection
from imagewizard.diffusion import pixels, tiling, two_scales
from imagewizard.diffusion.ddpm import DDPM
from imagewizard.diffusion.denoiser import Denoiser
from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.models import files as model_files
from imagewizard.models import network
from tests.support.models import LINEAR, tiny_model, tiny_unet
from tests.support.sample_files import photo


def denoiser(loaded: tuple[UNet2DModel, NoiseSchedule], batch_size: int = 4, **options: object) -> Denoiser:
    section = DenoiseSection.model_validate(options)
    return Denoiser(DDPM(*loaded, section), section, batch_size, torch.device("cpu"), torch.float32)


def noisy_photo(height: int, width: int, sigma: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    clean = pixels.to_tensor(photo(height, width, seed))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return clean, clean + 2 * sigma / 255 * noise


def psnr(image: Tensor, clean: Tensor) -> float:
    return float(10 * torch.log10(4.0 / (image.clamp(-1, 1) - clean).square().mean()))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (8, 8), (37, 61), (130, 64)])
def test_output_has_the_size_of_the_input(embedded, size: tuple[int, int]) -> None:
    _, noisy = noisy_photo(*size, sigma=25)
    (result,) = denoiser(embedded)([noisy], [25.0])
    assert result.shape == noisy.shape
    assert result.isfinite().all()


@pytest.mark.parametrize("sigma", [15.0, 25.0, 50.0])
def test_the_embedded_model_removes_most_of_the_noise(embedded, sigma: float) -> None:
    clean, noisy = noisy_photo(160, 200, sigma)
    (result,) = denoiser(embedded)([noisy], [sigma])
    assert psnr(result, clean) > psnr(noisy, clean) + 6.0


def test_an_image_does_not_depend_on_its_batch(embedded) -> None:
    """In a batch of mixed sizes and levels, each result equals that of the image alone, within 0.01 grey levels."""
    levels = [15.0, 50.0, 25.0, 25.0, 0.0, 5.0]
    sizes = [(64, 48), (64, 48), (31, 90), (64, 48), (16, 16), (150, 40)]
    noisy = [noisy_photo(*size, sigma, seed)[1] for seed, (size, sigma) in enumerate(zip(sizes, levels, strict=True))]
    options = {"tile": 96, "overlap": 16}
    together = denoiser(embedded, batch_size=3, **options)(noisy, levels)
    for image, sigma, result in zip(noisy, levels, together, strict=True):
        (alone,) = denoiser(embedded, batch_size=1, **options)([image], [sigma])
        torch.testing.assert_close(result, alone, atol=0.01 / 127.5, rtol=0)


def test_sigma_zero_returns_the_input(embedded) -> None:
    _, noisy = noisy_photo(20, 20, 25)
    (result,) = denoiser(embedded)([noisy], [0.0])
    assert torch.equal(result, noisy)


def test_the_estimate_of_a_grey_image_is_grey(embedded) -> None:
    clean, noisy = noisy_photo(64, 48, 25)
    grey = noisy[:1].expand(3, -1, -1)
    result, again, colour = denoiser(embedded)([grey, grey, noisy], [25.0, 0.0, 25.0])
    assert torch.equal(result, result[:1].expand(3, -1, -1)) and torch.equal(again, grey)
    assert not torch.equal(colour[0], colour[1])
    assert psnr(result[:1], clean[:1]) > psnr(noisy[:1], clean[:1]) + 6.0  # taken for noise in colour it gains 4


def test_the_mean_colour_is_that_of_the_noisy_image_unless_its_noise_was_clipped() -> None:
    class Shifting:
        """Estimates the image itself, three tenths too bright."""

        multiple, max_sigma = 8, 100.0

        def to(self, *_: object) -> None: ...

        def estimate(self, noisy: Tensor, sigmas: list[float]) -> Tensor:
            return noisy + 0.3

    shifting = Denoiser(Shifting(), DenoiseSection(tile=64), 1, torch.device("cpu"), torch.float32)
    _, noisy = noisy_photo(100, 90, 25)
    clipped = (3 * noisy).clamp(-1.0, 1.0)
    results = shifting([noisy, clipped], [25.0, 25.0])
    torch.testing.assert_close(results[0], noisy)
    torch.testing.assert_close(results[1], clipped + 0.3)


@pytest.mark.parametrize("sigma", [15.0, 75.0])
def test_tiles_leave_no_seam(embedded, sigma: float) -> None:
    """Beside a whole image a tiled one has no step of 0.2 grey levels where its tiles begin and end."""
    _, noisy = noisy_photo(300, 440, sigma)
    (whole,) = denoiser(embedded)([noisy], [sigma])
    cutting = denoiser(embedded, tile=256)
    (tiled,) = cutting([noisy], [sigma])
    difference = (whole - tiled) * 127.5
    assert difference.abs().mean() > 0.0
    layout = tiling.plan(300, 440, cutting.restorer.multiple, 256, DenoiseSection().overlap)
    steps = []
    for profile, starts, size in (
        (difference.mean((0, 2)), layout.tops, layout.tile_height),
        (difference.mean((0, 1)), layout.lefts, layout.tile_width),
    ):
        borders = {edge for start in starts for edge in (start, start + size)}
        steps += [profile[at : at + 8].mean() - profile[at - 8 : at].mean() for at in borders if 8 <= at < len(profile)]
    assert len(steps) == 4
    assert max(abs(float(step)) for step in steps) < 0.2


@pytest.mark.parametrize("sigma", [0.01, 0.1, 1.0])
def test_the_denoiser_becomes_the_identity_as_the_level_falls(embedded, sigma: float) -> None:
    clean, _ = noisy_photo(64, 80, sigma)
    (result,) = denoiser(embedded)([clean], [sigma])
    assert float((result - clean).abs().max()) * 127.5 < 6 * sigma


@pytest.mark.parametrize("sigma", [25.0, 75.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_flat_image_becomes_flat_and_keeps_its_colour(embedded, sigma: float, channels: int) -> None:
    colour = torch.tensor([-0.4, 0.1, 0.5])[:, None, None] if channels == 3 else torch.tensor(0.2)
    noise = torch.randn((channels, 160, 160), generator=torch.Generator().manual_seed(0))
    noisy = (colour + 2 * sigma / 255 * noise).expand(3, -1, -1)
    (result,) = denoiser(embedded)([noisy], [sigma])
    assert float((result - result.mean((1, 2), keepdim=True)).std()) * 127.5 < 0.15 * sigma
    assert float((result - noisy).mean((1, 2)).abs().max()) * 127.5 < 0.1


def test_the_ensemble_is_the_mean_over_flips_and_turns(embedded) -> None:
    single = denoiser(embedded)
    side = single.restorer.multiple  # padding is not the same in all views
    _, noisy = noisy_photo(2 * side, 3 * side, 25)
    total = torch.zeros_like(noisy)
    for turns in range(4):
        for flip in (False, True):
            view = noisy.flip(2) if flip else noisy
            (estimate,) = single([torch.rot90(view, turns, (1, 2))], [25.0])
            estimate = torch.rot90(estimate, -turns, (1, 2))
            total += estimate.flip(2) if flip else estimate
    (result,) = denoiser(embedded, ensemble=True)([noisy], [25.0])
    torch.testing.assert_close(result, total / 8, atol=2e-4, rtol=0)


class SmallMemory(UNet2DModel):
    """A real network on a device that pretends to hold no more than `limit` images at a time."""

    limit = 2

    def forward(self, sample: Tensor, *args: object, **kwargs: object) -> object:
        if sample.shape[0] > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(sample, *args, **kwargs)


def test_a_batch_that_does_not_fit_is_halved_and_the_size_remembered(tmp_path: Path) -> None:
    files = model_files.find(str(tiny_model(tmp_path / "tiny", k=1)))
    unet, schedule = network.load(files)
    small = SmallMemory(**{k: v for k, v in unet.config.items() if not k.startswith("_")})
    small.load_state_dict(unet.state_dict())
    noisy = [noisy_photo(16, 16, 25, seed)[1] for seed in range(7)]
    expected = denoiser((unet, schedule), batch_size=1)(noisy, [25.0] * 7)
    halving = denoiser((small.eval(), schedule), batch_size=7)
    for result, alone in zip(halving(noisy, [25.0] * 7), expected, strict=True):
        torch.testing.assert_close(result, alone, atol=1e-4, rtol=0)
    assert halving.batch_size == 2
    small.limit = 0
    with pytest.raises(MemoryError, match="16x16"):
        halving(noisy, [25.0] * 7)


@pytest.mark.parametrize("mode", ["mmse", "ddim", "blend"])
def test_nothing_of_images_on_a_device_is_read_there(mode: str) -> None:
    """A meta device knows shapes and no values: whoever asks it for one, as .item() and .cpu() do, gets an error."""
    options = {"mode": mode, "steps": 2, "tile": 64, "overlap": 16, "ensemble": True}
    section = DenoiseSection.model_validate(options)
    ddpm = DDPM(tiny_unet(2), NoiseSchedule.from_config(LINEAR), section)
    on_meta = Denoiser(ddpm, section, 3, torch.device("meta"), torch.bfloat16)
    noisy = [torch.empty(3, *size, device="meta") for size in ((40, 40), (40, 40), (90, 150), (1, 1))]
    results = two_scales.denoise(on_meta, noisy, [25.0, 25.0, 50.0, 0.0], [True, False, True, False])
    assert [(each.device.type, each.shape) for each in results] == [("meta", each.shape) for each in noisy]


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["mmse", "ddim", "blend"])
def test_images_on_a_gpu_stay_there_and_nothing_waits_for_it(mode: str) -> None:
    section = DenoiseSection.model_validate({"mode": mode, "steps": 2, "tile": 64, "overlap": 16})
    schedule, device = NoiseSchedule.from_config(LINEAR), torch.device("cuda")
    noisy = [noisy_photo(*size, 25, seed)[1] for seed, size in enumerate([(40, 40), (40, 40), (90, 150)])]
    noisy.append(noisy[0][:1].expand(3, -1, -1))
    levels, smeared = [25.0, 25.0, 50.0, 25.0], [True, False, True, False]
    on_gpu = Denoiser(DDPM(tiny_unet(2), schedule, section), section, 3, device, torch.float32)
    there = [each.to(device) for each in noisy]
    for _ in range(10):  # until all batches run as graphs
        two_scales.denoise(on_gpu, there, levels, smeared)
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = two_scales.denoise(on_gpu, there, levels, smeared)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    on_cpu = Denoiser(DDPM(tiny_unet(2), schedule, section), section, 3, torch.device("cpu"), torch.float32)
    for result, expected in zip(results, two_scales.denoise(on_cpu, noisy, levels, smeared), strict=True):
        assert result.is_cuda
        torch.testing.assert_close(result.cpu(), expected, rtol=0, atol=2e-3)


class Measured:
    """A restorer that measured that so many tiles of 32x32 are best, and has memory for so many of them."""

    multiple, max_sigma = 8, 100.0

    def __init__(self, best: int, memory: int = 10**6) -> None:
        self.best, self.memory = best, memory
        self.measurements: list[tuple[int, ...]] = []
        self.batches: list[tuple[int, int]] = []

    def to(self, *_: object) -> None: ...

    def best_batch(self, tile: torch.Size) -> int:
        self.measurements.append(tuple(tile))
        return self.best

    def estimate(self, noisy: Tensor, sigmas: list[float]) -> Tensor:
        self.batches.append((noisy.shape[0], noisy.shape[3]))
        if noisy.shape[0] * noisy.shape[3] > self.memory * 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return noisy + 0.0


def test_a_batch_size_that_is_not_given_is_measured_once_and_holds_for_all_shapes() -> None:
    restorer = Measured(best=4)
    measuring = Denoiser(restorer, DenoiseSection(), None, torch.device("cpu"), torch.float32)
    for width, count, batches in ((32, 9, [4, 4, 1]), (16, 9, [8, 1]), (64, 3, [2, 1]), (256, 2, [1, 1])):
        restorer.batches.clear()
        measuring([torch.zeros(3, 32, width)] * count, [25.0] * count)
        assert restorer.batches == [(size, width) for size in batches]
    assert restorer.measurements == [(3, 32, 32)]


def test_a_measured_batch_that_does_not_fit_is_halved_and_the_size_remembered() -> None:
    restorer = Measured(best=8, memory=5)
    measuring = Denoiser(restorer, DenoiseSection(), None, torch.device("cpu"), torch.float32)
    measuring([torch.zeros(3, 32, 32)] * 8, [25.0] * 8)
    measuring([torch.zeros(3, 32, 32)] * 8, [25.0] * 8)
    measuring([torch.zeros(3, 32, 16)] * 8, [25.0] * 8)
    assert restorer.batches == [(8, 32), *[(4, 32)] * 4, (8, 16)]


def test_bfloat16_costs_less_than_a_tenth_of_a_decibel(embedded) -> None:
    clean, noisy = noisy_photo(160, 160, 25)
    (exact,) = denoiser(embedded)([noisy], [25.0])
    unet, schedule = network.load(model_files.find("embedded"))
    half = Denoiser(DDPM(unet, schedule, DenoiseSection()), DenoiseSection(), 1, torch.device("cpu"), torch.bfloat16)
    (result,) = half([noisy], [25.0])
    assert abs(psnr(result, clean) - psnr(exact, clean)) < 0.1


def test_images_at_once_are_those_whose_tiles_fill_a_batch(embedded) -> None:
    """Tiles of at most 64 pixels a side, 12 in a batch: an image of 100 x 100 has four of them."""
    found = denoiser(embedded, batch_size=12, tile=64, overlap=0)
    assert [found.images_at_once(side, side) for side in (32, 100, 300)] == [12, 3, 1]
