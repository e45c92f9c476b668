"""A manifest as a folder of shards and the index that names them: in a run, or made by `imagewizard manifest`."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from imagewizard.storage import Folder

INDEX = "index.json"


@dataclass(frozen=True)
class ManifestIndex:
    """The manifest as a whole; its file is written last, so where it is, the manifest is complete."""

    images: int
    skipped: int
    """Files that were listed but are no images by their suffix."""
    block_rows: int
    """The greatest number of images a block holds."""
    blocks: list[int]
    """The number of blocks of each shard."""
    bytes: int = 0
    """Of all images of which the listing told it."""
    generation: int = 0
    """How often the manifest was listed again; each time its shards get other names."""
    source: str | list[str] = ""
    filters: dict[str, Any] = field(default_factory=dict)
    filtered: int = 0
    """Images that the filters left out."""
    listed_at: str = ""
    """When the listing began: ISO 8601, UTC."""

    @property
    def shards(self) -> list[str]:
        """The names of the shards' files."""
        return [shard_name(shard, self.generation) for shard in range(len(self.blocks))]


def shard_name(shard: int, generation: int = 0) -> str:
    return f"s{shard:05d}.parquet" if generation == 0 else f"s{shard:05d}-g{generation}.parquet"


def read(folder: str) -> ManifestIndex | None:
    """The index in a manifest's folder; None without one. An index.json of someone else's is none. Raises OSError."""
    try:
        found = json.loads(Folder(folder).read(INDEX))
    except (FileNotFoundError, ValueError):
        return None
    return ManifestIndex(**found) if isinstance(found, dict) and {"images", "blocks"} <= found.keys() else None


def write(folder: Folder, index: ManifestIndex) -> None:
    folder.write(INDEX, json.dumps(asdict(index), indent=2).encode())
