"""The state of a training and its update step, in one process or in several that average their gradients."""

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from imagewizard import seeding
from imagewizard.config.train import OptimizerSection, TrainConfig
from imagewizard.diffusion import compile_cache
from imagewizard.diffusion.architecture import size_multiple
from imagewizard.diffusion.denoiser import is_out_of_memory
from imagewizard.diffusion.schedule import NoiseSchedule, Prediction, sigma_to_std
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.errors import UserError
from imagewizard.models import network
from imagewizard.training.batches import Batch
from imagewizard.training.budget import Budget
from imagewizard.training.losses import Objective, VGG19Features

# A run has exploded if its smoothed loss is this many times its minimum. The error of eps is 1 for a network that finds
# no noise, so that of a good network (0.1) never rises more than tenfold. The error of x0 differs 900-fold between
# levels 2 and 60; so does that of eps if the network predicts x0.
EXPLODED = {"eps": 4.0, "x0": 10.0}
# Smoothing over about fifty steps, because a small batch may happen to hold only very noisy or only nearly clean crops.
SMOOTHING = 0.98
# Steps between checks for a failed step. A GPU runs asynchronously, and a check waits for it. A failed step does not
# change the weights, nor does any later step, so a late check does no harm.
CHECK_STEPS = 100


def learning_rate(step: int, budget: Budget, config: OptimizerSection) -> float:
    """The rate at `step`: linear warm-up, then half a cosine down to zero at the end of the budget, or a constant."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * budget.progress(step, config.warmup_steps)))


class ExplodedError(UserError):
    """The loss or its gradient is not finite, or the loss has risen far above its minimum."""


class StepResult:
    """The result of one update, the same on all workers. Its numbers are on the device; reading them waits for it."""

    def __init__(self, names: list[str], values: Tensor, learning_rate: float) -> None:
        self.names = names
        """loss, mse, and perceptual where it is part of the loss."""
        self.values = values
        """Means of `names` over the whole batch, and the gradient's norm before clipping; float32, on the device."""
        self.learning_rate = learning_rate

    @property
    def terms(self) -> dict[str, float]:
        return dict(zip(self.names, self.values.tolist(), strict=False))

    @property
    def grad_norm(self) -> float:
        return float(self.values[-1])


