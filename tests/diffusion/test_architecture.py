"""The facts read from a config are those of the network built from it."""

import inspect

import pytest

from imagewizard.diffusion.architecture import check_network, size_multiple, unshuffle_factor
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.errors import UserError
from tests.support.models import tiny_network, tiny_unet


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_config_and_its_network_agree(k: int) -> None:
    for config in (tiny_network(k), tiny_unet(k).config):
        check_network(config)
        assert (unshuffle_factor(config), size_multiple(config)) == (k, 2 * k)


def test_each_block_but_the_last_halves_the_sides() -> None:
    assert size_multiple(tiny_network() | {"block_out_channels": [8] * 4}) == 8
    defaults = inspect.signature(UNet2DModel).parameters["block_out_channels"].default
    assert size_multiple({}) == 2 ** (len(defaults) - 1)
    for blocks in (8, [], None, "8"):
        with pytest.raises(UserError, match=r"^model: block_out_channels is .*; it must be a list"):
            size_multiple({"block_out_channels": blocks})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"in_channels": 3, "out_channels": 6}, "learns the variance too: it maps 3 to 6 channels"),
        ({"in_channels": 12, "out_channels": 24}, "learns the variance too: it maps 12 to 24 channels"),
        ({"in_channels": 6, "out_channels": 3}, "maps 6 to 3 channels"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type is fourier"),
        ({"num_class_embeds": 10}, "wants class labels: .* num_class_embeds=10"),
        ({"num_class_embeds": 0}, "wants class labels: .* num_class_embeds=0"),
        ({"class_embed_type": "timestep"}, "wants class labels: .* class_embed_type=timestep"),
    ],
)
def test_networks_other_than_image_ddpms_are_refused(changes: dict, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        check_network(tiny_network() | changes)
