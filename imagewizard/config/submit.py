"""What `imagewizard submit` asks of a cluster for a job; both configs have this section."""

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from imagewizard.config.loading import Section

# Ray keeps a job's environment where everybody who may list jobs can read it.
_SECRET = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PASSWORD_IN_ADDRESS = re.compile(r"://[^/\s]*@")


def holds_password(text: str) -> bool:
    """Whether an address in the text holds a user name or a password (`https://user:password@host`)."""
    return _PASSWORD_IN_ADDRESS.search(text) is not None


class SubmitSection(Section):
    """What `imagewizard submit` asks of the cluster. A job that runs reads none of it, so no key changes a result."""

    cpus: Annotated[float, Field(ge=0)] = 0
    """CPUs reserved for the driver. With 0 of everything it runs on the head node."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs reserved for the driver, which needs none: actors and workers reserve theirs."""
    memory: Annotated[int, Field(ge=0)] = 0
    """Bytes of memory reserved for the driver."""
    resources: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Custom resources of Ray reserved for the driver, as {name: amount}."""
    env: list[str] = []
    """Names of environment variables that the job gets with the values that they have where it is submitted. Names of
    secrets are refused, because Ray shows the values to everybody who may list jobs: give secrets to the nodes."""
    pip: list[str] = []
    """Requirements that pip installs on each node before the job starts."""
    uv: list[str] = []
    """The same with uv, which is faster. Give one of the two."""
    image: str | None = None
    """Container image in which all processes of the job run; the nodes need podman. No folder is sent then."""

    @field_validator("env")
    @classmethod
    def _names_of_no_secrets(cls, env: list[str]) -> list[str]:
        for name in env:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of an environment variable; give names, without values")
            if _SECRET.search(name):
                raise ValueError(
                    f"{name} names a secret, and Ray shows a job's variables to everybody who may list jobs; give it "
                    "to the nodes (a role, a Kubernetes secret, the environment that Ray is started in)"
                )
        return env

    @field_validator("pip", "uv", "image")
    @classmethod
    def _no_password(cls, value: list[str] | str | None) -> list[str] | str | None:
        if any(map(holds_password, [value] if isinstance(value, str) else value or [])):
            raise ValueError("an address in it holds a password; configure the nodes' pip or registry instead")
        return value

    @model_validator(mode="after")
    def _one_environment(self) -> "SubmitSection":
        if sum(map(bool, (self.pip, self.uv, self.image))) > 1:
            raise ValueError("give one of submit.pip, submit.uv and submit.image: Ray combines none of them")
        return self
