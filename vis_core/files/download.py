"""Fetching a file over HTTP: resumed where it was cut, bounded, checked, and in its place only when it is whole."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from io import FileIO
from pathlib import Path
from typing import IO, Any

from vis_core.errors import InputError, printable
from vis_core.files.atomic import errors_name

_CHUNK = 1 << 20
_TIMEOUT = 30.0
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


@dataclass(frozen=True)
class Digests:
    """Size of a file, bytes, and its sums, hexadecimal."""

    size: int
    sha256: str
    md5: str


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it comes; None: unknown. Of the MD5 the first digits do."""

    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    def fault(self, found: Digests) -> str:
        """What of a file is not as expected; empty where all is."""
        if self.size is not None and found.size != self.size:
            return f"it has {found.size} bytes, not {self.size}"
        if self.sha256 is not None and found.sha256 != self.sha256.lower():
            return f"its SHA-256 is {found.sha256}, not {self.sha256}"
        if self.md5 is not None and not found.md5.startswith(self.md5.lower()):
            return f"its MD5 is {found.md5}, and does not begin with {self.md5}"
        return ""


def digests_of(path: Path) -> Digests:
    """Size and sums of a file.

    Raises:
        OSError: it cannot be read.
    """
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
            md5.update(chunk)
            size += len(chunk)
    return Digests(size, sha256.hexdigest(), md5.hexdigest())


