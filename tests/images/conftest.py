"""Tests of images run as a worker does: with Pillow's own limit of pixels lifted, and quiet."""

import pytest

from imagewizard.images.decoding import quiet


@pytest.fixture(scope="session", autouse=True)
def quiet_process() -> None:
    quiet()
