"""What `imagewizard submit` sends: a command with its config and folder, and what it asks of the cluster."""

import hashlib
import json
import os
import re
import shlex
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from imagewizard import __version__, config
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.config.submit import holds_password
from imagewizard.config.train import TrainConfig
from imagewizard.distributed import package
from imagewizard.distributed.cluster import NO_BYTECODE
from imagewizard.distributed.package import Package
from imagewizard.distributed.ray_job import CONFIG_DIGEST, OUTPUT, VERSION
from imagewizard.errors import UserError
from imagewizard.models.fetch import is_hub_id
from imagewizard.storage import check_address

CONFIGS: dict[str, type[DenoiseConfig] | type[TrainConfig]] = {"denoise": DenoiseConfig, "train": TrainConfig}

# Where a config from elsewhere lies in the archive.
CONFIG_FOLDER = ".imagewizard"
# A driver that is asked to stop commits what is done; Ray's own 3 s would kill it meanwhile. As Kubernetes does.
STOP_SECONDS = 30

# An id is part of a URL, and of a log file's name on the head.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Submission:
    """A job that can be sent: all that can be checked without the cluster is checked."""

    command: str
    config: DenoiseConfig | TrainConfig
    words: tuple[str, ...]
    """What follows `python -m jobs.COMMAND`."""
    package: Package | None
    """The folder that is sent; None if none is."""
    extra: dict[str, bytes] = field(default_factory=dict)
    """{path in the archive: content} of what does not lie in the folder."""

    @property
    def entrypoint(self) -> str:
        """The line that Ray gives to a shell on the cluster, each word quoted."""
        return shlex.join(["python", "-m", f"jobs.{self.command}", *self.words])

    @property
    def metadata(self) -> dict[str, str]:
        settings = self.config.model_dump(mode="json", by_alias=True, exclude={"submit"})
        digest = hashlib.sha256(json.dumps([self.command, settings], sort_keys=True).encode()).hexdigest()[:16]
        return {VERSION: __version__, CONFIG_DIGEST: digest, OUTPUT: self.config.output}

    @property
    def reserved(self) -> dict[str, float]:
        """What the driver reserves, by Ray's names of resources, without zeros."""
        asked = self.config.submit
        found = {"CPU": asked.cpus, "GPU": asked.gpus, "memory": float(asked.memory), **asked.resources}
        return {name: amount for name, amount in found.items() if amount}

    def __str__(self) -> str:
        asked = self.config.submit
        lines = {
            "runs": self.entrypoint,
            "sends": str(self.package) if self.package else "no folder",
            "reserves": ", ".join(f"{amount:g} {name}" for name, amount in self.reserved.items()),
            "env": ", ".join(asked.env),
            "installs": ", ".join([*asked.pip, *asked.uv]),
            "image": asked.image or "",
        }
        return "\n".join(f"{name:<8} {text}" for name, text in lines.items() if text)

    def arguments(self, archive: Path) -> dict[str, Any]:
        """Arguments of JobSubmissionClient.submit_job. `archive`: of the package; not used if there is none."""
        asked = self.config.submit
        values = {name: os.environ[name] for name in asked.env}
        # A runtime environment without it would be a second one, with workers of its own (cluster.start).
        values |= {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), NO_BYTECODE: ""}
        environment = {
            "working_dir": str(archive) if self.package else None,
            "env_vars": values,
            "pip": asked.pip,
            "uv": asked.uv,
            "image_uri": asked.image,
        }
        return {
            "entrypoint": self.entrypoint,
            "runtime_env": {name: value for name, value in environment.items() if value},
            "metadata": self.metadata,
            "entrypoint_num_cpus": asked.cpus or None,
            "entrypoint_num_gpus": asked.gpus or None,
            "entrypoint_memory": asked.memory or None,
            "entrypoint_resources": asked.resources or None,
        }

    def write_archive(self) -> tempfile.TemporaryDirectory[str]:
        """A folder with the archive, package.zip, if there is a package. It is deleted with the object."""
        folder = tempfile.TemporaryDirectory(prefix="imagewizard-")
        if self.package:
            package.write(self.package, Path(folder.name) / "package.zip", self.extra)
        return folder


