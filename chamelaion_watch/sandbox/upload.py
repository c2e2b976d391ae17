"""A submission taken off the wire: multipart streamed to disk and hashed on the way, or JSON with URLs.

What is wrong with it is refused with the documented texts. Uploads are never whole in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import ipaddress
import json
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from chamelaion_watch.sandbox.core import Media, Refused, Submission

PIECE_BYTES = 1 << 20  # handed to a worker thread at once: a hop costs 50 µs
FIELD_MAX_BYTES = 64 * 1024
JSON_MAX_BYTES = 1 << 20
ROLES = ("video", "audio")
FETCH_TIMEOUT_S = 30.0


class FetchError(Exception):
    """A URL input cannot be had; the text is the request's error message."""


@dataclass(slots=True)
class _Part:
    """One part while it arrives; `file` is None for a text field and for a file that nobody asked for."""

    name: str = ""
    filename: str | None = None
    file: BinaryIO | None = None
    text: bytearray = field(default_factory=bytearray)
    sha256: Any = field(default_factory=hashlib.sha256)
    size_bytes: int = 0


async def receive_upload(request: Request, folder: Path) -> Submission:
    """Stream the two files of a multipart body to `folder/video` and `folder/audio`.

    Raises Refused for what is wrong with it, ClientDisconnect if the client goes before its end.
    """
    form = _Form(_boundary(request), folder)
    try:
        piece = bytearray()
        async with aclosing(request.stream()) as stream:
            async for chunk in stream:
                piece += chunk
                if len(piece) >= PIECE_BYTES:
                    await asyncio.to_thread(form.write, bytes(piece))
                    piece.clear()
        await asyncio.to_thread(form.write, bytes(piece))
        return form.submission()
    finally:
        form.close()


async def receive_json(request: Request) -> Submission:
    """Read a JSON submission with URLs. Raises Refused, ClientDisconnect."""
    if _content_type(request)[0] != b"application/json":
        raise Refused(400, "content-type must be application/json")
    body = bytearray()
    async with aclosing(request.stream()) as stream:
        async for chunk in stream:
            body += chunk
            if len(body) > JSON_MAX_BYTES:
                raise Refused(400)
    return parse_generate(bytes(body))


def parse_generate(body: bytes) -> Submission:
    """Return the submission that a JSON body asks for. Raises Refused 400."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400) from None
    if not isinstance(asked, dict) or not isinstance(asked.get("inputs"), list):
        raise Refused(400)
    urls = [_input(item) for item in asked["inputs"]]
    fields = {name: value for name, value in asked.items() if name not in {"inputs", "reference_id"}}
    if not isinstance(fields.get("disable_active_speaker_detection", False), bool):
        raise Refused(400)
    reference = asked.get("reference_id")
    if reference is not None and not isinstance(reference, str):
        raise Refused(400)
    video, audio = (_exactly_one(role, urls) for role in ROLES)
    return Submission(Media(url=video), Media(url=audio), reference or None, fields)


def fetch(url: str, target: Path) -> Media:
    """Copy `url`, on loopback only, to `target`. Blocking; raises FetchError."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not _is_loopback(parts.hostname):
        raise FetchError("the sandbox fetches inputs from http on loopback only")
    # http.client follows no redirect and knows no proxy: it cannot be led off loopback
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=FETCH_TIMEOUT_S)
    try:
        connection.request("GET", parts._replace(scheme="", netloc="", fragment="").geturl() or "/")
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise FetchError(f"an input answered {answer.status}")
        return _copied(answer, target, url)
    except (OSError, http.client.HTTPException) as error:
        raise FetchError("an input could not be fetched") from error
    finally:
        connection.close()


# -- multipart ----------------------------------------------------------------------------------------


