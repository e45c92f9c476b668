"""A Ray cluster's job server, as `imagewizard submit`, `jobs`, `stop` and `logs` see it: over HTTP, by a token."""

import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from imagewizard.errors import JobError, UserError, one_line
from imagewizard.progress import Reporter, silent

# Where an address may stand, in the order in which they count.
VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")

# To connect, and to get an answer. The longest is that to a submission: the server waits 10 s for an agent.
TIMEOUT_SECONDS = (3.0, 30.0)
FIRST_TIMEOUT_SECONDS = (3.0, 5.0)
# A server that does not answer at all is no cluster, or one that is just starting: it opens its port within seconds.
CONNECT_SECONDS = 10.0
# One that answers, but has no agent for jobs yet, is starting: some seconds, minutes on a busy machine.
START_SECONDS = 120.0
PAUSE_SECONDS = 1.0

# They tell the user of each upload and each connection.
_TALKATIVE = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
# A server that has answered before may be silent for so long: a head restarts, a network breaks.
LOST_SECONDS = 30.0

_DASHBOARD = "give the address of the cluster's dashboard, as http://HEAD:8265"
_AUTHENTICATE = (
    "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE (or RAY_AUTH_TOKEN) as the cluster's owner tells you"
)


@dataclass(frozen=True)
class Address:
    """Where a cluster is, and where that was said."""

    text: str
    source: str
    """--address, or the name of an environment variable."""

    def __str__(self) -> str:
        return f"{self.text} (from {self.source})" if self.source in VARIABLES else self.text


def find_address(given: str | None) -> Address:
    """`given`, else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS. Raises UserError if there is none."""
    if given == "":  # a variable that a script has not set, perhaps; the job would go to another cluster
        raise UserError("the address is empty", "give http://HEAD:8265, or leave the option out", "--address")
    named = [(given, "--address"), *((os.environ.get(name), name) for name in VARIABLES)]
    for text, source in named:
        if text:
            if "@" in text:
                raise UserError("the address holds a password", "give the token in RAY_AUTH_TOKEN_PATH", source)
            return Address(text.rstrip("/"), source)
    raise UserError(
        "no cluster is named", "give --address http://HEAD:8265, or set RAY_API_SERVER_ADDRESS", "--address"
    )


class _Client(JobSubmissionClient):
    """Ray's client, with a limit to the time that a request may take."""

    timeout = FIRST_TIMEOUT_SECONDS

    def __init__(self, url: str) -> None:
        """Connects to a dashboard."""
        with _without_variables():
            super().__init__(url)
        self.timeout = TIMEOUT_SECONDS

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
        return super()._do_request(method, endpoint, timeout=self.timeout, **options)


class JobServer:
    """The job server at an address. Methods raise UserError if it refuses us, JobError if it has gone."""

    def __init__(self, address: Address, report: Reporter = silent) -> None:
        """Connects. Raises UserError if there is no cluster at the address, or if it refuses the token."""
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.address = address
        self._report = report
        self.url = _url(address)
        self.client = self._connect()

    def _connect(self) -> _Client:
        started = time.monotonic()
        while True:
            try:
                return _Client(self.url)
            except AuthenticationError as error:
                raise _refused(self.address, error) from None
            except (ConnectionError, requests.Timeout) as error:
                reason, patience = one_line(error), CONNECT_SECONDS
            except requests.HTTPError as error:  # its parts start one after the other
                reason, patience = one_line(error), START_SECONDS
            except requests.exceptions.InvalidHeader:  # its text holds the token
                raise UserError("the token holds a line break, or begins with a space", _AUTHENTICATE) from None
            except (requests.RequestException, RuntimeError, KeyError, ValueError) as error:
                raise UserError(
                    f"what answers at {self.address.text} is no Ray dashboard ({one_line(error)[:200]})",
                    _DASHBOARD,
                    self.address.source,
                ) from None
            if time.monotonic() - started > patience:
                raise UserError(
                    f"no Ray cluster answers at {self.address.text} ({reason[:200]})",
                    "start one (`python cluster/local.py 2`), or correct the address of its dashboard",
                    self.address.source,
                )
            time.sleep(PAUSE_SECONDS)

    def submit(self, **job: Any) -> bool:
        """Submits a job under its `submission_id`; False if there is one of that id already.

        Waits until a head that is still starting takes jobs. `job`: arguments of JobSubmissionClient.submit_job.
        """
        started = time.monotonic()
        told = False
        while True:
            try:
                self.client.submit_job(**job)
                return True
            except AuthenticationError as error:
                raise _refused(self.address, error) from None
            except (requests.RequestException, OSError) as error:
                reason, patience = one_line(error), LOST_SECONDS
            except RuntimeError as error:
                reason, patience = one_line(error), START_SECONDS
                if "already exists" in reason:
                    return False
                if "status code 500" not in reason:
                    raise JobError(f"the cluster at {self.address} refuses the job: {_last_line(error)}") from None
            if time.monotonic() - started > patience:
                raise JobError(f"the cluster at {self.address} takes no job within {patience:g} s: {reason[-300:]}")
            if not told:
                self._report("the cluster is still starting; waiting until it takes jobs")
                told = True
            time.sleep(PAUSE_SECONDS)

    def find(self, submission_id: str) -> JobDetails | None:
        """A job by its id; None if there is none."""

        def ask() -> JobDetails | None:
            try:
                return self.client.get_job_info(submission_id)
            except RuntimeError as error:
                if "status code 404" in str(error):
                    return None
                raise

        return self._patiently(ask)

    def get(self, submission_id: str) -> JobDetails:
        """A job by its id. Raises UserError if there is none."""
        found = self.find(submission_id)
        if found is None:
            raise UserError(
                f"the cluster at {self.address} knows no job {submission_id!r}", "`imagewizard jobs` lists them"
            )
        return found

    def jobs(self) -> list[JobDetails]:
        """All submitted jobs, the oldest first."""
        found = self._patiently(self.client.list_jobs)
        return sorted((job for job in found if job.submission_id), key=lambda job: job.start_time or 0)

    def logs(self, submission_id: str) -> str:
        """All that a job has printed; "" while it has no driver. Also raises JobError if its driver's node is lost."""
        if self.get(submission_id).driver_agent_http_address is None:
            return ""
        try:
            return str(self._patiently(lambda: self.client.get_job_logs(submission_id)))
        except JobError:
            self.get(submission_id)  # raises another one if it is the cluster that is lost
            raise JobError(
                f"the log of {submission_id} cannot be read; it lies on the node of its driver, which may be lost"
            ) from None

    def stop(self, submission_id: str) -> bool:
        """Asks a job to stop; False if it has ended already."""
        self.get(submission_id)
        return self._patiently(lambda: self.client.stop_job(submission_id))

    def nodes(self) -> list[dict[str, float]]:
        """The resources of each node that is alive, as {name: amount}."""
        from ray.util.state import list_nodes

        with _without_variables():
            found = list_nodes(address=self.url, filters=[("state", "=", "ALIVE")], detail=True, timeout=10)
        return [node["resources_total"] or {} for node in found]

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """What `ask` returns, once the server answers. Raises JobError after LOST_SECONDS."""
        started = time.monotonic()
        while True:
            try:
                return ask()
            except AuthenticationError as error:
                raise _refused(self.address, error) from None
            except (requests.RequestException, OSError, RuntimeError) as error:
                if "status code 4" in str(error):
                    raise UserError(_last_line(error), "`imagewizard jobs` lists the jobs") from None
                if time.monotonic() - started > LOST_SECONDS:
                    raise JobError(
                        f"lost the cluster at {self.address}: {one_line(error)[:300]}. Its jobs go on if it lives"
                    ) from None
            time.sleep(PAUSE_SECONDS)


