"""job.yaml, which describes a run, bulk or training, and the checks of a rerun against it."""

import functools
import json
import math
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, get_args

import yaml

from imagewizard import __version__, storage
from imagewizard.errors import UserError, one_line
from imagewizard.schema import RESULTS_VERSION, SCHEMA_VERSION
from imagewizard.storage import Folder

if TYPE_CHECKING:  # pydantic takes a tenth of a second, for which `status` and `query` need not wait
    from imagewizard.config.denoise import DenoiseConfig
    from imagewizard.config.train import TrainConfig

Kind = Literal["denoise", "train"]

PACKAGES = ("imagewizard", "ray", "torch", "diffusers", "pillow", "pyarrow", "numpy")


def read_job(run: str) -> dict[str, Any] | None:
    """What job.yaml holds: schema_version, results_version, kind, created_at, config, model_fingerprint, versions.

    None without one.
    """
    data = Folder(run).read_if_there("job.yaml")
    return None if data is None else dict(yaml.safe_load(data))


def kind(run: str) -> Kind | None:
    """What kind of run job.yaml describes; None without a job.yaml, or for a kind that this version does not know.

    Raises UserError, within seconds, if the storage does not answer.
    """
    Folder(run).check_answers()
    try:
        job = read_job(run) or {}
    except OSError as error:
        raise UserError(f"{run} cannot be read: {one_line(error)}", "check the address and try again") from None
    found = job.get("kind")
    return next((name for name in get_args(Kind) if name == found), None)


def results_version(job: dict[str, Any]) -> int:
    """Which rules the rows of a run follow (schema.RESULTS_VERSION); runs from before there was a number have 1."""
    return int(job.get("results_version", 1))


def levels(config: dict[str, Any]) -> int:
    """Rows of each image in a bulk run whose job.yaml has this config: DenoiseConfig.rows_per_image."""
    return math.prod(len(value) for value in (config.get("noise") or {}).values() if isinstance(value, list))


def begin(kind: Kind, config: "DenoiseConfig | TrainConfig", fingerprint: str | None, keys: tuple[str, ...]) -> None:
    """Writes job.yaml, or checks the one that is there as `check_same_job` does. Raises UserError.

    The caller holds the lease: before it did, another driver may have come and gone.
    """
    stored = read_job(config.output)
    if stored is None:
        write_job(kind, config, fingerprint)
    else:
        check_same_job(stored, kind, config, fingerprint, keys)


def write_job(kind: Kind, config: "DenoiseConfig | TrainConfig", fingerprint: str | None) -> None:
    """Writes job.yaml, before any work. It holds no credentials, because no config does.

    `fingerprint`: of the model that the run begins with; None if it begins with none.
    """
    job = {
        "schema_version": SCHEMA_VERSION,
        "results_version": RESULTS_VERSION,
        "kind": kind,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json", by_alias=True),
        "model_fingerprint": fingerprint,
        "versions": {"python": platform.python_version()} | {package: _version(package) for package in PACKAGES},
    }
    data = yaml.safe_dump(job, sort_keys=False, allow_unicode=True).encode()
    Folder(config.output).write("job.yaml", data)


def _version(package: str) -> str | None:
    """None if it is not installed: a machine that trains may lack Ray, and run this package from its source."""
    try:
        return version(package)
    except PackageNotFoundError:
        return __version__ if package == "imagewizard" else None


def check_output(output: str, sources: str | list[str]) -> None:
    """Raises UserError unless `output` is, or can become, a writable folder that holds nothing but a run.

    Also if it lies in a folder of `sources`, because its images would be listed as input the next time.
    """
    for source in [sources] if isinstance(sources, str) else sources:
        if f"{storage.absolute(output)}/".startswith(f"{storage.absolute(source)}/"):
            raise UserError(f"{output} lies in {source}, which is input", "give a folder elsewhere", "output")
    has_job = functools.cache(lambda: read_job(output) is not None)
    try:
        # A driver that was killed before it wrote job.yaml leaves its lease and its scratch folder: _lock.json, _tmp/.
        Folder(output).check_usable(lambda name: name.startswith("_") or has_job())
    except UserError as error:
        raise error.at("output") from None


def check_same_job(
    stored: dict[str, Any],
    kind: Kind,
    config: "DenoiseConfig | TrainConfig",
    fingerprint: str | None,
    keys: tuple[str, ...],
) -> None:
    """Raises UserError if `config` would give other results than the `stored` job.yaml, or add to an older version's.

    `keys`: those of the config that results depend on (`data.crop`). One that an older job.yaml lacks counts as its
    default.
    """
    if stored.get("kind") != kind:
        raise UserError(f"the run there is a {stored.get('kind')} run", "give another output", "output")
    if stored.get("schema_version") != SCHEMA_VERSION:
        what = f"the run there has rows of schema {stored.get('schema_version')}, this version writes {SCHEMA_VERSION}"
        raise UserError(what, "give another output", "output")
    dumped = config.model_dump(mode="json", by_alias=True)
    version = results_version(stored)
    if kind == "denoise" and version != RESULTS_VERSION:
        summary = Folder(config.output).read_if_there("summary.json")
        if summary is None or (dumped["retry_failed"] and json.loads(summary)["failed"]):
            what = f"the rows there are of results_version {version}, and new ones would be of {RESULTS_VERSION}"
            raise UserError(what, "give another output, or the version of imagewizard in its job.yaml", "output")
    defaults = type(config).model_validate(stored["config"]).model_dump(mode="json", by_alias=True)
    before = {key: _value(defaults, key) for key in keys} | {"model": stored["model_fingerprint"]}
    now = {key: _value(dumped, key) for key in keys} | {"model": fingerprint}
    if changed := [line for key in keys for line in _changes(key, before[key], now[key])]:
        what = f"the run there was made with other settings ({'; '.join(changed)})"
        raise UserError(what, "give another output", "output")
    if kind == "denoise" and not dumped["resources"]["keep_manifest"]:
        _check_same_input(defaults["input"], dumped["input"])


def _check_same_input(listed: str | list[str], wanted: str | list[str]) -> None:
    """Raises UserError if a run that has `listed` one input is given another: it would go on with what it has."""
    if _sources(listed) != _sources(wanted):
        raise UserError(
            f"the run there is of {named(listed)}, not of {named(wanted)}",
            "give another output, or resources.keep_manifest=true to go on with the images that it listed",
            "input",
        )


def _sources(source: str | list[str]) -> list[str]:
    """One form for all the ways to write the same input."""
    return sorted(map(storage.absolute, [source] if isinstance(source, str) else source))


def named(source: str | list[str]) -> str:
    """An input in a few words."""
    return source if isinstance(source, str) else f"{len(source)} files, {source[0]} among them"


def _changes(key: str, before: Any, now: Any) -> list[str]:
    """What a key, or each key below it, was and is; nothing where that is the same."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for name in dict.fromkeys([*before, *now])
            for line in _changes(f"{key}.{name}", before.get(name), now.get(name))
        ]
    return [] if before == now else [f"{key} was {_shown(before)}, is {_shown(now)}"]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "set" if isinstance(value, dict) else json.dumps(value)


def _value(config: dict[str, Any], key: str) -> Any:
    """The value of a dotted key in a dumped config."""
    for part in key.split("."):
        config = config[part]
    return config
