"""Which images a run trains on and validates with.

Training images are listed once, into the run, and found again if the user moves them.
"""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagewizard import storage
from imagewizard.config.train import TrainConfig, TrainImage
from imagewizard.config.train_data import PairsSection
from imagewizard.errors import UserError, keyed
from imagewizard.manifest import listing, pairs, shards
from imagewizard.manifest.tally import Tally
from imagewizard.progress import Reporter, silent
from imagewizard.runs import job
from imagewizard.schema import BYTES, IMAGE_ID, MEMBER, NOISY_URI, ROW, URI
from imagewizard.storage import Folder
from imagewizard.training import versions

# Decoded bytes per byte of an image file: a JPEG of good quality stores a pixel of 24 bits in 1.5 bits.
DECODED_BYTES = 16
# The pairs of a run, beside the manifest of its other images.
PAIRS = "manifest/pairs.parquet"

SCHEMA = pa.schema(
    [
        pa.field(IMAGE_ID, pa.string(), nullable=False),
        pa.field(URI, pa.string(), nullable=False),
        pa.field(BYTES, pa.int64()),
        pa.field(NOISY_URI, pa.string()),  # of a pair
    ]
)


def check_sources(config: TrainConfig) -> None:
    """Raises UserError if there is nothing to list, or a pair is not whole."""
    data = config.data
    if data.train is not None:
        with keyed("data.train"):
            _check_unpacked(shards.check_source(data.train))
    _listed_pairs(data.pairs, "data.pairs")


def check_same_sources(config: TrainConfig) -> None:
    """Raises UserError if a run that began with pairs goes on without them, or the other way round; likewise for
    `data.train`."""
    before = _began_with(config)
    for key, source in (("train", config.data.train), ("pairs", config.data.pairs)):
        if (before.get(key) is None) != (source is None):
            what = f"the run began with{'out' if source else ''} them"
            raise UserError(what, "give the same images, or another output", f"data.{key}")


def _began_with(config: TrainConfig) -> dict[str, object]:
    """The section `data` of the run's job.yaml; empty if there is no run."""
    stored = job.read_job(config.output)
    found: dict[str, object] = stored["config"]["data"] if stored else {}
    return found


def is_listed(config: TrainConfig) -> bool:
    """Whether the run holds the list of all its training images."""
    run, data = config.output, config.data
    return (data.train is None or shards.read_index(run) is not None) and (
        data.pairs is None or Folder(run).read_if_there(PAIRS) is not None
    )


def write_list(
    run: str, config: TrainConfig, check: Callable[[], None] = lambda: None, report: Reporter = silent
) -> None:
    """Lists the training images into the folder `run`, unless they are there.

    `check` is called before each write; `report` receives the progress. Raises UserError.
    """
    data = config.data
    if data.train is not None and shards.read_index(run) is None:
        with keyed("data.train"):
            shards.write(run, data.train, None, check, report)
    if data.pairs is not None and Folder(run).read_if_there(PAIRS) is None:
        sink = pa.BufferOutputStream()
        pq.write_table(_listed_pairs(data.pairs, "data.pairs"), sink)
        check()
        Folder(run).write(PAIRS, sink.getvalue())


def training(run: str, config: TrainConfig) -> pa.Table:
    """The listed images by SCHEMA, at their places in the config: those of `data.train`, then the pairs.

    `run`: the folder that holds the list. Raises UserError if images are packed, or if a key is another source than the
    run began with and has other images.
    """
    tables, before = [], _began_with(config)
    if config.data.train is not None:
        index = shards.read_index(run)
        assert index is not None  # the caller has listed them
        images = pa.concat_tables([shards.read_shard(run, shard) for shard in range(len(index.blocks))])
        with keyed("data.train"):
            _check_unpacked(images)
        if before and before["train"] != config.data.train:
            images = _moved(images, _listed(config.data.train, "data.train"), "data.train")
        uris = pa.array([storage.absolute(uri) for uri in images[URI].to_pylist()], pa.string())
        columns = [images[IMAGE_ID], uris, images[BYTES], pa.nulls(images.num_rows, pa.string())]
        tables.append(pa.table(columns, schema=SCHEMA))
    if config.data.pairs is not None:
        found = pq.read_table(pa.BufferReader(Folder(run).read(PAIRS)), schema=SCHEMA)
        if before and before["pairs"] != config.data.pairs.model_dump():
            found = _moved(found, _listed_pairs(config.data.pairs, "data.pairs"), "data.pairs")
        tables.append(found)
    return pa.concat_tables(tables)


