"""Rows 46 to 54: certificates, lost answers, cut and poor lines, connections that end, portals.

What a single call makes of each stands in `tests/test_transport.py`, `test_stream.py` and `test_api.py`; here are whole
lives of a daemon, and lines as poor as they come.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import random
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chamelaion_watch.core.errors import Transient
from chamelaion_watch.edges.api import Api, Timeouts, Upload
from chamelaion_watch.sandbox.media import make_audio, make_video
from chamelaion_watch.sandbox.server import Sandbox, SandboxOptions
from tests.acceptance.early_refusal import Connection, Origin, Seen, api_for, make_certificate, upload_of
from tests.acceptance.rig import posts, submissions
from tests.lives import all_done, drop, life, settled
from tests.side_by_side import side_by_side
from tests.support import eventually

AT_ONCE = 6  # lives, side by side: they mostly wait
MIB = 1 << 20
REFERENCE = "cw-abcdefghijklmnopqrstuvwxyz"


# -- certificates -----------------------------------------------------------------------------------------


@side_by_side
def test_threat_46_without_a_valid_certificate_it_backs_off_and_never_speaks_plainly() -> None:
    """What arrives is a TLS hello each time, then nothing; the pauses grow, and no pair is blamed."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    hellos: list[float] = []
    said: list[bytes] = []

    with life() as (at, _):
        certificate = make_certificate(at.home / "unknown")

        def handle(connection: Connection) -> None:
            said.append(connection.sock.recv(1, socket.MSG_PEEK))
            hellos.append(time.monotonic())
            with certificate.context().wrap_socket(connection.sock, server_side=True) as sock:
                said.append(sock.recv(1))

        config = yaml.safe_load(at.config.read_text())
        config["api"]["pause"] = {"unreachable": {"first": "300ms", "max": "1s"}}
        at.config.write_text(yaml.safe_dump(config))
        drop(at.drop)
        with Origin(handle) as origin:
            with at.daemon(CHAMELAION_BASE_URL=f"https://127.0.0.1:{origin.port}/api"):
                eventually(lambda: len(hellos) >= 5, 40)
                account = at.status()["account"]
                assert account["state"] == "unreachable"
                assert "unknown authority" in account["reason"]
                assert "api.ca_file" in account["reason"]
            assert at.states() == ["queued"]
        assert {byte for byte in said if byte} == {b"\x16"}  # of TLS; and nothing came inside of it
        gaps = [after - before for before, after in itertools.pairwise(hellos)]
        assert min(gaps[1:]) > 0.29
        assert gaps[-1] > 0.9
        assert not list(at.drop.glob("scene.lipsync-*"))


# -- cut and early ----------------------------------------------------------------------------------------


@side_by_side
def test_threat_49_a_reset_in_mid_upload_creates_nothing_and_is_tried_again_later_as_the_same_run() -> None:
    with life() as (at, sandbox):
        sandbox.control(faults=[{"on": "submit", "kind": "reset_early"}])
        drop(at.drop, padding=32 * MIB)  # more than the kernels hold between them
        with at.daemon():
            eventually(lambda: posts(sandbox), 30)
            eventually(lambda: at.states() == ["queued"], 10)
            assert not submissions(sandbox)
            ((reference,),) = at.rows("SELECT reference_id FROM jobs")
            eventually(all_done(at), 60)
        cut, whole = posts(sandbox)
        assert whole["at"] - cut["at"] > 9.5  # the first wait is 10 s, and up to as much again
        assert [one["reference_id"] for one in submissions(sandbox)] == [reference]
        asked = [entry for entry in sandbox.state()["log"] if entry["endpoint"] == "get" and entry["at"] > cut["at"]]
        assert all(entry["at"] > whole["at"] for entry in asked)  # there was no doubt to look up
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_50_an_upload_that_is_refused_early_is_not_sent_to_its_end_nor_again() -> None:
    with life() as (at, sandbox):
        sandbox.control(faults=[{"on": "submit", "kind": "status", "status": 413, "count": -1}])
        drop(at.drop, padding=64 * MIB)
        with at.daemon():
            eventually(lambda: at.states() == ["failed"], 40)
            eventually((at.drop / "scene.lipsync-error.txt").exists, 10)
        (refused,) = posts(sandbox)
        assert refused["received_bytes"] < 16 * MIB
        assert not submissions(sandbox)


