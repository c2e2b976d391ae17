"""Rows 70 to 77: where a result may come from, what goes there, and what of it is believed; over real sockets.

What is fetched to the end, cut, resumed or thrown away stands in `tests/test_download.py` and `tests/test_delivering.py`.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chamelaion_watch.core.errors import LinkExpired, Rejected, Transient, WatchError
from chamelaion_watch.edges.api import Api, Timeouts
from chamelaion_watch.edges.download import Downloader
from chamelaion_watch.edges.transport import Transport
from tests.acceptance.early_refusal import (
    Certificate,
    Connection,
    Origin,
    Seen,
    api_for,
    make_certificate,
)
from tests.acceptance.rig import ROOT

VIDEO = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(50_000)
BETWEEN_HOSTS = {"host", "user-agent", "accept", "accept-encoding", "connection"}  # all that a media host is told
QUICK = Timeouts(progress_s=0.4, answer_s=1.0)


class Spool:
    """A sink in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes, /) -> None:
        self.data += data

    def restart(self) -> None:
        self.data.clear()


def video(seen: list[Seen], *headers: str) -> Callable[[Connection], None]:
    def handle(connection: Connection) -> None:
        seen.append(connection.head())
        connection.answer(200, VIDEO, *headers)

    return handle


def leading(location: str, seen: list[Seen], *headers: str) -> Callable[[Connection], None]:
    def handle(connection: Connection) -> None:
        seen.append(connection.head())
        connection.answer(302, b"", f"Location: {location}", *headers)

    return handle


def error_of(handle: Callable[[Connection], None], timeouts: Timeouts = QUICK) -> tuple[WatchError, float]:
    """What a media host that does this leads to, and after how many seconds."""
    with Origin(handle) as origin, contextlib.closing(api_for(origin.url, None, timeouts)) as api:
        began = time.monotonic()
        with pytest.raises(WatchError) as caught:
            api.fetch(f"{origin.url}/out.mp4?sig=hidden", Spool())
        took = time.monotonic() - began
    assert "hidden" not in caught.value.message
    return caught.value, took


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    return make_certificate(tmp_path_factory.mktemp("output"))


# -- where it may lie -------------------------------------------------------------------------------------


def test_threat_70_no_hop_leads_from_https_to_http_though_the_service_itself_speaks_http(
    certificate: Certificate,
) -> None:
    plain: list[Seen] = []
    with Origin(video(plain)) as target:
        hops = {"/0": "/1", "/1": f"{target.url}/out.mp4?sig=hidden"}

        def handle(connection: Connection) -> None:
            connection.answer(307, b"", f"Location: {hops[connection.head().target]}")

        with Origin(handle, certificate) as secure:
            api = api_for(target.url, None)
            assert api.fetch(f"{target.url}/direct", Spool()).bytes == len(VIDEO)  # http itself is allowed here
            trusting = Api(base_url=target.url, key=lambda: "secret-key", ca_file=str(certificate.path), proxies={})
            with pytest.raises(Rejected, match="is not https://") as caught:
                trusting.fetch(f"{secure.url}/0", Spool())
    assert caught.value.code == "output_url_refused"
    assert [head.target for head in plain] == ["/direct"]


def test_threat_70_each_hop_is_checked_by_its_address_before_anything_is_sent_there() -> None:
    """127.0.0.1 stands for the public host here, and all else of 127/8 for what is private."""
    internal: list[Seen] = []
    transport = Transport(
        lambda: pytest.fail("no TLS here"), proxies={}, is_allowed=lambda address: address == "127.0.0.1"
    )
    downloader = Downloader(transport, True, QUICK, "test", time.time)
    with Origin(video(internal)) as target:
        for host in ("127.0.0.2", "127.1.1", "0x7f.0.0.3", "2130706434", "[::ffff:127.0.0.1]", "[::1]"):
            public: list[Seen] = []
            with (
                Origin(leading(f"http://{host}:{target.port}/admin", public)) as first,
                pytest.raises(Rejected, match="not a public address") as caught,
            ):
                downloader.fetch(first.url, Spool(), known=None, max_bytes=None, on_progress=nothing, on_start=nothing)
            assert caught.value.code == "output_url_refused"
            assert len(public) == 1
    assert not internal


def nothing(*_: object) -> None:
    return


def test_threat_70_the_address_that_was_checked_is_the_one_that_is_connected_to() -> None:
    """A name that stands for something else at the second question changes nothing: there is no second question."""
    checked: list[str] = []

    def is_allowed(address: str) -> bool:
        checked.append(address)
        return address == "127.0.0.1"

    transport = Transport(lambda: pytest.fail("no TLS here"), proxies={}, is_allowed=is_allowed)
    downloader = Downloader(transport, True, QUICK, "test", time.time)
    with Origin(video([])) as origin, heard("socket.getaddrinfo", "socket.connect") as events:
        url = f"http://localhost:{origin.port}/out.mp4"
        downloader.fetch(url, Spool(), known=None, max_bytes=None, on_progress=nothing, on_start=nothing)
    asked = [args for event, args in events if event == "socket.getaddrinfo"]
    connected = [args[1][0] for event, args in events if event == "socket.connect"]
    assert [args[0] for args in asked] == [b"localhost"]
    assert connected == ["127.0.0.1"]
    assert set(connected) <= set(checked)


