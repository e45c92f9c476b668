"""The training loss: the error of the estimated noise or image, plus the error of its VGG19 features."""

import io
import textwrap

import torch
import torch.nn.functional as F
from safetensors import torch as safetensors
from torch import Tensor, nn

from imagewizard import storage
from imagewizard.config.train import LossSection
from imagewizard.diffusion.sampling import predict, solve
from imagewizard.diffusion.schedule import Prediction
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.errors import UserError
from imagewizard.training import vgg19

# Channel means and standard deviations of ImageNet, RGB in [0, 1]; torchvision's weights were trained with them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class VGG19Features(nn.Module):
    """Torchvision's `vgg19().features` up to the deepest of `layers`, frozen.

    `weights`: `torchvision` (downloaded once), or a local or s3:// file, .safetensors or .pth, that holds at least the
    parameters `features.N.weight` and `.bias` of these layers. `layers`: any of relu1_1 ... relu5_4. Raises UserError,
    within seconds if the download fails.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str, layers: list[str]) -> None:
        super().__init__()
        from torchvision.models import vgg  # a machine that trains without this loss may lack torchvision

        shapes = vgg19.parameter_shapes(layers)
        state = _read(weights, layers)
        vgg19.check_shapes(weights, {name: tuple(tensor.shape) for name, tensor in state.items()}, layers)
        indices = vgg19.layer_indices()
        self._wanted = {indices[layer] for layer in layers}
        # The same as torchvision.models.vgg19().features, but without half a gigabyte of classifier.
        self.features = vgg.make_layers(vgg.cfgs["E"], batch_norm=False)[: max(self._wanted) + 1]
        self.load_state_dict({name: state[name].float() for name in shapes})
        # Buffers move to the device with the module, but are not part of the weights file.
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The layers' features (N, C, H', W'), the shallowest first, of RGB images (N, 3, H, W) in [-1, 1]."""
        x = ((images + 1.0) / 2.0 - self.mean) / self.std
        found = []
        for index, module in enumerate(self.features):
            x = module(x)
            if index in self._wanted:
                found.append(x)
        return found


def _read(weights: str, layers: list[str]) -> dict[str, Tensor]:
    """The state dict of `weights`, on the CPU. Raises UserError."""
    vgg19.check(weights, layers)
    try:
        if weights == vgg19.TORCHVISION:
            url = vgg19.TORCHVISION_URL
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        elif weights.endswith(".safetensors"):
            state = safetensors.load(storage.read_bytes(weights))
        else:
            # weights_only refuses code that a pickle would run on loading.
            state = torch.load(io.BytesIO(storage.read_bytes(weights)), "cpu", weights_only=True)
        return {name: tensor.detach() for name, tensor in state.items()}
    except Exception as error:  # a broken file makes torch.load raise exceptions of all kinds
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 150)
        raise UserError(f"{weights} cannot be read ({reason})", "copy it again", vgg19.KEY) from None


def perceptual_loss(features: VGG19Features, estimate: Tensor, clean: Tensor) -> Tensor:
    """`feature_error` of an estimate and the clean image: float32 (N,). Both are (N, 3, H, W) in [-1, 1].

    The gradient goes to `estimate` alone, which is clamped: at high noise levels and early in training, x0 is far out
    of VGG19's range, and its feature error would dominate the loss.
    """
    with torch.no_grad():
        targets = features(clean)
    return feature_error(features(estimate.clamp(-1.0, 1.0)), targets)


def feature_error(found: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Mean squared difference of two images' features, averaged over layers (Johnson et al. 2016, eq. 2): float32 (N,).

    Both have the form that VGG19Features returns.
    """
    errors = [
        F.mse_loss(f.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
        for f, target in zip(found, targets, strict=True)
    ]
    return torch.stack(errors).mean(dim=0)


class Objective(nn.Module):
    """The network and its loss as one module, so that DistributedDataParallel wraps the forward pass of both."""

    def __init__(
        self,
        unet: UNet2DModel,
        loss: LossSection,
        features: VGG19Features | None,
        bf16: bool,
        prediction: Prediction = "epsilon",
    ) -> None:
        """`prediction`: what the network predicts."""
        super().__init__()
        self.unet = unet
        self._prediction: Prediction = prediction
        self.features = features
        self._loss = loss
        self._bf16 = bf16

    @property
    def terms(self) -> list[str]:
        """Names of the rows that `forward` returns."""
        return ["loss", "mse", "perceptual"] if self.features is not None else ["loss", "mse"]

    def forward(self, clean: Tensor, eps: Tensor, alpha_bar: Tensor, timesteps: Tensor) -> Tensor:
        """Losses, (len(terms), N), of images `clean` ((N, 3, H, W), [-1, 1]) with noise `eps` at levels `alpha_bar`.

        mse: squared error of eps (Ho et al. 2020, eq. 14) or of x0, averaged over an image, whatever the network
        predicts. `alpha_bar`: (N, 1, 1, 1).
        """
        x_t = alpha_bar.sqrt() * clean + (1.0 - alpha_bar).sqrt() * eps
        with torch.autocast(clean.device.type, torch.bfloat16, enabled=self._bf16):
            predicted = predict(self.unet, x_t, timesteps)
        found_x0, found_eps = solve(self._prediction, predicted, x_t, alpha_bar)
        error = found_eps - eps
        if self._loss.mse == "x0":
            error = error * ((1.0 - alpha_bar) / alpha_bar).sqrt()
        mse = error.square().mean(dim=(1, 2, 3))
        if self.features is None or self._loss.perceptual is None:
            return torch.stack([mse, mse])
        with torch.autocast(clean.device.type, torch.bfloat16, enabled=self._bf16):
            perceptual = perceptual_loss(self.features, found_x0, clean).float()
        return torch.stack([mse + self._loss.perceptual.weight * perceptual, mse, perceptual])
