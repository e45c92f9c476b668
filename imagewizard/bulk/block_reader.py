"""The first two stages of a block: read → decode."""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

from imagewizard.bulk import block as blocks
from imagewizard.bulk.block import DATA, PICTURE, Block
from imagewizard.errors import one_line
from imagewizard.images import picture
from imagewizard.images.errors import ImageError, TooLargeError
from imagewizard.schema import MEMBER, REASON, ROW, STAGE
from imagewizard.sources.reading import ImageReader, byte_limit

# Reads wait for servers and slow disks. From a quick disk a single thread reads: more would wait for each other, and
# take three times the CPU.
READ_THREADS = 16
QUICK_SECONDS = 0.001


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
        """A block of work → the same, read and decoded."""
        return self.decode(self.read(block))

    def read(self, block: Block) -> Block:
        """Adds each image's encoded `data`, or the `stage` and `error` of the attempt."""
        # A packed file is read from its beginning to its end, which several threads could not do better.
        packed = any(image[MEMBER] is not None or image[ROW] is not None for image in block.images)
        contents = self._read_part(block, block.images) if packed else self._read_files(block)
        images = [
            image | {DATA: None, STAGE: "read", REASON: one_line(content)}
            if isinstance(content, OSError)
            else image | {DATA: content, STAGE: None, REASON: None}
            for image, content in zip(block.images, contents, strict=True)
        ]
        return replace(block, images=images)

    def _read_files(self, block: Block) -> list[bytes | OSError]:
        """One after the other while they come quickly, the rest by threads."""
        contents: list[bytes | OSError] = []
        for image in block.images:
            started = time.perf_counter()
            contents += self._read_part(block, [image])
            if time.perf_counter() - started > QUICK_SECONDS:
                break
        rest = block.images[len(contents) :]
        size = max(1, math.ceil(len(rest) / READ_THREADS))
        parts = [rest[first : first + size] for first in range(0, len(rest), size)]
        return contents + list(chain.from_iterable(self._pool.map(partial(self._read_part, block), parts)))

    def _read_part(self, block: Block, images: list[dict[str, Any]]) -> list[bytes | OSError]:
        with block.times.timed("read"):
            return self._images.read(images, byte_limit(self.max_pixels))

    def decode(self, block: Block) -> Block:
        """Decodes `data` into pictures, up to `pixel_bytes`; later images and large ones stay encoded."""
        held, images = 0, []
        with block.times.timed("decode"):
            for image in block.images:
                decoded = {} if image[REASON] is not None or held > self.pixel_bytes else self._decoded(image[DATA])
                if (found := decoded.get(PICTURE)) is not None:
                    held += found.nbytes
                images.append(image | {PICTURE: None} | decoded)
        return replace(block, images=images)

    def _decoded(self, data: bytes) -> dict[str, Any]:
        """What changes of an image: it has a picture, an error, or nothing where the image is large."""
        try:
            found = picture.decode(data, min(blocks.LARGE_PIXELS, self.max_pixels), self.keep)
        except ImageError as error:
            if isinstance(error, TooLargeError) and error.pixels <= self.max_pixels:
                return {}
            return {DATA: None, STAGE: "decode", REASON: str(error)}
        return {DATA: None, PICTURE: found}