def download(
    address: str,
    target: Path,
    limit: int,
    expected: Expected = Expected(),
    accept: Callable[[Path], object] = lambda path: None,
    progress: Callable[[int, int | None], object] = lambda done, total: None,
    pauses: Sequence[float] = (1, 2, 4, 8),
) -> Digests:
    """Fetch a file; returns its size and sums.

    What came stays beside the target, hidden, where the connection is cut for good or the user interrupts: the next
    call goes on from there, if the server's file is still the same. A file that is not as expected does not stay.

    Args:
        address: ``https://...``, or ``http://...``; a redirection never leads from the first to the second.
        target: where it will stand; its folder is made.
        limit: most bytes.
        expected: what the file must be like; a SHA-256 that Hugging Face states on the way must hold too.
        accept: called with the path of the complete file before it takes its place; refuses it by raising.
        progress: called with the bytes that are there, and of how many, if that is known.
        pauses: seconds to wait before each further try; what came in between starts them anew.

    Raises:
        InputError: the server does not give the file, or it is not as expected.
        OSError: the file cannot be written.
    """
    partial = target.with_name(f".{target.stem}.part{target.suffix}")
    with errors_name(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(partial) as file:
        transfer = _Transfer(address, file, limit, expected.size, target, progress)
        failures, reached = 0, transfer.size
        while True:
            try:
                transfer.go_on()
                break
            except _BROKEN as error:
                if transfer.size > reached:
                    failures, reached = 0, transfer.size
                if failures == len(pauses) or not _passes(error):
                    raise InputError(_reason(address, error, transfer.size)) from error
                time.sleep(pauses[failures])
                failures += 1
        with errors_name(target):
            os.fsync(file.fileno())
            found = digests_of(partial)
        try:
            stated = Expected(sha256=transfer.stated_sha256)
            if fault := expected.fault(found) or stated.fault(found):
                raise InputError(f"{address}: the file is not the one that was expected: {fault}; it was not kept")
            accept(partial)
        except Exception:
            transfer.forget()
            partial.unlink(missing_ok=True)
            raise
        with errors_name(target):
            partial.replace(target)
        transfer.forget()
    return found


class _Transfer:
    """The bytes of an address that are there, and what is known of the file they are of.

    Attributes:
        stated_sha256: what the server said on the way.
    """

    def __init__(
        self,
        address: str,
        file: FileIO,
        limit: int,
        expected_size: int | None,
        target: Path,
        progress: Callable[[int, int | None], object],
    ) -> None:
        self.address, self.file, self.limit, self.expected_size = address, file, limit, expected_size
        self.target, self.progress = target, progress
        self._notes = target.with_name(f".{target.name}.origin")
        self._validator, self._total, self.stated_sha256 = self._known()
        if self._validator is None:
            file.truncate(0)

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.file.seek(0, os.SEEK_END)

    def forget(self) -> None:
        """What was known of the file goes."""
        self._notes.unlink(missing_ok=True)

    def go_on(self) -> None:
        """Fetch what is missing.

        Raises:
            InputError: it is no such file.
            OSError: of `_BROKEN`, the connection was cut; else the file cannot be written.
        """
        if self.size and self.size == self._total:
            return  # an earlier call was ended just before it was put in its place
        headers = {"Accept-Encoding": "identity", "User-Agent": "vis_ros"}
        if self.size and self._validator:
            headers |= {"Range": f"bytes={self.size}-", "If-Range": self._validator}
        redirections = _Redirections()
        opener = urllib.request.build_opener(redirections)
        request = urllib.request.Request(self.address, headers=headers)  # noqa: S310 - of the list, or of a test
        try:
            response = opener.open(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            self.file.truncate(0)  # more is there than the file has
            raise ConnectionError("the server's file is shorter than what is there") from error
        with response:
            self.stated_sha256 = redirections.stated_sha256 or _sha256_in(response.headers)
            self._take(response)

    def _take(self, response: Any) -> None:
        headers: Message = response.headers
        if headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise InputError(_page(self.address))
        if headers.get("Content-Encoding", "identity") != "identity":
            raise InputError(f"{self.address}: the server packs it ({printable(headers['Content-Encoding'], 40)})")
        start = self._start(response.status, headers)
        length = headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        self._check_size(total, start)
        self.file.truncate(start)
        self._note(headers, total)
        self._copy(response, start, total)

    def _start(self, status: int, headers: Message) -> int:
        if status != http.client.PARTIAL_CONTENT:
            return 0
        stated = re.match(r"bytes (\d{1,15})-", headers.get("Content-Range", ""))
        if stated is None or int(stated[1]) != self.size:
            self.file.truncate(0)
            raise ConnectionError("the server gave another part of the file than was asked for")
        return self.size

    def _check_size(self, total: int | None, start: int) -> None:
        if total is None:
            return
        if self.expected_size is not None and total != self.expected_size:
            raise InputError(f"{self.address}: the file has {total} bytes, not the {self.expected_size} of the list")
        if total > self.limit:
            raise InputError(f"{self.address}: the file has {total} bytes; no more than {self.limit} are taken")
        free = shutil.disk_usage(self.target.parent).free
        if total - start > free:
            raise InputError(f"{self.target}: {total - start} bytes are to come, and {free} are free on that disk")

    def _copy(self, response: IO[bytes], start: int, total: int | None) -> None:
        done = self.file.seek(start)
        self.progress(done, total)
        while chunk := response.read(_CHUNK):
            if not done and re.match(rb"\s*<(!doctype|html)", chunk[:200], re.IGNORECASE):
                raise InputError(_page(self.address))
            done += len(chunk)
            if done > self.limit:
                raise InputError(f"{self.address}: the file has more than {self.limit} bytes, which are the most taken")
            with errors_name(self.target):
                left = memoryview(chunk)
                while left:
                    left = left[self.file.write(left) :]
            self.progress(done, total)
        if total is not None and done != total:
            raise ConnectionError(f"the connection ended after {done} of {total} bytes")

    def _note(self, headers: Message, total: int | None) -> None:
        """Keep by what a later call sees that the server's file is still the same."""
        tag = headers.get("ETag", "")
        self._validator, self._total = tag if tag.startswith('"') else headers.get("Last-Modified"), total
        notes = {"address": self.address, "validator": self._validator, "size": total, "sha256": self.stated_sha256}
        with errors_name(self.target):
            self._notes.write_text(json.dumps(notes), "utf-8")

    def _known(self) -> tuple[str | None, int | None, str | None]:
        """What an earlier call has noted: what tells the server's file, its size, the SHA-256 that was stated."""
        try:
            notes = json.loads(self._notes.read_text("utf-8"))
            if notes["address"] == self.address and isinstance(notes["validator"], str):
                return notes["validator"], notes["size"], notes["sha256"]
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return None, None, None


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows a few, never from https to something else, and notes the SHA-256 that Hugging Face states on the way."""

    max_redirections = 5
    max_repeats = 2

    def __init__(self) -> None:
        self.stated_sha256: str | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        to = newurl.partition(":")[0].lower()
        if to not in ("http", "https") or (req.type == "https" and to != "https"):
            raise InputError(f"{req.full_url}: leads to {printable(newurl, 200)}, which is not safe")
        self.stated_sha256 = self.stated_sha256 or _sha256_in(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _sha256_in(headers: Message) -> str | None:
    """Hugging Face states it of large files: huggingface_hub, ``HUGGINGFACE_HEADER_X_LINKED_ETAG``."""
    stated = headers.get("X-Linked-ETag", "").strip('"')
    return stated if re.fullmatch(r"[0-9a-f]{64}", stated) else None


def _passes(error: Exception) -> bool:
    return not isinstance(error, urllib.error.HTTPError) or error.code in _PASSING


def _reason(address: str, error: Exception, there: int) -> str:
    if isinstance(error, urllib.error.HTTPError):
        text = f"the server answers {error.code} {printable(error.reason, 100)}"
    else:
        text = printable(getattr(error, "reason", None) or error or type(error).__name__, 200)
    again = f"; the {there} bytes that came stay, and the same command goes on from there" if there else ""
    return f"{address}: cannot be fetched: {text}{again}"


def _page(address: str) -> str:
    return f"{address}: a web page came in place of the file, as where a server asks to confirm, or has had enough"


@contextmanager
def _alone(partial: Path) -> Iterator[FileIO]:
    """The file, open to read and write, as the only one that works on it.

    Raises:
        InputError: somebody else does.
        OSError: it cannot be opened.
    """
    with errors_name(partial):
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{partial}: another run is fetching it") from error
        except OSError:  # a file system without locks
            pass
        yield file
