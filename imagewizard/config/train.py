"""The config of `imagewizard train`."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from imagewizard.config.denoise import Auto, Sigma
from imagewizard.config.loading import Section

# These make a model what it is: a resume with another value is refused. The rest says how and where it is made.
# Paths may change, for the images are known by their ids; and so may a time limit.
RESULT_KEYS = (
    "model", "network", "schedule", "data.crop", "data.small", "data.grey", "sigma", "draw", "loss",
    "optimizer.epochs", "optimizer.batch_size", "optimizer.learning_rate", "optimizer.warmup_steps", "optimizer.decay",
    "optimizer.weight_decay", "optimizer.clip_norm", "optimizer.ema_decay", "precision", "seed",
)  # fmt: skip


class DataSection(Section):
    """What is trained on, and what it is judged by."""

    train: str | list[str]
    """Clean images: a folder (searched recursively), a list of files, or a Parquet manifest; local or s3://."""
    validation: str | list[str]
    """Clean images as in `train`, none of them in it; the best checkpoint is the one that restores these best."""
    crop: Annotated[int, Field(ge=16, multiple_of=8)] = 96
    """Side of the square training crops, in pixels; one crop of every image an epoch."""
    small: Literal["pad", "skip"] = "pad"
    """What becomes of images with a side below `crop`: reflect-padded, or skipped and counted."""
    grey: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the crops that are trained on in grey, with one plane of noise for all three channels."""


class ScheduleSection(Section):
    """The DDPM's betas, as diffusers' DDIMScheduler makes them; they become part of the model."""

    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    """How beta grows from the first timestep to the last."""
    beta_start: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """Beta of the first timestep."""
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Beta of the last timestep."""
    num_train_timesteps: Annotated[int, Field(ge=2)] = 1000
    """Number of timesteps."""


class PerceptualSection(Section):
    """MSE between VGG19 features of the estimate and of the clean image."""

    weight: Annotated[float, Field(gt=0)] = 0.1
    """Of this term, beside 1 for the MSE."""
    weights: str = "torchvision"
    """torchvision (downloaded once), or a local or s3:// file: a state dict of torchvision's vgg19, or part of one."""
    layers: Annotated[list[str], Field(min_length=1)] = ["relu1_2", "relu2_2", "relu3_1"]
    """Layers whose features are compared, equally weighted; nothing beyond the deepest is computed or loaded."""


class LossSection(Section):
    """What is minimised."""

    mse: Literal["eps", "x0"] = "eps"
    """Error of the estimated noise (Ho et al. 2020), or of the reconstructed image, which is the former times the
    level's noise-to-signal ratio: levels of 2 and 60 differ 900-fold then."""
    perceptual: PerceptualSection | None = None
    """null: no VGG19 features are compared."""


class OptimizerSection(Section):
    """AdamW with linear warm-up."""

    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Passes over the training images."""
    minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Time limit, counted from the start of the command, with validation and export; in the place of `epochs`. The
    decay follows the time that is spent. Validations and checkpoints wait where they would take more than a 20th."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Crops an update, over all workers together."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    """The greatest, after the warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Updates in which the rate grows linearly to `learning_rate`."""
    decay: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: half a cosine down to zero at the last step, or no change."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """AdamW's."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """The gradient's norm is clipped to this."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay a step of the averaged weights, which are the ones validated and exported."""


