"""Fetches a result from the media host into a sink: checked address, checked beginning, checked length, resumable.

Part of the HTTP edge. The API key and cookies never come here, and a signed URL never leaves it: messages name
`scheme://host/path`. Bytes of two versions of a file are never mixed: what was there before stays only when the
server confirms the same strong ETag, else the transfer begins again at 0.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import httpx

from chamelaion_watch.core.errors import LinkExpired, Rejected, Transient, Unreachable
from chamelaion_watch.core.text import printable
from chamelaion_watch.edges.answers import asked_wait_s, capped_s
from chamelaion_watch.edges.stream import Deadline
from chamelaion_watch.edges.transport import Timeouts

MAX_REDIRECTS = 5
_MAX_RESUMES = 3  # within one fetch, and only while bytes arrive; the caller's back-off does the rest
_LEAST_BYTES_PER_S = 1024  # below that a small result takes days, and holds the place of others
_HEAD_BYTES = 12  # box size, `ftyp`, brand
_BROKEN = frozenset({"connection_reset", "timed_out", "cut"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_EXPIRED = frozenset({401, 403, 404, 410})
_WHOLE = 200
_PARTIAL = 206
_RANGE_REFUSED = 416
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_STRONG_ETAG = re.compile(r'"[!#-~]{1,256}"')
_HOST = re.compile(rb"[a-z0-9_][a-z0-9._-]*|[0-9a-f:.]*:[0-9a-f:.]*")  # a name as DNS has it, or IPv6 without a zone
_MAX_PORT = 65_535
_DIGEST_BYTES = 1024 * 1024  # hashed at once: for each piece the threads take the interpreter from each other
_DIGEST_BEHIND = 16  # pieces that may wait to be hashed


@dataclass(frozen=True, slots=True)
class Validators:
    """What says that a file on the media host is still the same one; only a strong ETag allows to resume."""

    etag: str | None = None
    total: int | None = None  # bytes


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole result. `sha256` is None when part of it had been written before this fetch: hash the file itself."""

    bytes: int
    etag: str | None
    total: int | None
    sha256: str | None


class Sink(Protocol):
    """Where the bytes go: `size` bytes are there already, `restart` throws them away."""

    @property
    def size(self) -> int: ...

    def write(self, data: bytes, /) -> object: ...

    def restart(self) -> None: ...


def redacted(url: httpx.URL) -> str:
    """What may be shown of a URL: no query, for it may be a signature, and no credentials."""
    return printable(f"{url.scheme}://{url.host}{url.path}", 200)


