"""Does a block that has ended a process image by image, so that the next end tells which of them is to blame."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from imagewizard.bulk.block import DATA, Block
from imagewizard.bulk.block_reader import BlockReader
from imagewizard.bulk.stage_times import StageTimes
from imagewizard.schema import IMAGE_ID, REASON, STAGE

ENDED = "it has ended the process that worked on it, more than once: it may need too much memory, or break a codec"


def denoise(
    block: Block,
    reader: BlockReader,
    denoise_block: Callable[[Block], Block],
    blamed: Mapping[str, str],
    say: Callable[[str, str], None],
) -> Block:
    """A block of work → its rows.

    `blamed`: {image_id: stage} of images that get an error row. `say` is called with the image and the stage before
    each stage.
    """
    done: list[dict[str, Any]] = []
    for image in block.images:
        times = StageTimes(on_stage=partial(say, image[IMAGE_ID]))
        one = replace(block, images=[dict(image)], times=times)
        if (stage := blamed.get(image[IMAGE_ID])) is None:
            one = reader.read(one)
        else:
            one.images[0] |= {DATA: None, STAGE: stage, REASON: ENDED}
        done += denoise_block(reader.decode(one)).images
        block.times.add(times)
    return replace(block, images=done)
