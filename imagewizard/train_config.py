"""The config of `imagewizard train`."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from imagewizard.config import Section


class DataSection(Section):
    """What is trained on."""

    train: str
    """Folder of clean training images, searched recursively."""
    validation: str
    """Folder of clean images, none of them in `train`, that pick nothing but are reported on."""
    crop: Annotated[int, Field(ge=16, multiple_of=8)] = 96
    """Side of the square training crops, in pixels; a smaller image is reflect-padded to it."""


class ScheduleSection(Section):
    """The DDPM's betas, as diffusers' DDIMScheduler makes them; they become part of the model."""

    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    beta_start: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.02
    num_train_timesteps: Annotated[int, Field(ge=2)] = 1000


class OptimizerSection(Section):
    """AdamW with linear warm-up and cosine decay to zero."""

    steps: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)] = 16
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """The gradient's norm is clipped to this."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay a step of the averaged weights, which are the ones validated and exported."""


class TrainConfig(Section):
    """A training run: a DDPM's network learns to predict the noise in photographs."""

    output: str
    """The run folder, a local one."""
    data: DataSection
    sigma: tuple[float, float] = (2.0, 60.0)
    """Least and greatest noise level (0-255 scale) trained on; drawn uniformly."""
    network: dict[str, Any]
    """Arguments of diffusers' UNet2DModel. With 3*k*k channels it works on k x k pixel-unshuffled images."""
    schedule: ScheduleSection = ScheduleSection()
    optimizer: OptimizerSection
    seed: Annotated[int, Field(ge=0)] = 0
    checkpoint_every: Annotated[int, Field(ge=1)] = 500
    """Steps between checkpoints; validation runs at each."""

    @field_validator("output")
    @classmethod
    def _output_is_local(cls, output: str) -> str:
        if "://" in output:
            raise ValueError(f"must be a local folder (got {output}); copy the finished run to where you want it")
        return output

    @field_validator("sigma")
    @classmethod
    def _sigma_is_a_range(cls, sigma: tuple[float, float]) -> tuple[float, float]:
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(f"must be [least, greatest] with 0 < least <= greatest (got {list(sigma)})")
        return sigma

    @model_validator(mode="after")
    def _channels_are_equal(self) -> "TrainConfig":
        channels = self.network.get("in_channels"), self.network.get("out_channels")
        if channels[0] != channels[1] or channels[0] not in (3, 12, 27, 48, 192):
            raise ValueError(f"network: in_channels and out_channels must be the same 3*k*k (3, 12, …; got {channels})")
        return self
