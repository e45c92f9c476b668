"""Does a block that has ended a process image by image, so that the next end tells which of them is to blame."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import pyarrow as pa

from imagewizard.bulk import block as blocks
from imagewizard.bulk.block import Block
from imagewizard.bulk.block_reader import BlockReader
from imagewizard.bulk.stage_times import StageTimes
from imagewizard.schema import IMAGE_ID

ENDED = "it has ended the process that worked on it, more than once: it may need too much memory, or break a codec"


def denoise(
    block: Block,
    reader: BlockReader,
    denoise_block: Callable[[Block], Block],
    blamed: Mapping[str, str],
    say: Callable[[str, str], None],
) -> Block:
    """A block of work (blocks.WORK_SCHEMA) → its rows (blocks.DENOISED_SCHEMA).

    `blamed`: {image_id: stage} of images that get an error row. `say` is called with the image and the stage before
    each stage.
    """
    done = []
    for index, image_id in enumerate(block.images[IMAGE_ID].to_pylist()):
        times = StageTimes(on_stage=partial(say, image_id))
        one = replace(block, images=block.images.slice(index, 1), times=times)
        stage = blamed.get(image_id)
        read = reader.read(one) if stage is None else blocks.with_data(one, [None], [stage], [ENDED])
        done.append(denoise_block(reader.decode(read)).images)
        block.times.add(times)
    return replace(block, images=pa.concat_tables(done))
