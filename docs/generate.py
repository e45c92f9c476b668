"""Writes docs/configuration.md from the config classes: their keys, types, defaults and docstrings.

make docs
"""

import ast
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from imagewizard.config import denoise, train
from imagewizard.config.loading import Section, sections_of

PAGE = Path(__file__).with_name("configuration.md")

_HEAD = """\
# Configuration

<!-- Written by `make docs` from imagewizard/config: do not edit. -->

A config is YAML; each key can be overridden on the command line as `key.path=value`. Values there are YAML too
(`noise.sigma='[15,25]'`, `noise=null`), but where a key holds text, such as a path, the value is the text as typed. An
unknown key, a wrong type or an impossible value ends the command with one line and exit code 2, before anything is
written. `imagewizard config denoise` and `imagewizard config train` print these keys as a commented file to start from.
"""


def page() -> str:
    """The whole reference as Markdown."""
    return "\n".join(
        [
            _HEAD,
            _command("denoise", denoise.DenoiseConfig, denoise.RESULT_KEYS),
            _command("train", train.TrainConfig, train.RESULT_KEYS),
        ]
    )


def with_part(page: str, name: str, text: str) -> str:
    """The page with `text` between the comments `<!-- name -->` and `<!-- end -->`. Raises ValueError without them."""
    head, start, rest = page.partition(f"<!-- {name} -->\n")
    _, end, tail = rest.partition("<!-- end -->")
    if not end:
        raise ValueError(f"the page has no place for {name}")
    return f"{head}{start}{text}\n{end}{tail}"


def _command(name: str, model: type[Section], result_keys: tuple[str, ...]) -> str:
    keys = ", ".join(f"`{key}`" for key in result_keys)
    fixed = f"A run keeps the values of these keys; the same `output` with another value of one is refused: {keys}.\n"
    head = f"## imagewizard {name}\n\n{_text(model.__doc__)}\n\n{fixed}"
    return "\n".join([head, *_sections(model, "")])


def _sections(model: type[BaseModel], path: str) -> Iterator[str]:
    """The table of a section's keys, then the sections below it."""
    schema = model.model_json_schema(by_alias=True)
    texts = _docstrings(model)
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    below = []
    for name, field in model.model_fields.items():
        key = field.alias or name
        found = list(sections_of(field.annotation))
        kind = " or ".join(["a section"] * bool(found) + _types(schema["properties"][key], schema))
        default = "required" if field.is_required() else _value(field.get_default(call_default_factory=True))
        text = texts.get(name) or _text(found[0].__doc__ if found else "")
        rows.append(f"| `{path}{key}` | {kind} | {default} | {text} |")
        below += [(f"{path}{key}", section) for section in found]
    yield "\n".join(rows) + "\n"
    for key, section in below:
        title = f"### `{key}`"
        if "kind" in section.model_fields:
            title += f", kind `{section.model_fields['kind'].default}`"
        yield f"{title}\n\n{_text(section.__doc__)}\n"
        yield from _sections(section, f"{key}.")


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """{field: the string below it in the source}, of the class and those it inherits from."""
    found = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, Section) and cls is not Section:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
            for field, text in itertools.pairwise(body):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(text):
                    found[field.target.id] = _text(text.value.value)
    return found


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _text(docstring: str | None) -> str:
    """As one line in which Markdown sees no markup but code."""
    line = " ".join((docstring or "").split())
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if part.startswith("`") else re.sub(r"([*|<_])", r"\\\1", part) for part in parts)


_NUMBERS = {"integer": "a whole number", "number": "a number"}


def _types(schema: dict[str, Any], root: dict[str, Any]) -> list[str]:
    """What a key may hold besides sections, from its JSON schema."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return [kind for branch in schema[union] for kind in _types(branch, root)]
    if "properties" in schema:
        return []
    if "const" in schema or "enum" in schema:
        return [f"`{value}`" for value in schema.get("enum", [schema.get("const")])]
    if schema["type"] == "array":
        return [_array(schema, root)]
    names = {"string": "text", "boolean": "`true` or `false`", "null": "`null`", "object": "keys and values"}
    return [names.get(schema["type"]) or f"{_NUMBERS[schema['type']]}{_bounds(schema)}"]


def _array(schema: dict[str, Any], root: dict[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"a list of {len(schema['prefixItems'])}, each {_types(schema['prefixItems'][0], root)[0]}"
    return f"a list, each {' or '.join(_types(schema['items'], root))}"


def _bounds(schema: dict[str, Any]) -> str:
    texts = [
        f" {word} {schema[key]:g}" if key != "maximum" else f" {word} {schema[key]:,}"
        for key, word in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "to"),
            ("exclusiveMaximum", "below"),
            ("multipleOf", "in steps of"),
        )
        if key in schema and schema[key] < 2**63
    ]
    return "".join(texts)


def _value(default: Any) -> str:
    if default is PydanticUndefined or isinstance(default, BaseModel):
        return ""
    return f"`{json.dumps(default)}`".replace('"', "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