class ValidationSection(Section):
    """How the averaged weights are judged: noise of fixed levels, the same at every validation."""

    every_epochs: Annotated[float, Field(gt=0)] = 1.0
    """Epochs between two validations; there is one more before the first step, and one after the last."""
    sigma: Annotated[list[Sigma], Field(min_length=1)] = [15.0, 25.0, 50.0]
    """Noise levels, 0-255 scale. The best checkpoint has the highest PSNR, averaged over them."""
    mode: Literal["mmse", "ddim"] = "mmse"
    """mmse: one forward, the best PSNR. ddim: `steps` of DDIM sampling."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 5
    """DDIM steps; mmse takes one forward."""
    panels: Annotated[int, Field(ge=0, le=64)] = 4
    """Images of which clean, noisy and denoised are drawn side by side."""


class CheckpointsSection(Section):
    """What can be gone back to."""

    every_steps: Annotated[int, Field(ge=1)] = 500
    """A checkpoint is also taken at each validation, and after the last step."""
    keep: Annotated[int, Field(ge=1)] = 2
    """So many of the best by validation PSNR are kept, and the newest."""


class TrainResourcesSection(Section):
    """How the work is spread; none of it changes what is learnt but for rounding (and the masks of dropout)."""

    workers: Annotated[int, Field(ge=1)] | tuple[int, int] | Auto = "auto"
    """A number, or [least, greatest] to grow and shrink with the cluster; auto: one a GPU, or, without any, one."""
    gpus_per_worker: Annotated[float, Field(ge=0, le=1)] | Auto = "auto"
    """auto: one where the cluster has GPUs, else none."""
    micro_batch_size: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Crops a forward of one worker; a batch is spread over the workers, and accumulated, in pieces of this size. auto:
    the batch divided by the greatest number of workers."""
    image_memory: Annotated[int, Field(ge=0)] = 4 << 30
    """Bytes of decoded images that a worker holds, in its GPU's memory where it has one; a set that may need more is
    streamed."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """The job starts anew from the last checkpoint after so many deaths of workers, and gives up at the next."""
    address: str | None = None
    """Ray cluster to join; null: the one around (RAY_ADDRESS, or inside a Ray job), else a local one."""

    @field_validator("workers")
    @classmethod
    def _a_range(cls, workers: object) -> object:
        if isinstance(workers, tuple) and not 1 <= workers[0] <= workers[1]:
            raise ValueError(f"must be a number or [least, greatest] with 1 <= least <= greatest (got {list(workers)})")
        return workers


class TrainConfig(Section):
    """A training run: a DDPM's network learns to predict the noise in photographs."""

    output: str
    """The run folder; local or s3://."""
    model: str | None = None
    """Model to go on from: embedded, a folder in diffusers' layout (local or s3://) or a hub id. Or give `network`."""
    network: dict[str, Any] | None = None
    """Arguments of diffusers' UNet2DModel, which starts with random weights. With 3*k*k channels it works on k x k
    pixel-unshuffled images."""
    schedule: ScheduleSection = ScheduleSection()
    """Of a new network; a model brings its own."""
    data: DataSection
    sigma: tuple[float, float] = (2.0, 60.0)
    """Least and greatest noise level (0-255 scale) trained on."""
    draw: Literal["sigma", "timestep"] = "sigma"
    """Every sample's level is drawn uniformly in sigma, or uniformly in the schedule's timestep."""
    loss: LossSection = LossSection()
    optimizer: OptimizerSection
    precision: Literal["bf16", "fp32"] = "bf16"
    """Of forward and backward; weights and optimizer are float32."""
    gradient_checkpointing: bool = False
    """Keep fewer activations and compute them again: less memory for about a third more time."""
    compile: bool = False
    """torch.compile the network: minutes of compilation, then faster steps."""
    validation: ValidationSection = ValidationSection()
    checkpoints: CheckpointsSection = CheckpointsSection()
    resources: TrainResourcesSection = TrainResourcesSection()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of the weights of a new network, and of every crop, turn, noise and level."""

    @field_validator("sigma")
    @classmethod
    def _sigma_is_a_range(cls, sigma: tuple[float, float]) -> tuple[float, float]:
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(f"must be [least, greatest] with 0 < least <= greatest (got {list(sigma)})")
        return sigma

    @model_validator(mode="after")
    def _one_start(self) -> "TrainConfig":
        if (self.model is None) == (self.network is None):
            raise ValueError("give either model (to go on from its weights) or network (to start with random ones)")
        return self

    @model_validator(mode="after")
    def _batch_can_be_spread(self) -> "TrainConfig":
        micro, batch = self.micro_batch_size(self.most_workers), self.optimizer.batch_size
        if batch % micro:
            raise ValueError(f"resources.micro_batch_size: {micro} does not divide the batch_size of {batch}")
        if batch // micro < self.most_workers:
            raise ValueError(
                f"optimizer.batch_size: {batch} in micro-batches of {micro} are {batch // micro} pieces of work for "
                f"{self.most_workers} workers; raise it, or lower micro_batch_size or resources.workers"
            )
        return self

    @property
    def most_workers(self) -> int:
        """The greatest number of workers asked for; 1 where that is left to the cluster."""
        workers = self.resources.workers
        return 1 if workers == "auto" else workers if isinstance(workers, int) else workers[1]

    def micro_batch_size(self, workers: int) -> int:
        """Crops a forward, for up to so many workers."""
        size = self.resources.micro_batch_size
        if size != "auto":
            return size
        share = max(1, self.optimizer.batch_size // workers)
        return next(size for size in range(share, 0, -1) if self.optimizer.batch_size % size == 0)

    @property
    def max_micro_batches(self) -> int:
        """Micro-batches that a batch can be cut into."""
        size = self.resources.micro_batch_size
        return self.optimizer.batch_size // (1 if size == "auto" else size)

    def steps(self, images: int) -> int:
        """Updates in `optimizer.epochs`, for so many training images."""
        return max(1, math.ceil(self.optimizer.epochs * images / self.optimizer.batch_size))


@dataclass(frozen=True)
class TrainTask:
    """What every worker of a training is told."""

    config: TrainConfig
    """With absolute paths, for workers have working folders of their own."""
    images: int
    """Of the training manifest."""
    validation: list[tuple[str, str]]
    """(image id, URI) of the validation images."""
    micro_batch_size: int
    threads: int
    in_memory: tuple[tuple[str, str], ...] = ()
    """(image id, URI) of the training images where each worker holds them all; empty where they are streamed."""
    deadline: float | None = None
    """When a run that ends by the clock is to be over, by `time.time`."""

    @property
    def rows_per_step(self) -> int:
        """Micro-batches of a step, over all workers."""
        return self.config.optimizer.batch_size // self.micro_batch_size

    @property
    def steps(self) -> int | None:
        """Updates in the whole run; None where it ends by the clock."""
        return self.config.steps(self.images) if self.config.optimizer.minutes is None else None

    @property
    def epochs(self) -> float | None:
        """Epochs in the whole run; None where it ends by the clock."""
        return self.config.optimizer.epochs if self.config.optimizer.minutes is None else None
