"""A real S3 server, moto's, that fails on demand as real ones do: SlowDown, broken transfers, denied keys.

`python -m tests.support.s3_faults --port 9000 --slow-down 0.05 --cut-off 0.01` runs one for benchmarks.
"""

import argparse
import io
import random
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

_ERRORS = {
    "slow_down": ("503 Slow Down", "SlowDown", "Please reduce your request rate."),
    "denied": ("403 Forbidden", "AccessDenied", "Access Denied"),
    501: ("501 Not Implemented", "NotImplemented", "A header you provided implies functionality that is not."),
    405: ("405 Method Not Allowed", "MethodNotAllowed", "The specified method is not allowed against this resource."),
    400: ("400 Bad Request", "InvalidArgument", "The header is not supported."),
}


class FaultyS3:
    """An S3 server on localhost whose attributes can change while it runs. A process has one set of objects."""

    def __init__(self, port: int = 0, seed: int = 0) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", port, self._answer, threaded=True, request_handler=self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._seed = seed
        self._drawing = threading.Lock()
        # moto looks first and then writes; S3's conditional writes are atomic.
        self._changing = threading.Lock()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.reset()

    def reset(self) -> None:
        """Removes all faults, clears the counts and seeds the random numbers anew."""
        self._random = random.Random(self._seed)
        self.slow_down = 0.0
        """Share of the requests that are answered 503 SlowDown."""
        self.cut_off = 0.0
        """Share of requests whose connection breaks during the download or upload, or instead of the answer."""
        self.cut_at = 0.5
        """Fraction of a body that is sent before the connection breaks."""
        self.lose_answers = False
        """If true, it is always the answer that is cut off, after the request was carried out."""
        self.denied: str | None = None
        """A regular expression; a bucket/key that it matches gets 403 AccessDenied."""
        self.ignored: set[str] = set()
        """Headers that are not looked at, as If-Match by some servers; "DELETE If-Match": by that method alone."""
        self.refused: set[str] = set()
        """Headers, as above, and parameters of an address (delete), that are answered `refused_with`."""
        self.refused_with = 501
        self.signers: set[tuple[str, str]] = set()
        """(access key, region) of the requests; ("", "") of one that is not signed."""
        self.clock_ahead = 0.0
        """Seconds that the server's Date is ahead of this machine's clock."""
        self.requests: Counter[str] = Counter()
        """Number of requests by method, failed ones included."""
        self.reads: Counter[str] = Counter()
        """Number of GET requests by bucket/key."""
        self.faults: Counter[str] = Counter()
        """How often slow_down, cut_off, denied and refused occurred."""
        self.bucket = ""
        """The URI of the current test's bucket."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[MotoRequestHandler]:
        faulty = self

        class Handler(MotoRequestHandler):
            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string((timestamp or time.time()) + faulty.clock_ahead)

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                pass

        return Handler

    def _draw(self, method: str, path: str) -> tuple[str, bool]:
        """(the fault of this request or "", whether it is the upload that is cut off)."""
        with self._drawing:
            self.requests[method] += 1
            if method == "GET":
                self.reads[path] += 1
            draw, in_upload = self._random.random(), self._random.random() < 0.5
            fault = ""
            if self.denied is not None and re.search(self.denied, path):
                fault = "denied"
            elif draw < self.slow_down:
                fault = "slow_down"
            elif draw < self.slow_down + self.cut_off:
                fault = "cut_off"
            if fault:
                self.faults[fault] += 1
            return fault, in_upload and not self.lose_answers

    def _is_refused(self, environ: dict[str, Any]) -> bool:
        parameters = environ["QUERY_STRING"].split("&")
        return any(name in parameters or _variable(name, environ) in environ for name in self.refused)

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        method = environ["REQUEST_METHOD"]
        signer = re.search("Credential=([^/]+)/[^/]+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        self.signers.add((signer[1], signer[2]) if signer else ("", ""))
        fault, in_upload = self._draw(method, environ["PATH_INFO"].lstrip("/"))
        # -1: an upload in chunks, as pyarrow's are, which ends by itself.
        length = -1 if environ.get("wsgi.input_terminated") else int(environ.get("CONTENT_LENGTH") or 0)
        if fault == "cut_off" and in_upload and length:
            environ["wsgi.input"].read(int(length * self.cut_at) if length > 0 else 1)
            _hang_up(environ)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        if not fault and self._is_refused(environ):
            fault = "refused"
            self.faults[fault] += 1
        if (error := self.refused_with if fault == "refused" else fault) in _ERRORS:
            status, code, message = _ERRORS[error]
            start_response(status, [("Content-Type", "application/xml")])
            yield f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            return
        for header in self.ignored:
            environ.pop(_variable(header, environ), None)
        with self._changing:
            body = b"".join(self._app(environ, start_response))
        if fault != "cut_off":
            yield body
            return
        if method == "GET":
            yield body[: int(len(body) * self.cut_at)]
        _hang_up(environ)


def _variable(header: str, environ: dict[str, Any]) -> str:
    """What the header is called in the environment; "" if it is that of another method."""
    method, _, name = header.rpartition(" ")
    return f"HTTP_{name.upper().replace('-', '_')}" if method in ("", environ["REQUEST_METHOD"]) else ""


def _hang_up(environ: dict[str, Any]) -> NoReturn:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError  # werkzeug goes on to the next connection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow-down", type=float, default=0.0, help="share of requests answered 503")
    parser.add_argument("--cut-off", type=float, default=0.0, help="share of requests whose connection breaks")
    args = parser.parse_args()
    server = FaultyS3(args.port, args.seed)
    server.slow_down, server.cut_off = args.slow_down, args.cut_off
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # for the server's threads too
    server.start()
    print(server.endpoint, flush=True)
    signal.sigwait(ends)
    print(f"requests {dict(server.requests)}, faults {dict(server.faults)}")


if __name__ == "__main__":
    main()
