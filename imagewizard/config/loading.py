"""Loads a config: YAML plus `key.path=value` words, checked by a pydantic model, with one-line complaints.

The models of both jobs are in denoise.py and train.py.
"""

import difflib
import re
from collections.abc import Sequence
from contextlib import suppress
from os import PathLike, fspath
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Self, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from imagewizard.errors import UserError, one_line


class Section(BaseModel):
    """Base of every config section: unknown keys are errors, values are fixed once checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @classmethod
    def load(cls, path: "str | PathLike[str] | None" = None, overrides: Sequence[str] = ()) -> Self:
        """The config from a YAML file (None: all defaults), with `key.path=value` words on top. Raises UserError."""
        return load(cls, None if path is None else fspath(path), overrides)


Config = TypeVar("Config", bound=Section)


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number and 4:2:2 as text, as YAML 1.2 does.

    YAML 1.1 needs a dot and a sign, as in 1.0e-4, and takes 4:2:2 for a number to base 60.
    """


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
for _sign in "0123456789":  # before the resolvers of YAML 1.1, because the first that matches decides
    _Loader.yaml_implicit_resolvers[_sign].insert(0, ("tag:yaml.org,2002:str", re.compile(r"[0-9]+(:[0-9.]+)+$")))


def load(model: type[Config], path: str | None, overrides: Sequence[str]) -> Config:
    """The checked config from the YAML file at `path` (None: all defaults) with `key.path=value` words on top.

    A value for a key that holds text is that text, as it stands. Other values are YAML, so `noise.sigma=[15,25]` gives
    a list and `noise=null` gives None. Raises UserError.
    """
    data = _read_yaml(path) if path else {}
    for word in overrides:
        _override(model, data, word)
    return check(model, data)


def check(model: type[Config], data: dict[str, Any]) -> Config:
    """Checks `data` and returns it as a `model`. Raises UserError with the first wrong key and what it must be."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _complaint(model, error) from None


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        data = _yaml(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"config {path}: no such file", "check its path") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not a config", f"write input={path} if these are the images") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"config {path}: cannot be read as YAML: {one_line(error)}", "correct it") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"config {path}: holds a {type(data).__name__}", "write keys and values, as `input: …`")
    return data


def _override(model: type[BaseModel], data: dict[str, Any], word: str) -> None:
    key, sign, text = word.partition("=")
    if not sign or not all(key.split(".")):
        raise UserError(f"{word!r} is no key=value", "write it as e.g. noise.sigma=25")
    value = _value(_alternatives(model, key), text, key)
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(data.get(parent), dict):
            data[parent] = {}
        data = data[parent]
    data[last] = value


def _value(alternatives: list[Any], text: str, key: str) -> Any:
    """What a word sets a key to that may hold any of these types."""
    if list[str] in alternatives and text.startswith("["):
        with suppress(yaml.YAMLError):
            # All its items are text, so that [2024, yes] names two files.
            if isinstance(items := yaml.load(text, Loader=yaml.BaseLoader), list):  # noqa: S506 (it makes texts only)
                return items
    # YAML would make a number of 2024, and a comment of all after " #".
    if str in alternatives and text and not (text == "null" and NoneType in alternatives):
        return text
    try:
        return _yaml(text)
    except yaml.YAMLError:
        raise UserError(f"{text!r} is no YAML value", "quote it if it is text", key) from None


def _alternatives(model: type[BaseModel], key: str) -> list[Any]:
    """The types that a dotted key may hold; none for a key that no section has."""
    sections, found = [model], []
    for part in key.split("."):
        fields = {field.alias or name: field for section in sections for name, field in section.model_fields.items()}
        if part not in fields:
            return []
        found = _members(fields[part].annotation)
        sections = sections_of(fields[part].annotation)
    return found


def _members(annotation: Any) -> list[Any]:
    """The members of a union, however nested, or the one type that it is."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for argument in get_args(annotation) for member in _members(argument)]
    return [annotation]


