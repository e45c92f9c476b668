"""Which code restores with a model folder: the class name in the folder's config.json says it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagewizard.config.denoise import DenoiseSection
from imagewizard.models.files import ModelFiles

if TYPE_CHECKING:  # torch, which the driver does without
    from imagewizard.diffusion.denoiser import Restorer


@dataclass(frozen=True)
class RestorerKind:
    """What the driver and the workers do with the folders of one class."""

    check: Callable[[ModelFiles, float], None]
    """Raises UserError unless it denoises RGB images up to this level (0-255 scale); does without torch."""
    load: "Callable[[ModelFiles, DenoiseSection], Restorer]"
    """The restorer, on the CPU. Raises UserError if it cannot be used."""


def _load_ddpm(files: ModelFiles, options: DenoiseSection) -> "Restorer":
    from imagewizard.diffusion.ddpm import DDPM
    from imagewizard.models import network

    return DDPM(*network.load(files), options)


# By the class name in config.json. A new kind takes an entry here, one in files.NEEDED and its code.
KINDS = {"UNet2DModel": RestorerKind(ModelFiles.check, _load_ddpm)}


def check(files: ModelFiles, max_sigma: float) -> None:
    """Raises UserError unless the model denoises RGB images up to this level (0-255 scale); does without torch."""
    KINDS[files.class_name].check(files, max_sigma)


def load(files: ModelFiles, options: DenoiseSection) -> "Restorer":
    """The restorer that a model folder holds, on the CPU. Raises UserError if it cannot be used."""
    return KINDS[files.class_name].load(files, options)
