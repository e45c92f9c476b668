"""Configs: YAML plus `key.path=value` words, checked by pydantic models, every complaint in one line.

The models themselves live beside what they configure: `job_config.py` (denoise), `train_config.py` (train).
"""

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from imagewizard.errors import UserError


class Section(BaseModel):
    """Base of every config section: unknown keys are errors, values are fixed once checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


Config = TypeVar("Config", bound=Section)


def load(model: type[Config], path: str | None, overrides: list[str]) -> Config:
    """The checked config from the YAML file at `path` (None: all defaults) with `key.path=value` words on top.

    Values are YAML, so `noise.sigma=[15,25]` and `noise=null` mean what they look like. Raises UserError.
    """
    data = _read_yaml(path) if path else {}
    for word in overrides:
        _override(data, word)
    return check(model, data)


def check(model: type[Config], data: dict[str, Any]) -> Config:
    """`data` as a checked `model`. Raises UserError with the first complaint and how to mend it."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(_one_line(model, error)) from None


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"config {path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"config {path}: cannot be read as YAML: {reason}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"config {path}: must hold keys and values, as `input: …`, not a {type(data).__name__}")
    return data


def _override(data: dict[str, Any], word: str) -> None:
    key, sign, text = word.partition("=")
    if not sign or not key:
        raise UserError(f"{word!r} is no key=value; write it as e.g. noise.sigma=25")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{key}: {text!r} is no YAML value; quote it if it is text") from None
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(data.get(parent), dict):
            data[parent] = {}
        data = data[parent]
    data[last] = value


def _one_line(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors()[0]
    # pydantic puts the names of union branches into the path; keys of ours are lower case and stand in the models.
    path = [str(part) for part in first["loc"] if isinstance(part, int) or part.isidentifier()]
    key = ".".join(path) or "config"
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, path[:-1])
        close = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
        return f"{key}: unknown key; {hint}"
    if first["type"] == "missing":
        return f"{key}: is required; give it in the config or as {key}=…"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{key}: {message}"
    return f"{key}: {message[0].lower()}{message[1:]} (got {first['input']!r})"


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    section = model
    for name in path:
        annotation = section.model_fields[name].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return [field.alias or name for name, field in section.model_fields.items()]
