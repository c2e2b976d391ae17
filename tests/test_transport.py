"""Early refusals, time-outs, TLS, proxies and checked addresses, against raw servers on loopback."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from chamelaion_watch.core.errors import ConfigError, Rejected, Transient, Unreachable
from chamelaion_watch.edges.addresses import is_public, proxy_for, unreachable
from chamelaion_watch.edges.answers import has_final_answer
from chamelaion_watch.edges.api import Api
from chamelaion_watch.edges.transport import Timeouts, Transport
from tests.acceptance.early_refusal import (
    BEHAVIOURS,
    EXPECTED,
    STATUSES,
    Certificate,
    Connection,
    Origin,
    Refusal,
    api_for,
    make_certificate,
    measure_refusal,
    sparse_file,
    take_everything,
    upload_of,
)
from tests.support import eventually

MIB = 1024 * 1024
OK = b'{"status":"ok"}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transport")


@pytest.fixture(scope="module")
def certificate(folder: Path) -> Certificate:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    return make_certificate(folder / "good")


@pytest.fixture(scope="module")
def video(folder: Path) -> Path:
    return sparse_file(folder / "video.mp4", 256 * MIB)


@pytest.fixture(params=["plain", "tls"])
def secured(request: pytest.FixtureRequest) -> Certificate | None:
    return request.getfixturevalue("certificate") if request.param == "tls" else None


# -- early refusal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_an_early_refusal_is_heard_at_once(
    status: int, behaviour: str, video: Path, secured: Certificate | None
) -> None:
    got = measure_refusal(Refusal(status, behaviour), video, secured)
    assert type(got.error).__name__ == EXPECTED[status]
    assert getattr(got.error, "retry_after_s", None) == 7
    assert "said early" in got.error.message
    assert got.ms < 1000
    assert got.sent_bytes < 8_000_000
    assert not got.is_finished


def test_interim_answers_do_not_stop_an_upload(secured: Certificate | None) -> None:
    def handle(connection: Connection) -> None:
        seen = connection.head()
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX: y\r\n\r\nHTTP/1.1 1")
        connection.skip(int(seen.headers["content-length"]))
        connection.send(b"03 Early Hints\r\nLink: <a>\r\n\r\n")
        connection.answer(200, b'{"request_id":"id-1"}')

    with Origin(handle, secured) as origin:
        assert submit(origin, secured, 8 * MIB) == "id-1"


@pytest.mark.parametrize("finished_by", ["reset", "end"])
def test_a_connection_that_ends_in_mid_upload_leaves_no_doubt(finished_by: str, secured: Certificate | None) -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.skip(MIB)
        if finished_by == "end":
            connection.sock.unwrap() if secured else connection.sock.shutdown(socket.SHUT_WR)  # type: ignore[attr-defined]
            connection.stop.wait(10)

    with Origin(handle, secured) as origin:
        upload = upload_of(io.BytesIO(bytes(64 * MIB)), 64 * MIB)
        with pytest.raises(Transient) as caught, contextlib.closing(api_for(origin.url, secured)) as api:
            api.submit(upload)
    assert caught.value.code == "connection_reset"
    assert not upload.is_finished


def test_an_upload_that_stands_still_ends_after_the_progress_time_out(secured: Certificate | None) -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.stop.wait(20)

    with Origin(handle, secured, receive_buffer=65536) as origin:
        upload = upload_of(io.BytesIO(bytes(64 * MIB)), 64 * MIB)
        api = api_for(origin.url, secured, Timeouts(progress_s=0.5))
        began = time.monotonic()
        with pytest.raises(Transient) as caught, contextlib.closing(api):
            api.submit(upload)
    assert caught.value.code == "stalled"
    assert 0.4 < time.monotonic() - began < 4
    assert not upload.is_finished


def test_a_slow_reader_is_not_a_stalled_one() -> None:
    """1 MiB at 64 KiB each 0.1 s take longer than the progress time-out, and a big send queue is writable rarely."""

    def handle(connection: Connection) -> None:
        seen = connection.head()
        left = int(seen.headers["content-length"])
        while left and not connection.stop.wait(0.1):
            left -= connection.skip(min(left, 64 * 1024))
        connection.answer(200, b'{"request_id":"slow"}')

    with Origin(handle, receive_buffer=4096) as origin:
        assert submit(origin, None, MIB, Timeouts(progress_s=1.1)) == "slow"


def test_a_withdrawn_upload_closes_its_socket_before_the_exception_arrives(secured: Certificate | None) -> None:
    received: list[int] = []

    def handle(connection: Connection) -> None:
        announced = int(connection.head().headers["content-length"])
        try:
            received.append(announced - connection.skip(announced))
        except OSError:
            received.append(-1)

    withdrawal = Transient("the lease was lost", code="withdrawn")

    def refuse() -> None:
        raise withdrawal

    with Origin(handle, secured) as origin:
        upload = upload_of(io.BytesIO(bytes(MIB)), MIB)
        upload.may_finish = refuse
        with pytest.raises(Transient) as caught, contextlib.closing(api_for(origin.url, secured)) as api:
            api.submit(upload)
        assert caught.value is withdrawal
        assert eventually(lambda: received)[0] != 0  # something was missing, or the connection broke
    assert not upload.is_finished


def test_no_answer_after_the_last_byte_is_a_time_out_in_doubt() -> None:
    def handle(connection: Connection) -> None:
        connection.skip(int(connection.head().headers["content-length"]))
        connection.stop.wait(20)

    with Origin(handle) as origin:
        upload = upload_of(io.BytesIO(bytes(MIB)), MIB)
        api = api_for(origin.url, None, Timeouts(answer_s=0.3))
        with pytest.raises(Transient) as caught, contextlib.closing(api):
            api.submit(upload)
    assert caught.value.code == "timed_out"
    assert upload.is_finished


@pytest.mark.parametrize(
    ("heard", "is_final"),
    [
        (b"", False),
        (b"HTTP/1.1 42", False),
        (b"HTTP/1.1 429", True),
        (b"HTTP/1.0 200 OK\r\n", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False),
        (b"HTTP/1.1 100 Continue\r\nA: b\r\n", False),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413", True),
        (b"HTTP/1.1 103 Early\nA: b\n\nHTTP/1.1 103 Early\r\n\r\n", False),
        (b"HTTP/1.1 101 Switching", True),
        (b"220 mail.example ESMTP", True),
        (b"HTTP/1.1 102 x\r\n\r\n" * 5000, True),
    ],
)
def test_what_counts_as_a_final_answer(heard: bytes, is_final: bool) -> None:
    assert has_final_answer(heard) is is_final


# -- waiting ------------------------------------------------------------------------------------------


def test_an_endless_drip_ends_with_the_deadline_of_a_small_call() -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        while not connection.stop.wait(0.05):
            connection.send(b"x")

    with Origin(handle) as origin, contextlib.closing(api_for(origin.url, None, Timeouts(api_s=0.6))) as api:
        began = time.monotonic()
        with pytest.raises(Transient) as caught:
            api.me()
    assert caught.value.code == "timed_out"
    assert time.monotonic() - began < 3


def test_close_wakes_a_thread_that_waits(secured: Certificate | None) -> None:
    arrived = threading.Event()

    def handle(connection: Connection) -> None:
        connection.head()
        arrived.set()
        connection.stop.wait(20)

    raised: list[BaseException] = []

    def ask(api: Api) -> None:
        try:
            api.me()
        except Transient as error:
            raised.append(error)

    with Origin(handle, secured) as origin:
        api = api_for(origin.url, secured)
        thread = threading.Thread(target=ask, args=(api,))
        thread.start()
        assert arrived.wait(10)
        api.close()
        thread.join(5)
        assert not thread.is_alive()
        with pytest.raises(Transient):
            api.me()
    assert [getattr(error, "code", "") for error in raised] == ["connection_reset"]


def test_one_api_serves_many_threads(secured: Certificate | None) -> None:
    found: list[str] = []

    def handle(connection: Connection) -> None:
        seen = connection.head()
        if seen.method == "POST":
            connection.skip(int(seen.headers["content-length"]))
            connection.answer(200, b'{"request_id":"x"}')
        else:
            connection.answer(200, f'{{"name":"{seen.target}"}}'.encode())

    def work(api: Api) -> None:
        found.append(api.submit(upload_of(io.BytesIO(bytes(MIB)), MIB)))
        found.append(api.me())

    with (
        Origin(handle, secured) as origin,
        contextlib.closing(api_for(origin.url, secured)) as api,
    ):
        threads = [threading.Thread(target=work, args=(api,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert sorted(found) == ["/api/v1/users/me"] * 8 + ["x"] * 8


# -- reaching the service -----------------------------------------------------------------------------


def test_a_refused_connection_says_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        upload = upload_of(io.BytesIO(b"x"), 1)
        with pytest.raises(Unreachable, match="refuses connections") as caught:
            api_for(url).submit(upload)
    assert caught.value.code == "refused"
    assert not upload.is_finished


def test_a_name_without_an_address_says_so() -> None:
    name = "a" * 64 + ".invalid"  # a label too long for any resolver to send out
    with pytest.raises(Unreachable, match="cannot find the address") as caught:
        api_for(f"http://{name}").me()
    assert caught.value.code == "dns"


def test_a_connection_time_out_says_so() -> None:
    assert unreachable("api.example:443", TimeoutError("timed out")).code == "no_answer"


@pytest.mark.parametrize(
    ("name", "end", "words"),
    [
        ("IP:127.0.0.1", "20200102000000Z", "not valid today"),
        ("IP:127.0.0.2", "20991231235959Z", "for another name"),
        ("DNS:localhost", "20991231235959Z", "for another name"),
    ],
)
def test_a_wrong_certificate_says_what_to_do(
    folder: Path, certificate: Certificate, name: str, end: str, words: str
) -> None:
    wrong = make_certificate(folder / f"{name}{end}".replace(":", "_"), name, end=end)
    with Origin(take_everything, wrong) as origin, pytest.raises(Unreachable, match=words) as caught:
        api_for(origin.url, wrong).me()
    assert caught.value.code == "tls"


def test_an_unknown_authority_says_what_to_do(certificate: Certificate) -> None:
    message = r"set api\.ca_file"
    with Origin(take_everything, certificate) as origin, pytest.raises(Unreachable, match=message) as caught:
        api_for(origin.url, None).me()
    assert caught.value.code == "tls"


def test_a_port_without_tls_says_so(certificate: Certificate) -> None:
    def handle(connection: Connection) -> None:
        connection.sock.recv(100)
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Origin(handle) as origin, pytest.raises(Unreachable, match="handshake failed") as caught:
        api_for(origin.url.replace("http:", "https:"), certificate).me()
    assert caught.value.code == "tls"


def test_an_unusable_ca_file_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for path in (tmp_path / "absent.pem", tmp_path / "empty.pem"):
        with pytest.raises(ConfigError, match=r"api\.ca_file"):
            Api(base_url="https://api.example/api", key=lambda: "k", ca_file=str(path))


@pytest.mark.parametrize(
    "url", ["ftp://x/api", "https:///api", "https://u:p@x/api", "https://x/api?a=b", "https://x:port/api"]
)
def test_an_unusable_base_url_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"api\.base_url") as caught:
        Api(base_url=url, key=lambda: "k")
    assert "u:p" not in str(caught.value)


# -- proxies ------------------------------------------------------------------------------------------


def proxied(origin: Origin, url: str, certificate: Certificate | None = None, user: str = "") -> Api:
    proxies = {"all": f"http://{user}127.0.0.1:{origin.port}"}
    ca_file = str(certificate.path) if certificate else None
    return Api(base_url=url, key=lambda: "secret-key", ca_file=ca_file, proxies=proxies)


def test_a_forward_proxy_gets_the_whole_address() -> None:
    targets: list[str] = []

    def handle(connection: Connection) -> None:
        seen = connection.head()
        targets.append(f"{seen.target} {seen.headers['host']} {seen.headers['proxy-authorization']}")
        connection.answer(200, OK)

    with Origin(handle) as origin:
        proxied(origin, "http://api.example.test/api", user="u:p@").health()
    assert targets == ["http://api.example.test/api/health api.example.test Basic dTpw"]


def test_a_tunnel_carries_tls_to_the_service(folder: Path, certificate: Certificate) -> None:
    inner = make_certificate(folder / "inner", "DNS:api.example.test")
    heads: list[str] = []

    def handle(connection: Connection) -> None:
        seen = connection.head()
        heads.append(f"{seen.method} {seen.target} {seen.headers.get('authorization')}")
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with inner.context().wrap_socket(connection.sock, server_side=True) as sock:
            take_everything(Connection(sock, connection.stop))

    with Origin(handle) as origin:
        api = proxied(origin, "https://api.example.test/api", inner)
        assert api.submit(upload_of(io.BytesIO(bytes(MIB)), MIB)).endswith("1")
    assert heads == ["CONNECT api.example.test:443 None"]


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", b"", b"garbage\r\n\r\n"]
)
def test_a_proxy_that_gives_no_way_is_unreachable(reply: bytes) -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.send(reply)

    with Origin(handle) as origin, pytest.raises(Unreachable, match="proxy") as caught:
        proxied(origin, "https://api.example.test/api", user="user:hidden@").me()
    assert caught.value.code == "proxy"
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "proxies", "expected"),
    [
        ("https://api.example/x", {"https": "http://p:1"}, "http://p:1"),
        ("https://api.example/x", {"https": "p:1"}, "http://p:1"),
        ("https://api.example/x", {"http": "http://p:1"}, None),
        ("https://api.example/x", {"all": "http://p:1"}, "http://p:1"),
        ("https://api.example/x", {"all": "http://p:1", "no": "other,example"}, None),
        ("https://api.example/x", {"all": "http://p:1", "no": ".example"}, None),
        ("https://api.example/x", {"all": "http://p:1", "no": "api.example:443"}, None),
        ("https://api.example/x", {"all": "http://p:1", "no": "api.example:444"}, "http://p:1"),
        ("https://notexample/x", {"all": "http://p:1", "no": "example"}, "http://p:1"),
        ("https://api.example/x", {"all": "http://p:1", "no": "*"}, None),
        ("https://10.1.2.3/x", {"all": "http://p:1", "no": "10.0.0.0/8"}, None),
        ("https://10.1.2.3/x", {"all": "http://p:1", "no": "11.0.0.0/8"}, "http://p:1"),
        ("http://127.0.0.1:8/x", {"all": "http://p:1"}, None),
        ("http://localhost:8/x", {"all": "http://p:1"}, None),
        ("http://[::1]:8/x", {"all": "http://p:1"}, None),
    ],
)
def test_which_proxy_is_used(url: str, proxies: dict[str, str], expected: str | None) -> None:
    found = proxy_for(httpx.URL(url), proxies)
    assert (str(found.url) if found else None) == expected


@pytest.mark.parametrize("proxy", ["socks5://p:1", "https://p:1", "http://p:port"])
def test_a_proxy_that_cannot_be_used_says_so(proxy: str) -> None:
    with pytest.raises(Unreachable, match="HTTPS_PROXY") as caught:
        proxy_for(httpx.URL("https://api.example/"), {"https": proxy})
    assert caught.value.code == "proxy"


def test_the_environment_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    targets: list[str] = []

    def handle(connection: Connection) -> None:
        targets.append(connection.head().target)
        connection.answer(200, OK)

    with Origin(handle) as origin:
        for name in ("NO_PROXY", "no_proxy", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{origin.port}")
        Api(base_url="http://api.example.test/api", key=lambda: "k").health()
    assert targets == ["http://api.example.test/api/health"]


# -- addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "100.64.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%lo", "fd00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1",
        "64:ff9b::a00:1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "localhost", "[::1]", "[::ffff:7f00:1]"]
)
def test_a_private_address_is_refused_before_anything_is_sent(host: str) -> None:
    came: list[Connection] = []
    with Origin(came.append) as origin:
        transport = Transport(httpx.create_ssl_context, proxies={}, is_allowed=is_public)
        with pytest.raises(Rejected) as caught:
            transport.handle_request(httpx.Request("GET", f"http://{host}:{origin.port}/"))
    assert caught.value.code == "output_url_refused"
    assert not came


@pytest.mark.parametrize("host", ["10.0.0.1", "0x0a000001", "[fd00::1]"])
def test_a_private_literal_is_refused_through_a_proxy_as_well(host: str) -> None:
    transport = Transport(httpx.create_ssl_context, proxies={"all": "http://127.0.0.1:1"}, is_allowed=is_public)
    with pytest.raises(Rejected) as caught:
        transport.handle_request(httpx.Request("GET", f"http://{host}/"))
    assert caught.value.code == "output_url_refused"


def submit(origin: Origin, secured: Certificate | None, size: int, timeouts: Timeouts | None = None) -> str:
    with contextlib.closing(api_for(origin.url, secured, timeouts)) as api:
        return api.submit(upload_of(io.BytesIO(bytes(size)), size))