class Trainer:
    """Network, averaged weights, optimizer and step. All workers hold the same, because they apply the same gradients.

    If torch.distributed is initialised, its processes share each batch. Raises UserError if the network or the schedule
    does not fit the crop or the noise levels.
    """

    def __init__(
        self,
        config: TrainConfig,
        unet: UNet2DModel,
        schedule: NoiseSchedule,
        budget: Budget,
        device: torch.device,
        features: VGG19Features | None = None,
    ) -> None:
        self.config, self.schedule, self.budget, self.device = config, schedule, budget, device
        schedule.timestep(max(config.sigma[1], *config.validation.sigma))  # fails early if the schedule is too short
        if config.data.crop % (multiple := size_multiple(unet.config)):
            raise UserError(
                f"the network takes multiples of {multiple} pixels (got {config.data.crop})",
                "give one of them",
                "data.crop",
            )
        self.unet = unet.train().requires_grad_(True).to(device, memory_format=torch.channels_last)
        if config.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        if config.compile:
            compile_cache.use()
            self.unet.compile(dynamic=False)
        features = features.to(device) if features is not None else None
        self.objective = Objective(self.unet, config.loss, features, config.precision == "bf16", schedule.prediction)
        self.workers = dist.get_world_size() if dist.is_initialized() else 1
        self._rank = dist.get_rank() if dist.is_initialized() else 0
        distributed = self.workers > 1
        self._parallel: nn.Module = DistributedDataParallel(self.objective) if distributed else self.objective
        self.ema = {name: parameter.detach().clone() for name, parameter in self.unet.named_parameters()}
        self.optimizer = torch.optim.AdamW(
            self.unet.parameters(), weight_decay=config.optimizer.weight_decay, fused=True
        )
        self.step = 0
        self.rate_factor = 1.0
        """Factor of the learning rate; below 1 in a run whose loss has exploded."""
        self.watch = LossWatch(config, device, schedule.prediction)
        # The step seeds the dropout masks, so that a resume draws the same ones; most networks have no dropout.
        self._has_dropout = any(isinstance(module, nn.Dropout) and module.p for module in self.unet.modules())
        self.busy_seconds = 0.0
        """Seconds spent so far in forward pass, backward pass and update; the rest is waiting for data or reporting."""
        self._clock = _DeviceClock(device)

    def train_step(self, micro_batches: Sequence[Batch]) -> StepResult:
        """Makes one update from this worker's share of the batch.

        Raises ExplodedError, and leaves the weights unchanged, if the loss or gradient is not finite or the loss has
        exploded (on a GPU up to CHECK_STEPS steps later); UserError if a micro-batch does not fit into memory.
        """
        self._clock.start()
        options = self.config.optimizer
        rate = self.rate_factor * learning_rate(self.step, self.budget, options)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self._has_dropout:
            torch.manual_seed(seeding.key(self.config.seed, self.step, "dropout", self._rank) % 2**62)
        self.optimizer.zero_grad()
        totals = torch.zeros(len(self.objective.terms), device=self.device)
        for index, batch in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            totals += self._forward_backward(batch, synchronise=last)
        if self.workers > 1:
            dist.all_reduce(totals)
        norm = torch.nn.utils.clip_grad_norm_(self.unet.parameters(), options.clip_norm)
        # Fused optimizers skip an update if found_inf, which torch.amp's GradScaler usually sets, is 1.
        self.optimizer.found_inf = self.watch.add(totals[0], norm, self.step)  # type: ignore[attr-defined]
        if self.device.type == "cpu" or self.step % CHECK_STEPS == 0:
            self.watch.check()
        self.optimizer.step()
        self.step += 1
        self._average_weights()
        self._clock.stop()
        return StepResult(self.objective.terms, torch.cat([totals, norm.reshape(1)]), rate)

    def settle(self) -> None:
        """Waits for the device and updates `busy_seconds`. Raises ExplodedError if a step has failed.

        A call that all workers must make after the same step: in a run with a time limit they go back together.
        """
        self.watch.check()
        self.read_clock()

    def read_clock(self) -> None:
        """Waits for the device and updates `busy_seconds`."""
        self.busy_seconds += self._clock.take()

    def _forward_backward(self, batch: Batch, synchronise: bool) -> Tensor:
        """Adds a micro-batch's part of the gradient. Returns its part of the batch's mean loss terms."""
        # DistributedDataParallel averages gradients over the workers, but the step needs their sum: hence the factor.
        size = self.config.optimizer.batch_size
        parallel = self._parallel
        wait = nullcontext() if synchronise or not isinstance(parallel, DistributedDataParallel) else parallel.no_sync()
        try:
            with wait:
                terms = parallel(*batch).sum(dim=1)
                (terms[0] * (self.workers / size)).backward()
            return terms.detach() / size
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside of `except`: its traceback would keep the failed attempt's tensors alive.
        raise UserError(*self._size_that_fits(batch), key="resources.micro_batch_size")

    def _size_that_fits(self, batch: Batch) -> tuple[str, str]:
        """(what, fix) for a micro-batch that is too large; tries smaller sizes that divide the batch."""
        crops, side = len(batch.timesteps), self.config.data.crop
        what = f"{crops} crops of {side} x {side} do not fit into memory"
        for size in (size for size in range(crops - 1, 0, -1) if self.config.optimizer.batch_size % size == 0):
            self.unet.zero_grad()
            try:
                loss = self.objective(*(part[:size] for part in batch))[0].sum()
                # Not `backward`: DistributedDataParallel's hooks are still in the middle of the failed attempt.
                torch.autograd.grad(loss, list(self.unet.parameters()))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                continue
            return what, f"{size} fit: resources.micro_batch_size={size}"
        return what, "not even one fits: lower data.crop"

    @torch.no_grad()
    def _average_weights(self) -> None:
        # The decay ramps up (compare the power-function EMA of Karras et al. 2024), so that early averages soon
        # forget the initial weights.
        decay = min(self.config.optimizer.ema_decay, self.step / (self.step + 10))
        torch._foreach_lerp_(list(self.ema.values()), list(self.unet.parameters()), 1.0 - decay)

    def averaged_unet(self) -> UNet2DModel:
        """A copy of the network with the averaged weights, in eval mode, on the same device."""
        unet = network.build_unet(dict(self.unet.config)).to(self.device)
        unet.load_state_dict(self.ema)
        return unet.eval().requires_grad_(False)


