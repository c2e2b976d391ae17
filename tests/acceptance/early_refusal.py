"""Acceptance: an upload that is refused early stops within a second and 8 MB, whatever the server does then.

Run `python tests/acceptance/early_refusal.py`; it prints one line per combination of status, behaviour and protocol,
then the memory of a whole 1 GiB upload, and exits with 1 if anything is above its bound. Needs the `openssl` command.
The raw server here is also what the tests of the HTTP edge talk to: real sockets, real TLS, loopback only.
"""

from __future__ import annotations

import contextlib
import io
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self, cast

from chamelaion_watch.core.errors import WatchError
from chamelaion_watch.edges.api import Api, Timeouts, Upload

GIB = 1024**3
READ_BEFORE_ANSWER = 64 * 1024
STATUSES = {401: "Unauthorized", 412: "Precondition Failed", 429: "Too Many Requests"}
EXPECTED = {401: "Unauthorized", 412: "QuotaExhausted", 429: "Throttled"}
MAX_MS = 1000.0
MAX_BYTES = 8_000_000
MAX_GROWTH_MB = 16.0


# -- a raw server -------------------------------------------------------------------------------------


@dataclass
class Seen:
    """The head of one request, as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]


class Connection:
    """One accepted connection, read and written by hand."""

    def __init__(self, sock: socket.socket, stop: threading.Event) -> None:
        self.sock = sock
        self.stop = stop  # set when the test is over: what a stubborn server waits for
        self._buffer = b""

    def head(self) -> Seen:
        while b"\r\n\r\n" not in self._buffer:
            if not (data := self.sock.recv(65536)):
                raise ConnectionError("no request")
            self._buffer += data
        raw, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        first, *lines = raw.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        return Seen(method, target, {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)})

    def read(self, size: int) -> bytes:
        """At least one and at most `size` bytes of a body; b"" at its end."""
        if self._buffer:
            data, self._buffer = self._buffer[:size], self._buffer[size:]
            return data
        return self.sock.recv(size)

    def read_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self.read(size - len(data))):
            data += more
        return data

    def skip(self, size: int) -> int:
        """Reads and forgets `size` bytes; returns how many came."""
        left = size
        while left and (data := self.read(min(left, 1024 * 1024))):
            left -= len(data)
        return size - left

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, status: int, body: bytes = b"", *headers: str, length: int | None = None) -> None:
        lines = [f"HTTP/1.1 {status} {STATUSES.get(status, 'Word')}"]
        lines += [f"Content-Length: {len(body) if length is None else length}", *headers]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


@dataclass
class Origin:
    """A server on loopback; `handle` gets each connection in a thread of its own, and what it raises is kept."""

    handle: Callable[[Connection], None]
    certificate: Certificate | None = None  # None: plain
    receive_buffer: int | None = None
    failures: list[BaseException] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._listener = socket.socket()
        if self.receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(16)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, _type: object, raised: BaseException | None, _traceback: object) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        if self.failures and raised is None:
            raise self.failures[0]

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                # as real servers do; else an answer can wait behind the session tickets until close() throws it away
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(sock)
                self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self.certificate:
                sock = self.certificate.context().wrap_socket(sock, server_side=True)
                self._open.append(sock)
            self.handle(Connection(sock, self._stop))
        except OSError:
            pass  # the client left, which is what many tests are about
        except BaseException as error:
            self.failures.append(error)
        finally:
            sock.close()


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate with its key; `path` is also the authority that a client must trust."""

    path: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key)
        return context


def make_certificate(
    folder: Path, name: str = "IP:127.0.0.1", *, start: str = "20200101000000Z", end: str = "20991231235959Z"
) -> Certificate:
    """Issued by the `openssl` command, for a subjectAltName, valid from `start` until `end`."""
    folder.mkdir(parents=True, exist_ok=True)
    path, key, config = folder / "certificate.pem", folder / "key.pem", folder / "ca.conf"
    (folder / "index").write_text("")
    (folder / "serial").write_text("01\n")
    config.write_text(
        f"[ca]\ndefault_ca=own\n[own]\ndatabase={folder}/index\nserial={folder}/serial\nnew_certs_dir={folder}\n"
        "default_md=sha256\npolicy=any\nx509_extensions=server\n[any]\ncommonName=supplied\n"
        f"[server]\nsubjectAltName={name}\nbasicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n"
        "authorityKeyIdentifier=keyid\nkeyUsage=critical,digitalSignature,keyCertSign\n"
    )
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key]
    _openssl("req", "-new", *new_key, "-subj", "/CN=test", "-out", folder / "request.pem")
    dates = ["-startdate", start, "-enddate", end]
    given = ["-config", config, "-in", folder / "request.pem", "-keyfile", key, "-out", path]
    _openssl("ca", "-batch", "-notext", "-selfsign", *given, *dates)
    return Certificate(path, key)


def _openssl(*args: object) -> None:
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


# -- servers that refuse before they have read the body ------------------------------------------------


