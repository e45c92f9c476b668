"""What a run with a time limit does when its loss explodes: it goes back to its last good state, at half the rate."""

import torch

from imagewizard.training import checkpoint
from imagewizard.training.trainer import CHECK_STEPS, ExplodedError, LossWatch, Trainer

# The smoothed loss of a good state is at most this many times its minimum: an explosion takes some steps to be noticed.
GOOD = 1.2
# A run whose loss still explodes at this share of its rate is given up.
LEAST_RATE_FACTOR = 1e-3


class GoodState:
    """The newest good state of a trainer, copied in the memory of its device."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.step = -CHECK_STEPS
        """Its step."""
        self.keep()

    def keep(self) -> None:
        """Copies the state every CHECK_STEPS steps, unless the loss has begun to rise."""
        trainer, watch = self._trainer, self._trainer.watch
        if trainer.step - self.step < CHECK_STEPS or float(watch.smoothed) > GOOD * float(watch.least):
            return
        self._tensors = {name: tensor.clone() for name, tensor in checkpoint.tensors_of(trainer).items()}
        self.step = trainer.step

    def go_back(self, error: ExplodedError) -> str:
        """Puts the state back into the trainer and halves its rate; its steps, and so its samples, go on.

        Returns what happened, in words. Raises `error` if the rate is very low already.
        """
        trainer = self._trainer
        if trainer.rate_factor < LEAST_RATE_FACTOR:
            raise error
        trainer.rate_factor /= 2
        least = trainer.watch.least
        trainer.watch = LossWatch(trainer.config, trainer.device)
        if torch.isfinite(least):
            trainer.watch.smoothed.copy_(least)
            trainer.watch.least.copy_(least)
        checkpoint.put_back(trainer, self._tensors)
        return f"{error.what}; back to step {self.step}, at {trainer.rate_factor:g} of the rate"