@side_by_side
def test_threat_50_a_limit_that_is_met_early_costs_no_gigabytes() -> None:
    """412 before the body is read, again and again: each probe is cut short."""
    with life(api={"pause": {"quota": {"first": "500ms", "max": "1s"}}}, quota=0) as (at, sandbox):
        drop(at.drop, padding=64 * MIB)
        with at.daemon():
            eventually(lambda: len(posts(sandbox)) >= 4, 40)
            sandbox.control(quota=None)
            eventually(all_done(at), 40)
        refused = [entry for entry in posts(sandbox) if entry["status"] == 412]
        assert sum(entry["received_bytes"] for entry in refused) / len(refused) < 16 * MIB
        settled(at, sandbox, sent=1)


# -- poor lines -------------------------------------------------------------------------------------------


def test_threat_51_a_line_of_1_mbit_with_loss_and_half_a_second_takes_its_time_and_nothing_twice(
    tmp_path: Path,
) -> None:
    """The transfers take longer than any time-out of the client; only standing still would end them."""
    times = Timeouts(connect_s=5, progress_s=1.0, answer_s=30, api_s=5)
    options = SandboxOptions(rpm=None, queue_s=0, processing_s=0)
    with (
        Sandbox(options) as sandbox,
        poor_line(_port(sandbox.base_url)) as line,
        poor_line(_port(sandbox.media_origin), bytes_per_s=15_000) as media,
    ):
        api = Api(base_url=f"http://127.0.0.1:{line}/api", key=lambda: sandbox.key, timeouts=times, proxies={})
        began = time.monotonic()
        request_id = api.submit(_pair(tmp_path))
        assert time.monotonic() - began > 2 * times.progress_s
        request = eventually(lambda: _completed(api, request_id), 20)
        assert request.output_url
        sink = bytearray()
        began = time.monotonic()
        fetched = api.fetch(request.output_url.replace(sandbox.media_origin, f"http://127.0.0.1:{media}"), _Sink(sink))
        assert time.monotonic() - began > 2 * times.progress_s
        (sent,) = sandbox.state()["submissions"]
        assert (fetched.sha256, len(sink)) == (sent["output_sha256"], sent["output_bytes"])
        assert sandbox.state()["counters"]["submit"] == {"200": 1}
        assert sandbox.state()["counters"]["media"] == {"200": 1}


class _Sink:
    def __init__(self, data: bytearray) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def write(self, data: bytes, /) -> None:
        self._data += data

    def restart(self) -> None:
        self._data.clear()


def _port(url: str) -> int:
    return int(url.partition("//")[2].partition("/")[0].rpartition(":")[2])


def _completed(api: Api, request_id: str) -> Any:
    found = api.find(request_id)
    return found if found.is_completed else None


def _pair(folder: Path) -> Upload:
    make_video(folder / "a.mp4", seconds=1)
    make_audio(folder / "a.wav", seconds=1)
    video, audio = (folder / "a.mp4").read_bytes() + bytes(100_000), (folder / "a.wav").read_bytes()
    return Upload(
        video=io.BytesIO(video),
        video_bytes=len(video),
        video_suffix=".mp4",
        audio=io.BytesIO(audio),
        audio_bytes=len(audio),
        audio_suffix=".wav",
        fields={"reference_id": REFERENCE},
    )


