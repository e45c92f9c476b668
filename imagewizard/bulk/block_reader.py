"""The first two stages of a block: read → decode."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa

from imagewizard.bulk import block as blocks
from imagewizard.bulk.block import Block
from imagewizard.errors import one_line
from imagewizard.images import picture
from imagewizard.images.errors import ImageError, TooLargeError
from imagewizard.schema import MEMBER, REASON, ROW, STAGE
from imagewizard.sources.reading import ImageReader, byte_limit

# Reads wait for disks and servers, not for the CPU.
READ_THREADS = 16


@dataclass(frozen=True)
class BlockReader:
    """Reads and decodes blocks. One bad image costs its row, not the block."""

    max_pixels: int
    """Of a job's images."""
    keep: bool
    """Whether images are restored: then they keep their bit depth, grey, alpha and metadata."""
    pixel_bytes: int = blocks.PIXEL_BYTES
    """Pictures of a block that are decoded here, at most. The others stay encoded."""
    _images: ImageReader = field(default_factory=ImageReader)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(READ_THREADS, "read"))

    def __call__(self, block: Block) -> Block:
        """A block of work (blocks.WORK_SCHEMA) → the same with its pictures (blocks.DECODED_SCHEMA)."""
        return self.decode(self.read(block))

    def read(self, block: Block) -> Block:
        """Adds each image's encoded `data`, or the `stage` and `error` of the attempt."""
        images = block.images.to_pylist()
        # A packed file is read from its beginning to its end, which several threads could not do better.
        packed = any(image[MEMBER] is not None or image[ROW] is not None for image in images)
        size = max(1, len(images) if packed else math.ceil(len(images) / READ_THREADS))
        parts = [images[first : first + size] for first in range(0, len(images), size)]
        contents = list(chain.from_iterable(self._pool.map(partial(self._read_part, block), parts)))
        errors = [one_line(each) if isinstance(each, OSError) else None for each in contents]
        data = [None if isinstance(each, OSError) else each for each in contents]
        return blocks.with_data(block, data, [error and "read" for error in errors], errors)

    def _read_part(self, block: Block, images: list[dict[str, Any]]) -> list[bytes | OSError]:
        with block.times.timed("read"):
            return self._images.read(images, byte_limit(self.max_pixels))

    def decode(self, block: Block) -> Block:
        """Decodes `data` into pictures, up to `pixel_bytes`; later images and large ones stay encoded."""
        rows = block.images.drop_columns(blocks.DATA).to_pylist()
        held = 0
        with block.times.timed("decode"):
            for index, image in enumerate(rows):
                if image[REASON] is not None:
                    continue
                data = block.images[blocks.DATA][index].as_buffer()
                if held > self.pixel_bytes:
                    image[blocks.DATA] = memoryview(data)
                    continue
                try:
                    decoded = picture.decode(data, min(blocks.LARGE_PIXELS, self.max_pixels), self.keep)
                except ImageError as error:
                    if isinstance(error, TooLargeError) and error.pixels <= self.max_pixels:
                        image[blocks.DATA] = memoryview(data)
                    else:
                        image |= {STAGE: "decode", REASON: str(error)}
                    continue
                image |= blocks.picture_columns(decoded)
                held += decoded.nbytes
        return replace(block, images=pa.Table.from_pylist(rows, schema=blocks.DECODED_SCHEMA))
