"""Blocks of work: some dozens or thousands of images of one manifest shard that are denoised, and commit, together."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from imagewizard.bulk.stage_times import StageTimes
from imagewizard.images.metadata import Metadata
from imagewizard.images.picture import Picture
from imagewizard.images.png_chunks import Chunk
from imagewizard.images.resolution import Resolution
from imagewizard.runs.results import BlockFile
from imagewizard.schema import HEIGHT, LEVEL_FIELD, MANIFEST_SCHEMA, REASON, RESULT_SCHEMA, STAGE, WIDTH

# Bytes of decoded pictures that a block may carry; its images beyond that stay encoded until they are denoised. Bounds
# what a block of photographs takes.
PIXEL_BYTES = 64 << 20

# A larger image goes through the steps by itself, so that the copies of all images at work stay below a gigabyte.
LARGE_PIXELS = 2_000_000

# An image of a block has the columns of WORK_SCHEMA. Read, it has `data`, or the `stage` and `error` of the attempt;
# decoded, it has a `picture` in the place of `data`.
SETTINGS = "settings"
ATTEMPTS = "attempts"
DATA = "data"
PICTURE = "picture"
WORK_SCHEMA = pa.schema(
    [
        *(field.with_nullable(True) for field in [*MANIFEST_SCHEMA, LEVEL_FIELD]),
        # What is still to do: indices into the job's noises; in a restoration [0].
        pa.field(SETTINGS, pa.list_(pa.int32())),
        pa.field(ATTEMPTS, pa.list_(pa.int32())),  # how often each of them will have been tried
    ]
)
# A row of a denoised block has the columns of RESULT_SCHEMA, and its image's file where images are to be written.
ENCODED = "encoded"


@dataclass(frozen=True)
class Block:
    """A block on its way: which one it is, its images or rows at some stage, and what the stages have spent on it."""

    file: BlockFile
    images: list[dict[str, Any]]
    times: StageTimes = field(default_factory=StageTimes)

    def pack(self) -> pa.Table:
        """The block after reading as one row, for another process, which copies nothing when it unpacks it."""
        images = [image | _columns(image.get(PICTURE)) for image in self.images]
        table = pa.Table.from_pylist(images, schema=_READ_SCHEMA)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        offsets = (0).to_bytes(8, "little") + sink.tell().to_bytes(8, "little")
        stream = pa.Array.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(offsets), sink.getvalue()])
        return pa.table({"block": [self.file.name], "images": stream, "times": [json.dumps(self.times.as_json())]})

    @classmethod
    def unpack(cls, row: pa.Table) -> "Block":
        """The inverse of `pack`; the arrays of pictures are read-only views into the row's buffer."""
        file = BlockFile.parse(row["block"][0].as_py())
        assert file is not None, "written by pack"
        table = pa.ipc.open_stream(row["images"][0].as_buffer()).read_all()
        images = table.select([*WORK_SCHEMA.names, STAGE, REASON]).to_pylist()
        for index, image in enumerate(images):
            data = table[DATA][index]
            image |= {DATA: memoryview(data.as_buffer()) if data.is_valid else None, PICTURE: _picture(table, index)}
        return cls(file, images, StageTimes(**json.loads(row["times"][0].as_py())))


def rows_table(block: Block) -> pa.Table:
    """The rows of a denoised block by RESULT_SCHEMA."""
    return pa.Table.from_pylist(block.images, schema=RESULT_SCHEMA)


def joined_notes(*notes: str) -> str | None:
    """As a row has them; None if there are none."""
    return "; ".join(notes) or None


# ------------------------------------------------------------------------------------------------- pictures as columns

_CHUNKS = pa.list_(pa.struct([("kind", pa.binary()), ("body", pa.large_binary())]))
# A picture's parts (picture.Picture); all null where there is none.
_PICTURE_FIELDS = [
    pa.field(HEIGHT, pa.int32()),
    pa.field(WIDTH, pa.int32()),
    pa.field("channels", pa.int8()),
    pa.field("bits", pa.int8()),  # 8 or 16 a channel
    pa.field("pixels", pa.large_binary()),  # height x width x channels, row by row
    pa.field("alpha", pa.large_binary()),  # height x width
    pa.field("icc", pa.large_binary()),
    pa.field("exif", pa.large_binary()),
    pa.field("xmp", pa.large_binary()),
    pa.field("iptc", pa.large_binary()),
    pa.field("resolution", pa.struct([("x", pa.float64()), ("y", pa.float64()), ("unit", pa.string())])),
    pa.field("colour", _CHUNKS),
    pa.field("texts", _CHUNKS),
    pa.field("notes", pa.list_(pa.string())),
]
_READ_SCHEMA = pa.schema(
    [
        *WORK_SCHEMA,
        pa.field(DATA, pa.large_binary()),
        pa.field(STAGE, pa.string()),
        pa.field(REASON, pa.string()),
        *_PICTURE_FIELDS,
    ]
)


def _columns(picture: Picture | None) -> dict[str, Any]:
    """A picture as values for _PICTURE_FIELDS."""
    if picture is None:
        return {}
    height, width, channels = picture.pixels.shape
    metadata = picture.metadata
    return {
        HEIGHT: height,
        WIDTH: width,
        "channels": channels,
        "bits": 8 * picture.pixels.itemsize,
        "pixels": _bytes(picture.pixels),
        "alpha": None if picture.alpha is None else _bytes(picture.alpha),
        "icc": metadata.icc,
        "exif": metadata.exif,
        "xmp": metadata.xmp,
        "iptc": metadata.iptc,
        "resolution": metadata.resolution and metadata.resolution._asdict(),
        "colour": [chunk._asdict() for chunk in metadata.colour],
        "texts": [chunk._asdict() for chunk in metadata.texts],
        "notes": picture.notes,
    }


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _picture(table: pa.Table, index: int) -> Picture | None:
    """The picture in a row, its arrays read-only views into the table; None if there is none."""
    part = {field.name: table[field.name][index] for field in _PICTURE_FIELDS}
    if not part["pixels"].is_valid:
        return None
    height, width, channels = (part[name].as_py() for name in (HEIGHT, WIDTH, "channels"))
    dtype = np.uint8 if part["bits"].as_py() == 8 else np.uint16
    pixels = np.frombuffer(part["pixels"].as_buffer(), dtype).reshape(height, width, channels)
    alpha = np.frombuffer(part["alpha"].as_buffer(), dtype).reshape(height, width) if part["alpha"].is_valid else None
    found: dict[str, Any] = {name: part[name].as_py() for name in ("icc", "exif", "xmp", "iptc")}
    if (resolution := part["resolution"].as_py()) is not None:
        found["resolution"] = Resolution(**resolution)
    found |= {name: tuple(Chunk(**each) for each in part[name].as_py()) for name in ("colour", "texts")}
    return Picture(pixels, alpha, Metadata(**found), tuple(part["notes"].as_py()))
