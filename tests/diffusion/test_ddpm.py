"""The estimate of a DDPM in each mode."""

import pytest
import torch

from imagewizard.config.denoise import DenoiseSection
from imagewizard.diffusion.ddpm import DDPM
from imagewizard.diffusion.sampling import posterior_mean
from imagewizard.diffusion.schedule import NoiseSchedule, Prediction
from tests.diffusion.test_denoiser import denoiser, noisy_photo, psnr
from tests.support.models import LINEAR, Reparametrised, tiny_unet


def test_mmse_is_the_posterior_mean(embedded) -> None:
    _, noisy = noisy_photo(64, 64, 25)
    with torch.inference_mode():
        result = DDPM(*embedded, DenoiseSection()).estimate(noisy[None], [25.0])
        torch.testing.assert_close(result, posterior_mean(*embedded, noisy[None], [25.0]), atol=1e-4, rtol=0)


def test_ddim_denoises_and_a_blend_is_the_weighted_sum(embedded) -> None:
    clean, noisy = noisy_photo(96, 96, 50)
    results = {
        mode: denoiser(embedded, mode=mode, steps=8, **{"lambda": 0.25})([noisy], [50.0])[0]
        for mode in ("mmse", "ddim", "blend")
    }
    torch.testing.assert_close(results["blend"], 0.75 * results["mmse"] + 0.25 * results["ddim"])
    assert not torch.allclose(results["mmse"], results["ddim"], atol=0.02)
    assert psnr(results["ddim"], clean) > psnr(noisy, clean) + 6.0


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
@pytest.mark.parametrize("mode", ["mmse", "ddim", "blend"])
def test_what_the_network_predicts_changes_no_result_in_tiles_and_ensembles(mode: str, kind: Prediction) -> None:
    schedules = [NoiseSchedule.from_config(LINEAR | {"prediction_type": name}) for name in ("epsilon", kind)]
    unet, (_, noisy) = tiny_unet(2), noisy_photo(40, 90, 40)
    options = {"mode": mode, "steps": 3, "tile": 64, "overlap": 16, "ensemble": True}
    expected = denoiser((unet, schedules[0]), **options)([noisy], [40.0])[0]
    found = denoiser((Reparametrised(unet, kind, schedules[1]), schedules[1]), **options)([noisy], [40.0])[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert (expected - noisy).abs().max() > 0.1


@pytest.mark.gpu
def test_on_a_gpu_shapes_that_recur_become_graphs() -> None:
    ddpm = DDPM(tiny_unet(2), NoiseSchedule.from_config(LINEAR), DenoiseSection())
    ddpm.to(torch.device("cuda"), torch.bfloat16)
    noisy = torch.randn(4, 3, 16, 16, device="cuda")
    with torch.inference_mode():
        for _ in range(10):
            found = ddpm.estimate(noisy, [25.0] * 4)
        expected = posterior_mean(ddpm.unet, ddpm.schedule, noisy, [25.0] * 4)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)
    assert len(ddpm._network._static) == 1 and ddpm.best_batch(torch.Size((3, 16, 16))) > 1