def prepare(command: str, path: str | None, overrides: Sequence[str], folder: Path) -> Submission:
    """A command with a config file (None: all defaults) and `key.path=value` words, with the folder sent along.

    Raises UserError if the config is wrong, if it has relative paths, or if the folder is too large.
    """
    checked = config.load(_class(command), path, overrides)
    _check(checked)
    if checked.submit.image:
        return of_config(checked)
    sent = package.collect(folder)
    if path is None:
        return Submission(command, checked, tuple(overrides), sent)
    file = Path(path).resolve()
    inside = file.is_relative_to(sent.folder)
    name = file.relative_to(sent.folder).as_posix() if inside else f"{CONFIG_FOLDER}/{file.name}"
    return Submission(command, checked, (name, *overrides), sent, {name: file.read_bytes()})


def of_config(checked: DenoiseConfig | TrainConfig) -> Submission:
    """A command of a config object: its keys travel as words, and no folder is sent. Raises UserError as `prepare`."""
    _check(checked)
    command = next(name for name, model in CONFIGS.items() if isinstance(checked, model))
    given = checked.model_dump(mode="json", by_alias=True, exclude_unset=True)
    words = (f"{key}={_word(value)}" for key, value in given.items() if key != "submit")
    return Submission(command, checked, tuple(words), None)


def _word(value: Any) -> str:
    """A value as on the command line: text as it is; else JSON, which is YAML, so that a section is one word."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def new_id(command: str) -> str:
    """An id that no other job has, which sorts by time."""
    return f"{command}-{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"


def check_id(submission_id: str) -> None:
    """Raises UserError if a job cannot have this id."""
    if not _ID.fullmatch(submission_id):
        raise UserError(
            f"{submission_id!r} is no id", "use up to 100 letters, digits, `-`, `_` and `.`", "--submission-id"
        )


def _class(command: str) -> type[DenoiseConfig] | type[TrainConfig]:
    if command not in CONFIGS:
        raise UserError(f"{command!r} cannot be submitted", f"give one of {', '.join(CONFIGS)}")
    return CONFIGS[command]


def _check(checked: DenoiseConfig | TrainConfig) -> None:
    if checked.resources.address is not None:
        raise UserError("a submitted job runs on the cluster that it is sent to", "leave it null", "resources.address")
    for key, text in _paths(checked):
        if "://" in text:
            if holds_password(text):
                raise UserError("the address holds a password", "give the nodes credentials of their own", key)
            try:
                check_address(text.rstrip("/") + "/x")
            except UserError as error:
                raise error.at(key) from None
        elif not Path(text).is_absolute():
            raise UserError(
                f"{text} is a relative path, which each node would look for in another folder",
                "give an absolute path that all nodes have, or an s3:// URI",
                key,
            )
    for name in checked.submit.env:
        if name not in os.environ:
            raise UserError(f"{name} is not set here", "set it, or leave it out", "submit.env")
        if holds_password(os.environ[name]):
            raise UserError(
                f"the value of {name} holds a password, and Ray shows it to everybody who may list jobs",
                "give it to the nodes",
                "submit.env",
            )


def _paths(checked: DenoiseConfig | TrainConfig) -> Iterator[tuple[str, str]]:
    """(key, path or URI) of all that the nodes will look for."""
    yield "output", checked.output
    if checked.model is not None and checked.model != "embedded" and not is_hub_id(checked.model):
        yield "model", checked.model
    if isinstance(checked, DenoiseConfig):
        sources = {"input": checked.input}
    else:
        data = checked.data
        given = {"data.train": data.train, "data.validation": data.validation}
        for key, pairs in (("data.pairs", data.pairs), ("validation.pairs", checked.validation.pairs)):
            if pairs is not None:
                given |= {f"{key}.noisy": pairs.noisy, f"{key}.clean": pairs.clean}
        sources = {key: source for key, source in given.items() if source is not None}
        perceptual = checked.loss.perceptual
        if perceptual is not None and perceptual.weights != "torchvision":
            yield "loss.perceptual.weights", perceptual.weights
    for key, source in sources.items():
        for text in [source] if isinstance(source, str) else source:
            yield key, text
