"""`import imagewizard` is cheap, and offers what it says."""

import subprocess
import sys

import pytest

import imagewizard as iw

HEAVY = ("torch", "diffusers", "ray", "pyarrow", "pandas", "duckdb", "numpy", "PIL", "boto3", "pydantic")


def modules_after(code: str) -> set[str]:
    """The top-level modules of a new process that has run `code`."""
    program = f"{code}\nimport sys; print(*sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_import_loads_nothing_that_is_heavy() -> None:
    assert not modules_after("import imagewizard as iw; dir(iw); iw.UserError; iw.JobError; iw.RunLockedError") & {
        *HEAVY
    }


def test_scores_and_noise_need_no_torch_and_no_ray() -> None:
    code = """
import numpy as np
import imagewizard as iw
image = np.zeros((32, 32, 3), np.uint8)
noisy = iw.add_noise(image, 25)
iw.psnr(noisy, image), iw.ssim(noisy, image)
iw.DenoiseConfig(input="photos", output="run")
iw.Run("run")
"""
    assert not modules_after(code) & {"torch", "diffusers", "ray", "pyarrow", "pandas", "duckdb", "boto3"}


def test_denoising_in_memory_needs_no_ray() -> None:
    code = "import imagewizard as iw, numpy as np; iw.denoise(np.zeros((32, 32, 3), np.uint8), 25)"
    assert not modules_after(code) & {"ray", "pandas", "duckdb"}


def test_estimating_noise_needs_torch_alone() -> None:
    code = "import imagewizard as iw, numpy as np; iw.estimate_sigma(np.eye(32, dtype=np.uint8))"
    assert not modules_after(code) & {"diffusers", "ray", "pyarrow", "pandas", "duckdb", "boto3"}


def test_every_name_of_the_api_is_there_and_listed() -> None:
    names = {
        "DenoiseConfig", "Denoiser", "JobError", "Run", "RunLockedError", "TrainConfig", "UserError", "add_noise",
        "denoise", "estimate_sigma", "psnr", "run_denoise_job", "run_train_job", "ssim",
    }  # fmt: skip
    assert names <= {*dir(iw)}
    for name in names:
        value = getattr(iw, name)
        assert value.__name__ == name and value.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'imagewizard' has no attribute 'denoize'"):
        _ = iw.denoize  # type: ignore[attr-defined]


def test_the_package_is_marked_as_typed() -> None:
    from importlib.resources import files

    assert (files("imagewizard") / "py.typed").is_file()
