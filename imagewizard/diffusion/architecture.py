"""Facts about a network from a UNet2DModel's config: the content of config.json, or `unet.config`."""

import math
from collections.abc import Mapping
from typing import Any

from imagewizard.errors import UserError

# 3*k*k channels in and out: RGB, or RGB pixel-unshuffled by k.
CHANNELS = [3 * k * k for k in (1, 2, 3, 4, 8)]
# UNet2DModel's default for block_out_channels.
DEFAULT_BLOCKS = (224, 448, 672, 896)


def check_network(config: Mapping[str, Any]) -> None:
    """Raises UserError unless the config describes an unconditional DDPM with 3*k*k channels in and out."""
    channels = config.get("in_channels", 3), config.get("out_channels", 3)
    if channels[0] in CHANNELS and channels[1] == 2 * channels[0]:
        raise UserError(
            f"it learns the variance too: it maps {channels[0]} to {channels[1]} channels",
            "only networks that predict the noise, the image or v alone can be used",
            "model",
        )
    if channels[0] != channels[1] or channels[0] not in CHANNELS:
        raise UserError(
            f"it maps {channels[0]} to {channels[1]} channels",
            "RGB needs 3*k*k to 3*k*k (3, 12, 27, 48 or 192)",
            "model",
        )
    # A score network: it divides its output by the input that is the timestep of a DDPM.
    if config.get("time_embedding_type") == "fourier":
        raise UserError("time_embedding_type is fourier", "a DDPM has positional or learned", "model")
    for key in ("class_embed_type", "num_class_embeds"):
        if config.get(key) is not None:
            what = f"it wants class labels: config.json says {key}={config[key]}"
            raise UserError(what, "only unconditional networks can be used", "model")


def size_multiple(config: Mapping[str, Any]) -> int:
    """Height and width must be multiples of this, because each block but the last halves the (unshuffled) sides.

    Raises UserError if the config has no blocks to count.
    """
    blocks = config.get("block_out_channels", DEFAULT_BLOCKS)
    if not isinstance(blocks, list | tuple) or not blocks:
        raise UserError(f"block_out_channels is {blocks!r}", "it must be a list of channel counts", "model")
    return unshuffle_factor(config) * int(2 ** (len(blocks) - 1))


def unshuffle_factor(config: Mapping[str, Any]) -> int:
    """k of a network that works on k x k pixel-unshuffled RGB images (3*k*k channels); 1 for plain RGB."""
    return math.isqrt(config.get("in_channels", 3) // 3)


def takes_fractional_timesteps(config: Mapping[str, Any]) -> bool:
    """False for a learned embedding, a table with one row per step; the others are continuous functions of t."""
    return config.get("time_embedding_type") != "learned"
