"""The model that ships with the package, loaded once."""

import pytest

from imagewizard.diffusion.schedule import NoiseSchedule
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.models import files as model_files
from imagewizard.models import network


@pytest.fixture(scope="session")
def embedded() -> tuple[UNet2DModel, NoiseSchedule]:
    return network.load(model_files.find("embedded"))
