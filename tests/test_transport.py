"""Reaching the service: what goes wrong on the way, TLS, proxies, closing."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import threading
from pathlib import Path

import pytest

from chamelaion_watch.core.errors import ConfigError, Transient, Unreachable
from chamelaion_watch.edges.api import Api
from tests.acceptance.early_refusal import (
    Certificate,
    Connection,
    Origin,
    api_for,
    make_certificate,
    sparse_file,
    take_everything,
    upload_of,
)

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


# -- reaching the service -----------------------------------------------------------------------------


def test_threat_46_a_refused_connection_says_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        upload = upload_of(io.BytesIO(b"x"), 1)
        with pytest.raises(Unreachable, match="refuses connections") as caught:
            api_for(url).submit(upload)
    assert caught.value.code == "refused"
    assert not upload.is_finished


def test_threat_46_a_name_without_an_address_says_so() -> None:
    name = "a" * 64 + ".invalid"  # a label too long for any resolver to send out
    with pytest.raises(Unreachable, match="cannot find the address") as caught:
        api_for(f"http://{name}").me()
    assert caught.value.code == "dns"


@pytest.mark.parametrize(
    ("name", "end", "words"),
    [
        ("IP:127.0.0.1", "20200102000000Z", "not valid today"),
        ("IP:127.0.0.2", "20991231235959Z", "for another name"),
        ("DNS:localhost", "20991231235959Z", "for another name"),
    ],
)
def test_threat_46_a_wrong_certificate_says_what_to_do(
    folder: Path, certificate: Certificate, name: str, end: str, words: str
) -> None:
    wrong = make_certificate(folder / f"{name}{end}".replace(":", "_"), name, end=end)
    with Origin(take_everything, wrong) as origin, pytest.raises(Unreachable, match=words) as caught:
        api_for(origin.url, wrong).me()
    assert caught.value.code == "tls"


def test_threat_46_an_unknown_authority_says_what_to_do(certificate: Certificate) -> None:
    message = r"set api\.ca_file"
    with Origin(take_everything, certificate) as origin, pytest.raises(Unreachable, match=message) as caught:
        api_for(origin.url, None).me()
    assert caught.value.code == "tls"


def test_threat_46_a_port_without_tls_says_so(certificate: Certificate) -> None:
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
    "url",
    ["ftp://x/api", "https:///api", "https://u:p@x/api", "https://x/api?a=b", "https://x:port/api", "https://xn--a/"],
)
def test_an_unusable_base_url_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"api\.base_url") as caught:
        Api(base_url=url, key=lambda: "k")
    assert "u:p" not in str(caught.value)


# -- many threads -------------------------------------------------------------------------------------


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


# -- proxies ------------------------------------------------------------------------------------------


def proxied(origin: Origin, url: str, certificate: Certificate | None = None, user: str = "") -> Api:
    proxies = {"all": f"http://{user}127.0.0.1:{origin.port}"}
    ca_file = str(certificate.path) if certificate else None
    return Api(base_url=url, key=lambda: "secret-key", ca_file=ca_file, proxies=proxies)


def test_threat_54_a_forward_proxy_gets_the_whole_address() -> None:
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
def test_threat_54_a_proxy_that_gives_no_way_is_unreachable(reply: bytes) -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.send(reply)

    with Origin(handle) as origin, pytest.raises(Unreachable, match="proxy") as caught:
        proxied(origin, "https://api.example.test/api", user="user:hidden@").me()
    assert caught.value.code == "proxy"
    assert "hidden" not in str(caught.value)


def test_threat_54_the_environment_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
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