@dataclass(frozen=True, slots=True)
class Downloader:
    """Fetches over `transport`, which says which addresses may be connected to."""

    transport: httpx.BaseTransport
    is_http_allowed: bool
    timeouts: Timeouts
    user_agent: str
    now: Callable[[], float]  # wall clock, for a Retry-After that is a date

    def fetch(
        self,
        url: str,
        sink: Sink,
        *,
        known: Validators | None,
        max_bytes: int | None,
        on_progress: Callable[[int, int | None], None],
        on_start: Callable[[Validators], None],
    ) -> Fetched:
        """The contract stands at `Api.fetch`."""
        transfer = _Transfer(sink, known, max_bytes, on_progress, on_start)
        with contextlib.closing(transfer):
            return self._fetched(self._checked(url), transfer, sink)

    def _fetched(self, target: httpx.URL, transfer: _Transfer, sink: Sink) -> Fetched:
        for resumes_left in reversed(range(_MAX_RESUMES + 1)):
            before = sink.size
            try:
                return self._attempt(target, transfer)
            except Unreachable as error:  # of the media host, not of the service: nobody else has to wait
                raise Transient(error.message, code=error.code) from error
            except Transient as error:
                if not (resumes_left and error.code in _BROKEN and transfer.may_resume and sink.size > before):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, url: httpx.URL, transfer: _Transfer) -> Fetched:
        if transfer.is_whole:
            return transfer.finish()
        with self._opened(url, transfer) as response:
            transfer.begin(response)
            transfer.copy(_flowing(response.iter_raw(), self.timeouts.progress_s))
            return transfer.finish()

    @contextlib.contextmanager
    def _opened(self, url: httpx.URL, transfer: _Transfer) -> Iterator[httpx.Response]:
        """An answer to read from: the missing rest, or the whole file when the server will not go on."""
        response = self._follow(url, transfer.range_headers())
        if not transfer.accepts(response):
            response.close()
            transfer.restart()
            response = self._follow(url, {})
        with contextlib.closing(response):
            if response.status_code != _WHOLE and not transfer.continues(response):
                raise self._trouble(response, url)
            yield response

    def _follow(self, url: httpx.URL, headers: dict[str, str]) -> httpx.Response:
        for _ in range(MAX_REDIRECTS + 1):
            deadline = Deadline(self.timeouts.answer_s)  # for the head: the body may take as long as it moves
            response = self.transport.handle_request(self._request(url, headers, deadline))
            deadline.lift()
            if response.status_code not in _REDIRECTS:
                return response
            response.close()
            if not (location := response.headers.get("location")):
                raise Transient(f"the media host redirects to nowhere: {redacted(url)}", code="redirect")
            url = self._checked(location, base=url)
        raise _refused(url, f"it was redirected more than {MAX_REDIRECTS} times")

    def _request(self, url: httpx.URL, headers: dict[str, str], deadline: Deadline) -> httpx.Request:
        times = self.timeouts
        timeout = {"connect": times.connect_s, "read": times.progress_s, "write": times.progress_s}
        own = {"User-Agent": self.user_agent, "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
        return httpx.Request("GET", url, headers=own | headers, extensions={"timeout": timeout, "deadline": deadline})

    def _trouble(self, response: httpx.Response, url: httpx.URL) -> LinkExpired | Transient:
        status = response.status_code
        if status in _EXPIRED:
            return LinkExpired(
                f"the result's link is no longer valid: {redacted(url)} answers {status}", http_status=status
            )
        return Transient(
            f"the media host answers {status}: {redacted(url)}",
            code="media_host",
            http_status=status,
            retry_after_s=capped_s(asked_wait_s(response.headers, self.now())),
        )

    def _checked(self, text: str, *, base: httpx.URL | None = None) -> httpx.URL:
        try:
            url = base.join(text) if base else httpx.URL(text)
            redacted(url)  # decodes the host's name, which may fail
        except (httpx.InvalidURL, ValueError) as error:
            raise Rejected(
                "the service names a result at an address that is none", code="output_url_refused"
            ) from error
        may_be_http = self.is_http_allowed and not (base and base.scheme == "https")
        if url.scheme != "https" and not (url.scheme == "http" and may_be_http):
            raise _refused(url, f"{url.scheme or 'no'}:// is not https://")
        if url.userinfo:
            raise _refused(url, "it carries a user name")
        if not _HOST.fullmatch(url.raw_host):
            raise _refused(url, "it names no host")
        if url.port is not None and not 0 < url.port <= _MAX_PORT:
            raise _refused(url, "its port is none")
        return url


class _Transfer:
    """One file on its way into the sink, over as many attempts as it takes."""

    def __init__(
        self,
        sink: Sink,
        known: Validators | None,
        max_bytes: int | None,
        on_progress: Callable[[int, int | None], None],
        on_start: Callable[[Validators], None],
    ) -> None:
        self._sink = sink
        self._known = known or Validators()
        self._max_bytes = max_bytes
        self._on_progress = on_progress
        self._on_start = on_start
        self._digest = None if sink.size else _Digest()
        if sink.size and not (self.may_resume or self.is_whole):
            self.restart()

    @property
    def may_resume(self) -> bool:
        return bool(self._known.etag and _STRONG_ETAG.fullmatch(self._known.etag) and not self._is_too_long)

    @property
    def is_whole(self) -> bool:
        """Every byte of a file that can be named was written before; only the end of the story was lost."""
        return self.may_resume and self._sink.size > 0 and self._sink.size == self._known.total

    @property
    def _is_too_long(self) -> bool:
        return self._known.total is not None and self._sink.size > self._known.total

    def range_headers(self) -> dict[str, str]:
        if not self._sink.size or self._known.etag is None:
            return {}
        return {"Range": f"bytes={self._sink.size}-", "If-Range": self._known.etag}

    def accepts(self, response: httpx.Response) -> bool:
        """False if the server answers a range in a way that could mix two files, or has none for us."""
        if response.status_code == _RANGE_REFUSED:
            return False
        return response.status_code != _PARTIAL or self.continues(response)

    def continues(self, response: httpx.Response) -> bool:
        """Whether this is exactly the rest of the file whose beginning we have."""
        if response.status_code != _PARTIAL:
            return False
        found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if not found or not self._sink.size or response.headers.get("etag") != self._known.etag:
            return False
        first, last, total = int(found[1]), int(found[2]), found[3]
        if first != self._sink.size or (total != "*" and last != int(total) - 1):
            return False
        if total == "*" or self._known.total is None:
            return True
        return int(total) == self._known.total

    def restart(self) -> None:
        """Back to nothing: no bytes, no validators."""
        if self._sink.size:
            self._sink.restart()
        self._known = Validators()
        self.close()
        self._digest = _Digest()

    def begin(self, response: httpx.Response) -> None:
        """Take note of what is coming. Raises Rejected `output_too_large`, Transient `no_length`."""
        length = _length(response)
        if response.status_code == _PARTIAL:
            whole = _CONTENT_RANGE.fullmatch(response.headers["content-range"])
            total = int(whole[3]) if whole and whole[3] != "*" else self._known.total
            self._known = Validators(self._known.etag, total)
        else:
            self.restart()
            etag = response.headers.get("etag", "")
            self._known = Validators(etag if _STRONG_ETAG.fullmatch(etag) else None, length)
        self._refuse_above(self._known.total or 0)
        self._on_start(self._known)

    def copy(self, chunks: Iterator[bytes]) -> None:
        done = self._sink.size
        for chunk in chunks if done else _checked_video(chunks):
            done += len(chunk)
            self._refuse_above(done)
            self._sink.write(chunk)
            if self._digest:
                self._digest.update(chunk)
            self._on_progress(done, self._known.total)

    def close(self) -> None:
        if self._digest:
            self._digest.close()

    def finish(self) -> Fetched:
        """The result. Raises Transient `cut` when it is not as long as was announced."""
        size, total = self._sink.size, self._known.total
        if total is not None and size != total:
            raise Transient(f"the result ended after {size} of {total} bytes", code="cut")
        return Fetched(size, self._known.etag, total, self._digest.hexdigest() if self._digest else None)

    def _refuse_above(self, size: int) -> None:
        if self._max_bytes is not None and size > self._max_bytes:
            raise Rejected(
                f"the result is larger than the limit of {self._max_bytes} bytes: make room or raise the limit",
                code="output_too_large",
            )


class _Digest:
    """The SHA-256 of what flows by, in a thread of its own once that is much: it takes as long as receiving does."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._gathered: list[bytes] = []
        self._size = 0
        self._queue: queue.Queue[bytes | None] = queue.Queue(_DIGEST_BEHIND)
        self._thread: threading.Thread | None = None

    def update(self, data: bytes) -> None:
        self._gathered.append(data)
        self._size += len(data)
        if self._size >= _DIGEST_BYTES:
            self._pass_on()

    def hexdigest(self) -> str:
        self._pass_on(is_last=True)
        self.close()
        return self._sha256.hexdigest()

    def close(self) -> None:
        """End the thread, when it has done what it was given."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _pass_on(self, *, is_last: bool = False) -> None:
        data, self._gathered, self._size = b"".join(self._gathered), [], 0
        if self._thread is None and not is_last:
            self._start()
        if self._thread is None:
            self._sha256.update(data)
        else:
            self._queue.put(data)

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="digest", daemon=True)
        with contextlib.suppress(RuntimeError):  # out of threads: here, then
            thread.start()
            self._thread = thread

    def _work(self) -> None:
        while (data := self._queue.get()) is not None:
            self._sha256.update(data)


