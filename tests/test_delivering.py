"""Deliveries against the real sandbox over real sockets, with real files."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chamelaion_watch.core.errors import InputProblem, NotFound, OutputProblem, RootProblem, Transient
from chamelaion_watch.core.messages import Deliver, Delivered, LocalCopy, Spooled, SpoolResult
from chamelaion_watch.core.model import Job, JobState, Options, RootState, Signature, Source
from chamelaion_watch.core.pairing import PairingRules
from chamelaion_watch.core.policy import FolderPolicy
from chamelaion_watch.delivering import deliver, spool_result
from chamelaion_watch.edges.api import Api, Upload
from chamelaion_watch.edges.clock import SystemClock
from chamelaion_watch.edges.mounts import claim_root
from chamelaion_watch.edges.probe import Prober
from chamelaion_watch.edges.spool import Spool
from chamelaion_watch.rootwork import RootWork
from chamelaion_watch.sandbox.media import describe, make_audio, make_video
from chamelaion_watch.sandbox.server import Sandbox, SandboxOptions
from tests.acceptance.early_refusal import Connection, Origin
from tests.support import eventually
from tests.test_system_faults import mounted

REFERENCE = "cw-abcdefghijklmnopqrstuvwxyz"
OUTPUT = "a.lipsync.mp4"
VIDEO = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(1000)
Progress = Callable[[int, int | None], None]


def ignore(_done: int, _total: int | None) -> None:
    return


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxOptions(rpm=None, queue_s=0, processing_s=0)) as made:
        yield made


@pytest.fixture(scope="module")
def prober() -> Iterator[Prober]:
    made = Prober()
    yield made
    made.close()


@pytest.fixture
def place(tmp_path: Path, sandbox: Sandbox, prober: Prober) -> Place:
    sandbox.control(faults=[])
    return Place(tmp_path, sandbox, prober)


class Place:
    """A root with a completed request at the service."""

    def __init__(self, home: Path, sandbox: Sandbox, prober: Prober) -> None:
        self.drop = home / "drop"
        self.drop.mkdir()
        self.sandbox, self.prober = sandbox, prober
        self.api = Api(base_url=sandbox.base_url, key=lambda: sandbox.key)
        self.spool = Spool(home / "spool")
        policy = FolderPolicy(
            "drop", str(self.drop), "{dir}/{name}.lipsync.mp4", True, PairingRules((".mp4",), (".wav",))
        )
        claim_root(str(self.drop), "ours", "here", now=0)
        self.root = RootWork(policy, ledger_id="ours", known=None, watcher=None, clock=SystemClock())
        self.request_id = self._submit(home)

    def _submit(self, home: Path) -> str:
        make_video(home / "a.mp4", seconds=1)
        make_audio(home / "a.wav", seconds=1)
        video, audio = (home / "a.mp4").read_bytes(), (home / "a.wav").read_bytes()
        upload = Upload(
            video=io.BytesIO(video),
            video_bytes=len(video),
            video_suffix=".mp4",
            audio=io.BytesIO(audio),
            audio_bytes=len(audio),
            audio_suffix=".wav",
            fields={"reference_id": REFERENCE},
            on_progress=ignore,
            may_finish=lambda: None,
        )
        request_id = self.api.submit(upload)
        eventually(lambda: self.api.find(request_id).is_completed)
        return request_id

    def move_to(self, drop: Path) -> None:
        """Serve another folder."""
        self.drop = drop
        claim_root(str(drop), "ours", "here", now=0)
        policy = replace(self.root.policy, path=str(drop))
        self.root = RootWork(policy, ledger_id="ours", known=None, watcher=None, clock=SystemClock())

    @property
    def job(self) -> Job:
        source = Source("a.mp4", Signature(1, 1), "0" * 64)
        return Job(
            1, "drop", "a", "a", "", "a", None, source, source, Options(), 1, REFERENCE, JobState.RENDERED, 0, 0,
            request_id=self.request_id,
        )  # fmt: skip

    def deliver(
        self, *, copies: tuple[LocalCopy, ...] = (), spooled: Spooled | None = None, on_progress: Progress = ignore
    ) -> Delivered:
        action = Deliver(self.job, OUTPUT, copies, spooled)
        return deliver(action, {"drop": self.root}, self.api, self.prober, self.spool, on_progress, self.api.find)

    def bring_home(self, room_bytes: int = 2**30, on_progress: Progress = ignore) -> Spooled:
        action = SpoolResult(self.job, room_bytes)
        return spool_result(action, self.api, self.prober, self.spool, on_progress, self.api.find).spooled

    def requests(self) -> int:
        return len(self.sandbox.state()["log"])

    def kept(self) -> list[str]:
        return sorted(path.name for path in Path(self.spool.folder()).iterdir())

    def names(self) -> list[str]:
        return sorted(path.name for path in self.drop.iterdir() if path.name != ".lipsync-root")


def test_an_output_is_fetched_checked_and_put_in_its_place(place: Place) -> None:
    done = place.deliver()
    assert place.names() == [OUTPUT]
    assert done.sha256 == hashlib.sha256((place.drop / OUTPUT).read_bytes()).hexdigest()
    assert describe(place.drop / OUTPUT).has_audio


def test_threat_20_a_users_file_of_that_name_is_never_overwritten(place: Place) -> None:
    (place.drop / OUTPUT).write_bytes(b"mine")
    assert place.deliver().output == "a_v2.lipsync.mp4"
    assert (place.drop / OUTPUT).read_bytes() == b"mine"


def test_the_same_output_that_is_there_already_is_taken_as_ours(place: Place) -> None:
    first = place.deliver()
    assert place.deliver().output == first.output
    assert place.names() == [OUTPUT]


def test_a_copy_that_lies_there_already_costs_no_request(place: Place) -> None:
    first = place.deliver()
    before = len(place.sandbox.state()["log"])
    (place.drop / OUTPUT).rename(place.drop / "b.lipsync.mp4")
    copy = LocalCopy("drop", "b.lipsync.mp4", first.sha256, first.size)
    again = place.deliver(copies=(copy,))
    assert again.is_copy
    assert place.names() == [OUTPUT, "b.lipsync.mp4"]
    assert len(place.sandbox.state()["log"]) == before


def test_an_edited_copy_is_not_taken(place: Place) -> None:
    (place.drop / "b.lipsync.mp4").write_bytes(b"edited")
    assert not place.deliver(copies=(LocalCopy("drop", "b.lipsync.mp4", "0" * 64, 6),)).is_copy


def test_a_stopped_download_leaves_the_share_clean_and_goes_on_where_it_was(place: Place) -> None:
    place.sandbox.control(faults=[{"on": "media", "kind": "slow", "bytes_per_s": 20_000}])

    def stop(done: int, _total: int | None) -> None:
        if done > 5_000:
            raise InputProblem("the daemon is stopping", code="withdrawn")

    with pytest.raises(InputProblem):
        place.deliver(on_progress=stop)
    assert place.names() == []
    done = place.deliver()
    assert place.names() == [OUTPUT]
    assert describe(place.drop / OUTPUT).has_video
    media = [entry for entry in place.sandbox.state()["log"] if entry["endpoint"] == "media"]
    assert media[-1]["status"] == 206
    assert done.sha256 == hashlib.sha256((place.drop / OUTPUT).read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["cut_close", "short", "empty", "html"])
def test_threat_73_74_what_is_not_the_whole_video_never_gets_the_name(place: Place, kind: str) -> None:
    place.sandbox.control(faults=[{"on": "media", "kind": kind, "count": -1}])
    with pytest.raises(Transient):
        place.deliver()
    assert place.names() == []
    place.sandbox.control(faults=[])
    assert place.deliver().output == OUTPUT


@pytest.mark.parametrize("kind", ["ignore_range", "wrong_range", "etag_change"])
def test_threat_75_a_host_that_serves_another_part_or_version_afterwards_never_mixes_bytes(
    place: Place, kind: str
) -> None:
    def stop(done: int, _total: int | None) -> None:
        if done > 5_000:
            raise InputProblem("the daemon is stopping", code="withdrawn")

    place.sandbox.control(faults=[{"on": "media", "kind": "slow", "bytes_per_s": 20_000}])
    with pytest.raises(InputProblem):
        place.deliver(on_progress=stop)
    place.sandbox.control(faults=[{"on": "media", "kind": kind}])
    done = place.deliver()
    truth = {one["id"]: one for one in place.sandbox.state()["submissions"]}[place.request_id]
    assert hashlib.sha256((place.drop / OUTPUT).read_bytes()).hexdigest() == done.sha256 == truth["output_sha256"]
    assert not place.sandbox.state()["faults"]


@pytest.mark.parametrize(
    "body", ["", "<?xml version='1.0'?><Error><Code>Slow</Code></Error>", "<html>Log in</html>", "ok"]
)
def test_threat_74_a_text_that_calls_itself_a_video_never_gets_the_name(place: Place, body: str) -> None:
    told = {"status": 200, "body": body, "content_type": "video/mp4"}
    place.sandbox.control(faults=[{"on": "media", "kind": "status", **told}])
    with pytest.raises(Transient) as caught:
        place.deliver()
    assert caught.value.code == "not_a_video"
    assert place.names() == []
    assert place.deliver().output == OUTPUT


def test_threat_76_more_than_there_is_room_for_is_refused_before_the_first_byte(place: Place) -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.answer(200, VIDEO, length=10**18)

    with Origin(handle) as origin:
        from_elsewhere(place, origin)
        with pytest.raises(OutputProblem, match=r"10{18} bytes") as caught:
            place.deliver()
    assert caught.value.root_state is RootState.FULL
    assert place.names() == []


def test_threat_76_a_body_without_an_end_stops_short_of_filling_the_disk(place: Place, tmp_path: Path) -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(VIDEO), VIDEO))
        while not connection.stop.is_set():
            connection.send(b"10000\r\n%b\r\n" % bytes(65536))

    least: list[int] = []
    with mounted(tmp_path / "small", "24m") as small, Origin(handle) as origin:
        place.move_to(small)
        from_elsewhere(place, origin)
        with pytest.raises(OutputProblem) as caught:
            place.deliver(on_progress=lambda _done, _total: least.append(free_bytes(small)))
        assert caught.value.root_state is RootState.FULL
        assert min(least) >= 7 * 2**20  # others write there as well
        assert place.names() == []


def from_elsewhere(place: Place, origin: Origin) -> None:
    """The service names a result on another host."""
    change = {"on": "get", "kind": "patch", "set": {"output_url": f"{origin.url}/out.mp4"}}
    place.sandbox.control(faults=[change])


def free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def test_threat_66_the_result_of_another_pair_is_never_delivered(place: Place) -> None:
    """Where the service mixes up ids, one pair's video would lie under the other's name."""
    theirs = {"reference_id": "cw-of-another-pair"}
    place.sandbox.control(faults=[{"on": "get", "kind": "patch", "set": theirs}])
    with pytest.raises(NotFound):
        place.deliver()
    assert place.names() == []


def test_threat_62_completed_and_then_failed_says_so(place: Place) -> None:
    change = {"set": {"status": "failed"}, "remove": ["output_url"]}
    place.sandbox.control(faults=[{"on": "get", "kind": "patch", **change}])
    with pytest.raises(Transient, match="now failed") as caught:
        place.deliver()
    assert caught.value.code == "no_output"
    assert place.deliver().output == OUTPUT


def test_threat_07_nothing_is_written_into_a_root_that_another_ledger_took_over(place: Place) -> None:
    claim_root(str(place.drop), "theirs", "there", now=1, adopt=True)
    with pytest.raises(RootProblem) as caught:
        place.deliver()
    assert caught.value.root_state is RootState.FOREIGN
    assert place.names() == []


# -- a folder that is away ----------------------------------------------------------------------------


def test_threat_26_a_result_is_brought_home_whole_while_its_share_is_away(place: Place) -> None:
    place.drop.rename(place.drop.with_name("away"))
    spooled = place.bring_home()
    (name,) = place.kept()
    kept = Path(place.spool.folder()) / name
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == spooled.sha256
    assert (kept.stat().st_size, kept.stat().st_mode & 0o777) == (spooled.size, 0o600)
    assert not place.drop.exists()
    assert place.spool.results() == {REFERENCE: spooled}


def test_threat_26_what_was_brought_home_is_delivered_without_the_network_and_kept_until_that_is_known(
    place: Place,
) -> None:
    spooled, before = place.bring_home(), place.requests()
    done = place.deliver(spooled=spooled)
    assert (place.names(), done.sha256) == ([OUTPUT], spooled.sha256)
    assert place.requests() == before
    assert place.spool.results() == {REFERENCE: spooled}
    place.spool.forget(REFERENCE)
    assert place.kept() == []


@pytest.mark.parametrize("harm", [lambda kept: kept.unlink(), lambda kept: kept.write_bytes(b"other")])
def test_what_is_damaged_at_home_is_never_delivered(place: Place, harm: Callable[[Path], object]) -> None:
    spooled = place.bring_home()
    harm(Path(place.spool.folder()) / place.kept()[0])
    with pytest.raises(Transient) as caught:
        place.deliver(spooled=spooled)
    assert caught.value.code == "spool_lost"
    assert place.names() == []


@pytest.mark.parametrize("room_bytes", [0, 1, 5_000])
def test_a_result_that_is_larger_than_the_room_for_it_stays_at_the_service(place: Place, room_bytes: int) -> None:
    with pytest.raises(OutputProblem, match="spool_max") as caught:
        place.bring_home(room_bytes)
    assert caught.value.code == "spool_full"
    assert place.kept() == []


def test_a_stop_while_it_is_brought_home_is_gone_on_from(place: Place) -> None:
    def stop(done: int, _total: int | None) -> None:
        if done:
            raise InputProblem("the daemon stops", code="withdrawn")

    with pytest.raises(InputProblem):
        place.bring_home(on_progress=stop)
    assert place.kept() == [f"{REFERENCE}.json", f"{REFERENCE}.part"]
    place.bring_home()
    assert len(place.kept()) == 1