class _Form:
    """The parts of a multipart body as the push parser finds them."""

    def __init__(self, boundary: bytes, folder: Path) -> None:
        self._folder = folder
        self._part = _Part()
        self._header = (bytearray(), bytearray())
        self._files: dict[str, _Part] = {}
        self._fields: dict[str, str] = {}
        self._is_complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def write(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError:
            raise Refused(400) from None

    def submission(self) -> Submission:
        if not self._is_complete:
            raise Refused(400)
        for role in ROLES:
            if role not in self._files or not self._files[role].size_bytes:
                raise Refused(400, f"{role} file is required")
        if self._fields.get("model", "lipsync-2") != "lipsync-2":
            raise Refused(400, 'model must be "lipsync-2"')
        if self._fields.get("disable_active_speaker_detection", "false") not in {"true", "false"}:
            raise Refused(400)
        video, audio = (_received(self._files[role]) for role in ROLES)
        rest = {name: value for name, value in self._fields.items() if name != "reference_id"}
        return Submission(video, audio, self._fields.get("reference_id") or None, rest)

    def close(self) -> None:
        for part in self._files.values():
            if part.file is not None:
                part.file.close()

    def _on_part_begin(self) -> None:
        self._part = _Part()

    def _on_header_end(self) -> None:
        name, value = bytes(self._header[0]), bytes(self._header[1])
        self._header = (bytearray(), bytearray())
        if name.lower() == b"content-disposition":
            _, options = parse_options_header(value)
            self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
            if b"filename" in options:
                self._part.filename = options[b"filename"].decode("utf-8", "replace")

    def _on_headers_finished(self) -> None:
        part = self._part
        if part.filename is None or part.name not in ROLES:
            return
        if part.name in self._files:
            raise Refused(400, f"expected exactly one {part.name} input")
        part.file = (self._folder / part.name).open("wb")
        self._files[part.name] = part

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part, view = self._part, memoryview(data)[start:end]
        if part.file is not None:
            part.file.write(view)
            part.sha256.update(view)
            part.size_bytes += len(view)
        elif part.filename is None:
            part.text += view
            if len(part.text) > FIELD_MAX_BYTES:
                raise Refused(400)

    def _on_part_end(self) -> None:
        part = self._part
        if part.file is not None:
            part.file.close()
        elif part.filename is None:
            self._fields[part.name] = part.text.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self._is_complete = True


def _received(part: _Part) -> Media:
    return Media(part.sha256.hexdigest(), part.size_bytes, part.filename)


def _boundary(request: Request) -> bytes:
    kind, options = _content_type(request)
    if kind != b"multipart/form-data":
        raise Refused(400, "content-type must be multipart/form-data")
    if not options.get(b"boundary"):
        raise Refused(400)
    return options[b"boundary"]


def _content_type(request: Request) -> tuple[bytes, dict[bytes, bytes]]:
    return parse_options_header(request.headers.get("content-type"))


# -- URLs ---------------------------------------------------------------------------------------------


def _input(item: object) -> tuple[str, str]:
    if not isinstance(item, Mapping):
        raise Refused(400)
    role, url = item.get("type"), item.get("url")
    if role not in ROLES:
        raise Refused(400, 'input type must be "video" or "audio"')
    if not isinstance(url, str) or not _is_web_url(url):
        raise Refused(400)
    return role, url


def _exactly_one(role: str, urls: list[tuple[str, str]]) -> str:
    found = [url for kind, url in urls if kind == role]
    if len(found) != 1:
        raise Refused(400, f"expected exactly one {role} input")
    return found[0]


def _is_web_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _copied(answer: http.client.HTTPResponse, target: Path, url: str) -> Media:
    sha256, size_bytes = hashlib.sha256(), 0
    with target.open("wb") as out:
        while piece := answer.read(PIECE_BYTES):
            out.write(piece)
            sha256.update(piece)
            size_bytes += len(piece)
    if answer.length:  # http.client itself says nothing about an end before its time
        raise FetchError("an input was cut short")
    return Media(sha256.hexdigest(), size_bytes, None, url)
