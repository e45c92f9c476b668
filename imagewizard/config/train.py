"""The config of `imagewizard train`."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from imagewizard.config.denoise import Auto
from imagewizard.config.loading import Section
from imagewizard.config.noise import Levels
from imagewizard.config.submit import SubmitSection
from imagewizard.config.train_data import DataSection, PairsSection

# These keys determine the trained model. A resume with another value is refused. All other keys may change:
# a time limit, and paths too, because images are identified by their ids.
RESULT_KEYS = (
    "model", "network", "schedule", "data.crop", "data.small", "data.grey", "data.camera", "sigma", "draw", "loss",
    "optimizer.epochs", "optimizer.batch_size", "optimizer.learning_rate", "optimizer.warmup_steps", "optimizer.decay",
    "optimizer.weight_decay", "optimizer.clip_norm", "optimizer.ema_decay", "precision", "seed",
)  # fmt: skip


class ScheduleSection(Section):
    """The DDPM's betas, as diffusers' DDIMScheduler computes them; they become part of the model."""

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
    """Weight of this term; the MSE has weight 1."""
    weights: str = "torchvision"
    """torchvision (downloaded once), or a local or s3:// file with all or part of the state dict of torchvision's
    vgg19."""
    layers: Annotated[list[str], Field(min_length=1)] = ["relu1_2", "relu2_2", "relu3_1"]
    """Compares the features of these layers, equally weighted; deeper layers are neither computed nor loaded."""


class LossSection(Section):
    """The loss that training minimises."""

    mse: Literal["eps", "x0"] = "eps"
    """eps: error of the estimated noise (Ho et al. 2020). x0: error of the reconstructed image, which equals the error
    of eps times the level's noise-to-signal ratio; between levels 2 and 60 this ratio grows 900-fold."""
    perceptual: PerceptualSection | None = None
    """null: no perceptual term."""


class OptimizerSection(Section):
    """AdamW with linear warm-up."""

    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Passes over the training images."""
    minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Time limit that replaces `epochs`, from the start of the command (in Python: of the call) to the end of
    validation and export. The decay follows the elapsed time. Validations and checkpoints are delayed if they would
    take more than a 20th of it."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Crops per update, over all workers together."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    """The highest learning rate, reached after the warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Updates during which the rate rises linearly to `learning_rate`."""
    decay: Literal["cosine", "constant"] = "cosine"
    """After the warm-up, the rate falls along half a cosine to zero at the last step (cosine) or stays (constant)."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Weight decay of AdamW."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """The gradient's norm is clipped to this."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay per step of the averaged weights; these are the weights that are validated and exported."""


