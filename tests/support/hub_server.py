"""A local HTTP server that stands in for the hub: it answers what huggingface_hub asks of one model."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789" * 4


class Hub(BaseHTTPRequestHandler):
    """Answers huggingface_hub's requests for one model, `publisher/denoiser`, with the files in `folder`."""

    folder: Path
    log: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.log.append(f"{self.command} {path}")
        names = sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())
        api, files = "/api/models/publisher/denoiser", f"/publisher/denoiser/resolve/{COMMIT}/"
        if path in (api, f"{api}/revision/main"):
            siblings = [{"rfilename": name} for name in names]
            self.answer(json.dumps({"id": "publisher/denoiser", "sha": COMMIT, "siblings": siblings}).encode())
        elif path == f"{api}/tree/{COMMIT}":
            sizes = {name: (self.folder / name).stat().st_size for name in names}
            entries = [{"type": "file", "path": name, "size": size, "oid": name} for name, size in sizes.items()]
            self.answer(json.dumps(entries).encode())
        elif path.removeprefix(files) in names:
            self.answer((self.folder / path.removeprefix(files)).read_bytes())
        else:
            self.answer(b"{}", 404, "RepoNotFound")

    def answer(self, data: bytes, status: int = 200, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hash(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The address of a hub with a model's files from `folder`. Hub.log has its requests."""
    Hub.folder, Hub.log = folder, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
