"""Which Ray cluster a driver is to join, and whether one answers there: ray.init asks a dead address for minutes."""

import os
from dataclasses import dataclass

from imagewizard.config.submit import holds_password
from imagewizard.errors import UserError, one_line

VARIABLE = "RAY_ADDRESS"

# A cluster answers within milliseconds.
ANSWER_SECONDS = 5.0

_FORM = "give host:port of the cluster's head (its GCS, port 6379 by default)"


@dataclass(frozen=True)
class Named:
    """A cluster's address as somebody wrote it, and where."""

    text: str
    key: str
    """resources.address, or the environment variable."""

    def wrong(self, what: str, fix: str) -> UserError:
        """The error of this address."""
        where = f"the environment variable {VARIABLE}" if self.key == VARIABLE else self.key
        return UserError(what, f"{fix}, or leave {where} out for a Ray of this machine alone", self.key)


def named(given: str | None) -> Named | None:
    """The address that counts, as ray.init has it; None if a local Ray is to be started. `given`: in the config."""
    variable = os.environ.get(VARIABLE)
    found = (
        Named(variable, VARIABLE) if variable and given in (None, "auto") else Named(given or "", "resources.address")
    )
    return None if found.text in ("", "local") else found


def check(address: Named) -> None:
    """Raises UserError unless a Ray cluster that takes our token answers at the address, within seconds."""
    # They cost a second, and a local Ray needs none of them.
    import grpc
    from ray._private.gcs_utils import create_gcs_channel
    from ray.core.generated.gcs_service_pb2 import CheckAliveRequest
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
    from ray.exceptions import AuthenticationError

    target = _target(address)
    try:
        with create_gcs_channel(target) as channel:
            NodeInfoGcsServiceStub(channel).CheckAlive(CheckAliveRequest(), timeout=ANSWER_SECONDS)
    except AuthenticationError as error:  # our own token cannot be read
        what = one_line(str(error).partition(". Ensure")[0])
        raise UserError(what, "set RAY_AUTH_TOKEN_PATH to the file that holds it", "RAY_AUTH_MODE") from None
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise address.wrong(
                f"the cluster at {target} asks for a token, and ours is missing or another cluster's",
                "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE as its owner tells you",
            ) from None
        late = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        reason = f"nothing within {ANSWER_SECONDS:g} s" if late else one_line(error.details())
        # gRPC puts the reason behind words of its own.
        raise address.wrong(
            f"no Ray cluster answers at {target} ({reason.rpartition('last error: ')[2][:200]})", _FORM
        ) from None


def _target(address: Named) -> str:
    """The host:port of an address. Raises UserError if it is no address of a cluster."""
    if holds_password(address.text):
        raise address.wrong("the address holds a password", _FORM)
    scheme, separator, _ = address.text.partition("://")
    if separator and scheme in ("http", "https"):
        raise address.wrong(
            f"{address.text} is the address of a dashboard, for `imagewizard submit --address`",
            f"for a driver, {_FORM}",
        )
    if separator:
        # Ray Data and Ray Train need a driver that is on a node of the cluster.
        raise address.wrong(
            f"{address.text} cannot be joined from afar",
            f"send the job with `imagewizard submit`, or, on a node, {_FORM}",
        )
    text = _found_here(address) if address.text == "auto" else address.text
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or (":" in host and not host.startswith("[")):
        raise address.wrong(f"{text} is no address of a Ray cluster", _FORM)
    return text


def _found_here(address: Named) -> str:
    """The address of the cluster that runs on this machine. Raises UserError if there is none."""
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = canonicalize_bootstrap_address("auto")
    except ConnectionError:
        found = None
    if found is None:
        raise address.wrong("auto finds no Ray cluster on this machine", f"start one (`ray start --head`), {_FORM}")
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)  # as ray.init does for such a cluster
    return found
