"""Endpoint, region, credentials and signature, by variables and by ~/.aws/config, for boto3's client and pyarrow's."""

import os
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.credentials import Credentials, RefreshableCredentials

from imagewizard.errors import UserError
from imagewizard.storage import Folder, files, s3, s3_client, s3_settings
from tests.support.s3_faults import FaultyS3


def configure(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves a config file as all that says anything about AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (folder / "config").write_text(text)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def read_twice(uri: str) -> tuple[bytes, bytes]:
    """The object by boto3's client and by pyarrow's."""
    filesystem, path = files.resolve(uri)
    with filesystem.open_input_stream(path) as stream:
        return s3.get(uri).data, stream.read()


PROFILES = """
[default]
endpoint_url = http://127.0.0.1:9
[profile mine]
endpoint_url = {endpoint}
region = eu-north-1
aws_access_key_id = of-the-profile
aws_secret_access_key = secret
[profile by-service]
services = servers
region = garage
aws_access_key_id = by-service
aws_secret_access_key = secret
[services servers]
s3 =
  endpoint_url = {endpoint}
"""


@pytest.mark.parametrize(
    ("profile", "signer"), [("mine", ("of-the-profile", "eu-north-1")), ("by-service", ("by-service", "garage"))]
)
def test_a_profile_holds_for_every_access(
    faulty_s3: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, signer: tuple[str, str]
) -> None:
    uri = f"{faulty_s3.bucket}/a"
    s3.put(uri, b"content")
    configure(PROFILES.format(endpoint=faulty_s3.endpoint), tmp_path, monkeypatch)
    monkeypatch.setenv("AWS_PROFILE", profile)
    faulty_s3.signers.clear()
    assert read_twice(uri) == (b"content", b"content")
    assert faulty_s3.requests["GET"] == 2 and faulty_s3.signers == {signer}


def test_variables_come_before_the_profile(
    faulty_s3: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{faulty_s3.bucket}/a"
    s3.put(uri, b"content")
    configure(PROFILES.format(endpoint="http://127.0.0.1:9"), tmp_path, monkeypatch)
    given = {"PROFILE": "mine", "ENDPOINT_URL_S3": faulty_s3.endpoint, "ENDPOINT_URL": "http://127.0.0.1:8"}
    for name, value in (given | {"REGION": "us-west-2", "DEFAULT_REGION": "us-west-1"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-variable")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    faulty_s3.signers.clear()
    assert read_twice(uri) == (b"content", b"content")
    assert {region for _, region in faulty_s3.signers} == {"us-west-2"}, "as the command line has it"
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_PROFILE")
    faulty_s3.signers.clear()
    assert read_twice(uri) == (b"content", b"content")
    assert faulty_s3.signers == {("of-the-variable", "us-west-1")}


def test_a_public_bucket_needs_no_credentials(
    faulty_s3: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{faulty_s3.bucket}/in/a"
    s3_client.client().put_object(Bucket=s3.split(uri)[0], Key="in/a", Body=b"content", ACL="public-read")
    configure("", tmp_path, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty_s3.endpoint)
    with pytest.raises(UserError, match=r"Unable to locate [^\n]*AWS_NO_SIGN_REQUEST=YES if it is public$"):
        s3.check_bucket(uri)
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    faulty_s3.signers.clear()
    s3.check_bucket(uri)
    assert read_twice(uri) == (b"content", b"content")
    assert Folder(faulty_s3.bucket).list("in") == ["a"] and faulty_s3.signers == {("", "")}


def test_yes_and_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_NO_SIGN_REQUEST", raising=False)
    assert not s3_settings.is_unsigned()
    for text, yes in {"YES": True, "true": True, "1": True, "NO": False, "False": False, "0": False, "": False}.items():
        monkeypatch.setenv("AWS_NO_SIGN_REQUEST", text)
        assert s3_settings.is_unsigned() == yes


@pytest.mark.parametrize(
    ("text", "profile", "complaint"),
    [
        (PROFILES, "none", r"The config profile \(none\) could not be found"),
        ("[profile mine\n", "mine", "Unable to parse config file: "),
        ("[profile mine]\nservices = none\n", "mine", "The profile is configured to use the services section"),
    ],
)
def test_a_profile_that_is_wrong_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, profile: str, complaint: str
) -> None:
    configure(text, tmp_path, monkeypatch)
    monkeypatch.setenv("AWS_PROFILE", profile)
    for ask in (s3.check_bucket, files.resolve):
        with pytest.raises(
            UserError, match=rf"^s3://bucket/in: {complaint}[^\n]*; check AWS_PROFILE, and ~/.aws/config$"
        ):
            ask("s3://bucket/in")
    with pytest.raises(OSError, match=rf"^s3://bucket/in: {complaint}"):
        s3.get("s3://bucket/in")


def test_a_server_of_the_profile_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "FIRST_PAUSE_SECONDS", 0.001)
    configure(PROFILES.format(endpoint="http://127.0.0.1:9"), tmp_path, monkeypatch)
    monkeypatch.setenv("AWS_PROFILE", "mine")
    with pytest.raises(UserError, match=r'endpoint URL: "http://127.0.0.1:9/bucket"; check [^\n]*~/.aws/config, and '):
        s3.check_bucket("s3://bucket")


def options(monkeypatch: pytest.MonkeyPatch, credentials: Credentials | None, **client: str) -> dict[str, object]:
    """What pyarrow's client is told, by variables of no other kind than AWS_CA_BUNDLE."""
    for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_CA_BUNDLE"]:
        monkeypatch.delenv(name)
    session = type("Session", (botocore.session.Session,), {"get_credentials": lambda self: credentials})
    monkeypatch.setattr(s3_settings, "session", session)
    made = boto3.client("s3", aws_access_key_id="a", aws_secret_access_key="b", **client)
    return s3_settings.filesystem_options(made)


def test_credentials_that_pyarrow_finds_and_renews_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    given = {"access_key": "a", "secret_key": "b", "session_token": "c"}
    assert options(monkeypatch, Credentials("a", "b", "c")) == given
    for method, are_found in (("iam-role", True), ("container-role", True), ("assume-role", False), ("sso", False)):
        refreshed = {"access_key": "a", "secret_key": "b", "token": "c", "expiry_time": "2999-01-01T00:00:00Z"}
        renewed = RefreshableCredentials.create_from_metadata(refreshed, dict, method)
        assert options(monkeypatch, renewed) == ({} if are_found else given)
    assert options(monkeypatch, None) == {}


INTERFACE = "https://bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com"


@pytest.mark.parametrize(
    ("profile", "region", "address"),
    [("mine", "eu-north-1", "https://s3-fips.eu-north-1.amazonaws.com"), ("by-service", "garage", INTERFACE)],
)
def test_an_address_that_is_given_holds_for_pyarrow_also_if_it_is_amazons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, region: str, address: str
) -> None:
    configure(PROFILES.format(endpoint=address), tmp_path, monkeypatch)
    monkeypatch.setenv("AWS_PROFILE", profile)
    found = s3_settings.filesystem_options(s3_settings.new_client(Config()))
    assert found["endpoint_override"] == address and found["region"] == region
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert "endpoint_override" not in s3_settings.filesystem_options(s3_settings.new_client(Config()))
    monkeypatch.delenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{INTERFACE}:444")
    found = s3_settings.filesystem_options(s3_settings.new_client(Config()))
    assert found["endpoint_override"] == f"{INTERFACE}:444"


@pytest.mark.parametrize(
    ("address", "line", "variable", "when"),
    [
        ("https://example.org", "", "", "when_required"),
        ("https://example.org", "request_checksum_calculation = when_supported", "", "when_supported"),
        ("https://example.org", "", "when_supported", "when_supported"),
        (INTERFACE, "", "", "when_supported"),
        (INTERFACE, "request_checksum_calculation = when_required", "", "when_required"),
        ("", "", "", "when_supported"),
    ],
)
def test_other_servers_get_no_checksums_unless_they_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, line: str, variable: str, when: str
) -> None:
    configure(f"[default]\nregion = us-east-1\nendpoint_url = {address}\n{line}\n", tmp_path, monkeypatch)
    if variable:
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", variable)
    assert s3_settings.new_client(Config()).meta.config.request_checksum_calculation == when


def test_other_servers_than_amazons(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ("https://s3.amazonaws.com", "https://s3.cn-north-1.amazonaws.com.cn", INTERFACE)
    assert all(map(s3_settings.is_aws, own))
    others = ("https://storage.googleapis.com", "http://amazonaws.com.example.org:9000", "https://my-amazonaws.com")
    assert not any(map(s3_settings.is_aws, others))
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    found = options(monkeypatch, None, endpoint_url=others[0], region_name="auto")
    assert found == {"endpoint_override": others[0], "region": "auto"}
    monkeypatch.setenv("AWS_CA_BUNDLE", "own.pem")
    assert options(monkeypatch, None)["tls_ca_file_path"] == "own.pem"
    monkeypatch.delenv("AWS_CA_BUNDLE")
    styled = boto3.session.Config(s3={"addressing_style": "virtual"})
    assert options(monkeypatch, None, config=styled)["force_virtual_addressing"] is True  # type: ignore[arg-type]
