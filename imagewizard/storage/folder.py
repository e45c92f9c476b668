"""A folder that a program writes into, local or below an s3:// prefix: a run's, a manifest's."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, BinaryIO

from imagewizard.errors import UserError
from imagewizard.storage import files, stores
from imagewizard.storage.local import plain_path

if TYPE_CHECKING:
    import pyarrow as pa

# Holds, below the folder, files that are being written; nobody reads them.
SCRATCH = "_tmp"


class Folder:
    """Names are paths below the folder (`results/a.parquet`). Methods raise OSError unless they say UserError."""

    def __init__(self, uri: str, scratch: str | None = None) -> None:
        """`scratch` is for `subfolder`. The folder need not be there. Raises UserError for a scheme without a store."""
        self.uri = plain_path(uri)
        self._scratch = files.join(uri, SCRATCH) if scratch is None else scratch
        stores.of(uri)

    def __str__(self) -> str:
        return self.uri

    def uri_of(self, name: str) -> str:
        return files.join(self.uri, name) if name else self.uri

    def subfolder(self, name: str) -> "Folder":
        """A folder below this one; what is written there goes through this one's scratch folder, and is swept here."""
        return Folder(self.uri_of(name), self._scratch)

    def write(self, name: str, data: "bytes | pa.Buffer") -> None:
        """Writes a file that is there as a whole or not at all."""
        stores.of(self.uri).write(self.uri_of(name), data, self._scratch)

    def write_new(self, name: str, data: "bytes | pa.Buffer") -> bool:
        """As `write`, but only if there is no such file: False if there is. Of several callers one wins."""
        return stores.of(self.uri).write(self.uri_of(name), data, self._scratch, new=True)

    def read(self, name: str, max_bytes: int | None = None) -> bytes:
        """The whole file; OSError, before anything is read, if it has more than `max_bytes`."""
        return files.read_bytes(self.uri_of(name), max_bytes)

    def read_if_there(self, name: str) -> bytes | None:
        """The whole file; None if there is none."""
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def open(self, name: str) -> BinaryIO:
        """The file, to be read from anywhere."""
        return files.open_file(self.uri_of(name))

    def exists(self, name: str) -> bool:
        """Whether there is such a file, or a folder that holds something. Raises UserError if that cannot be told."""
        return stores.of(self.uri).kind(self.uri_of(name)) is not None

    def list(self, subfolder: str = "", suffix: str = "") -> list[str]:
        """Names, sorted, of the files directly in a subfolder that end in `suffix`; [] if there is no such subfolder.

        Folders are listed only for the suffix "/", in which their names end.
        """
        uri = self.uri_of(subfolder)
        try:
            names = list(stores.of(uri).names(uri))
        except FileNotFoundError:
            return []
        return sorted(name for name in names if name.endswith(suffix) and name.endswith("/") == (suffix == "/"))

    def delete(self, names: Iterable[str]) -> None:
        """Deletes files, of which some may not be there. After an OSError some of the rest may be left."""
        stores.of(self.uri).delete([self.uri_of(name) for name in names])

    def sweep(self) -> None:
        """Deletes what interrupted writes left behind, and what other processes are writing at the moment."""
        scratch = Folder(self._scratch)
        scratch.delete(scratch.list())

    def check_answers(self) -> None:
        """Raises UserError, within seconds, unless what holds the folder answers; all else waits out an outage."""
        stores.of(self.uri).check_answers(self.uri)

    def check_usable(self, is_ours: Callable[[str], bool]) -> None:
        """Raises UserError unless the folder is there, or can be made, can be written, and holds nothing but ours.

        `is_ours` is asked for the names of files and folders directly in it; those of folders end in a slash.
        """
        files.check_utf8(files.absolute(self.uri))
        store = stores.of(self.uri)
        store.check_writable(self.uri)
        try:
            other = next((name for name in store.names(self.uri) if not is_ours(name)), None)
        except FileNotFoundError:
            return
        if other is not None:
            raise UserError(f"{self.uri} holds other files ({other.rstrip('/')})", "give an empty or a new folder")
