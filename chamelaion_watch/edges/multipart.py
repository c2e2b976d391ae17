"""The body of a submission: multipart/form-data with a known length, streamed in pieces, finished only by leave.

Part of the HTTP edge. The rule that it makes true: as long as `Upload.is_finished` is False the last piece never
left, so the server cannot have a whole request. No name of the user's files goes into it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

import httpx

from chamelaion_watch.core.errors import InputProblem
from chamelaion_watch.edges.stream import PIECE_BYTES

_CONTENT_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
}
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")


def _ignore_progress(_sent: int, _total: int) -> None:
    return


def _always() -> None:
    return


@dataclass(slots=True)
class Upload:
    """One submission: two open files at their beginning, their announced sizes, the form fields, and what to call.

    `on_progress(sent, total)` is called after each piece, in bytes of the whole body. `may_finish()` is called exactly
    once, right before the last piece; it may block, and it withdraws the upload by raising.
    A field that is None is left out; booleans are sent as `true` and `false`.
    """

    video: BinaryIO
    video_bytes: int
    video_suffix: str
    audio: BinaryIO
    audio_bytes: int
    audio_suffix: str
    fields: Mapping[str, str | bool | None]
    on_progress: Callable[[int, int], None] = _ignore_progress
    may_finish: Callable[[], None] = _always
    is_finished: bool = field(default=False, init=False)  # the last piece was handed to the socket, as far as we know


class Body(httpx.SyncByteStream):
    """The bytes of an `Upload`, to be read once.

    Raises InputProblem, before the last piece, when a file cannot be read or has not exactly the announced size.
    """

    def __init__(self, upload: Upload, *, on_sent: Callable[[], None] = _always) -> None:
        # unguessable, so that no media file can contain it and smuggle in a part
        self._boundary = secrets.token_hex(16)
        self._upload = upload
        self._on_sent = on_sent
        self._head = b"".join(
            (
                *(self._field(name, value) for name, value in upload.fields.items()),
                self._file("video", upload.video_suffix),
            )
        )
        self._middle = b"\r\n" + self._file("audio", upload.audio_suffix)
        self._tail = f"\r\n--{self._boundary}--\r\n".encode()

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self._boundary}"

    @property
    def size(self) -> int:
        """Bytes of the whole body."""
        media_bytes = self._upload.video_bytes + self._upload.audio_bytes
        return len(self._head) + len(self._middle) + len(self._tail) + media_bytes

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        for piece in self._pieces():
            yield piece
            sent += len(piece)
            self._upload.on_progress(sent, self.size)
        self._on_sent()

    def _pieces(self) -> Iterator[bytes]:
        upload = self._upload
        yield self._head
        yield from _read_exactly(upload.video, upload.video_bytes, "video")
        held = self._middle  # one piece stays behind, so that the last one holds media and the closing boundary
        for piece in _read_exactly(upload.audio, upload.audio_bytes, "audio"):
            yield held
            held = piece
        upload.may_finish()
        upload.is_finished = True
        yield held + self._tail

    def _field(self, name: str, value: str | bool | None) -> bytes:
        if value is None:
            return b""
        text = str(value).lower() if isinstance(value, bool) else value
        return self._part(name) + b"\r\n" + text.encode("utf-8", "replace") + b"\r\n"

    def _file(self, name: str, suffix: str) -> bytes:
        suffix = suffix.lower() if _SUFFIX.fullmatch(suffix.lower()) else ""
        content_type = _CONTENT_TYPES.get(suffix, "application/octet-stream")
        return self._part(name, f'; filename="{name}{suffix}"') + f"Content-Type: {content_type}\r\n\r\n".encode()

    def _part(self, name: str, more: str = "") -> bytes:
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise ValueError(f"not the name of a form field: {name!r}")
        return f'--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n'.encode()


def _read_exactly(file: BinaryIO, size: int, what: str) -> Iterator[bytes]:
    left = size
    while left:
        piece = _read(file, min(PIECE_BYTES, left), what)
        if not piece:
            raise InputProblem(f"the {what} has become shorter: {left} of {size} bytes are missing")
        left -= len(piece)
        yield piece
    if _read(file, 1, what):
        raise InputProblem(f"the {what} has grown beyond {size} bytes while it was sent")


def _read(file: BinaryIO, size: int, what: str) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise InputProblem(f"cannot read the {what}: {error.strerror or error}", code="input_unreadable") from error
