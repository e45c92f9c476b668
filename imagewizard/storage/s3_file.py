"""An object in S3 as a file."""

import io
from typing import Any

from imagewizard.storage import s3


class ObjectFile(io.RawIOBase):
    """An object as a file that is read from anywhere, by ranged requests.

    Raises OSError on opening (FileNotFoundError among them), on reading, and if the object is replaced meanwhile.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._size, self._etag = s3.head(uri)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(f"{self._uri}: byte {start + offset} is before the start")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """In one request; RawIOBase would make one for every few kilobytes."""
        return self._read(self._size - self._position)

    def _read(self, length: int) -> bytes:
        length = min(length, self._size - self._position)
        if length <= 0:
            return b""
        data = s3.get(self._uri, span=(self._position, length), etag=self._etag).data
        self._position += length
        return data
