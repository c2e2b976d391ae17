"""Which addresses may be connected to, which proxy leads there, and words for a connection that did not come about.

Part of the HTTP edge. `transport` connects to exactly the addresses that were checked here, so a second DNS answer
changes nothing. It opens no socket itself; it only asks the resolver.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from chamelaion_watch.core.errors import Rejected, Unreachable

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST = ipaddress.ip_network("2000::/3")  # all that is routed on the internet; `is_global` knows only exceptions
_PROTOCOLS = ipaddress.ip_network("192.0.0.0/24")  # where a cloud has its metadata; old Pythons call it global

AddressCheck = Callable[[str], bool]


def anywhere(_address: str) -> bool:
    """The check that allows every address."""
    return True


@dataclass(frozen=True, slots=True)
class Address:
    """Where a socket of `family` can connect to."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]

    @property
    def literal(self) -> str:
        return str(self.sockaddr[0])


def addresses_of(host: str, port: int = 0, *, flags: int = 0) -> list[Address]:
    """What a name stands for now. Raises socket.gaierror."""
    # bytes, for Python's own IDNA codec raises UnicodeError on names that are merely too long
    found = socket.getaddrinfo(host.encode("ascii", "replace"), port, type=socket.SOCK_STREAM, flags=flags)
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]


def is_public(address: str) -> bool:
    """Whether a literal address lies on the public internet; an IPv4 address inside an IPv6 one is what counts."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        return ip in _UNICAST and ip.is_global
    return ip.is_global and not ip.is_multicast and ip not in _PROTOCOLS


def has_private_address(host: str) -> bool:
    """Whether a name stands for an address that is not public; False if it cannot be found."""
    try:
        return any(not is_public(address.literal) for address in addresses_of(host))
    except OSError:
        return False


def check_literal(host: str, is_allowed: AddressCheck) -> None:
    """Raise Rejected `output_url_refused` if `host` is a forbidden address, however spelled (`127.1`, `0x7f000001`)."""
    try:
        literal = addresses_of(host.removesuffix("."), flags=socket.AI_NUMERICHOST)
    except OSError:
        return
    if not any(is_allowed(address.literal) for address in literal):
        raise refused_address(host)


def refused_address(host: str) -> Rejected:
    return Rejected(
        f"the service names a result on {host}, which is not a public address: not fetched; tell the service's support",
        code="output_url_refused",
    )


# -- proxies ------------------------------------------------------------------------------------------


def proxy_for(url: httpx.URL, proxies: Mapping[str, str]) -> httpx.Proxy | None:
    """The proxy that the usual variables ask for; never one for this machine itself. Raises Unreachable.

    `proxies` is what `urllib.request.getproxies_environment` gives: `http`, `https`, `all`, `no`.
    """
    port = url.port or (443 if url.scheme == "https" else 80)
    if _is_exempt(url.host, port, proxies.get("no", "")):
        return None
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy:
        return None
    scheme = proxy.partition("://")[0].lower() if "://" in proxy else "http"
    if scheme != "http":
        raise Unreachable(
            f"the environment names a {scheme[:20]}:// proxy, and only http:// ones are spoken to: "
            "set HTTPS_PROXY to one, or name the host in NO_PROXY",
            code="proxy",
        )
    try:
        return httpx.Proxy(proxy if "://" in proxy else f"http://{proxy}")
    except (httpx.InvalidURL, ValueError) as error:
        raise Unreachable(
            "the environment names a proxy that is no address: correct HTTPS_PROXY", code="proxy"
        ) from error


def _is_exempt(host: str, port: int, no_proxy: str) -> bool:
    host = host.removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _literal(host)
    if address and address.is_loopback:
        return True
    entries = (entry.strip().lower() for entry in no_proxy.split(","))
    return any(_names(entry, host, port, address) for entry in entries if entry)


def _names(entry: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    """Whether one entry of NO_PROXY means this host: `*`, a domain and what is below it, an address, a network."""
    if entry == "*":
        return True
    if address:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return entry == f"{host}:{port}"
    domain = entry.removesuffix(f":{port}").removeprefix("*").removeprefix(".")
    return host == domain or host.endswith(f".{domain}")


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


# -- words for what went wrong ------------------------------------------------------------------------


def unreachable(where: str, error: OSError) -> Unreachable:
    """A connection that did not come about, and what to do."""
    if isinstance(error, socket.gaierror):
        return Unreachable(
            f"cannot find the address of {where} ({reason_of(error)}): check the network and DNS", code="dns"
        )
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"{where} refuses connections: check the address, a firewall, or wait", code="refused")
    if isinstance(error, TimeoutError):
        return Unreachable(f"{where} did not answer in time: check the network and the firewall", code="no_answer")
    return Unreachable(f"no way to {where} ({reason_of(error)}): check the network")


def untrusted(where: str, error: OSError | ValueError) -> Unreachable:
    """A TLS handshake that failed, and what to do; never a reason to go on without."""
    return Unreachable(f"no secure connection to {where}: {_tls_advice(error)}", code="tls")


def _tls_advice(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{_certificate_advice(error.verify_code)} ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "the handshake took too long; check the network"
    if isinstance(error, OSError):
        return f"the handshake failed ({reason_of(error)}); is this really an https:// address?"
    return "the name cannot be checked; is the address spelled right?"


def _certificate_advice(verify_code: int) -> str:
    # X509_V_ERR_*: 9 and 10 are dates, 62 and 64 the name or address, the rest an unknown authority
    if verify_code in (9, 10):
        return "its certificate is not valid today; check this machine's clock, else the server's owner must renew it"
    if verify_code in (62, 64):
        return "its certificate is for another name; check the address, or a proxy that intercepts"
    return "its certificate comes from an unknown authority; behind a proxy with its own, set api.ca_file"


def reason_of(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
