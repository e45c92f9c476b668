"""Which of the listed images a manifest is to have: by suffix, size and name."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa

from imagewizard.errors import UserError
from imagewizard.images.formats import SUFFIXES
from imagewizard.schema import BYTES, IMAGE_ID


@dataclass(frozen=True)
class Filters:
    """What an image must fulfil, all of it. Raises UserError for what no image can."""

    suffixes: tuple[str, ...] = ()
    """That ids end in, in any case; (): any. A row of a Parquet file has an id without a suffix."""
    min_bytes: int | None = None
    max_bytes: int | None = None
    """Images whose size the listing does not tell are kept."""
    glob: str | None = None
    """Of the whole id, part by part: * ? [abc] match within a part, ** as a part stands for any number of them."""

    def __post_init__(self) -> None:
        for suffix in self.suffixes:
            if suffix.lower() not in SUFFIXES:
                raise UserError(f"--suffix: {suffix} is not listed anyway; one or more of {' '.join(SUFFIXES)}")
        for name in ("min_bytes", "max_bytes"):
            if (getattr(self, name) or 0) < 0:
                raise UserError(f"--{name.replace('_', '-')}: must be 0 or more (got {getattr(self, name)})")
        if self.min_bytes is not None and self.max_bytes is not None and self.min_bytes > self.max_bytes:
            raise UserError(f"--min-bytes {self.min_bytes} is more than --max-bytes {self.max_bytes}; swap them")

    def __str__(self) -> str:
        texts = {
            "suffix {}": " ".join(self.suffixes) or None,
            "at least {} bytes": self.min_bytes,
            "at most {} bytes": self.max_bytes,
            "name like {}": self.glob,
        }
        return ", ".join(text.format(value) for text, value in texts.items() if value is not None) or "none"

    def as_json(self) -> dict[str, Any]:
        """What is set, as an index keeps it."""
        values = asdict(self) | {"suffixes": sorted(suffix.lower() for suffix in self.suffixes)}
        return {name: value for name, value in values.items() if value not in (None, [])}

    def keep(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """The rows (MANIFEST_SCHEMA) that fulfil it."""
        for table in tables:
            yield table.filter(pa.array(self._wanted(table), pa.bool_()))

    def _wanted(self, table: pa.Table) -> list[bool]:
        suffixes, parts = tuple(s.lower() for s in self.suffixes), self.glob and tuple(self.glob.split("/"))
        least, most = self.min_bytes or 0, self.max_bytes
        return [
            (not suffixes or image_id.lower().endswith(suffixes))
            and (size is None or (size >= least and (most is None or size <= most)))
            and (not parts or matches(tuple(image_id.split("/")), parts))
            for image_id, size in zip(table[IMAGE_ID].to_pylist(), table[BYTES].to_pylist(), strict=True)
        ]


def matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the parts of an id fit those of a glob. Case counts."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(matches(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])
