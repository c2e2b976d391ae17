"""A socket that listens while it sends: early refusals, standing still, withdrawals, deadlines."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from chamelaion_watch.core.errors import Rejected, Throttled, Transient
from chamelaion_watch.edges.stream import has_final_answer
from chamelaion_watch.edges.transport import Timeouts
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
    opened,
    sparse_file,
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
def test_threat_50_an_early_refusal_is_heard_at_once(
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
def test_threat_49_a_connection_that_ends_in_mid_upload_leaves_no_doubt(
    finished_by: str, secured: Certificate | None
) -> None:
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


def test_threat_52_an_upload_that_stands_still_ends_after_the_progress_time_out(secured: Certificate | None) -> None:
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


def test_threat_51_a_slow_reader_is_not_a_stalled_one() -> None:
    """A full send queue of 4 MB is writable only when a third has gone, which takes longer than the time-out here."""

    def handle(connection: Connection) -> None:
        left = int(connection.head().headers["content-length"])
        while left and not connection.stop.wait(0.02):
            left -= connection.skip(min(left, 64 * 1024))
        connection.answer(200, b'{"request_id":"slow"}')

    with Origin(handle, receive_buffer=65536) as origin:
        assert submit(origin, None, 7 * MIB, Timeouts(progress_s=0.2)) == "slow"


def test_threat_50_a_server_that_answers_and_reads_on_at_full_speed_is_heard(
    video: Path, secured: Certificate | None
) -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.read_exactly(64 * 1024)
        connection.answer(413, b'{"error":"too large"}')
        connection.skip(video.stat().st_size)

    with Origin(handle, secured) as origin, opened(video) as file, pytest.raises(Rejected, match="too large"):
        api_for(origin.url, secured).submit(upload_of(file, video.stat().st_size))
    assert file.count < video.stat().st_size / 4


def test_threat_50_an_early_refusal_does_not_wait_for_the_end_of_its_text() -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.answer(429, b'{"error":', length=500)
        connection.stop.wait(20)

    with Origin(handle, receive_buffer=65536) as origin:
        began = time.monotonic()
        with pytest.raises(Throttled):
            submit(origin, None, 64 * MIB)
        assert time.monotonic() - began < 3


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


def test_what_the_kernel_still_holds_of_a_withdrawn_upload_is_thrown_away() -> None:
    received: list[int] = []
    withdrawn = threading.Event()

    def handle(connection: Connection) -> None:
        connection.head()
        withdrawn.wait(10)
        count = 0
        with contextlib.suppress(ConnectionResetError):
            while data := connection.read(65536):
                count += len(data)
        received.append(count)

    def refuse() -> None:
        raise Transient("no longer ours")

    with Origin(handle, receive_buffer=65536) as origin:
        upload = upload_of(io.BytesIO(bytes(2 * MIB)), 2 * MIB)
        upload.may_finish = refuse
        with pytest.raises(Transient, match="no longer ours"):
            api_for(origin.url).submit(upload)
        withdrawn.set()
        assert eventually(lambda: received)[0] < MIB


def test_threat_47_no_answer_after_the_last_byte_is_a_time_out_in_doubt() -> None:
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


def test_threat_68_an_endless_drip_ends_with_the_deadline_of_a_small_call() -> None:
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


def submit(origin: Origin, secured: Certificate | None, size: int, timeouts: Timeouts | None = None) -> str:
    with contextlib.closing(api_for(origin.url, secured, timeouts)) as api:
        return api.submit(upload_of(io.BytesIO(bytes(size)), size))
