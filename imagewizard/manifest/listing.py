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
from imagewizard.manifest import csv_manifest, external, left_out
from imagewizard.manifest import index as manifest_index
from imagewizard.manifest import packed as packed_listing
from imagewizard.manifest.tally import Row, Tally, tables
from imagewizard.schema import BYTES, LEVEL_FIELD, MANIFEST_SCHEMA, MEMBER, OFFSET, URI
from imagewizard.sources import addresses, parquet, tar

_PACKED = (tar.SUFFIX, parquet.SUFFIX)


def batches(
    source: str | list[str], tally: Tally, *, in_order: bool = False, level_column: str | None = None
) -> Generator[pa.Table, None, None]:
    """Tables of manifest rows by MANIFEST_SCHEMA, counted in `tally`.

    `in_order`: in an order that is the same the next time, even where another is faster. A damaged shard among others
    does not end the listing: a row with a member and no offset stands for what cannot be listed of it, and becomes an
    error row when it is read. `level_column`: a column that the source must have as a manifest or as a Parquet file of
    images; its texts follow as LEVEL_FIELD. Raises UserError if there is no such source, it may not be listed, or a
    Parquet file is neither a manifest nor holds images. The error has no key: callers know what the user called the
    source. Only that of a missing level column has the key denoise.sigma.
    """
    for each in [source] if isinstance(source, str) else source:
        storage.check_utf8(storage.absolute(each))
    listing = _Listing(tally, in_order, level_column)
    found = listing.of_list(source) if isinstance(source, list) else listing.of_source(source)
    for table in found:
        if level_column is not None and LEVEL_FIELD.name not in table.schema.names:
            table = _without_levels(table, level_column)
        tally.images += table.num_rows
        tally.bytes += pc.sum(table[BYTES]).as_py() or 0
        yield table


class _Listing:
    """Lists sources into one tally."""

    def __init__(self, tally: Tally, in_order: bool, level_column: str | None) -> None:
        self._tally, self._in_order, self._level_column = tally, in_order, level_column

    def of_source(self, source: str) -> Iterator[pa.Table]:
        kind = storage.of(source).kind(source)
        name = storage.absolute(source).rpartition("/")[2]
        if kind is None:
            raise UserError(f"{source} does not exist", "give a folder, a tar shard, or a Parquet or CSV manifest")
        if kind == "folder":
            yield from self._of_folder(source, "")
        elif name.lower().endswith((*_PACKED, *csv_manifest.SUFFIXES)):
            yield from self._of_packed([(storage.absolute(source), name)], is_source=True)
        elif name.lower().endswith(tar.COMPRESSED_SUFFIXES):
            raise UserError(f"{source} is compressed, so no image in it can be reached", "store it as plain .tar")
        elif is_image_name(name):
            raise UserError(f"{source} is a single file", "give its folder, or, in a config, a list: [FILE, …]")
        else:
            reason = left_out.why(name) or left_out.why_no_image(name)
            raise UserError(f"{source}: {reason}", "give a folder, a tar shard, Parquet, or a CSV manifest")

    def of_list(self, sources: list[str]) -> Iterator[pa.Table]:
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
            is_known = is_image_name(uri) or uri.lower().endswith((*_PACKED, *csv_manifest.SUFFIXES))
            # An object's kind takes a request, which a name that tells it can save.
            kind = "file" if is_known and "://" in uri else storage.of(source).kind(source)
            if kind == "folder":
                folders.append((uri, f"{image_id}/"))
            elif is_image_name(uri) and not left_out.why(path[-1]):
                files.append((image_id, uri, None, None, None, None))
                self._tally.ids_are_given |= addresses.split(image_id) is not None
            elif is_known and not left_out.why(path[-1]):
                packed.append((uri, image_id))
            elif kind is None:
                raise UserError(f"{source} does not exist", "take it out of the list, or correct its path")
            else:
                self._tally.skip(image_id, left_out.why(path[-1]) or left_out.why_no_image(uri))
        yield from tables(iter(files))
        for uri, above in folders:
            yield from self._of_folder(uri, above)
        yield from self._of_packed(packed, is_source=len(sources) == 1)

    def _of_folder(self, source: str, above: str) -> Iterator[pa.Table]:
        """A folder or prefix, recursively. `above` comes before the ids of its files."""
        index = manifest_index.read(source)
        if index is not None:
            yield from self._of_manifest(source, index)
            return
        packed: list[tuple[str, str]] = []
        yield from tables(self._image_files(storage.absolute(source), above, packed))
        yield from self._of_packed(packed)

    def _of_manifest(self, folder: str, index: manifest_index.ManifestIndex) -> Iterator[pa.Table]:
        """Exactly the shards that the index names."""
        self._tally.ids_are_given = True
        for name in index.shards:
            uri = storage.join(folder, name)
            try:
                data = pa.BufferReader(storage.read_bytes(uri))
                if self._level_column is None:
                    yield pq.read_table(data, schema=MANIFEST_SCHEMA)
                else:
                    file = pq.ParquetFile(data)
                    yield from external.tables(
                        file.schema_arrow, external.batches(file, self._level_column), self._level_column
                    )
            except UserError as error:
                raise UserError(f"{uri}: {error.what}", error.fix, error.key) from None
            except FileNotFoundError:
                raise UserError(f"{uri} is gone: the manifest was refreshed or damaged", "run again") from None
            except pa.ArrowException as error:
                raise UserError(
                    f"{uri} is damaged ({one_line(error)})", "list the manifest again with --refresh"
                ) from None

    def _image_files(self, root: str, above: str, packed: list[tuple[str, str]]) -> Iterator[Row]:
        """The image files below a root; packed files, a few thousand at most, are added to `packed` with their ids."""
        skip, why = self._tally.skip, left_out.why
        for page in storage.of(root).pages(root, in_order=self._in_order):
            is_odd = left_out.may_be_among(path for path, _, _ in page)
            for path, size, reason in page:
                if is_odd:
                    reason = reason or why(path)
                    # An id as of a member of a tar that may lie beside it.
                    self._tally.ids_are_given |= addresses.split(path) is not None
                if reason is not None:
                    skip(above + path, reason)
                elif is_image_name(path):
                    yield above + path, f"{root}/{path}", size, None, None, None
                elif path.lower().endswith(_PACKED):
                    packed.append((f"{root}/{path}", above + path))
                else:
                    skip(above + path, left_out.why_no_image(path))

    def _of_packed(self, packed: list[tuple[str, str]], *, is_source: bool = False) -> Iterator[pa.Table]:
        threads = 1 if self._in_order else packed_listing.THREADS
        yield from packed_listing.tables(
            packed, self._tally, is_source=is_source, threads=threads, level_column=self._level_column
        )


def _without_levels(table: pa.Table, level_column: str) -> pa.Table:
    """The rows of what could not be listed, which have no level; UserError if there are images among them."""
    listed = table.filter(pc.or_(pc.is_null(table[MEMBER]), pc.is_valid(table[OFFSET])))
    if listed.num_rows:
        what = f"{listed[URI][0].as_py()} is listed by no manifest, so it has no column {level_column}"
        raise UserError(what, "give a Parquet or CSV manifest with that column as input", "denoise.sigma")
    return table.append_column(LEVEL_FIELD, pa.nulls(table.num_rows, LEVEL_FIELD.type))


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