_LISTENERS: list[tuple[frozenset[str], list[tuple[str, tuple[Any, ...]]]]] = []
_HOOKED: list[None] = []


def _report(event: str, args: tuple[Any, ...]) -> None:
    for wanted, found in _LISTENERS:
        if event in wanted:
            found.append((event, args))


@contextlib.contextmanager
def heard(*names: str) -> Any:
    """What the interpreter itself reports to an audit hook, of all threads."""
    if not _HOOKED:  # a hook stays for ever; outside of the block it does nothing
        sys.addaudithook(_report)
        _HOOKED.append(None)
    events: list[tuple[str, tuple[Any, ...]]] = []
    _LISTENERS.append((frozenset(names), events))
    try:
        yield events
    finally:
        _LISTENERS[-1:] = []


# -- what goes there --------------------------------------------------------------------------------------


def test_threat_71_no_hop_is_told_the_key_a_cookie_or_where_we_came_from() -> None:
    service: list[Seen] = []
    first: list[Seen] = []
    second: list[Seen] = []

    def answer(connection: Connection) -> None:
        service.append(connection.head())
        connection.answer(200, b'{"name":"x"}', "Set-Cookie: api=1; Domain=127.0.0.1; Path=/")

    with (
        Origin(answer) as api_host,
        Origin(video(second, "Set-Cookie: second=1")) as target,
        Origin(leading(f"{target.url}/out.mp4?sig=2", first, "Set-Cookie: first=1; Path=/")) as media,
        contextlib.closing(api_for(api_host.url)) as api,
    ):
        for _ in range(2):
            api.me()
            api.fetch(f"{media.url}/x?sig=1", Spool())
    assert [set(head.headers) for head in (*first, *second)] == [BETWEEN_HOSTS] * 4
    for head in (*first, *second):
        assert "secret-key" not in str(head)
    assert [head.target for head in second] == ["/out.mp4?sig=2"] * 2
    assert all("cookie" not in head.headers and "referer" not in head.headers for head in service)


# -- what of it is believed, and for how long ---------------------------------------------------------------


def test_threat_72_the_text_of_a_refusal_is_not_read() -> None:
    def endless(connection: Connection) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 403 Forbidden\r\nContent-Encoding: gzip\r\n\r\n")
        while not connection.stop.is_set():
            connection.send(bytes(65536))

    error, took = error_of(endless)
    assert isinstance(error, LinkExpired)
    assert took < 2


def test_threat_68_a_head_that_drips_ends_with_its_deadline() -> None:
    def drip(connection: Connection) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        while not connection.stop.wait(0.05):
            connection.send(b"x")

    error, took = error_of(drip)
    assert error.code == "timed_out"
    assert took < 4


def test_threat_68_interim_answers_without_end_are_no_answer() -> None:
    def interim(connection: Connection) -> None:
        connection.head()
        while not connection.stop.wait(0.02):
            connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n")

    error, took = error_of(interim)
    assert error.code == "timed_out"
    assert took < 4


def test_threat_68_a_body_that_drips_is_given_up_and_one_that_flows_slowly_is_not() -> None:
    """A byte now and then is no progress: such a download held its place for days."""

    def paced(size: int, pause_s: float) -> Callable[[Connection], None]:
        def handle(connection: Connection) -> None:
            connection.head()
            connection.answer(200, VIDEO[:12], length=len(VIDEO))
            for piece in pieces(VIDEO[12:], size):
                if connection.stop.wait(pause_s):
                    return
                connection.send(piece)

        return handle

    error, took = error_of(paced(1, 0.05))
    assert (type(error), error.code) == (Transient, "timed_out")
    assert "too slow" in error.message
    assert took < 4
    with Origin(paced(4000, 0.1)) as origin, contextlib.closing(api_for(origin.url, None, QUICK)) as api:
        assert api.fetch(origin.url, Spool()).bytes == len(VIDEO)  # 1.3 s in all, which is longer than any time-out


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X-Bomb: " + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(20_000)),
        b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n" % (b"9" * 5000),
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xd9\xa3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 " + b"O" * 200_000,
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\x16\x03\x01" * 100,
    ],
)
def test_threat_68_73_a_head_that_is_none_is_no_result(head: bytes) -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        with contextlib.suppress(OSError):
            connection.send(head)

    error, _ = error_of(handle)
    assert isinstance(error, Transient)
    assert error.code in {"not_the_service", "connection_reset", "no_length"}


def test_threat_68_trailers_without_end_are_no_result() -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(VIDEO), VIDEO))
        while not connection.stop.is_set():
            connection.send(b"X-Bomb: " + b"x" * 8192 + b"\r\n")

    error, _ = error_of(handle)
    assert error.code == "not_the_service"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_threat_76_an_encoded_body_is_never_unpacked(encoding: str) -> None:
    def handle(connection: Connection) -> None:
        assert connection.head().headers["accept-encoding"] == "identity"
        connection.answer(200, b"\x1f\x8b" + bytes(5000), f"Content-Encoding: {encoding}")

    error, _ = error_of(handle)
    assert error.code == "not_a_video"


def test_threat_77_what_cannot_be_noticed_is_said_to_people() -> None:
    """A wrong byte that TLS lets through would need a checksum by the service, which publishes none."""
    limits = (Path(ROOT) / "README.md").read_text().partition("**Known limits.**")[2].partition("\n## ")[0]
    assert "publishes no checksum" in " ".join(limits.split())
