"""A submitted job: starting or finding it, following its log to the end, trying again where the cluster failed."""

import asyncio
import queue
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.job_submission import JobStatus

from imagewizard.distributed.job_server import JobServer
from imagewizard.distributed.ray_job import CONFIG_DIGEST, TRY_OF
from imagewizard.distributed.submission import Submission, check_id
from imagewizard.errors import BROKE, DONE, INTERRUPTED, LOCKED, TERMINATED, WRONG_INPUT, JobError, UserError, one_line
from imagewizard.progress import Reporter, clock, silent

# Another try may succeed where the driver broke, or where another driver, perhaps a dead one, holds the run. All other
# codes are the user's doing, or an end.
RETRIED = (BROKE, LOCKED)
RETRY_SECONDS = 5.0
# A lease whose driver is dead lapses after 60 s without heartbeat (storage/lease.py).
LOCKED_SECONDS = 75.0

# What Python itself prints, in the end, where it has no such command.
_NO_COMMAND = re.compile(r"No module named '?jobs\b.*\s*$")

POLL_SECONDS = 2.0
# A driver starts within seconds. Ray never says why one does not.
PENDING_SECONDS = 30.0


class SubmittedJob:
    """A job on a cluster; a handle that can be made anew, at any time and place, from the cluster's address and the id.

    Methods raise UserError if the cluster refuses us, JobError if it is lost.
    """

    def __init__(self, server: JobServer, submission_id: str, submission: Submission | None = None, retries: int = 0):
        """The job of an id; nothing is sent (`start`).

        `submission`: what to send; None for a job that is there already. `retries`: how often to send it again.
        """
        check_id(submission_id)
        self.id, self.address = submission_id, server.address.text
        self._server, self._submission, self._retries = server, submission, retries
        self._try = 1

    def __repr__(self) -> str:
        return f"SubmittedJob({self.id!r}, address={self.address!r})"

    @property
    def current_id(self) -> str:
        """The id of the latest try: `id`, then `id`-2, `id`-3, …"""
        return self.id if self._try == 1 else f"{self.id}-{self._try}"

    def start(self) -> bool:
        """Sends the job; False if there is one of this id already, which it attaches to.

        Raises UserError if that one has other settings.
        """
        found = self._server.find(self.id)
        if found is None and self._send():
            return True
        self.attach()
        return False

    def attach(self) -> None:
        """Takes up the latest try of the job's id. Raises UserError if there is no such job, or if it is another."""
        found = self._server.get(self.id)
        theirs = (found.metadata or {}).get(CONFIG_DIGEST)
        if self._submission is not None and theirs != self._submission.metadata[CONFIG_DIGEST]:
            raise UserError(
                f"{self.id} is the id of a job with other settings ({found.entrypoint})",
                "give another id, or none",
                "--submission-id",
            )
        while self._is_try(f"{self.id}-{self._try + 1}"):
            self._try += 1

    def status(self) -> str:
        """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED: of the latest try."""
        return str(self._server.get(self.current_id).status)

    def logs(self) -> str:
        """All that the latest try has printed."""
        return self._server.logs(self.current_id)

    def stop(self) -> bool:
        """Asks the job to stop, which commits what is done; False if it has ended already."""
        return self._server.stop(self.current_id)

    def wait(self, report: Reporter = silent) -> int:
        """Follows the job to its end, through all tries, and returns the exit code of the last one.

        `report` gets the lines of its log, and why nothing happens.
        """
        while True:
            info, log = self._follow(report)
            code = exit_code(info)
            if code == BROKE and _NO_COMMAND.search(log):
                report(
                    "error: Python on the cluster does not find the command; install imagewizard there, and send no "
                    "folder of the name jobs"
                )
                return WRONG_INPUT
            if info.driver_exit_code is None and info.status == JobStatus.FAILED:
                report(f"the driver left no exit code: {_last_line(info.message or info.error_type or '')}")
            if code not in RETRIED or self._try > self._retries or self._submission is None:
                return code
            pause = LOCKED_SECONDS if code == LOCKED else RETRY_SECONDS
            which = f"try {self._try + 1} of {self._retries + 1}"
            report(f"{self.current_id} ended with exit code {code}; {which} in {pause:g} s")
            time.sleep(pause)
            self._try += 1
            if not self._send() and not self._is_try(self.current_id):
                raise UserError(f"{self.current_id} is the id of another job", "give another id", "--submission-id")

    def _send(self) -> bool:
        assert self._submission is not None
        with self._submission.write_archive() as folder:
            arguments = self._submission.arguments(Path(folder) / "package.zip")
            if self._try > 1:
                arguments["metadata"] |= {TRY_OF: self.id}
            return self._server.submit(submission_id=self.current_id, **arguments)

    def _is_try(self, submission_id: str) -> bool:
        """Whether there is a job of this id that is a try of this one: people call their jobs a and a-2 too."""
        found = self._server.find(submission_id)
        return found is not None and (found.metadata or {}).get(TRY_OF) == self.id

    def _follow(self, report: Reporter) -> tuple[JobDetails, str]:
        """Reports the log of the current try until it ends; also, every PENDING_SECONDS, why it does not start.

        Returns how it has ended, and its log.
        """
        tail = _Tail(self._server, self.current_id)
        started = told = asked = time.monotonic()
        while True:
            for line in tail.lines(POLL_SECONDS):
                report(line)
            if time.monotonic() - asked < POLL_SECONDS:
                continue
            asked = time.monotonic()
            info = self._server.get(self.current_id)
            if info.status.is_terminal():
                try:
                    log, trouble = self.logs(), ""
                except JobError as error:  # how the job has ended is known all the same
                    log, trouble = "", str(error)
                for line in (*tail.rest(log), *filter(None, [trouble])):
                    report(line)
                return info, log
            if info.status == JobStatus.PENDING and time.monotonic() - told > PENDING_SECONDS:
                told = time.monotonic()
                report(f"pending  {clock(told - started)}: {self._why_pending(info)}")

    def _why_pending(self, info: JobDetails) -> str:
        reserved = {} if self._submission is None else self._submission.reserved
        nodes = self._server.nodes()
        for name, amount in reserved.items():
            total = sum(node.get(name, 0.0) for node in nodes)
            largest = max((node.get(name, 0.0) for node in nodes), default=0.0)
            asked = f"its driver asks for {amount:g} {name}{'s' if name in ('CPU', 'GPU') else ''}"
            if amount > total:
                return f"{asked}, the cluster has {total:g}"
            if amount > largest:
                return f"{asked}, which no node has: the largest has {largest:g}"
        setup = info.runtime_env or {}
        if packages := setup.get("pip") or setup.get("uv"):
            names = packages["packages"] if isinstance(packages, dict) else packages
            return f"its environment is being made ({', '.join(names)}), or nodes are busy"
        if reserved:
            held = ", ".join(f"{amount:g} {name}" for name, amount in reserved.items())
            return f"other jobs hold what its driver asks for ({held})"
        return one_line(info.message or "the cluster does not say why")


