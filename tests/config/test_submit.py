"""The submit section: no secrets in it, and one way to make an environment."""

import pytest

from imagewizard.config.loading import check
from imagewizard.config.submit import SubmitSection, holds_password
from imagewizard.errors import UserError


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "HF_TOKEN", "db_password", "OPENAI_API_KEY"],
)
def test_names_of_secrets_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"env: {name} names a secret"):
        check(SubmitSection, {"env": ["AWS_ENDPOINT_URL", name]})


@pytest.mark.parametrize("name", ["A=1", "", "1A", "A B"])
def test_only_names_are_taken(name: str) -> None:
    with pytest.raises(UserError, match="is no name of an environment variable"):
        check(SubmitSection, {"env": [name]})


@pytest.mark.parametrize("key", ["pip", "uv", "image"])
def test_passwords_in_addresses_are_refused(key: str) -> None:
    value = "https://me:pw@registry.example/x"
    with pytest.raises(UserError, match=rf"{key}: an address in it holds a password"):
        check(SubmitSection, {key: value if key == "image" else [value]})
    assert holds_password(value) and not holds_password("https://registry.example/x@1")


def test_one_way_to_make_an_environment() -> None:
    check(SubmitSection, {"pip": ["a"]})
    with pytest.raises(UserError, match="give one of"):
        check(SubmitSection, {"pip": ["a"], "image": "b"})
