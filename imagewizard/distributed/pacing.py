"""A pace for Ray Data's scheduling loop, which takes a whole core where outputs wait for a slower consumer."""

import time

from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback

# The loop waits for tasks that have something to say; one whose output nobody may take yet says so all the time. Fifty
# rounds a second start and finish all that is ready in each.
PAUSE_SECONDS = 0.02


class Pace(ExecutionCallback):
    """Pauses the loop after each of its rounds."""

    def on_execution_step(self, executor: object) -> None:
        time.sleep(PAUSE_SECONDS)


def pace(context: DataContext) -> None:
    """Gives the pace to all that is executed in a context."""
    context.custom_execution_callback_classes = [Pace]
