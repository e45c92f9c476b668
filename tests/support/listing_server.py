"""An HTTP server that answers ListObjectsV2 as S3 does, for any number of keys, and no other request."""

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, urlsplit


class ListingServer(ThreadingHTTPServer):
    """`keys` must be sorted; an object has as many bytes as its key has characters."""

    daemon_threads = True

    def __init__(self, keys: Sequence[str], page: int = 1000) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys, self.page = keys, page
        self.starts: list[str] = []
        """The StartAfter of each request; "" if it had none."""
        self.fail_at: str | None = None
        """A listing that starts at or after this key gets 403."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: ListingServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "list-type=2" not in self.path:
            self._answer(404, "<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")
            return
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        assert "delimiter" not in query
        prefix, start, size = query.get("prefix", ""), query.get("start-after", ""), int(query["max-keys"])
        self.server.starts.append(start)
        if self.server.fail_at is not None and start >= self.server.fail_at:
            self._answer(403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
            return
        keys = self.server.keys
        first = max(bisect_left(keys, prefix), bisect_right(keys, start))
        last = min(first + min(size, self.server.page), bisect_left(keys, prefix + "\U0010ffff"))
        found = keys[first:last]
        more = last < len(keys) and keys[last].startswith(prefix)
        objects = "".join(
            f"<Contents><Key>{quote(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;x&quot;</ETag><Size>{len(key)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in found
        )
        self._answer(
            200,
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>'
            f"<KeyCount>{len(found)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>{objects}"
            "</ListBucketResult>",
        )

    def do_HEAD(self) -> None:
        self._answer(404, "")

    def _answer(self, status: int, body: str) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(keys: Sequence[str], page: int = 1000) -> Iterator[ListingServer]:
    """A server that runs while the context lasts."""
    with ListingServer(keys, page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