class LossWatch:
    """Detects failed and exploded runs on the device, so that no step has to wait for its numbers."""

    def __init__(self, config: TrainConfig, device: torch.device, prediction: Prediction = "epsilon") -> None:
        """`prediction`: what the network predicts."""
        # Highest loss of a network that finds no noise. It bounds the first loss from below, because the first batch
        # may hold only nearly clean crops.
        self._blind = sigma_to_std(config.sigma[1]) ** 2 if config.loss.mse == "x0" else 1.0
        self._exploded = EXPLODED["x0" if prediction == "sample" else config.loss.mse]
        self.smoothed = torch.full((), math.inf, device=device)
        self.least = torch.full((), math.inf, device=device)
        self._failed = torch.zeros((), dtype=torch.bool, device=device)
        self._seen = torch.zeros(5, dtype=torch.float64, device=device)
        """Step, loss, gradient norm, minimum and smoothed loss of the newest step, or of the one that failed."""

    def add(self, loss: Tensor, norm: Tensor, step: int) -> Tensor:
        """Records a step. Returns 1.0 (shape ()) if it or an earlier step has failed, else 0.0."""
        previous = torch.where(self.smoothed.isfinite(), self.smoothed, loss.clamp(min=self._blind))
        self.smoothed = SMOOTHING * previous + (1.0 - SMOOTHING) * loss
        self.least = torch.fmin(self.least, self.smoothed)  # not that of a NaN
        seen = torch.stack([torch.full_like(loss, step), loss, norm, self.least, self.smoothed]).double()
        self._seen = torch.where(self._failed, self._seen, seen)
        broken = ~(loss + norm).isfinite() | (self.smoothed > self._exploded * self.least)
        self._failed = self._failed | broken
        return self._failed.float()

    def check(self) -> None:
        """Raises ExplodedError if a step has failed, on every worker alike, because all see the same numbers."""
        if not self._failed:
            return
        step, loss, norm, least, smoothed = self._seen.tolist()
        if math.isfinite(loss + norm):
            problem = f"the loss has risen from {least:.4g} to {smoothed:.4g}"
        else:
            problem = f"the loss is {loss:g} and its gradient's norm {norm:g}"
        what, fix = f"at step {step:.0f} {problem}", "lower the rate, in another output"
        raise ExplodedError(what, fix, "optimizer.learning_rate")


class _DeviceClock:
    """Seconds that a device spends between `start` and `stop`; CUDA events measure an asynchronous device."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._begun: torch.cuda.Event | None = None
        self._spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = self._started = 0.0

    def start(self) -> None:
        """Begins a span, and forgets one that a failed step has left open."""
        if self._cuda:
            self._begun = torch.cuda.Event(enable_timing=True)
            self._begun.record()
        self._started = time.perf_counter()

    def stop(self) -> None:
        self._seconds += time.perf_counter() - self._started
        if self._begun is not None:
            ended = torch.cuda.Event(enable_timing=True)
            ended.record()
            self._spans.append((self._begun, ended))

    def take(self) -> float:
        """Seconds since the last call; waits for the device."""
        if self._cuda:
            torch.cuda.synchronize()
            self._seconds = sum(begin.elapsed_time(end) for begin, end in self._spans) / 1e3
            self._spans.clear()
        seconds, self._seconds = self._seconds, 0.0
        return seconds
