"""Serve: a leaderboard's folder at an address of this machine, made again when its records changed.

Only this machine can reach it, and only by that address: a page of another site whose name was pointed here is
refused by the name it asks for. Nothing outside the folder is served, links that lead out and hidden files included.
"""

import mimetypes
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nibench.errors import InputError
from nibench.leaderboard import FILES, PAGE

HOST = "127.0.0.1"
TYPES = {".md": "text/markdown", ".csv": "text/csv", ".parquet": "application/vnd.apache.parquet"}


class Server(ThreadingHTTPServer):
    """Listens from the start; ``serve_forever`` answers.

    ``refresh``: called before one of the leaderboard's own files is sent, one call at a time. What it raises as
    wrong input (a record half-way through being replaced) goes to ``say``, and the files are sent as they are.

    Raises
    ------
    InputError
        If the port is taken, or not allowed.
    """

    def __init__(
        self, folder: Path, port: int, refresh: Callable[[], object], say: Callable[[str], None]
    ) -> None:
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            raise InputError(
                f"Cannot serve at port {port}: {error.strerror}. Choose another --port, or leave it out for a free one."
            ) from None
        self.folder, self.say = folder, say
        self._refresh, self._one_at_a_time = refresh, threading.Lock()

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def refresh(self) -> None:
        with self._one_at_a_time:
            try:
                self._refresh()
            except (InputError, OSError) as error:
                self.say(f"Not made again: {error}")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server  # type: ignore[assignment]
    server_version, sys_version = "nibench", ""

    def do_GET(self) -> None:
        port = self.server.server_port
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        name = unquote(urlsplit(self.path).path).lstrip("/") or PAGE
        if name in FILES:
            self.server.refresh()
        path = inside(self.server.folder, name)
        if path is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        payload, kind = path.read_bytes(), TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
        charset = "; charset=utf-8" if (kind or "").startswith("text/") else ""
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind or 'application/octet-stream'}{charset}")
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        with suppress(ConnectionError):  # the reader went away
            self.wfile.write(b"" if self.command == "HEAD" else payload)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal shows the boards."""


def inside(folder: Path, name: str) -> Path | None:
    """The file of this name in the folder; None where there is none, or it is hidden, or lies outside."""
    try:
        path = (folder / name).resolve()
        hidden = any(part.startswith(".") for part in path.relative_to(folder.resolve()).parts)
        return path if path.is_file() and not hidden else None
    except (ValueError, OSError):  # outside; or no name that a file can have
        return None