def exit_code(info: JobDetails) -> int:
    """The exit code of a job that has ended, as the command would have left it here.

    A driver that left none, or that was killed, counts as broken; one that was stopped, as stopped by SIGTERM.
    """
    if info.status == JobStatus.STOPPED:
        return TERMINATED
    code = info.driver_exit_code
    if info.status == JobStatus.SUCCEEDED:
        return DONE
    if code is None:
        return BROKE
    signalled = code if code >= 0 else 128 - code  # Popen gives -9 where a shell gives 137
    return BROKE if signalled > 128 and signalled not in (INTERRUPTED, TERMINATED) else signalled


def _last_line(text: str) -> str:
    """What a traceback, or the output of an installer, comes to."""
    lines = [line for line in text.splitlines() if line.strip()]
    return one_line(lines[-1])[-500:] if lines else "the cluster does not say why"


class _Tail:
    """The lines of a job's log as they come, read by a thread that connects anew when the connection breaks."""

    def __init__(self, server: JobServer, submission_id: str) -> None:
        self._server, self._id = server, submission_id
        self._texts: queue.Queue[str] = queue.Queue()
        self._length = 0
        self._line = ""
        self._closed = threading.Lock()  # held while a text is taken over, and for good in the end
        threading.Thread(target=self._run, name="job log", daemon=True).start()

    def lines(self, seconds: float) -> Iterator[str]:
        """The lines that are there; waits so many seconds for the first one."""
        with suppress(queue.Empty):
            text = self._texts.get(timeout=seconds)
            while True:
                *lines, self._line = (self._line + text).split("\n")
                yield from lines
                text = self._texts.get_nowait()

    def rest(self, log: str) -> Iterator[str]:
        """The lines that have not been told, once the job has ended with this log. The thread tells no more."""
        self._closed.acquire()
        yield from self.lines(0.0)
        rest = self._line + log[self._length :]
        if rest:
            yield from rest.removesuffix("\n").split("\n")

    def _run(self) -> None:
        while not self._closed.locked():
            with suppress(Exception):  # whatever the HTTP library raises: the next connection may do better
                asyncio.run(self._read())
            time.sleep(1.0)

    async def _read(self) -> None:
        seen = 0
        async for text in self._server.client.tail_job_logs(self._id):
            if not self._closed.acquire(blocking=False):
                return
            new = text[max(0, self._length - seen) :]  # a new connection begins at the log's beginning
            seen += len(text)
            if new:
                self._length = seen
                self._texts.put(new)
            self._closed.release()
