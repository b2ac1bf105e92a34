"""A server of one file on this machine, that misbehaves as it is told."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """What it serves, and what it was asked for.

    Attributes:
        content: of the file.
        etag: of the file; None: none is told.
        headers: more of them.
        cuts: after how many bytes the connection is cut, of each of the next answers.
        statuses: of the next answers, which then hold no file.
        redirections: of the next answers: where they lead.
        ranges: whether a part can be asked for.
        states_length: whether the length is told.
        asked: headers of each request.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.etag: str | None = '"one"'
        self.headers = {"Content-Type": "application/octet-stream"}
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.redirections: list[str] = []
        self.ranges = self.states_length = True
        self.asked: list[dict[str, str]] = []
        self.address = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = dict(request.headers)
        self.asked.append(asked)
        if self.redirections:
            request.send_response(302)
            request.send_header("Location", self.redirections.pop(0))
            self._send_headers(request, 0)
        elif self.statuses:
            request.send_response(self.statuses.pop(0))
            self._send_headers(request, 0)
        else:
            self._send_file(request, asked)

    def _send_file(self, request: BaseHTTPRequestHandler, asked: dict[str, str]) -> None:
        start = 0
        part = re.match(r"bytes=(\d+)-", asked.get("Range", ""))
        if part and self.ranges and asked.get("If-Range") == self.etag:
            start = int(part[1])
            if start >= len(self.content):
                request.send_response(416)
                self._send_headers(request, 0)
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        else:
            request.send_response(200)
        body = self.content[start:]
        self._send_headers(request, len(body) if self.states_length else None)
        request.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)

    def _send_headers(self, request: BaseHTTPRequestHandler, length: int | None) -> None:
        for name, value in self.headers.items():
            request.send_header(name, value)
        if self.etag:
            request.send_header("ETag", self.etag)
        if length is not None:
            request.send_header("Content-Length", str(length))
        request.send_header("Connection", "close")
        request.end_headers()


@contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """The server, while inside; ``address`` is that of the file."""
    served = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, form: str, *values: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    served.address = f"http://127.0.0.1:{server.server_port}/weights.pth"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
