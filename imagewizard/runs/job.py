"""A run's folder, be it of a bulk job or of a training: what was asked for (job.yaml), and whether it still is."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import yaml
from pyarrow import fs

from imagewizard import storage
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.config.train import TrainConfig
from imagewizard.errors import UserError
from imagewizard.schema import SCHEMA_VERSION

Kind = Literal["denoise", "train"]

PACKAGES = ("imagewizard", "ray", "torch", "diffusers", "pillow", "pyarrow", "numpy")


def read_job(run: str) -> dict[str, Any] | None:
    """What job.yaml holds: schema_version, kind, created_at, config, model_fingerprint, versions. None without one."""
    uri = storage.join(run, "job.yaml")
    return dict(yaml.safe_load(storage.read_bytes(uri))) if storage.exists(uri) else None


def begin(kind: Kind, config: DenoiseConfig | TrainConfig, fingerprint: str | None, keys: tuple[str, ...]) -> None:
    """Writes job.yaml, or raises UserError if the one that is there is of another job, as `check_same_job` does.

    To be called by whoever holds the lease: between a look before and now, another driver may have come and gone.
    """
    stored = read_job(config.output)
    if stored is None:
        write_job(kind, config, fingerprint)
    else:
        check_same_job(stored, kind, config, fingerprint, keys)


def write_job(kind: Kind, config: DenoiseConfig | TrainConfig, fingerprint: str | None) -> None:
    """Writes job.yaml, before any work. Credentials are in no config, so none get in here.

    `fingerprint`: of the model that the run begins with; None if it begins with none.
    """
    job = {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json", by_alias=True),
        "model_fingerprint": fingerprint,
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
    }
    data = yaml.safe_dump(job, sort_keys=False, allow_unicode=True).encode()
    storage.write_whole(storage.join(config.output, "job.yaml"), data, storage.join(config.output, "_tmp"))


def check_output(output: str, sources: str | list[str]) -> None:
    """Raises UserError unless `output` is, or can become, a local folder that we may write, or its bucket is there.

    And if it lies in a folder of `sources`, for what is written would be listed with them the next time.
    """
    for source in [sources] if isinstance(sources, str) else sources:
        if f"{storage.absolute(output)}/".startswith(f"{storage.absolute(source)}/"):
            raise UserError(f"output: {output} lies in {source}, which is input; give a folder elsewhere")
    filesystem, path = storage.resolve(output)
    if not isinstance(filesystem, fs.LocalFileSystem):
        try:
            storage.check_bucket(output)
        except UserError as error:
            raise UserError(f"output: {error}") from None
        parts = [storage.join(output, name) for name in ("manifest", "results")]
        if any(storage.exists(part) for part in parts) and read_job(output) is None:
            raise UserError(f"output: {output} holds parts of a run and no job.yaml; give another prefix, or empty it")
        return
    folder = Path(path)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir():
        raise UserError(f"output: {existing} is a file; give a folder")
    if not storage.is_writable(existing):
        raise UserError(f"output: {existing} is not writable; give another folder or change its permissions")
    # A driver that was killed before it wrote job.yaml leaves its lease and its scratch folder, whose names begin so.
    holds_other = existing == folder and any(not path.name.startswith("_") for path in folder.iterdir())
    if holds_other and read_job(output) is None:
        raise UserError(f"output: {output} holds other files and no run; give an empty or a new folder")


def check_same_job(
    stored: dict[str, Any],
    kind: Kind,
    config: DenoiseConfig | TrainConfig,
    fingerprint: str | None,
    keys: tuple[str, ...],
) -> None:
    """Raises UserError if `config` would make something else than the run that is `stored` in job.yaml.

    `keys`: those of the config that results depend on.
    """
    if stored.get("kind") != kind:
        raise UserError(f"output: the run there is a {stored.get('kind')} run; give another output")
    if stored.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"output: the run there has rows of schema {stored.get('schema_version')}, this version writes "
            f"{SCHEMA_VERSION}; give another output"
        )
    before = {key: stored["config"].get(key) for key in keys} | {"model": stored["model_fingerprint"]}
    dumped = config.model_dump(mode="json", by_alias=True)
    now = {key: dumped[key] for key in keys} | {"model": fingerprint}
    changed = [f"{key} was {before[key]}, is {now[key]}" for key in keys if before[key] != now[key]]
    if changed:
        raise UserError(f"output: the run there was made otherwise ({'; '.join(changed)}); give another output")


def sweep(run: str) -> None:
    """Removes what a crashed driver's workers left half written; they may be at it still."""
    scratch = storage.join(run, "_tmp")
    storage.delete_files([storage.join(scratch, name) for name in storage.list_files(scratch)])