def _length(response: httpx.Response) -> int | None:
    """The announced length, None if chunked (which announces its end); a body that just ends could have been cut."""
    if "chunked" in response.headers.get("transfer-encoding", "").lower():
        return None
    if "content-length" not in response.headers:
        raise Transient("the media host does not say how long the result is", code="no_length")
    return int(response.headers["content-length"])


def _flowing(chunks: Iterator[bytes], within_s: float) -> Iterator[bytes]:
    """The same bytes as long as they flow. Raises Transient `timed_out` for a drip, seen over `within_s` of waiting."""
    waited_s, count, asked_at = 0.0, 0, time.monotonic()
    for chunk in chunks:
        waited_s += time.monotonic() - asked_at
        count += len(chunk)
        yield chunk
        if waited_s >= within_s:
            if count < waited_s * _LEAST_BYTES_PER_S:
                raise Transient(f"only {count} bytes came in {waited_s:.0f} s: too slow", code="timed_out")
            waited_s, count = 0.0, 0
        asked_at = time.monotonic()


def _checked_video(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, once they begin like an MP4: nothing of a web page or an empty file reaches the sink."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD_BYTES:
            break
    if len(head) < _HEAD_BYTES or head[4:8] != b"ftyp":
        kind = "nothing" if not head else "a web page or text" if head.lstrip()[:1] == b"<" else "something else"
        raise Transient(f"the media host sent {kind} instead of an MP4 video", code="not_a_video")
    yield head
    yield from chunks


def _refused(url: httpx.URL, reason: str) -> Rejected:
    return Rejected(
        f"the service names a result at {redacted(url)}, which is refused: {reason}", code="output_url_refused"
    )
