"""VGG19's layers, and the checks of its weights file that need no torch, so that the driver can run them."""

import os
import urllib.request
from pathlib import Path, PurePosixPath

from imagewizard import storage
from imagewizard.errors import UserError, one_line
from imagewizard.models.files import safetensors_shapes

KEY = "loss.perceptual.weights"
TORCHVISION = "torchvision"
# torchvision.models.VGG19_Weights.IMAGENET1K_V1.url, without the import of torch.
TORCHVISION_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
_PROBE_SECONDS = 5.0

# Channels and number of convolutions of the five blocks (Simonyan and Zisserman 2015, table 1, column E).
BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))


def layer_indices() -> dict[str, int]:
    """Index of relu1_1 ... relu5_4 in torchvision's `vgg19().features`; a block is convolution, ReLU, ..., pooling."""
    indices, index = {}, 0
    for block, (_, convolutions) in enumerate(BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            indices[f"relu{block}_{number}"] = index + 1
            index += 2
        index += 1
    return indices


def parameter_shapes(layers: list[str]) -> dict[str, tuple[int, ...]]:
    """Name and shape of each parameter up to the deepest of `layers`. Raises UserError for no or unknown layers."""
    indices = layer_indices()
    unknown = [layer for layer in layers if layer not in indices]
    if unknown or not layers:
        what = f"{unknown[0]} is none of them" if unknown else "none is given"
        raise UserError(what, f"choose from {', '.join(indices)}", "loss.perceptual.layers")
    deepest = max(indices[layer] for layer in layers)
    shapes: dict[str, tuple[int, ...]] = {}
    previous = 3
    for layer, index in indices.items():
        if index <= deepest:
            channels = BLOCKS[int(layer[4]) - 1][0]
            shapes[f"features.{index - 1}.weight"] = (channels, previous, 3, 3)
            shapes[f"features.{index - 1}.bias"] = (channels,)
            previous = channels
    return shapes


def check_shapes(weights: str, found: dict[str, tuple[int, ...]], layers: list[str]) -> None:
    """Raises UserError, which names the first parameter for `layers` that is missing or has a wrong shape."""
    for name, shape in parameter_shapes(layers).items():
        if name not in found:
            raise UserError(
                f"{weights} has no {name}, which {', '.join(layers)} needs",
                "give a file that goes deeper, or layers less deep",
                KEY,
            )
        if found[name] != shape:
            raise UserError(f"{weights} has {name} of {found[name]}, not {shape}", "give torchvision's vgg19", KEY)


def check(weights: str, layers: list[str]) -> None:
    """Raises UserError unless `weights` exist and hold the parameters of `layers`, as far as visible without torch.

    `weights`: `torchvision`, or a local or s3:// file, .safetensors or .pth. For a .pth only existence is checked.
    """
    parameter_shapes(layers)
    suffix = PurePosixPath(weights).suffix
    if weights == TORCHVISION:
        _check_download()
    elif suffix not in {".safetensors", ".pth"}:
        raise UserError(
            f"{weights} is neither `{TORCHVISION}` nor a .safetensors or .pth file", "give one of these", KEY
        )
    else:
        _check_file(weights, suffix, layers)


def _check_file(weights: str, suffix: str, layers: list[str]) -> None:
    try:
        with storage.open_file(weights) as stream:
            found = safetensors_shapes(stream, storage.size(weights)) if suffix == ".safetensors" else None
    except FileNotFoundError:
        raise UserError(f"{weights} does not exist", f"give a file, or `{TORCHVISION}`", KEY) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{weights} cannot be read ({one_line(error)})", "copy it again", KEY) from None
    if found is not None:
        check_shapes(weights, found, layers)


def _check_download() -> None:
    """Raises UserError unless torchvision's weights are in torch.hub's cache or their server answers within seconds."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    cache = Path(os.environ.get("TORCH_HOME") or caches / "torch").expanduser()
    if (cache / "hub" / "checkpoints" / PurePosixPath(TORCHVISION_URL).name).is_file():
        return
    try:
        request = urllib.request.Request(TORCHVISION_URL, method="HEAD")
        urllib.request.urlopen(request, timeout=_PROBE_SECONDS).close()  # noqa: S310 (a constant URL)
    except OSError as error:
        raise UserError(
            f"{TORCHVISION_URL} cannot be reached ({one_line(error)})",
            f"download it on another machine, and give that file instead of `{TORCHVISION}`",
            KEY,
        ) from None
