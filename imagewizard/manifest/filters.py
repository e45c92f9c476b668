"""Filters: which of the listed images go into a manifest, by suffix, size, name and number."""

import fnmatch
import functools
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from imagewizard.errors import UserError
from imagewizard.images.formats import SUFFIXES
from imagewizard.manifest.tally import Tally
from imagewizard.schema import BYTES, IMAGE_ID


@dataclass(frozen=True)
class Filters:
    """An image must fulfil all that is set. Raises UserError for what no image can fulfil."""

    suffixes: tuple[str, ...] = ()
    """Suffixes of ids, in any case; (): any. The id of a row of a Parquet file has no suffix."""
    min_bytes: int | None = None
    max_bytes: int | None = None
    """Images of unknown size are kept."""
    glob: str | None = None
    """Matched against the whole id: * ? [abc] stay within a part, ** as a part stands for any number of parts."""
    limit: int | None = None
    """Only the first so many images that fulfil the rest."""

    def __post_init__(self) -> None:
        for suffix in self.suffixes:
            if suffix.lower() not in SUFFIXES:
                raise UserError(
                    f"{suffix} is not listed anyway", f"give one or more of {' '.join(SUFFIXES)}", "--suffix"
                )
        for name in ("min_bytes", "max_bytes"):
            if (getattr(self, name) or 0) < 0:
                raise UserError(f"is {getattr(self, name)}", "give 0 or more", f"--{name.replace('_', '-')}")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"is {self.limit}", "give 1 or more", "--limit")
        if self.min_bytes is not None and self.max_bytes is not None and self.min_bytes > self.max_bytes:
            raise UserError(f"--min-bytes {self.min_bytes} is more than --max-bytes {self.max_bytes}", "swap them")

    def __str__(self) -> str:
        texts = {
            "suffix {}": " ".join(self.suffixes) or None,
            "at least {} bytes": self.min_bytes,
            "at most {} bytes": self.max_bytes,
            "name like {}": self.glob,
            "the first {}": self.limit,
        }
        return ", ".join(text.format(value) for text, value in texts.items() if value is not None) or "none"

    def as_json(self) -> dict[str, Any]:
        """The filters that are set, as an index keeps them."""
        values = asdict(self) | {"suffixes": sorted(suffix.lower() for suffix in self.suffixes)}
        return {name: value for name, value in values.items() if value not in (None, [])}

    def keep(self, tables: Iterator[pa.Table], tally: Tally) -> Iterator[pa.Table]:
        """The rows (MANIFEST_SCHEMA) that fulfil it; `tally` counts the others. Takes no table beyond the limit."""
        left = self.limit
        for table in tables:
            kept = table.filter(pa.array(self._wanted(table), pa.bool_())) if self._judges else table
            tally.filtered += table.num_rows - kept.num_rows
            yield kept if left is None else kept.slice(0, left)
            if left is not None and (left := left - kept.num_rows) <= 0:
                return

    @property
    def _judges(self) -> bool:
        """Whether it looks at single images."""
        return bool(self.as_json().keys() - {"limit"})

    def _wanted(self, table: pa.Table) -> list[bool]:
        suffixes, pattern = tuple(s.lower() for s in self.suffixes), self.glob and glob_pattern(self.glob)
        least, most = self.min_bytes or 0, self.max_bytes
        return [
            (not suffixes or image_id.lower().endswith(suffixes))
            and (size is None or (size >= least and (most is None or size <= most)))
            and (not pattern or pattern.fullmatch(f"{image_id}/") is not None)
            for image_id, size in zip(table[IMAGE_ID].to_pylist(), table[BYTES].to_pylist(), strict=True)
        ]


_END = fnmatch.translate("").removeprefix("(?s:)")  # fnmatch puts it at the end of every expression
_SIGNS = re.compile(r"\[!?\]?[^\]]*\]|\*+|.", re.DOTALL)


@functools.lru_cache
def glob_pattern(glob: str) -> re.Pattern[str]:
    """A glob as a regular expression for an image id with a slash added to its end. Case counts.

    Matching takes at most the product of the lengths of id and glob. A star or `**` with another one after it takes the
    first place where what stands between the two fits, and keeps it (an atomic group): a later place would only leave
    less room for the rest. The last star of a part and the last `**` are bound to an end, so they search backwards.
    """
    blocks: list[list[str]] = [[]]
    for part in glob.split("/"):
        if part == "**":
            blocks.append([])
        else:
            blocks[-1].append(f"{_part(part)}/")
    first, *others = ["".join(block) for block in blocks]
    if not others:
        return re.compile(first)
    *middle, last = others
    found = "".join(f"(?>(?:[^/]*/)*?{block})" for block in middle if block)
    return re.compile(f"{first}{found}(?:[^/]*/)*{last}")


def _part(glob: str) -> str:
    """One part of a glob as a regular expression that no slash fits."""
    chunks = [""]
    for sign in _SIGNS.findall(glob):
        if sign.startswith("*"):
            chunks.append("")
        elif sign == "?":
            chunks[-1] += "[^/]"
        elif len(sign) > 1:  # [abc]; fnmatch knows what stands for itself in it
            chunks[-1] += f"(?!/){fnmatch.translate(sign).removesuffix(_END)}"
        else:
            chunks[-1] += re.escape(sign)
    first, *others = chunks
    if not others:
        return first
    *middle, last = others
    return first + "".join(f"(?>[^/]*?{chunk})" for chunk in middle) + f"[^/]*{last}"
