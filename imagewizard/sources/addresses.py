"""Addresses of images within packed files: `shard.tar#member` and `file.parquet#row`.

The file ends at the first # that follows .tar or .parquet (in any case of letters). Where the file's own path has a #
or a % in such a place, as below a folder x.tar#1, that is written %23 or %25. All other characters stand as they are,
and so does the path of an image in a file of its own: what looks like an address within a shard and is the path of a
file is that file.
"""

import re
from collections.abc import Iterator

_AFTER_SUFFIX = r"(?:(?<=\.tar)|(?<=\.parquet))"
_HASH = re.compile(f"{_AFTER_SUFFIX}#", re.IGNORECASE)
_TO_ESCAPE = re.compile(f"{_AFTER_SUFFIX}[#%]", re.IGNORECASE)
_ESCAPED = re.compile(f"{_AFTER_SUFFIX}%(23|25)", re.IGNORECASE)


def join(file: str, packed: str | int) -> str:
    """The address of a member (or a row) of a packed file. Different pairs have different addresses."""
    return f"{_TO_ESCAPE.sub(lambda match: f'%{ord(match[0]):x}', file)}#{packed}"


def split(address: str) -> tuple[str, str] | None:
    """(packed file, member or row): the inverse of `join`; None for what can only be a plain path."""
    match = _HASH.search(address)
    if match is None or match.end() == len(address):
        return None
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), address[: match.start()]), address[match.end() :]


def places(address: str) -> Iterator[tuple[str, str]]:
    """All (packed file, member or row) that the address may mean, the likeliest first.

    Beyond the first: where an older version wrote an address, and escaped nothing.
    """
    first = split(address)
    if first is not None:
        yield first
    for match in _HASH.finditer(address):
        other = address[: match.start()], address[match.end() :]
        if other[1] and other != first:
            yield other