class ValidationSection(Section):
    """How the averaged weights are scored. Each validation uses the same noise at the same levels."""

    every_epochs: Annotated[float, Field(gt=0)] = 1.0
    """Epochs between validations; there is also one before the first step and one after the last."""
    sigma: Levels = [15.0, 25.0, 50.0]
    """Noise levels, 0-255 scale. The best checkpoint has the highest PSNR, averaged over these levels."""
    pairs: PairsSection | None = None
    """Noisy and clean images as in `data.pairs`, but different ones, which are scored beside the images of
    `data.validation`; if that is null, the best checkpoint has the highest PSNR of these. null: none."""
    mode: Literal["mmse", "ddim"] = "mmse"
    """mmse: one forward pass, the best PSNR. ddim: `steps` steps of DDIM sampling."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 5
    """DDIM steps; mmse takes one forward pass."""
    panels: Annotated[int, Field(ge=0, le=64)] = 4
    """Number of images drawn side by side as clean, noisy and denoised."""


class CheckpointsSection(Section):
    """When checkpoints are written, and how many are kept."""

    every_steps: Annotated[int, Field(ge=1)] = 500
    """Steps between checkpoints; there is also one at each validation and one after the last step."""
    keep: Annotated[int, Field(ge=1)] = 2
    """Number of checkpoints kept, the best by validation PSNR; the newest is kept as well."""


class TrainResourcesSection(Section):
    """How the work is spread; apart from rounding and dropout masks, no key here changes the trained model."""

    workers: Annotated[int, Field(ge=1)] | tuple[int, int] | Auto = "auto"
    """A number, or [least, greatest] to grow and shrink with the cluster; auto: one per GPU, or one without GPUs."""
    gpus_per_worker: Annotated[float, Field(ge=0, le=1)] | Auto = "auto"
    """auto: 1 if the cluster has GPUs, else 0."""
    micro_batch_size: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Crops per forward pass of one worker. A batch is split into pieces of this size; the workers share the pieces and
    accumulate their gradients. auto: the batch divided by the greatest number of workers."""
    image_memory: Annotated[int, Field(ge=0)] = 4 << 30
    """Bytes of decoded images that a worker may hold, in GPU memory if it has a GPU. A larger training set is
    streamed."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """When a worker dies, the job restarts from the last checkpoint, at most this many times; then it gives up."""
    address: str | None = None
    """Ray cluster to join; null: the surrounding one (RAY_ADDRESS, or inside a Ray job), else a new local one."""

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
    """Model to start from: embedded, a folder in diffusers' layout (local or s3://) or a hub id. Or give `network`."""
    network: dict[str, Any] | None = None
    """Arguments of diffusers' UNet2DModel, which starts with random weights. With 3*k*k channels it works on k x k
    pixel-unshuffled images."""
    schedule: ScheduleSection = ScheduleSection()
    """Schedule of a new network; a `model` has its own."""
    data: DataSection
    sigma: tuple[float, float] = (2.0, 60.0)
    """Lowest and highest noise level of training, 0-255 scale."""
    draw: Literal["sigma", "timestep"] = "sigma"
    """Each sample's level is drawn uniformly in sigma, or uniformly in the schedule's timestep."""
    loss: LossSection = LossSection()
    optimizer: OptimizerSection
    precision: Literal["bf16", "fp32"] = "bf16"
    """Precision of forward and backward pass; weights and optimizer state are float32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass instead of keeping them: less memory, about a third more time."""
    compile: bool = False
    """Compile the network with torch.compile: takes minutes at the start, then steps are faster."""
    validation: ValidationSection = ValidationSection()
    checkpoints: CheckpointsSection = CheckpointsSection()
    resources: TrainResourcesSection = TrainResourcesSection()
    submit: SubmitSection = SubmitSection()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of a new network's weights and of all crops, turns, levels and noise."""

    @field_validator("sigma")
    @classmethod
    def _sigma_is_a_range(cls, sigma: tuple[float, float]) -> tuple[float, float]:
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(f"must be [least, greatest] with 0 < least <= greatest (got {list(sigma)})")
        return sigma

    @model_validator(mode="after")
    def _one_start(self) -> "TrainConfig":
        if (self.model is None) == (self.network is None):
            raise ValueError("give either model (to start from its weights) or network (to start with random ones)")
        return self

    @model_validator(mode="after")
    def _something_to_validate_with(self) -> "TrainConfig":
        if self.data.validation is None and self.validation.pairs is None:
            raise ValueError(
                "data.validation: names no images to validate with: give clean ones, or noisy and clean ones as "
                "validation.pairs"
            )
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
        """The greatest number of workers that the config allows; 1 for auto."""
        workers = self.resources.workers
        return 1 if workers == "auto" else workers if isinstance(workers, int) else workers[1]

    def micro_batch_size(self, workers: int) -> int:
        """Crops per forward pass if up to `workers` workers share a batch."""
        size = self.resources.micro_batch_size
        if size != "auto":
            return size
        share = max(1, self.optimizer.batch_size // workers)
        return next(size for size in range(share, 0, -1) if self.optimizer.batch_size % size == 0)

    @property
    def max_micro_batches(self) -> int:
        """Greatest number of micro-batches that a batch can be split into."""
        size = self.resources.micro_batch_size
        return self.optimizer.batch_size // (1 if size == "auto" else size)

    def steps(self, images: int) -> int:
        """Updates in `optimizer.epochs` epochs over `images` training images."""
        return max(1, math.ceil(self.optimizer.epochs * images / self.optimizer.batch_size))


class TrainImage(NamedTuple):
    """An image to train on or to validate with."""

    image_id: str
    uri: str
    noisy_uri: str | None = None
    """Of a pair: its noisy image. `uri` is then that of the clean one."""

    @property
    def key(self) -> str:
        """The config key that a training image comes from."""
        return "data.train" if self.noisy_uri is None else "data.pairs"

    @property
    def validation_key(self) -> str:
        """The config key that a validation image comes from."""
        return "data.validation" if self.noisy_uri is None else "validation.pairs"


@dataclass(frozen=True)
class TrainTask:
    """What each worker of a training receives."""

    config: TrainConfig
    """With absolute paths, because each worker has its own working folder."""
    images: int
    """Number of training images."""
    validation: list[TrainImage]
    """The validation images, then the validation pairs."""
    micro_batch_size: int
    threads: int
    in_memory: tuple[TrainImage, ...] = ()
    """The training images if each worker holds them all; empty if they are streamed."""
    deadline: float | None = None
    """End of a run with a time limit, as `time.time` counts; None for a run of a fixed length."""

    @property
    def rows_per_step(self) -> int:
        """Micro-batches of a step, over all workers."""
        return self.config.optimizer.batch_size // self.micro_batch_size

    @property
    def steps(self) -> int | None:
        """Updates in the whole run; None if it has a time limit."""
        return self.config.steps(self.images) if self.config.optimizer.minutes is None else None

    @property
    def epochs(self) -> float | None:
        """Epochs in the whole run; None if it has a time limit."""
        return self.config.optimizer.epochs if self.config.optimizer.minutes is None else None
