"""The state of a training run, and the step that moves it on: one process of one or more that average gradients."""

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from imagewizard import seeding
from imagewizard.config.train import OptimizerSection, TrainConfig
from imagewizard.diffusion.denoiser import is_out_of_memory
from imagewizard.diffusion.sampling import size_multiple
from imagewizard.diffusion.schedule import NoiseSchedule, sigma_to_std
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.errors import UserError
from imagewizard.models import network
from imagewizard.training.losses import VGG19Features
from imagewizard.training.objective import Objective, inputs
from imagewizard.training.samples import TrainingBatch

# A smoothed loss so many times its least stands for a run that has blown up …
EXPLODED = 10.0
# … smoothed over some fifty steps, because a batch of few crops may happen to hold only noisy or only clean ones.
SMOOTHING = 0.98


def learning_rate(step: int, steps: int, config: OptimizerSection) -> float:
    """Linear warm-up, then half a cosine down to zero at the last of `steps`, or a constant."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return config.learning_rate
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


@dataclass(frozen=True)
class StepResult:
    """One update, seen from any of the workers."""

    terms: dict[str, float]
    """Means over the whole batch: loss, mse, and perceptual where it is part of the loss."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float


class Trainer:
    """Network, averaged weights, optimizer and step. All workers hold the same, for they apply the same gradients.

    With torch.distributed initialised, its processes share each batch. Raises UserError if network, schedule, crop and
    noise levels cannot go together.
    """

    def __init__(
        self,
        config: TrainConfig,
        unet: UNet2DModel,
        schedule: NoiseSchedule,
        steps: int,
        device: torch.device,
        features: VGG19Features | None = None,
    ) -> None:
        self.config, self.schedule, self.steps, self.device = config, schedule, steps, device
        schedule.timestep(max(config.sigma[1], *config.validation.sigma))  # fails here rather than in some later step
        if config.data.crop % (multiple := size_multiple(unet)):
            raise UserError(f"data.crop: the network takes multiples of {multiple} pixels (got {config.data.crop})")
        self.unet = unet.train().requires_grad_(True).to(device, memory_format=torch.channels_last)
        if config.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        if config.compile:
            self.unet.compile(dynamic=False)
        features = features.to(device) if features is not None else None
        self.objective = Objective(self.unet, config.loss, features, config.precision == "bf16")
        self.workers = dist.get_world_size() if dist.is_initialized() else 1
        self._rank = dist.get_rank() if dist.is_initialized() else 0
        distributed = self.workers > 1
        self._parallel: nn.Module = DistributedDataParallel(self.objective) if distributed else self.objective
        self.ema = {name: parameter.detach().clone() for name, parameter in self.unet.named_parameters()}
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), weight_decay=config.optimizer.weight_decay)
        self.step = 0
        self.smoothed_loss = self.least_loss = math.inf
        self.busy_seconds = 0.0
        """Time spent so far in forward, backward and update; the rest is waiting for data and talking about it."""

    def train_step(self, micro_batches: Sequence[TrainingBatch]) -> StepResult:
        """One update from this worker's share of the batch.

        Raises UserError, with the weights as they were, if loss or gradient is not finite or the loss has exploded, or
        if a micro-batch does not fit into memory.
        """
        started = time.perf_counter()
        options = self.config.optimizer
        rate = learning_rate(self.step, self.steps, options)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # Dropout, in networks that have it, draws from here: a function of the step, so that a resume draws the same.
        torch.manual_seed(int(seeding.generator(self.config.seed, self.step, "dropout", self._rank).integers(2**62)))
        self.optimizer.zero_grad()
        totals = torch.zeros(len(self.objective.terms), device=self.device)
        for index, batch in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            totals += self._forward_backward(batch, synchronise=last)
        if self.workers > 1:
            dist.all_reduce(totals)
        norm = torch.nn.utils.clip_grad_norm_(self.unet.parameters(), options.clip_norm).item()
        terms = dict(zip(self.objective.terms, totals.tolist(), strict=True))
        self._check(terms["loss"], norm)
        self.optimizer.step()
        self.step += 1
        self._average_weights()
        self.busy_seconds += time.perf_counter() - started
        return StepResult(terms, norm, rate)

    def _forward_backward(self, batch: TrainingBatch, synchronise: bool) -> Tensor:
        """Adds a micro-batch's part of the gradient; its part of the batch's mean loss terms."""
        # Gradients are averaged over the workers where sums over the batch are wanted: hence times their number.
        size = self.config.optimizer.batch_size
        parallel = self._parallel
        wait = nullcontext() if synchronise or not isinstance(parallel, DistributedDataParallel) else parallel.no_sync()
        try:
            with wait:
                terms = parallel(*inputs(batch, self.schedule, self.device)).sum(dim=1)
                (terms[0] * (self.workers / size)).backward()
            return terms.detach() / size
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        raise UserError(self._size_that_fits(batch))  # outside of `except`, which would keep the failed tensors alive

    def _size_that_fits(self, batch: TrainingBatch) -> str:
        """What to say of a micro-batch that is too large: tries smaller ones that divide the batch."""
        crops = len(batch.sigmas)
        for size in (size for size in range(crops - 1, 0, -1) if self.config.optimizer.batch_size % size == 0):
            self.unet.zero_grad()
            part = TrainingBatch(batch.clean[:size], batch.noise[:size], batch.sigmas[:size])
            try:
                self.objective(*inputs(part, self.schedule, self.device))[0].sum().backward()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                continue
            hint = f"{size} do: resources.micro_batch_size={size}"
            break
        else:
            hint = "not even one does: lower data.crop"
        side = self.config.data.crop
        return f"resources.micro_batch_size: {crops} crops of {side} x {side} do not fit into memory; {hint}"

    def _check(self, loss: float, norm: float) -> None:
        """Raises UserError before an update that would spoil the weights; every worker sees the same numbers."""
        # Begins with no less than what a network that finds no noise would get: the first batch may be of clean crops.
        blind = sigma_to_std(self.config.sigma[1]) ** 2 if self.config.loss.mse == "x0" else 1.0
        previous = self.smoothed_loss if math.isfinite(self.smoothed_loss) else max(loss, blind)
        self.smoothed_loss = SMOOTHING * previous + (1.0 - SMOOTHING) * loss
        self.least_loss = min(self.least_loss, self.smoothed_loss)
        if not math.isfinite(loss + norm):
            problem = f"the loss is {loss:g} and its gradient's norm {norm:g}"
        elif self.smoothed_loss > EXPLODED * self.least_loss:
            problem = f"the loss has risen from {self.least_loss:.4g} to {self.smoothed_loss:.4g}"
        else:
            return
        raise UserError(f"optimizer.learning_rate: at step {self.step} {problem}; lower the rate, in another output")

    @torch.no_grad()
    def _average_weights(self) -> None:
        # Ramped up as in Karras et al. 2024 (the power-function idea): the first averages forget the start.
        decay = min(self.config.optimizer.ema_decay, self.step / (self.step + 10))
        torch._foreach_lerp_(list(self.ema.values()), list(self.unet.parameters()), 1.0 - decay)

    def averaged_unet(self) -> UNet2DModel:
        """A copy of the network with the averaged weights, in eval mode, on the same device."""
        unet = network.build_unet(dict(self.unet.config)).to(self.device)
        unet.load_state_dict(self.ema)
        return unet.eval().requires_grad_(False)
