"""Writes the README.md of an exported model: its architecture, training, scores and use."""

from dataclasses import dataclass
from typing import Any

from imagewizard.diffusion.architecture import size_multiple, unshuffle_factor
from imagewizard.diffusion.schedule import Prediction
from imagewizard.schema import level_text
from imagewizard.tracking import history


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a training run for its model card."""

    network: dict[str, Any]
    """Arguments of UNet2DModel."""
    parameters: int
    start: str | None
    """The model that training started from; None: random weights."""
    sigma: tuple[float, float]
    """Lowest and highest noise level of training, 0-255 scale."""
    noise: str
    """Its kinds, in words."""
    smeared: bool
    """Whether noise that is not white was among them."""
    images: int
    epochs: float
    steps: int
    loss: str
    """Its terms, in words."""
    prediction: Prediction
    """What the network predicts."""
    validation: dict[str, float]
    """psnr_15 (dB), ssim_15, psnr_noisy_15, ssim_noisy_15, and so on for each level; other keys are ignored."""
    config_yaml: str
    """The run's whole config."""
    gflop_per_megapixel: float


_PREDICTED: dict[Prediction, str] = {"epsilon": "ε", "v_prediction": "v", "sample": "x₀"}
_TEMPLATE = """\
---
library_name: diffusers
# license: fill in, as the training images{and_start} allow
tags: [image-denoising, ddpm]
---
# A denoiser for RGB images

A DDPM (diffusers' `UNet2DModel`, {prediction}-prediction) that was {made}
to remove {noise}
of σ = {levels} (0–255 scale) from RGB images of any size.

| | |
|---|---|
| parameters | {parameters:.2f} M, {megabytes:.1f} MB in float16 |
| input | {input} |
| cost | {gflop:.3g} GFLOP a megapixel (a multiply-add counts as two) |
| layout | diffusers: `config.json`, `scheduler_config.json`, `diffusion_pytorch_model.safetensors` |

## Scores

The run's validation images, denoised in the `validation.mode` of the config below; float noise neither clipped nor
quantised, output rounded to 8 bits, PSNR in dB over all channels, scikit-image's default SSIM, means over the images.

{scores}

## Training

- Data: {images:,} images, {epochs:.4g} epochs, {steps:,} updates.
- Loss: {loss}.
- Weights: the run's averaged ones.

The command was `imagewizard train config.yaml` with this `config.yaml`:

```yaml
{config}
```

## Use

```bash
imagewizard denoise model=THIS_FOLDER input=IMAGES output=RUN
```

```python
from diffusers import UNet2DModel

unet = UNet2DModel.from_pretrained("THIS_FOLDER")
```

Images are RGB in [−1, 1]{unshuffled}.
An image with noise of level σ is scaled by √ᾱ_t with the t at which √((1−ᾱ_t)/ᾱ_t) = 2σ/255; the network gives its
{prediction}.

## Limits

{limits}
Noise levels outside the range above were not trained.
"""
_WHITE_ONLY = "White Gaussian noise: noise that a camera's processing or JPEG has smeared looks to it like texture."
_SMEARED = """\
Of noise that a camera's processing or JPEG has smeared, σ is three times the standard deviation of the means of 3×3
pixels, as of white noise: that is what the network was told in training."""


def _table(scores: dict[str, float]) -> str:
    """PSNR and SSIM by noise level, of the noisy images if known, and of the denoised ones."""
    lines = ["| σ | noisy PSNR / SSIM | denoised PSNR / SSIM |", "|---|---|---|"]
    for level in history.by_level(scores, "psnr"):
        cells = [level]
        for kind in ("_noisy", ""):
            psnr, ssim = (scores.get(f"{measure}{kind}_{level}") for measure in ("psnr", "ssim"))
            cells.append(" / ".join(["–" if psnr is None else f"{psnr:.2f}", "–" if ssim is None else f"{ssim:.4f}"]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else "None: the run was not validated."


def render(facts: ModelFacts) -> str:
    """The card: Markdown with YAML front matter. The publisher of the model fills in the licence."""
    channels = facts.network.get("in_channels", 3)
    multiple = size_multiple(facts.network)
    k = unshuffle_factor(facts.network)
    unshuffled = f", {k}×{k} pixel-unshuffled: {channels} channels in and out" if k > 1 else ""
    return _TEMPLATE.format(
        and_start=" and the model it began with" if facts.start else "",
        made=f"fine-tuned from `{facts.start}`" if facts.start else "trained from random weights",
        noise=facts.noise,
        limits=_SMEARED if facts.smeared else _WHITE_ONLY,
        levels=" to ".join(map(level_text, facts.sigma)),
        parameters=facts.parameters / 1e6,
        megabytes=facts.parameters * 2 / 1e6,
        input=f"RGB{unshuffled}; height and width padded to multiples of {multiple}",
        gflop=facts.gflop_per_megapixel,
        scores=_table(facts.validation),
        images=facts.images,
        epochs=facts.epochs,
        steps=facts.steps,
        loss=facts.loss,
        prediction=_PREDICTED[facts.prediction],
        config=facts.config_yaml.rstrip("\n"),
        unshuffled=unshuffled,
    )
