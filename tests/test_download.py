"""Fetching results: where from, what, how much, and going on after a break, against raw servers on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chamelaion_watch.core.errors import LinkExpired, Rejected, Transient, WatchError
from chamelaion_watch.edges.api import Api, Fetched, Timeouts, Validators
from tests.acceptance.early_refusal import Connection, Origin, Seen, api_for

VIDEO = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(range(256)) * 2000
OTHER = VIDEO[:12] + bytes(len(VIDEO) - 12)
SHA256 = hashlib.sha256(VIDEO).hexdigest()
ETAG = '"v1"'
HTML = b"<!doctype html><title>Log in</title>" + b" " * 500


class Spool:
    """A sink in memory that remembers how it was used."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.restarts = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes, /) -> None:
        self.data += data

    def restart(self) -> None:
        self.restarts += 1
        self.data.clear()


class FileSpool:
    """A sink that is a real file."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w+b")

    @property
    def size(self) -> int:
        return self.file.tell()

    def write(self, data: bytes, /) -> int:
        return self.file.write(data)

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()


class Media:
    """An honest media host: ranges, If-Range, ETag; it may hang up after some bytes of some answers."""

    def __init__(self, content: bytes = VIDEO, etag: str | None = ETAG, hang_up_after: tuple[int, ...] = ()) -> None:
        self.content, self.etag = content, etag
        self.hang_ups = list(hang_up_after)
        self.seen: list[Seen] = []

    def __call__(self, connection: Connection) -> None:
        head = connection.head()
        self.seen.append(head)
        start = self.start(head)
        headers = [f"ETag: {self.etag}"] if self.etag else []
        if start:
            headers.append(f"Content-Range: bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        body = self.content[start:]
        cut = body[: self.hang_ups.pop(0)] if self.hang_ups else body
        connection.answer(206 if start else 200, cut, *headers, length=len(body))

    def start(self, head: Seen) -> int:
        if "range" not in head.headers or head.headers.get("if-range", self.etag) != self.etag:
            return 0
        return int(head.headers["range"].removeprefix("bytes=").removesuffix("-"))

    @property
    def ranges(self) -> list[str | None]:
        return [head.headers.get("range") for head in self.seen]


def fetched(
    handle: Callable[[Connection], None], sink: Any, path: str = "/out.mp4?signature=hidden", **more: Any
) -> Fetched:
    with Origin(handle) as origin, contextlib.closing(api_for(origin.url)) as api:
        return api.fetch(origin.url + path, sink, **more)


def error_of(handle: Callable[[Connection], None], sink: Any | None = None, **more: Any) -> WatchError:
    with pytest.raises(WatchError) as caught:
        fetched(handle, Spool() if sink is None else sink, **more)
    told = "".join(traceback.format_exception(caught.value))
    assert "hidden" not in told
    assert "secret-key" not in told
    return caught.value


def saying(status: int, body: bytes = b"", *headers: str) -> Callable[[Connection], None]:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.answer(status, body, *headers)

    return handle


def raw(*pieces: bytes) -> Callable[[Connection], None]:
    def handle(connection: Connection) -> None:
        connection.head()
        for piece in pieces:
            connection.send(piece)

    return handle


# -- a good day -----------------------------------------------------------------------------------------


def test_a_result_arrives_whole_with_its_hash() -> None:
    sink, media = Spool(), Media()
    assert fetched(media, sink) == Fetched(len(VIDEO), ETAG, len(VIDEO), SHA256)
    assert sink.data == VIDEO
    assert media.seen[0].target == "/out.mp4?signature=hidden"


def test_a_result_arrives_in_a_file(tmp_path: Path) -> None:
    sink = FileSpool(tmp_path / "out")
    with sink.file:
        assert fetched(Media(hang_up_after=(100_000,)), sink).sha256 == SHA256
    assert (tmp_path / "out").read_bytes() == VIDEO


def test_threat_71_neither_key_nor_cookie_goes_to_the_media_host() -> None:
    media = Media()

    def handle(connection: Connection) -> None:
        media.seen.append(connection.head())
        connection.answer(200, VIDEO, "Set-Cookie: a=b")

    with Origin(handle) as origin, contextlib.closing(api_for(origin.url)) as api:
        api.fetch(origin.url + "/1", Spool())
        api.fetch(origin.url + "/2", Spool())
    sent = {name for head in media.seen for name in head.headers}
    assert sent == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert media.seen[0].headers["accept-encoding"] == "identity"


def test_a_chunked_result_arrives_whole() -> None:
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(VIDEO), VIDEO)
    handle = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks)
    assert fetched(handle, Spool()) == Fetched(len(VIDEO), None, None, SHA256)


def test_a_beginning_in_small_bits_is_still_a_video() -> None:
    bits = [bytes([byte]) for byte in VIDEO[:40]]
    handle = raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(VIDEO), *bits, VIDEO[40:])
    assert fetched(handle, Spool()).sha256 == SHA256


def test_progress_is_told_and_may_stop_the_transfer() -> None:
    seen: list[tuple[int, int | None]] = []
    fetched(Media(), Spool(), on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(VIDEO), len(VIDEO))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

    stop = KeyboardInterrupt()

    def stopping(_done: int, _total: int | None) -> None:
        raise stop

    with pytest.raises(KeyboardInterrupt) as caught:
        fetched(Media(), Spool(), on_progress=stopping)
    assert caught.value is stop


def test_what_the_sink_raises_passes_unchanged() -> None:
    class Full(Spool):
        def write(self, data: bytes, /) -> None:
            raise OSError(28, "No space left on device")

    media = Media()
    with pytest.raises(OSError, match="No space"):
        fetched(media, Full())
    assert len(media.seen) == 1


# -- going on after a break -------------------------------------------------------------------------------


def test_threat_73_a_broken_transfer_goes_on_where_it_stopped() -> None:
    media, sink = Media(hang_up_after=(100_000, 50_000)), Spool()
    assert fetched(media, sink) == Fetched(len(VIDEO), ETAG, len(VIDEO), SHA256)
    assert sink.data == VIDEO
    assert sink.restarts == 0
    assert media.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_threat_73_a_reset_transfer_goes_on_as_well() -> None:
    class Resetting(Media):
        def __call__(self, connection: Connection) -> None:
            is_first = not self.seen
            super().__call__(connection)
            if is_first:
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    media, sink = Resetting(hang_up_after=(200_000,)), Spool()
    assert fetched(media, sink).bytes == len(VIDEO)
    assert sink.data == VIDEO


def test_threat_73_no_more_than_three_resumes() -> None:
    media = Media(hang_up_after=(1000,) * 9)
    assert error_of(media).code == "connection_reset"
    assert len(media.seen) == 4


def test_without_progress_it_is_given_up_at_once() -> None:
    media = Media(hang_up_after=(1000, 0, 0))
    assert error_of(media).code == "connection_reset"
    assert len(media.seen) == 2


def test_threat_52_a_stalled_transfer_ends_after_the_progress_time_out() -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.answer(200, VIDEO[:5000], length=len(VIDEO))
        connection.stop.wait(20)

    with Origin(handle) as origin, pytest.raises(Transient) as caught:
        api_for(origin.url, None, Timeouts(progress_s=0.3)).fetch(origin.url, Spool())
    assert caught.value.code == "timed_out"


def test_a_later_fetch_goes_on_with_what_on_start_told() -> None:
    told: list[Validators] = []
    sink, media = Spool(), Media(hang_up_after=(1000, 0))
    with Origin(media) as origin, contextlib.closing(api_for(origin.url)) as api:
        with pytest.raises(Transient):
            api.fetch(origin.url, sink, on_start=told.append)
        assert told[0] == Validators(ETAG, len(VIDEO))
        assert api.fetch(origin.url, sink, known=told[-1]) == Fetched(len(VIDEO), ETAG, len(VIDEO), None)
    assert sink.data == VIDEO
    assert media.ranges[-1] == "bytes=1000-"
    assert media.seen[-1].headers["if-range"] == ETAG


def test_what_is_already_whole_is_not_fetched_again() -> None:
    media = Media()
    found = fetched(media, Spool(VIDEO), known=Validators(ETAG, len(VIDEO)))
    assert found == Fetched(len(VIDEO), ETAG, len(VIDEO), None)
    assert not media.seen


@pytest.mark.parametrize("known", [None, Validators(), Validators(None, len(VIDEO)), Validators('W/"v1"', len(VIDEO))])
def test_threat_75_without_a_strong_etag_it_begins_again(known: Validators | None) -> None:
    media, sink = Media(), Spool(OTHER[:5000])
    assert fetched(media, sink, known=known).sha256 == SHA256
    assert sink.data == VIDEO
    assert media.ranges == [None]


def test_more_than_there_can_be_begins_again() -> None:
    media, sink = Media(), Spool(OTHER + b"more")
    assert fetched(media, sink, known=Validators(ETAG, len(VIDEO))).sha256 == SHA256
    assert media.ranges == [None]


def test_threat_75_a_file_that_changed_begins_again() -> None:
    media, sink = Media(etag='"v2"'), Spool(OTHER[:5000])
    assert fetched(media, sink, known=Validators(ETAG, len(VIDEO))) == Fetched(len(VIDEO), '"v2"', len(VIDEO), SHA256)
    assert sink.data == VIDEO
    assert sink.restarts == 1


def test_threat_75_a_file_that_changes_in_mid_transfer_is_never_mixed() -> None:
    class Changing(Media):
        def __call__(self, connection: Connection) -> None:
            super().__call__(connection)
            self.content, self.etag = VIDEO, '"v2"'

    media, sink = Changing(content=OTHER, hang_up_after=(100_000,)), Spool()
    assert fetched(media, sink).sha256 == SHA256
    assert sink.data == VIDEO


TOTAL = len(VIDEO)


@pytest.mark.parametrize(
    "headers",
    [
        [f"Content-Range: bytes 4000-{TOTAL - 1}/{TOTAL}", f"ETag: {ETAG}"],
        [f"Content-Range: bytes 5000-{TOTAL - 1}/{TOTAL + 1}", f"ETag: {ETAG}"],
        [f"Content-Range: bytes 5000-6000/{TOTAL}", f"ETag: {ETAG}"],
        [f"Content-Range: bytes 5000-{TOTAL - 1}/{TOTAL}", 'ETag: "v2"'],
        [f"Content-Range: bytes 5000-{TOTAL - 1}/{TOTAL}"],
        ["Content-Range: nonsense", f"ETag: {ETAG}"],
        [f"ETag: {ETAG}"],
    ],
)
def test_threat_75_a_wrong_partial_answer_begins_again(headers: list[str]) -> None:
    def handle(connection: Connection) -> None:
        if "range" in connection.head().headers:
            connection.answer(206, OTHER[5000:], *headers)
        else:
            connection.answer(200, VIDEO, f"ETag: {ETAG}")

    sink = Spool(OTHER[:5000])
    assert fetched(handle, sink, known=Validators(ETAG, TOTAL)).sha256 == SHA256
    assert sink.data == VIDEO


def test_threat_75_a_refused_range_begins_again() -> None:
    def handle(connection: Connection) -> None:
        if "range" in connection.head().headers:
            connection.answer(416, b"", "Content-Range: bytes */10")
        else:
            connection.answer(200, VIDEO)

    assert fetched(handle, Spool(OTHER[:5000]), known=Validators(ETAG, None)).sha256 == SHA256


def test_threat_75_a_part_that_nobody_asked_for_is_no_result() -> None:
    handle = saying(206, VIDEO[5000:], f"Content-Range: bytes 5000-{TOTAL - 1}/{TOTAL}", f"ETag: {ETAG}")
    sink = Spool()
    assert error_of(handle, sink).code == "media_host"
    assert not sink.data


# -- what is no result ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [HTML, b"<?xml version='1.0'?><Error/>", b"", b"\x00\x00\x00\x18ftyp", b"\x1f\x8b" + bytes(999)]
)
def test_threat_74_76_nothing_but_a_video_reaches_the_sink(body: bytes) -> None:
    sink = Spool()
    error = error_of(saying(200, body), sink)
    assert (type(error), error.code) == (Transient, "not_a_video")
    assert not sink.data


@pytest.mark.parametrize(
    ("handle", "code"),
    [
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", VIDEO), "connection_reset"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (TOTAL + 5), VIDEO), "connection_reset"),
        (
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (TOTAL, VIDEO)),
            "connection_reset",
        ),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", VIDEO), "not_the_service"),
        (raw(b"HTTP/1.1 200 OK\r\n\r\n", VIDEO), "no_length"),
        (raw(b"HTTP/1.0 200 OK\r\n\r\n", VIDEO), "no_length"),
        (raw(b""), "connection_reset"),
    ],
)
def test_threat_73_a_result_that_may_have_been_cut_is_none(handle: Callable[[Connection], None], code: str) -> None:
    error = error_of(handle)
    assert (type(error), error.code) == (Transient, code)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_threat_72_a_dead_link_asks_for_a_fresh_one(status: int) -> None:
    error = error_of(saying(status, b"<Error>AccessDenied</Error>"))
    assert type(error) is LinkExpired
    assert error.http_status == status
    assert "127.0.0.1/out.mp4" in error.message


@pytest.mark.parametrize("status", [204, 400, 408, 429, 500, 503])
def test_trouble_of_the_media_host_is_nobody_elses(status: int) -> None:
    error = error_of(saying(status, b"", "Retry-After: 9"))
    assert isinstance(error, Transient)
    assert (error.code, error.http_status, error.retry_after_s) == ("media_host", status, 9)


def test_a_media_host_that_cannot_be_reached_stops_nobody_else() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/out?signature=hidden"
        with pytest.raises(Transient) as caught:
            api_for("http://127.0.0.1:9").fetch(url, Spool())
    assert caught.value.code == "refused"


@pytest.mark.parametrize("is_announced", [True, False])
def test_threat_76_a_result_above_the_limit_is_not_written(is_announced: bool) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (TOTAL, VIDEO)
    sink = Spool()
    error = error_of(Media() if is_announced else raw(chunked), sink, max_bytes=TOTAL - 1)
    assert (type(error), error.code) == (Rejected, "output_too_large")
    assert sink.size <= (0 if is_announced else TOTAL - 1)
    assert fetched(Media(), Spool(), max_bytes=TOTAL).bytes == TOTAL


# -- where a result may lie -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://media.example/out.mp4",
        "http://media.example/out.mp4",
        "https://user:password@media.example/out.mp4",
        "https:///out.mp4",
        "//media.example/out.mp4",
        "/out.mp4",
        "",
        "https://media.example:port/",
        "https://media.example/\ud800",
        "https://127.0.0.1/out.mp4",
        "https://localhost/out.mp4",
        "https://[::1]/out.mp4",
        "https://10.1.2.3/out.mp4",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/out.mp4",
        "https://0x7f.1/out.mp4",
        "https://[::ffff:10.0.0.1]/out.mp4",
        "https://2130706433/out.mp4",
        "https://127\u30020\u30020\u30021/out.mp4",
        "https://\u2460\u2461\u2466.0.0.1/out.mp4",
        "https://[::127.0.0.1]/out.mp4",
        "https://[fe80::1%25lo]/out.mp4",
        "https://%31%32%37.0.0.1/out.mp4",
        "https://127.0.0.1%00.media.example/out.mp4",
        "https://a b/out.mp4",
        "https://\\media.example/out.mp4",
        "https://.../out.mp4",
        "https://xn--/out.mp4",
        "https://xn--a/out.mp4",
        "https://media.example:0/out.mp4",
        "https://media.example:65536/out.mp4",
        "https://media.example:99999999999999999999/out.mp4",
        "https://media.example:-1/out.mp4",
        "https://media.example/\x00",
        "https:\\127.0.0.1/out.mp4",
        "data:video/mp4;base64,AAAA",
    ],
)
def test_threat_70_an_address_that_is_refused(url: str) -> None:
    api = Api(base_url="https://93.184.216.34/api", key=lambda: "secret-key", proxies={})
    with pytest.raises(Rejected) as caught:
        api.fetch(url, Spool())
    assert caught.value.code == "output_url_refused"
    assert "password@" not in str(caught.value)


def redirecting(*locations: str) -> Callable[[Connection], None]:
    """`/0` leads to the first location and so on; anything else is the video."""

    def handle(connection: Connection) -> None:
        target = connection.head().target.strip("/")
        if target.isdigit() and int(target) < len(locations):
            connection.answer(302, b"", f"Location: {locations[int(target)]}")
        else:
            connection.answer(200, VIDEO)

    return handle


def test_redirects_are_followed_a_few_times() -> None:
    assert fetched(redirecting("/1", "2", "/3", "/4", "/out"), Spool(), "/0").sha256 == SHA256


@pytest.mark.parametrize(
    "locations",
    [
        ["/1", "/2", "/3", "/4", "/5", "/out"],
        ["/0"],
        ["file:///etc/passwd"],
        ["http://user@127.0.0.1/"],
        ["ftp://127.0.0.1/x"],
        ["http://127.0.0.1:port/"],
    ],
)
def test_threat_70_a_redirect_is_checked_like_the_first_address(locations: list[str]) -> None:
    error = error_of(redirecting(*locations), path="/0")
    assert (type(error), error.code) == (Rejected, "output_url_refused")


def test_a_redirect_to_nowhere_is_transient() -> None:
    assert error_of(saying(302)).code == "redirect"


def test_threat_70_a_result_over_http_is_taken_where_the_service_itself_speaks_http() -> None:
    with Origin(Media()) as origin:
        over_tls = Api(base_url=origin.url.replace("http:", "https:"), key=lambda: "k", proxies={})
        with pytest.raises(Rejected, match="https://"):
            over_tls.fetch(origin.url, Spool())
        assert api_for(origin.url).fetch(origin.url, Spool()).bytes == TOTAL


def test_threat_70_a_private_result_is_taken_where_the_service_itself_is_private() -> None:
    with Origin(Media()) as origin:
        by_name = Api(base_url=f"http://localhost:{origin.port}/api", key=lambda: "k", proxies={})
        assert by_name.fetch(origin.url, Spool()).bytes == TOTAL
        public = Api(base_url="http://93.184.216.34/api", key=lambda: "k", proxies={})
        with pytest.raises(Rejected, match="not a public address"):
            public.fetch(origin.url, Spool())
