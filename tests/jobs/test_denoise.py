"""imagewizard denoise: a mistake is one line and exit code 2 and writes nothing; what the end of a job says."""

from pathlib import Path
from typing import Any

import pytest

from imagewizard.config.denoise import DenoiseConfig
from imagewizard.distributed import denoise_job
from jobs import denoise, shell
from tests.support.models import tiny_model
from tests.support.sample_files import write_photos


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "in", 3, 32)
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nosie=3"], "nosie: unknown key; did you mean noise?"),
        (["noise.sigma=-1"], "noise.sigma.0: must be greater than or equal to 0 (got -1)"),
        (["noise.sigma=99999"], "noise.sigma.0: "),
        (["model=/nowhere"], "model: /nowhere is no folder"),
        (["input=/nowhere"], "input: /nowhere does not exist"),
        (["output=/proc/run"], "output: /proc is not writable"),
        (["denoise.sigma=5"], "denoise.sigma is for images that are noisy already"),
        (["a.yaml", "b.yaml"], "second config"),
        (["a.yaml"], "config a.yaml: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2_and_writes_nothing(
    photos: Path, tmp_path: Path, words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = shell.run(denoise.main, [f"input={photos}", f"output={tmp_path}/run", *words])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and complaint in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_broken_weights_are_named(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_model(tmp_path / "model")
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    words = [f"input={photos}", f"output={tmp_path}/run", f"model={folder}"]
    assert shell.run(denoise.main, words) == 2
    assert f"{weights} is" in capsys.readouterr().err
    weights.rename(folder / "diffusion_pytorch_model.bin")
    assert shell.run(denoise.main, words) == 2
    assert f"{folder}/diffusion_pytorch_model.bin is no whole file of torch.save" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"input={photos}", f"output={tmp_path}/run", "noise.sigma=[15,50]", "--dry-run"]
    assert shell.run(denoise.main, words) == 0
    assert "sigma    15, 50" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("failed", "allowed", "code"), [(0, 0.01, 0), (1, 0.01, 3), (1, 0.1, 0), (2, 0.1, 3)])
def test_the_exit_code_depends_on_how_many_images_may_fail(
    tmp_path: Path,
    failed: int,
    allowed: float,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A stand-in for the job, of which only the summary counts here."""
    summary: dict[str, Any] = {
        "ok": 10 - failed,
        "failed": failed,
        "scores": [
            {"noise_params": None, "sigma": 25.0, "ok": 10 - failed}
            | {"psnr_noisy": 20.1, "psnr": 30.2, "ssim_noisy": 0.4, "ssim": 0.8},
            {"noise_params": "{}", "sigma": None, "ok": 0}
            | dict.fromkeys(("psnr_noisy", "psnr", "ssim_noisy", "ssim")),
        ],
        "top_errors": [{"images": failed, "stage": "decode", "error": "truncated", "example": "a.png"}][:failed],
        "skipped_files": 4,
        "left_out": {"a reason": {"files": 4, "examples": ["a.txt", "b.txt", "c.txt"]}},
    }
    config = DenoiseConfig(input="photos", output=str(tmp_path), max_failed_fraction=allowed)
    plan = denoise_job.DenoisePlan(config, "f" * 16, None)
    monkeypatch.setattr(denoise_job, "prepare", lambda job: plan)
    monkeypatch.setattr(denoise_job, "execute", lambda *arguments: summary)
    assert denoise.main(["input=photos", f"output={tmp_path}"]) == code
    out = capsys.readouterr().out
    assert f"sigma 25: PSNR 20.10 → 30.20 dB, SSIM 0.4000 → 0.8000, mean of {10 - failed} images" in out
    assert "sigma None" not in out and "left out 4: a reason (a.txt, b.txt, c.txt, …)\n" in out
    assert (f"{failed} failed at decode: truncated (e.g. a.png)" in out) == bool(failed)
    assert ("retry_failed=true" in out) == bool(failed)
    assert out.endswith(f"{10 - failed} ok, {failed} failed; rows in {tmp_path}/results\n")