@contextmanager
def _without_variables() -> Iterator[None]:
    """Takes the variables out of the environment that override the argument of Ray's client, and puts them back."""
    values = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(values)


def _refused(address: Address, error: AuthenticationError) -> UserError:
    """The server's refusal, or Ray's own complaint about our token, as one line."""
    text = str(error)
    if text.startswith("Authentication required"):
        return UserError(f"the cluster at {address} asks for a token, and none was sent", _AUTHENTICATE)
    if text.startswith("Authentication failed"):
        return UserError(f"the cluster at {address} refuses the token: it is another cluster's", _AUTHENTICATE)
    return UserError(one_line(text.partition(". Ensure")[0]), _AUTHENTICATE, "RAY_AUTH_MODE=token")


def _last_line(error: Exception) -> str:
    """The last line of a traceback that the server has sent, without what the exception's class is called."""
    lines = [line for line in str(error).strip().rstrip(".").splitlines() if line.strip()]
    return re.sub(r"^[\w.]*(Error|Exception): ", "", lines[-1])


def _url(address: Address) -> str:
    """The address of the dashboard. Raises UserError if it is none and leads to none."""
    scheme, separator, _ = address.text.partition("://")
    if scheme in ("http", "https") and separator:
        return address.text
    if separator:
        raise UserError(f"{address.text} cannot take jobs", _DASHBOARD, address.source)
    if _answers(url := f"http://{address.text}"):
        return url
    return _url_of_gcs(address)


def _answers(url: str) -> bool:
    try:
        requests.get(f"{url}/api/version", timeout=TIMEOUT_SECONDS[0])
    except (requests.RequestException, ValueError):
        return False
    return True


# What Ray's client does itself with such an address. In a process of its own, because Ray asks a dead GCS for minutes,
# and its C++ side complains on stderr meanwhile.
_ASK_GCS = """
import sys
from ray.dashboard.utils import get_address_for_submission_client
from ray.exceptions import AuthenticationError
try:
    print(get_address_for_submission_client(sys.argv[1]))
except AuthenticationError as error:
    sys.exit(f"token: {error}")
"""


def _url_of_gcs(address: Address) -> str:
    """The dashboard of a cluster that is named as `ray.init` takes it: host:port of its GCS, or auto."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    try:
        asked = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", _ASK_GCS, address.text],
            env=environment,
            capture_output=True,
            text=True,
            timeout=CONNECT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        reason = f"no answer within {CONNECT_SECONDS:g} s"
    else:
        if asked.returncode == 0:
            return asked.stdout.strip().splitlines()[-1]
        *_, reason = asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"]
        if "token: " in asked.stderr:
            raise _refused(address, AuthenticationError(asked.stderr.partition("token: ")[2]))
    raise UserError(
        f"no Ray cluster answers at {address.text} ({one_line(reason)[:200]})",
        _DASHBOARD,
        address.source,
    )
