"""What a run with a time limit does when its loss explodes: it goes back to its last good state, at half the rate."""

import torch
from torch import Tensor

from imagewizard.training import checkpoint
from imagewizard.training.trainer import CHECK_STEPS, ExplodedError, LossWatch, Trainer

# The smoothed loss of a good state is at most this many times its minimum. In a steady run it varies by hundredths. An
# explosion, which is noticed at four times the minimum, passes this within a few steps.
GOOD = 1.2
# Ten halvings. A run whose loss explodes even then has another fault.
LEAST_RATE_FACTOR = 1e-3


class GoodState:
    """The newest good state of a trainer, copied in the memory of its device."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._tensors: dict[str, Tensor] = {}
        self._copy()

    def keep(self) -> None:
        """Copies the state every CHECK_STEPS steps, unless the loss has begun to rise or is not finite."""
        watch = self._trainer.watch
        if self._trainer.step % CHECK_STEPS == 0 and watch.smoothed <= GOOD * watch.least:
            self._copy()

    def _copy(self) -> None:
        for name, tensor in checkpoint.tensors_of(self._trainer).items():
            if name in self._tensors:
                self._tensors[name].copy_(tensor)
            else:
                self._tensors[name] = tensor.clone()
        self.step = self._trainer.step

    def go_back(self, error: ExplodedError) -> str:
        """Puts the state back into the trainer and halves its rate; its steps, and so its samples, go on.

        Returns what happened, in words. Raises `error` if the rate is very low already.
        """
        trainer = self._trainer
        if trainer.rate_factor < LEAST_RATE_FACTOR:
            raise error
        trainer.rate_factor /= 2
        least = trainer.watch.least
        trainer.watch = LossWatch(trainer.config, trainer.device, trainer.schedule.prediction)
        if torch.isfinite(least):
            trainer.watch.smoothed.copy_(least)
            trainer.watch.least.copy_(least)
        checkpoint.put_back(trainer, self._tensors)
        return f"{error.what}; back to step {self.step}, at {trainer.rate_factor:g} of the rate"
