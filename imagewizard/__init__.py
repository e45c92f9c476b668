"""Distributed batch denoising of images with diffusion models, on Ray.

`import imagewizard as iw` is cheap: a name of the API is imported when it is first used, and torch, Ray and pyarrow
when they are first needed.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagewizard.api.images import Denoiser as Denoiser
    from imagewizard.api.images import add_noise as add_noise
    from imagewizard.api.images import denoise as denoise
    from imagewizard.api.images import estimate_sigma as estimate_sigma
    from imagewizard.api.images import psnr as psnr
    from imagewizard.api.images import ssim as ssim
    from imagewizard.api.jobs import Run as Run
    from imagewizard.api.jobs import run_denoise_job as run_denoise_job
    from imagewizard.api.jobs import run_train_job as run_train_job
    from imagewizard.api.jobs import submit as submit
    from imagewizard.config.denoise import DenoiseConfig as DenoiseConfig
    from imagewizard.config.train import TrainConfig as TrainConfig
    from imagewizard.errors import JobError as JobError
    from imagewizard.errors import RunLockedError as RunLockedError
    from imagewizard.errors import UserError as UserError

__version__ = "0.1.0"

# Where each name of the API is defined.
_MODULES = {
    "Denoiser": "api.images",
    "add_noise": "api.images",
    "denoise": "api.images",
    "estimate_sigma": "api.images",
    "psnr": "api.images",
    "ssim": "api.images",
    "Run": "api.jobs",
    "run_denoise_job": "api.jobs",
    "run_train_job": "api.jobs",
    "submit": "api.jobs",
    "DenoiseConfig": "config.denoise",
    "TrainConfig": "config.train",
    "JobError": "errors",
    "RunLockedError": "errors",
    "UserError": "errors",
}


def __getattr__(name: str) -> Any:
    """Imports a name of the API when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
