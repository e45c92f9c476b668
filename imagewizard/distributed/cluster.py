"""Joining a Ray cluster or starting a local one, and what every chain of ours sets in it."""

import gc
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray
from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from imagewizard.distributed import joining, local_start, notices
from imagewizard.errors import JobError, UserError, one_line
from imagewizard.progress import Reporter, silent

Start = Callable[[str | None, Reporter], None]
"""`start` or `start_quietly`: joins the cluster at an address, or starts a local one."""


def start(address: str | None, report: Reporter = silent) -> None:
    """Joins the Ray cluster at `address` or the one around (RAY_ADDRESS), or starts a local one.

    Does nothing where this process has joined or started Ray before. Ray stays for the next job of the process;
    `ray.shutdown()` ends it. Raises UserError, within seconds, if there is no cluster at the address; JobError if a
    local Ray does not start, of which `report` is told meanwhile.
    """
    if ray.is_initialized():
        # A job of this process that has failed lies in reference cycles, where its actors keep their CPUs: the next
        # job would wait for them for ever.
        gc.collect()
        return
    found = joining.named(address)
    if found is None:
        with _variable(NO_BYTECODE, None), _variable(*IDLE_WORKERS):
            init = partial(_init, address="local", num_cpus=available_cpus(), include_dashboard=False)
            local_start.start(init, report)
        return
    joining.check(found)
    environment = None if _sets_bytecode(os.environ) else {"env_vars": {NO_BYTECODE: ""}}
    try:
        # Should the cluster die now: one try, which takes Ray 40 s, and not twenty.
        with _variable(TRIES, os.environ.get(TRIES, "1")):
            _init(address=found.text, runtime_env=environment)
    except ConnectionError as error:
        reason = one_line(error.__cause__ or error)
        if "Version mismatch" in reason:
            raise found.wrong(f"{found.text}: {reason}", "install the same versions on both sides") from None
        raise found.wrong(
            f"the cluster at {found.text} cannot be joined ({reason[-300:]})", "run this on one of its nodes"
        ) from None


# How often ray.init tries to connect (in spite of the name).
TRIES = "RAY_gcs_server_port_wait_time_s"


def check(address: str | None) -> None:
    """Raises UserError, within seconds, if `start` is to join a cluster and there is none, or cannot start a Ray."""
    if ray.is_initialized():
        return
    if (found := joining.named(address)) is None:
        local_start.check()
    else:
        joining.check(found)


def is_joined(address: str | None) -> bool:
    """Whether `start` finds a Ray to use, so that it starts none: then there may be other nodes."""
    return ray.is_initialized() or joining.named(address) is not None


def start_quietly(address: str | None, report: Reporter = silent) -> None:
    """As `start`, for a command, whose process is its own: prints of Ray's own messages only what matters."""
    if ray.is_initialized():
        start(address)
        return
    with _quiet_core():
        start(address, report)
    notices.report_to(report)


# Where this variable is set, as in many containers, every worker compiles torch and diffusers anew. An actor's imports
# take 8 s of CPU then, and 3.6 s with the bytecode that an earlier one left. CPython takes an empty value for none.
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"


# Beyond one for each CPU, Ray ends workers that have been idle for a second. Where actors have the CPUs, a new process
# would read each block of a bulk job, and take seconds to start.
IDLE_WORKERS = ("RAY_idle_worker_killing_time_threshold_ms", "120000")


@contextmanager
def _variable(name: str, value: str | None) -> Iterator[None]:
    """Sets a variable of the environment, which a local Ray inherits, or takes it out (None); and puts it back."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _sets_bytecode(environment: Mapping[str, str]) -> bool:
    """Whether we run in a Ray job whose own runtime environment sets NO_BYTECODE: Ray refuses to set it twice."""
    return NO_BYTECODE in environment.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "")


def _init(**options: Any) -> None:
    """ray.init without its messages."""
    with _sigterm_is_kept():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)


@contextmanager
def _sigterm_is_kept() -> Iterator[None]:
    """Puts the caller's handler of SIGTERM back, for which ray.init sets others, and calls it for a SIGTERM meanwhile.

    Where the caller has none, Ray's stay: they end its processes with ours.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        yield
    except SystemExit:  # raised by Ray's handlers, and by nothing else in ray.init
        handler(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _quiet_core() -> Iterator[None]:
    """Silences Ray's C++ side, which reports as errors on our stderr what it mends itself (restarts, for example).

    It also reports on stderr that it was silenced, so stderr is diverted meanwhile, and given back if the start fails.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray Data's own, of an actor that it uses for statistics and that memory has killed. We ask for all our results.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as diverted:
        os.dup2(diverted.fileno(), 2)
        try:
            yield
        except (UserError, JobError):  # says itself all that there is to say
            raise
        except BaseException:
            diverted.seek(0)
            os.write(stderr, diverted.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


@contextmanager
def quiet_data() -> Iterator[None]:
    """Keeps Ray Data's messages off the console while a data set is executed: all that ends a job is raised anyway.

    Its log file keeps them.
    """
    handlers = [each for each in logging.getLogger("ray.data").handlers if isinstance(each, logging.StreamHandler)]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


class Pace(ExecutionCallback):
    """Pauses Ray Data's scheduling loop after each of its rounds.

    The loop waits until a task is ready. A task with unconsumed output is always ready, so the loop spins on a whole
    core while outputs wait for a slower consumer. Fifty rounds a second start and finish all that is ready in each.
    """

    pause = 0.02
    """Seconds."""

    def on_execution_step(self, executor: object) -> None:
        time.sleep(self.pause)


class SlowPace(Pace):
    """For chains whose tasks take seconds: a round costs some 2 ms of CPU.

    The longer a chain has run, the less it matters when a round comes: pauses grow to four times the first.
    """

    pause, most, share = 0.05, 0.2, 0.005
    """Seconds at first and at most; between them a share of the time since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def on_execution_step(self, executor: object) -> None:
        time.sleep(min(self.most, max(self.pause, self.share * (time.monotonic() - self._started))))


def configure(context: DataContext, pace: type[Pace] = Pace) -> None:
    """What all our chains set in their own context (`dataset.context`, a copy of the caller's)."""
    context.enable_progress_bars = False
    context.custom_execution_callback_classes = [pace]
    # Every row, of a few bytes or of a hundred megabytes, is a Ray block of its own: it is passed on as soon as it is
    # there, to whichever consumer is free.
    context.target_max_block_size = 1
    # Errors of workers reach the driver as their own class, and not as the text of a traceback.
    context.raise_original_map_exception = True


def only_on(node_id: str) -> NodeAffinitySchedulingStrategy:
    """Where a task runs that makes sense on this node alone; if the node is lost, so is the task."""
    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def only_here() -> NodeAffinitySchedulingStrategy:
    """The node of this process, which may see disks that others do not, and lives as long."""
    return only_on(ray.get_runtime_context().get_node_id())


def available_cpus() -> int:
    """The cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
