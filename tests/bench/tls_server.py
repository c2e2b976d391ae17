"""A TLS 1.3 server for the transfers: throws uploads away and gives one result, both as fast as it can.

    python -m tests.bench.tls_server CERTIFICATE KEY [RESULT]

Prints `READY PORT`, then the length of each upload, and ends with its standard input. A process of its own with a
thread for each connection, which takes one request: a multipart POST is read by its Content-Length into one buffer and
answered as accepted; anything about a request says that it is completed, or processing if there is no RESULT;
RESULT_PATH is the file RESULT, with a length and a strong ETag.
`Expect: 100-continue`, which curl sends, is answered at once. It has no part in any figure but by its share of the
machine, which is why the benchmarks report how busy it was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.bench import process
from tests.bench.table import ROOT

HOST = "127.0.0.1"
API_PATH = "/api"
RESULT_PATH = "/result.mp4"
BUFFER_BYTES = 1 << 20
PIECE_BYTES = 4 << 20  # one SSL_write: OpenSSL cuts it into records without asking Python
HEAD_BYTES = 64 << 10
_EXTENSIONS = (  # an authority and its own server at once; Python 3.13 insists on the usage
    f"subjectAltName=IP:{HOST}",
    "keyUsage=critical,digitalSignature,keyCertSign",
)


# -- for the benchmarks -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A running server, and the certificate that a client must trust."""

    pid: int
    port: int
    ca_file: Path
    said: IO[str]

    @property
    def origin(self) -> str:
        return f"https://{HOST}:{self.port}"

    @property
    def base_url(self) -> str:
        return self.origin + API_PATH

    def cpu_s(self) -> float:
        return process.cpu_s(self.pid)

    def took(self) -> int:
        """Return how many bytes the next upload had that it read to its end; waits for it."""
        return int(self.said.readline())


@contextlib.contextmanager
def serving(folder: Path, result: Path | None = None) -> Iterator[Server]:
    """Run the server with a new certificate in `folder`, until the end of the block."""
    certificate, key = certified(folder)
    command = [sys.executable, "-m", "tests.bench.tls_server", str(certificate), str(key)]
    given = [str(result)] if result else []
    with subprocess.Popen(
        [*command, *given], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        word, _, port = running.stdout.readline().partition(" ")
        assert word == "READY", "the TLS server did not start: what it said stands above"
        yield Server(
            running.pid, int(port), certificate, running.stdout
        )  # leaving closes its standard input, and waits


def certified(folder: Path) -> tuple[Path, Path]:
    """Return a new certificate and its key, made by the `openssl` command; raises RuntimeError without one."""
    if shutil.which("openssl") is None:
        raise RuntimeError("this benchmark needs the openssl command, which makes its certificate: install openssl")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    added = [word for extension in _EXTENSIONS for word in ("-addext", extension)]
    where = ["-subj", "/CN=bench", "-keyout", str(key), "-out", str(certificate)]
    made = subprocess.run(["openssl", *new, *added, *where], check=False, capture_output=True, text=True)
    if made.returncode:
        raise RuntimeError(f"openssl could make no certificate: {made.stderr.strip()}")
    return certificate, key


# -- the program --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Head:
    """What counts of a request's head, and what of the body came with it."""

    method: str
    path: str
    fields: dict[str, str]
    body: bytes


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tls_server")
    parser.add_argument("certificate", type=Path)
    parser.add_argument("key", type=Path)
    parser.add_argument("result", type=Path, nargs="?")
    wanted = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(wanted.certificate, wanted.key)
    listener = socket.create_server((HOST, 0), backlog=64)
    threading.Thread(target=_accept, args=(listener, context, _mapped(wanted.result)), daemon=True).start()
    print(f"READY {listener.getsockname()[1]}", flush=True)
    sys.stdin.read()


def _mapped(path: Path | None) -> memoryview:
    if path is None:
        return memoryview(b"")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _accept(listener: socket.socket, context: ssl.SSLContext, result: memoryview) -> None:
    while True:
        plain, _ = listener.accept()
        threading.Thread(target=_serve, args=(plain, context, result), daemon=True).start()


def _serve(plain: socket.socket, context: ssl.SSLContext, result: memoryview) -> None:
    """Answer the one request of a connection; who hangs up has had enough."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with plain, contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
        head = _head(connection)
        if head.method == "POST":
            print(f"{_discard(connection, head)}\n", end="", flush=True)  # at once: threads write side by side
            _answer(connection, {"status": "success", "request_id": str(uuid.uuid4())})
        elif head.path == RESULT_PATH:
            _give(connection, result)
        else:
            _answer(connection, _status(head, is_completed=bool(result)))


def _head(connection: ssl.SSLSocket) -> _Head:
    """Read the head of a request; raises ConnectionError if none comes."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(HEAD_BYTES)
        if not piece or len(data) > HEAD_BYTES:
            raise ConnectionError("not a request")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return _Head(method, path, fields, body)


def _discard(connection: ssl.SSLSocket, head: _Head) -> int:
    """Read the whole body; returns its length, raises ConnectionError if it is cut."""
    if head.fields.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = int(head.fields["content-length"])
    left = length - len(head.body)
    buffer = memoryview(bytearray(BUFFER_BYTES))
    while left > 0:
        count = connection.recv_into(buffer, min(left, BUFFER_BYTES))
        if not count:
            raise ConnectionError("cut")
        left -= count
    return length


def _answer(connection: ssl.SSLSocket, said: Mapping[str, object]) -> None:
    body = json.dumps(said).encode()
    connection.sendall(_answer_head("application/json", len(body)) + body)


def _give(connection: ssl.SSLSocket, result: memoryview) -> None:
    connection.sendall(_answer_head("video/mp4", len(result), 'ETag: "bench"\r\n'))
    for begin in range(0, len(result), PIECE_BYTES):
        connection.sendall(result[begin : begin + PIECE_BYTES])


def _answer_head(kind: str, length: int, more: str = "") -> bytes:
    fields = f"Content-Type: {kind}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n"
    return f"HTTP/1.1 200 OK\r\n{fields}\r\n".encode()


def _status(head: _Head, *, is_completed: bool) -> Mapping[str, object]:
    """Say the same of whatever request is asked for, and list none; the result is at the address that was asked."""
    name = head.path.partition("?")[0].rpartition("/")[2]
    if name == "requests":
        return {"data": [], "pagination": {"limit": 100, "offset": 0, "total": 0}}
    said = {"id": name, "created_at": "2026-01-01T10:00:00Z"}
    if not is_completed:
        return said | {"status": "processing"}
    return said | {"status": "completed", "output_url": f"https://{head.fields['host']}{RESULT_PATH}"}


if __name__ == "__main__":
    _main()