def _complaint(model: type[BaseModel], error: ValidationError) -> UserError:
    complaints = [(*_locate(model, detail), detail) for detail in error.errors()]
    # A value that fits no branch of a union gets a complaint from each branch. The user meant the branch with the
    # deepest complaint.
    first = complaints[0][0]
    path, known, detail = max((c for c in complaints if c[0][: len(first)] == first), key=lambda c: len(c[0]))
    key = ".".join(path)
    if detail["type"] == "extra_forbidden":
        return UserError("unknown key", _hint(model, path, known), key)
    if detail["type"] == "union_tag_invalid":  # of sections with different kinds
        kinds = " or".join(detail["ctx"]["expected_tags"].rsplit(",", 1))
        return UserError(f"must be {kinds} (got {detail['ctx']['tag']!r})", "", f"{key}.kind")
    if detail["type"] == "missing" and path[-1] in known:
        return UserError("is required", f"give it in the config or as {key}=…", key)
    if detail["type"] == "value_error":  # from a validator of a config class; its text includes the fix
        return UserError(detail["msg"].removeprefix("Value error, "), "", key or None)
    wanted = " or ".join(dict.fromkeys(_wanted(other) for place, _, other in complaints if place == path))
    wanted = wanted.replace(" or must be ", " or ")
    value = repr(detail["input"])
    fix = f"write {key}.NAME=value" if wanted.startswith("must be a section") else ""
    return UserError(f"{wanted} (got {value if len(value) <= 80 else value[:79] + '…'})", fix, key)


def _hint(model: type[BaseModel], path: list[str], known: list[str]) -> str:
    """What the user may have meant by an unknown key; `known`: the keys of its section."""
    *parents, last = path
    sections = _sections(_alternatives(model, ".".join(parents)))
    if kinds := [kind for section in sections if last in section.model_fields for kind in _kinds(section)]:
        owners = " and ".join(f"{'.'.join(parents)}.kind={kind}" for kind in kinds)
        has = ", ".join(name for name in known if name != "kind")
        # The key may come from a config file, to which a word has given another kind.
        whole = f"{'.'.join(parents)}='{{kind: …}}' replaces a config file's section"
        return f"{owners} has it, this kind has: {has}; {whole}"
    close = difflib.get_close_matches(last, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"


def _wanted(detail: ErrorDetails) -> str:
    if detail["type"] in {"model_type", "dict_type"}:
        return "must be a section of keys and values"
    if detail["type"] == "missing":
        return "is missing"
    message = detail["msg"].split(", unable")[0].replace("Input should be", "must be").replace("tuple", "list")
    return f"{message[0].lower()}{message[1:]}"


def _locate(model: type[BaseModel], detail: ErrorDetails) -> tuple[list[str], list[str]]:
    """(path of keys to the complaint, known keys of the section that holds the last one).

    pydantic mixes the names of union branches into the path (`noise.gaussian.sigma`); only the models tell which parts
    are keys.
    """
    path: list[str] = []
    known: list[str] = []
    sections = [model]
    for part in detail["loc"]:
        fields = {field.alias or name: field for section in sections for name, field in section.model_fields.items()}
        if part in fields:
            sections, known = sections_of(fields[str(part)].annotation), list(fields)
        elif isinstance(part, int):  # in a list
            sections, known = [], []
        elif detail["type"] == "extra_forbidden" and part is detail["loc"][-1]:
            known = list(fields)
        else:
            sections = [section for section in sections if part in _kinds(section)] or sections
            continue
        path.append(str(part))
    return path, known


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a key may hold: none, one, or several with different `kind`s."""
    return _sections(_members(annotation))


def _sections(members: list[Any]) -> list[type[BaseModel]]:
    return [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]


def _kinds(section: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(section.model_fields["kind"].annotation) if "kind" in section.model_fields else ()


def split_words(words: list[str]) -> tuple[str | None, list[str]]:
    """Splits a command's words: (config file or None, key=value words). Raises UserError if there are two files."""
    paths = [word for word in words if "=" not in word]
    if len(paths) > 1:
        raise UserError(f"{paths[1]!r} is a second config and no key=value", "give one config file")
    return (paths[0] if paths else None), [word for word in words if "=" in word]