@contextlib.contextmanager
def poor_line(port: int, *, bytes_per_s: int = 125_000, seed: int = 1) -> Iterator[int]:
    """A way to `port` of 1 Mbit/s and 250 ms each way; of each ten packets one is lost and comes half a second later."""
    over = threading.Event()
    chance = random.Random(seed)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
    opened, threads = [listener], list[threading.Thread]()

    def pump(source: socket.socket, target: socket.socket) -> None:
        over.wait(0.25)
        with contextlib.suppress(OSError):
            while data := source.recv(min(8 * 1460, bytes_per_s // 8)):
                packets = range(0, len(data), 1460)
                lost = sum(chance.random() < 0.1 for _ in packets)
                over.wait(len(data) / bytes_per_s + (0.5 if lost >= min(2, len(packets)) else 0.0))
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                opened.append(client)
                server = socket.create_connection(("127.0.0.1", port))
                opened.append(server)
                for ends in ((client, server), (server, client)):
                    threads.append(threading.Thread(target=pump, args=ends, daemon=True))
                    threads[-1].start()

    threads.append(threading.Thread(target=accept, daemon=True))
    threads[0].start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        for sock in opened:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in threads:
            thread.join(5)


# -- connections that end at the wrong time ---------------------------------------------------------------


def test_threat_53_a_server_that_keeps_connections_and_drops_them_sees_each_submission_once() -> None:
    """It promises to keep the connection, and hangs up when the next request would ride on it."""
    seen: list[tuple[int, Seen]] = []
    numbers = itertools.count()

    def handle(connection: Connection) -> None:
        number = next(numbers)
        head = connection.head()
        seen.append((number, head))
        connection.skip(int(head.headers.get("content-length", 0)))
        if head.method == "GET":
            connection.answer(200, b'{"name":"x"}', "Connection: keep-alive", "Keep-Alive: timeout=60")
            with contextlib.suppress(ConnectionError):
                seen.append((number, connection.head()))

    with Origin(handle) as origin, contextlib.closing(api_for(origin.url)) as api:
        api.me()
        api.me()
        upload = upload_of(io.BytesIO(bytes(MIB)), MIB)
        with pytest.raises(Transient) as caught:
            api.submit(upload)
    assert caught.value.code == "connection_reset"
    assert upload.is_finished  # so that it is asked for, and not sent again
    assert [(number, head.method) for number, head in seen] == [(0, "GET"), (1, "GET"), (2, "POST")]
    assert all(head.headers["connection"] == "close" for _, head in seen)


# -- portals ----------------------------------------------------------------------------------------------


@side_by_side
def test_threat_54_a_portal_that_answers_everything_with_its_page_is_no_success_and_no_ones_failure() -> None:
    pause = {"pause": {"unreachable": {"first": "300ms", "max": "500ms"}}}
    with life(api=pause) as (at, sandbox):
        everywhere = [
            {"on": on, "kind": "html", "count": -1} for on in ("submit", "get", "list", "me", "health", "media")
        ]
        sandbox.control(faults=everywhere)
        drop(at.drop)
        with at.daemon():
            eventually(lambda: len([entry for entry in sandbox.state()["log"] if entry["endpoint"] == "get"]) >= 2, 40)
            assert at.states() == ["queued"]
            assert not posts(sandbox)  # it could not ask whether an older ledger had paid for this pair
            sandbox.control(faults="clear")
            sandbox.control(faults=[{"on": "submit", "kind": "html"}, {"on": "get", "kind": "html", "after": 1}])
            eventually(all_done(at), 60)
        assert not list(at.drop.glob("*.lipsync-error.*"))
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_54_proxies_come_from_the_environment_and_from_nowhere_else() -> None:
    """The proxy's page instead of a tunnel: the account waits, and the proxy is never told the key."""
    heads: list[Seen] = []

    def handle(connection: Connection) -> None:
        heads.append(connection.head())
        connection.answer(200, b"<html>log in</html>", "Content-Type: text/html")

    with life() as (at, sandbox), Origin(handle) as proxy:
        drop(at.drop)
        env: dict[str, str | None] = {"CHAMELAION_BASE_URL": "https://api.example.test/api"}
        with at.daemon(**env, HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}"):
            eventually(lambda: "the account is unreachable" in at.log(), 40)
            assert at.states() == ["queued"]
        assert {(head.method, head.target) for head in heads} == {("CONNECT", "api.example.test:443")}
        assert all("authorization" not in head.headers for head in heads)
        assert not sandbox.state()["log"]