@dataclass
class Refusal:
    """Answers after 64 KiB of the body, then behaves badly in one of four ways."""

    status: int
    behaviour: str
    answered_at: float = 0.0

    def __call__(self, connection: Connection) -> None:
        connection.head()
        connection.read_exactly(READ_BEFORE_ANSWER)
        if self.behaviour == "stops":
            connection.stop.wait(0.3)  # reads nothing, until the client can send no more
        self.answered_at = time.monotonic()
        connection.answer(self.status, b'{"error":"said early"}', "Content-Type: application/json", "Retry-After: 7")
        getattr(self, f"_{self.behaviour}")(connection)

    def _reset(self, connection: Connection) -> None:
        """To close with unread input resets the connection."""

    def _linger(self, connection: Connection) -> None:
        connection.stop.wait(30)

    def _drain(self, connection: Connection) -> None:
        while not connection.stop.wait(0.02) and connection.read(16 * 1024):
            pass

    _stops = _linger


BEHAVIOURS = ("reset", "linger", "drain", "stops")


class CountedFile(io.RawIOBase):
    """A file that counts what is read from it: an upper bound of what can have left."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        return data


@dataclass(frozen=True)
class Measured:
    """How one refused upload ended."""

    error: WatchError
    ms: float
    sent_bytes: int
    is_finished: bool


def measure_refusal(refusal: Refusal, video: Path, certificate: Certificate | None) -> Measured:
    with Origin(refusal, certificate, receive_buffer=64 * 1024) as origin, opened(video) as file:
        upload = upload_of(file, video.stat().st_size)
        with contextlib.closing(api_for(origin.url, certificate)) as api:
            try:
                api.submit(upload)
            except WatchError as error:
                ms = (time.monotonic() - refusal.answered_at) * 1000
                return Measured(error, ms, file.count, upload.is_finished)
    raise AssertionError("the upload was taken")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[CountedFile]:
    with path.open("rb") as file:
        yield CountedFile(file)


def upload_of(video: io.RawIOBase | io.BytesIO, size: int) -> Upload:
    return Upload(
        video=cast("BinaryIO", video),
        video_bytes=size,
        video_suffix=".mp4",
        audio=io.BytesIO(b"RIFF" * 1024),
        audio_bytes=4096,
        audio_suffix=".wav",
        fields={"reference_id": "cw-acceptance"},
    )


def api_for(url: str, certificate: Certificate | None = None, timeouts: Timeouts | None = None) -> Api:
    return Api(
        base_url=f"{url}/api",
        key=lambda: "secret-key",
        ca_file=str(certificate.path) if certificate else None,
        timeouts=timeouts or Timeouts(),
        proxies={},
    )


def sparse_file(path: Path, size: int = GIB) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


# -- the script ---------------------------------------------------------------------------------------


def take_everything(connection: Connection) -> None:
    seen = connection.head()
    connection.skip(int(seen.headers["content-length"]))
    connection.answer(200, b'{"status":"success","request_id":"00000000-0000-0000-0000-000000000001"}')


def measure_growth(video: Path, certificate: Certificate | None) -> tuple[float, float]:
    """MB by which the process grew during a whole upload (server thread included), and its MB/s."""
    with (
        Origin(take_everything, certificate) as origin,
        opened(video) as file,
        contextlib.closing(api_for(origin.url, certificate)) as api,
    ):
        api.submit(upload_of(io.BytesIO(bytes(4096)), 4096))
        before = peak = resident_mb()
        began = time.monotonic()

        def sample(_sent: int, _total: int) -> None:
            nonlocal peak
            peak = max(peak, resident_mb())

        upload = upload_of(file, video.stat().st_size)
        upload.on_progress = sample
        api.submit(upload)
        took = time.monotonic() - began
    return peak - before, video.stat().st_size / took / 1e6


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate, video = make_certificate(folder), sparse_file(folder / "video.mp4")
        print("protocol  behaviour  status  ms after the answer   bytes that left")
        for protocol, given in (("plain", None), ("tls", certificate)):
            for behaviour in BEHAVIOURS:
                for status in STATUSES:
                    got = measure_refusal(Refusal(status, behaviour), video, given)
                    is_right = type(got.error).__name__ == EXPECTED[status] and not got.is_finished
                    is_good = is_right and got.ms <= MAX_MS and got.sent_bytes < MAX_BYTES
                    failed += not is_good
                    verdict = "ok" if is_good else f"FAILED {got.error!r}"
                    print(f"{protocol:8}  {behaviour:9}  {status}     {got.ms:10.1f}  {got.sent_bytes:16,}  {verdict}")
        for protocol, given in (("plain", None), ("tls", certificate)):
            grown, speed = measure_growth(video, given)
            failed += grown > MAX_GROWTH_MB
            print(f"{protocol}: a whole upload of 1 GiB grew the process by {grown:.1f} MB at {speed:.0f} MB/s")
    print("passed" if not failed else f"{failed} FAILED")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
