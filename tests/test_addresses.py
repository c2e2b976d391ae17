"""Addresses that may be connected to, proxies that lead there, and words for what failed."""

from __future__ import annotations

import httpx
import pytest

from chamelaion_watch.core.errors import Rejected, Unreachable
from chamelaion_watch.edges.addresses import is_public, proxy_for, unreachable
from chamelaion_watch.edges.transport import Transport
from tests.acceptance.early_refusal import (
    Connection,
    Origin,
)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "100.64.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%lo", "fd00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1",
        "64:ff9b::a00:1", "2002:7f00:1::", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::7f00:1", "2001:db8::1",
        "192.0.0.192", "198.18.0.1", "240.0.0.1",
    ],
)  # fmt: skip
def test_threat_70_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_threat_70_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "localhost", "[::1]", "[::ffff:7f00:1]"]
)
def test_threat_70_a_private_address_is_refused_before_anything_is_sent(host: str) -> None:
    came: list[Connection] = []
    with Origin(came.append) as origin:
        transport = Transport(httpx.create_ssl_context, proxies={}, is_allowed=is_public)
        with pytest.raises(Rejected) as caught:
            transport.handle_request(httpx.Request("GET", f"http://{host}:{origin.port}/"))
    assert caught.value.code == "output_url_refused"
    assert not came


@pytest.mark.parametrize("host", ["10.0.0.1", "0x0a000001", "[fd00::1]", "10.0.0.1.", "localhost"])
def test_threat_70_a_private_literal_is_refused_through_a_proxy_as_well(host: str) -> None:
    transport = Transport(httpx.create_ssl_context, proxies={"all": "http://127.0.0.1:1"}, is_allowed=is_public)
    with pytest.raises(Rejected) as caught:
        transport.handle_request(httpx.Request("GET", f"http://{host}/"))
    assert caught.value.code == "output_url_refused"


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
        ("http://localhost.:8/x", {"all": "http://p:1"}, None),
        ("http://[::1]:8/x", {"all": "http://p:1"}, None),
    ],
)
def test_threat_54_which_proxy_is_used(url: str, proxies: dict[str, str], expected: str | None) -> None:
    found = proxy_for(httpx.URL(url), proxies)
    assert (str(found.url) if found else None) == expected


@pytest.mark.parametrize("proxy", ["socks5://p:1", "https://p:1", "http://p:port"])
def test_threat_54_a_proxy_that_cannot_be_used_says_so(proxy: str) -> None:
    with pytest.raises(Unreachable, match="HTTPS_PROXY") as caught:
        proxy_for(httpx.URL("https://api.example/"), {"https": proxy})
    assert caught.value.code == "proxy"


def test_a_connection_time_out_says_so() -> None:
    assert unreachable("api.example:443", TimeoutError("timed out")).code == "no_answer"
