"""Lists the images of a source as rows of a manifest, a table at a time.

A source is a folder or S3 prefix, a tar shard, a Parquet file, or a list of these. An image that is packed in a tar
shard or a Parquet file is listed with its place in it; later stages treat it as any other image.
"""

import itertools
from collections.abc import Generator, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagewizard import storage
from imagewizard.errors import UserError, one_line
from imagewizard.images.formats import is_image_name
from imagewizard.manifest import index as manifest_index
from imagewizard.manifest import packed as packed_listing
from imagewizard.manifest.tally import Row, Tally, tables
from imagewizard.schema import BYTES, MANIFEST_SCHEMA
from imagewizard.sources import parquet, tar

_PACKED = (tar.SUFFIX, parquet.SUFFIX)


def batches(source: str | list[str], tally: Tally) -> Generator[pa.Table, None, None]:
    """Tables of manifest rows by MANIFEST_SCHEMA, counted in `tally`.

    A damaged shard among others does not end the listing: a row with a member and no offset stands for what cannot be
    listed of it, and becomes an error row when it is read. Raises UserError if there is no such source, it may not be
    listed, or a Parquet file is neither a manifest nor holds images. The error has no key: callers know what the user
    called the source.
    """
    found = _of_list(source, tally) if isinstance(source, list) else _of_source(source, tally)
    for table in found:
        tally.images += table.num_rows
        tally.bytes += pc.sum(table[BYTES]).as_py() or 0
        yield table


def _of_source(source: str, tally: Tally) -> Iterator[pa.Table]:
    kind = storage.of(source).kind(source)
    name = source.rstrip("/").rpartition("/")[2]
    if kind is None:
        raise UserError(f"{source} does not exist", "give a folder, a tar shard, or a Parquet file or manifest")
    if kind == "folder":
        yield from _of_folder(source, "", tally)
    elif name.lower().endswith(_PACKED):
        yield from packed_listing.tables([(storage.absolute(source), name)], tally, is_source=True)
    elif name.lower().endswith(tar.COMPRESSED_SUFFIXES):
        raise UserError(f"{source} is compressed, so no image in it can be reached", "store it as plain .tar")
    else:
        raise UserError(f"{source} is a single file", "give its folder, or, in a config, a list: [FILE, …]")


def _of_list(sources: list[str], tally: Tally) -> Iterator[pa.Table]:
    """Ids are paths relative to the deepest folder that contains all sources."""
    paths = [storage.absolute(source).split("/") for source in sources]
    _check_apart(paths)
    parents = zip(*(path[:-1] for path in paths), strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda parts: len(set(parts)) == 1, parents))
    files: list[Row] = []
    packed: list[tuple[str, str]] = []
    folders: list[tuple[str, str]] = []
    for source, path in zip(sources, paths, strict=True):
        uri, image_id = "/".join(path), "/".join(path[shared:])
        if is_image_name(source):
            files.append((image_id, uri, None, None, None, None))
        elif source.lower().endswith(_PACKED) and ("://" in source or storage.of(source).kind(source) != "folder"):
            packed.append((uri, image_id))
        elif (kind := storage.of(source).kind(source)) == "folder":
            folders.append((uri, f"{image_id}/"))
        elif kind == "file":
            tally.skip(source)
        else:
            raise UserError(f"{source} does not exist", "take it out of the list, or correct its path")
    yield from tables(iter(files))
    for uri, above in folders:
        yield from _of_folder(uri, above, tally)
    yield from packed_listing.tables(packed, tally, is_source=len(sources) == 1)


def _check_apart(paths: list[list[str]]) -> None:
    """Raises UserError if one source is, or lies in, another."""
    seen = set()
    for path in paths:
        if (key := tuple(path)) in seen:
            raise UserError(f"{'/'.join(path)} is in the list twice", "name each file once")
        seen.add(key)
    for path in paths:
        if above := next((path[:end] for end in range(1, len(path)) if tuple(path[:end]) in seen), None):
            raise UserError(f"{'/'.join(path)} lies in {'/'.join(above)}, which is in the list too", "keep one of them")


def _of_folder(source: str, above: str, tally: Tally) -> Iterator[pa.Table]:
    """A folder or prefix, recursively. `above` comes before the ids of its files."""
    index = manifest_index.read(source)
    if index is not None:
        yield from _of_manifest(source, index, tally)
        return
    root = storage.absolute(source)
    packed: list[tuple[str, str]] = []
    yield from tables(_image_files(root, above, packed, tally))
    yield from packed_listing.tables(packed, tally)


def _of_manifest(folder: str, index: manifest_index.ManifestIndex, tally: Tally) -> Iterator[pa.Table]:
    """Exactly the shards that the index names."""
    tally.ids_are_given = True
    for name in index.shards:
        uri = storage.join(folder, name)
        try:
            yield pq.read_table(pa.BufferReader(storage.read_bytes(uri)), schema=MANIFEST_SCHEMA)
        except FileNotFoundError:
            raise UserError(f"{uri} is gone: the manifest was refreshed or damaged", "run again") from None
        except pa.ArrowException as error:
            raise UserError(f"{uri} is damaged ({one_line(error)})", "list the manifest again with --refresh") from None


def _image_files(root: str, above: str, packed: list[tuple[str, str]], tally: Tally) -> Iterator[Row]:
    """The image files below a root; packed files, a few thousand at most, are added to `packed` with their ids."""
    for path, size in itertools.chain.from_iterable(storage.of(root).pages(root)):
        if is_image_name(path):
            yield above + path, f"{root}/{path}", size, None, None, None
        elif path.lower().endswith(_PACKED):
            packed.append((f"{root}/{path}", above + path))
        else:
            tally.skip(above + path)