def _moved(images: pa.Table, listed: pa.Table, key: str) -> pa.Table:
    """The run's images as they are listed now. Raises UserError unless the ids are the same."""
    before, now = (set(table[IMAGE_ID].to_pylist()) for table in (images, listed))
    if before != now:
        example = min(before ^ now)
        raise UserError(
            f"the run began with other images ({len(before - now)} are missing, {len(now - before)} are new, "
            f"{example} among them)",
            "give the same ones, or another output",
            key,
        )
    order = {image_id: row for row, image_id in enumerate(listed[IMAGE_ID].to_pylist())}
    return listed.take([order[image_id] for image_id in images[IMAGE_ID].to_pylist()])


def _listed(source: str | list[str], key: str) -> pa.Table:
    with keyed(key):
        images = pa.concat_tables(listing.batches(source, Tally()))
        _check_unpacked(images)
    return images


def _listed_pairs(folders: PairsSection | None, key: str) -> pa.Table:
    """The pairs by SCHEMA, in the order of their names; none without a section. Raises UserError."""
    keys = f"{key}.noisy", f"{key}.clean"
    found = pairs.match(folders.noisy, folders.clean, keys) if folders is not None else []
    # The ids differ from those of `data.train`, because an id decides what is drawn.
    rows = [(f"pairs/{pair.name}", pair.clean, pair.bytes, pair.noisy) for pair in found]
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)


def _check_unpacked(images: pa.Table) -> None:
    """Raises UserError, without a key, if one of the images is in a packed file."""
    packed = images.filter(pc.or_(pc.is_valid(images[MEMBER]), pc.is_valid(images[ROW])))
    if packed.num_rows:
        what = f"{packed.num_rows} of its images are in tar shards or Parquet ({packed[IMAGE_ID][0]} among them)"
        raise UserError(what, "give them as files: training reads no others")


def check_validation(config: TrainConfig) -> None:
    """Raises UserError if there are no validation images, or a pair is not whole."""
    if config.data.validation is not None:
        with keyed("data.validation"):
            _check_unpacked(shards.check_source(config.data.validation))
    _listed_pairs(config.validation.pairs, "validation.pairs")


def validation(config: TrainConfig, images: pa.Table) -> list[TrainImage]:
    """The validation images, then the pairs. Raises UserError if one is among the training `images`, or packed."""
    alone: list[TrainImage] = []
    if config.data.validation is not None:
        listed = _listed(config.data.validation, "data.validation")
        uris = map(storage.absolute, listed[URI].to_pylist())
        alone = [TrainImage(*image) for image in zip(listed[IMAGE_ID].to_pylist(), uris, strict=True)]
    paired = as_list(_listed_pairs(config.validation.pairs, "validation.pairs"))
    trained = {*images[URI].to_pylist(), *images[NOISY_URI].to_pylist()}
    for key, found in (("data.validation", alone), ("validation.pairs", paired)):
        if shared := {uri for image in found for uri in (image.uri, image.noisy_uri) if uri} & trained:
            raise UserError(
                f"{len(shared)} of its images are trained on too ({min(shared)} among them)",
                "give others: they say which weights are the best",
                key,
            )
    return alone + paired


def fits_in_memory(config: TrainConfig, images: pa.Table) -> bool:
    """Whether each worker holds all training images and their photographs."""
    of_pairs = pc.sum(images.filter(pc.is_valid(images[NOISY_URI]))[BYTES]).as_py() or 0
    others = (pc.sum(images[BYTES]).as_py() or 0) - of_pairs
    copies = 1 + versions.PHOTOGRAPHS if config.data.camera else 1
    return DECODED_BYTES * (of_pairs + copies * others) <= config.resources.image_memory


def as_list(images: pa.Table) -> list[TrainImage]:
    """The rows of a table by SCHEMA."""
    columns = (images[name].to_pylist() for name in (IMAGE_ID, URI, NOISY_URI))
    return [TrainImage(*row) for row in zip(*columns, strict=True)]
