"""Denoised images on their way out of a block: encoded, then written as files in the input's tree or as a tar shard."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from imagewizard import storage
from imagewizard.bulk import block as blocks
from imagewizard.bulk import output_names
from imagewizard.bulk.block import Block
from imagewizard.config.denoise import ImagesSection
from imagewizard.images import encoding
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import Picture
from imagewizard.noise.synthetic import value_text
from imagewizard.schema import (
    ERROR,
    IMAGE_ID,
    NOISE_KIND,
    NOISE_PARAMS,
    NOTES,
    OUTPUT_URI,
    REASON,
    SIGMA,
    STAGE,
    STATUS,
    level_text,
)
from imagewizard.sources import addresses, tar
from imagewizard.storage import Folder

# PUTs wait for the server.
WRITE_THREADS = 16


def encode(denoised: Picture, row: dict[str, Any], section: ImagesSection) -> None:
    """Sets a row's `encoded` to its image's file, and its notes; without such a file it becomes an error row."""
    try:
        row[blocks.ENCODED], notes = encoding.encode(denoised, section.format, section.quality)
        row[NOTES] = blocks.joined_notes(*filter(None, [row[NOTES]]), *notes)
    except ImageError as error:
        row |= {STATUS: ERROR, STAGE: "write", REASON: str(error)}


def write(block: Block, run: str, section: ImagesSection | None) -> pa.Table:
    """The rows of a denoised block by RESULT_SCHEMA, with `output_uri` where an image now lies.

    Images lie under <run>/images, in a folder for each setting of the noise if it was added: each in a file, or all of
    the block in one tar shard that is named after the block. A disk or server that refuses to write raises OSError: it
    would refuse the next image too.
    """
    if section is not None:
        with block.times.timed("write"):
            _store(block, run, section)
    return blocks.rows_table(block)


def discard(rows: pa.Table, committed: pa.Table, section: ImagesSection | None) -> None:
    """Deletes the images of `rows` that no row in `committed` points to, all written as `section` says."""
    uris, kept = (table[OUTPUT_URI].drop_null().to_pylist() for table in (rows, committed))
    if section is not None and section.pack == "tar":
        written = {place[0] for uri in uris if (place := addresses.split(uri))}
        storage.delete_files(sorted(written - {file for uri in kept for file, _ in addresses.places(uri)}))
    else:
        storage.delete_files(sorted(set(uris) - set(kept)))


def _store(block: Block, run: str, section: ImagesSection) -> None:
    """Writes the images of the rows that have one, and sets their `output_uri`."""
    written = [(row, _name(row, section), row[blocks.ENCODED]) for row in block.images if row.get(blocks.ENCODED)]
    folder = Folder(run).subfolder("images")
    if section.pack == "tar":
        if written:
            members = [(output_names.webdataset_name(name), data) for _, name, data in written]
            shard = _shard_name(block, [member for member, _ in members])
            folder.write(shard, tar.pack(members))
            for (row, _, _), (member, _) in zip(written, members, strict=True):
                row[OUTPUT_URI] = addresses.join(folder.uri_of(shard), member)
        return
    for row, name, _ in written:
        row[OUTPUT_URI] = folder.uri_of(name)
    with ThreadPoolExecutor(WRITE_THREADS) as pool:
        list(pool.map(lambda each: folder.write(each[1], each[2]), written))


def _shard_name(block: Block, members: list[str]) -> str:
    """The block's name and a digest of the members: if a block is denoised twice and an image fails only once, neither
    shard overwrites the other."""
    digest = hashlib.blake2b("\n".join(members).encode(), digest_size=4).hexdigest()
    return f"{block.file.name.removesuffix('.parquet')}-{digest}.tar"


def _name(row: dict[str, Any], section: ImagesSection) -> str:
    """Below the images' folder."""
    name = output_names.output_name(row[IMAGE_ID], section.format)
    return name if row[NOISE_KIND] is None else f"{_folder(row)}/{name}"


def _folder(row: dict[str, Any]) -> str:
    """The folder of a setting of the noise: `sigma25`, `a0.5-b4`."""
    if row[SIGMA] is not None:
        return f"sigma{level_text(row[SIGMA])}"
    return "-".join(
        f"{name}{value_text(value)}".replace(":", "") for name, value in json.loads(row[NOISE_PARAMS]).items()
    )
