"""How S3 is reached: the AWS_* variables, then the profile of ~/.aws/config, as the AWS command line has it.

boto3 reads nearly all of it by itself; pyarrow's client, which reads less, is told what boto3 has found.
"""

import functools
import os
import re
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ConfigParseError, InvalidConfigError, NoCredentialsError, ProfileNotFound

from imagewizard.errors import one_line

Variables = tuple[tuple[str, str], ...]


def variables() -> Variables:
    """The AWS_* variables: what is made under others is of no use."""
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))


def session() -> Any:
    """botocore's session by these variables, one a process: it keeps the credentials, and renews those that expire."""
    return _sessions(variables())[0]


@functools.cache
def _sessions(found: Variables) -> tuple[Any, Any]:
    """botocore's, and boto3's around it."""
    core = botocore.session.get_session()
    # The command line knows AWS_REGION, which boto3 does not.
    return core, boto3.session.Session(botocore_session=core, region_name=os.environ.get("AWS_REGION"))


def new_client(config: Config) -> Any:
    """boto3's client for S3, with this config and what the variables add to it."""
    return _sessions(variables())[1].client("s3", config=config.merge(_config()))


def forget() -> None:
    """Drops the session: a forked process must not use that of its parent."""
    _sessions.cache_clear()


def is_unsigned() -> bool:
    """Whether requests go out without credentials, for a bucket that is public."""
    return os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() not in ("", "0", "no", "false", "off")


def _config() -> Config:
    found: dict[str, Any] = {"signature_version": UNSIGNED} if is_unsigned() else {}
    name = "request_checksum_calculation"
    is_given = f"AWS_{name.upper()}" in os.environ or name in session().get_scoped_config()
    # By itself boto3 adds a checksum to each write, which several other servers refuse, Google's among them.
    if not is_given and (address := _given_endpoint()) is not None and not is_aws(address):
        found[name] = "when_required"
    return Config(**found)


def _given_endpoint() -> str | None:
    """The address of a variable or of the profile, as boto3 looks for it; None if it is AWS's own for the region."""
    core = session()
    if core.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    profile = core.get_scoped_config()
    servers = core.full_config.get("services", {}).get(profile.get("services"), {})
    given = (os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL"))
    profiled = (servers.get("s3", {}).get("endpoint_url"), profile.get("endpoint_url"))
    return next((address for address in given + profiled if address), None)


def is_aws(endpoint: str) -> bool:
    """Whether the address is one of Amazon's own."""
    return ".amazonaws." in f"{urlsplit(endpoint).hostname}."


def advice(error: Exception) -> str:
    """What to look at after an error that no server has answered with."""
    if isinstance(error, ProfileNotFound | ConfigParseError | InvalidConfigError):
        return "check AWS_PROFILE, and ~/.aws/config"
    if isinstance(error, NoCredentialsError):
        return (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_NO_SIGN_REQUEST=YES if it is public"
        )
    named = next((name for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if os.environ.get(name)), None)
    if named is None:
        return "check the region, endpoint_url in ~/.aws/config, and the network (AWS_ENDPOINT_URL is not set)"
    return f"check {named} ({without_secrets(os.environ[named])}) and the network"


def without_secrets(text: str) -> str:
    """In one line, without the parameters of addresses, nor user:password@ in them."""
    return re.sub(r"//[^/@\s]*@", "//", re.sub(r"(https?://[^\"\s?]*)\?[^\"\s]*", r"\1", one_line(text)))


def filesystem_options(client: Any) -> dict[str, Any]:
    """The arguments of pyarrow's S3FileSystem that have it do as this client of boto3 does.

    But where no address is given, AWS's region is the bucket's; `client` is sent on to it.
    """
    options: dict[str, Any] = {}
    if not is_aws(client.meta.endpoint_url) or _given_endpoint() is not None:
        options |= {"endpoint_override": client.meta.endpoint_url, "region": client.meta.region_name}
    if (client.meta.config.s3 or {}).get("addressing_style") == "virtual":
        options["force_virtual_addressing"] = True
    # Of an authority of one's own, AWS_CA_BUNDLE or ca_bundle.
    if (bundle := session().get_config_variable("ca_bundle")) is not None:
        options["tls_ca_file_path"] = bundle
    if is_unsigned():
        options["anonymous"] = True
    elif (credentials := session().get_credentials()) is not None and not _finds_itself(credentials):
        now = credentials.get_frozen_credentials()
        options |= {"access_key": now.access_key, "secret_key": now.secret_key, "session_token": now.token}
    return options


def _finds_itself(credentials: Any) -> bool:
    """Whether pyarrow finds these credentials too: those of a role of this machine, which it then also renews."""
    roles = {"iam-role", "container-role"}
    if "AWS_WEB_IDENTITY_TOKEN_FILE" in os.environ:
        roles.add("assume-role-with-web-identity")
    return isinstance(credentials, RefreshableCredentials) and credentials.method in roles
