"""The index of a manifest: it names the shards in the manifest's folder, a run's or one of its own."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from imagewizard.storage import Folder, RefusedError

INDEX = "index.json"
# Of a folder's index, which may be another program's. It is some 80 bytes for each path of a list that was the source.
MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class ManifestIndex:
    """Facts of the whole manifest. Its file is written last, so a manifest with an index is complete."""

    images: int
    skipped: int
    """Files that are no images to read."""
    block_rows: int
    """The greatest number of images a block holds."""
    blocks: list[int]
    """The number of blocks of each shard."""
    bytes: int = 0
    """Of all images whose size the listing knows."""
    generation: int = 0
    """How often the manifest was listed again; shards of each generation have other names."""
    source: str | list[str] = ""
    filters: dict[str, Any] = field(default_factory=dict)
    filtered: int = 0
    """Images that the filters left out."""
    left_out: dict[str, Any] = field(default_factory=dict)
    """{reason: {files, examples}} of the skipped files; {} in older manifests."""
    listed_at: str = ""
    """When the listing began: ISO 8601, UTC."""

    @property
    def shards(self) -> list[str]:
        """The names of the shards' files."""
        return [shard_name(shard, self.generation) for shard in range(len(self.blocks))]


_FIELDS = {each.name for each in fields(ManifestIndex)}
_NEEDED = {"images", "skipped", "block_rows", "blocks"}


def shard_name(shard: int, generation: int = 0) -> str:
    return f"s{shard:05d}.parquet" if generation == 0 else f"s{shard:05d}-g{generation}.parquet"


def read(folder: str, is_ours: bool = False) -> ManifestIndex | None:
    """The index in a manifest's folder; None without one. Other programs' index.json are none. Raises OSError.

    `is_ours`: it can be no other program's, so it is read however large it is.
    """
    try:
        found = json.loads(Folder(folder).read(INDEX, None if is_ours else MAX_BYTES))
    except (FileNotFoundError, IsADirectoryError, RefusedError, ValueError):
        return None
    if not isinstance(found, dict) or not found.keys() >= _NEEDED:
        return None
    return ManifestIndex(**{name: value for name, value in found.items() if name in _FIELDS})


def write(folder: Folder, index: ManifestIndex) -> None:
    folder.write(INDEX, json.dumps(asdict(index), indent=2).encode())
