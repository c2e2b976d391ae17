from __future__ import annotations

import contextlib
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest

from chamelaion_watch.core.errors import Transient
from chamelaion_watch.core.model import MediaInfo
from chamelaion_watch.edges.probe import CRASHED, FILES_PER_CHILD, Prober
from chamelaion_watch.sandbox.media import make_audio, make_video
from tests.support import eventually


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with real clips, and one that keeps ffmpeg computing for seconds."""
    folder = tmp_path_factory.mktemp("media")
    make_video(folder / "clip.mp4", seconds=2)
    make_video(folder / "silent.mp4", seconds=2, sound=False)
    make_video(folder / "long.mp4", seconds=8)
    make_audio(folder / "dub.wav", seconds=2)
    make_audio(folder / "dub.mp3", seconds=10)
    (folder / "slow.mp4").write_bytes(box(b"ftyp", b"isom\0\0\0\0isom") + box(b"free") * 2_500_000)
    (folder / "slowish.mp4").write_bytes(box(b"ftyp", b"isom\0\0\0\0isom") + box(b"free") * 300_000)
    return folder


@pytest.fixture
def prober() -> Iterator[Prober]:
    prober = Prober()
    yield prober
    prober.close()
    assert children() == set()


def box(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def probe(prober: Prober, path: Path) -> MediaInfo:
    fd = os.open(path, os.O_RDONLY)
    try:
        return prober.probe(fd)
    finally:
        os.close(fd)


def probe_bytes(prober: Prober, tmp_path: Path, data: bytes) -> MediaInfo:
    path = tmp_path / "file.mp4"
    path.write_bytes(data)
    return probe(prober, path)


def children() -> set[int]:
    """The probe processes: forked by a launching process of ours."""
    launchers = {pid for pid, parent, is_ours in processes() if is_ours and parent == os.getpid()}
    return {pid for pid, parent, is_ours in processes() if is_ours and parent in launchers}


def processes() -> Iterator[tuple[int, int, bool]]:
    """Yield each process that was not collected: id, parent, whether it is a launching process or forked by one."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, parent, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            is_ours = state == "Z" or b"launcher_child" in (entry / "cmdline").read_bytes()
            yield int(entry.name), int(parent), is_ours


def computed_s(pid: int) -> float:
    return time.clock_gettime((~pid << 3) | 2)


class Background:
    """One probe in a thread of its own, with what came of it."""

    def __init__(self, prober: Prober, path: Path) -> None:
        self.outcome: MediaInfo | Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(prober, path))
        self._thread.start()

    def _run(self, prober: Prober, path: Path) -> None:
        try:
            self.outcome = probe(prober, path)
        except Transient as error:
            self.outcome = error

    def result(self) -> MediaInfo | Exception | None:
        self._thread.join(30)
        return self.outcome


def busy_child(prober: Prober, path: Path) -> tuple[Background, int]:
    """Start a probe of `path` and return when a child is computing on it."""
    probe(prober, path.parent / "silent.mp4")
    (pid,) = children()
    before = computed_s(pid)
    background = Background(prober, path)
    eventually(lambda: computed_s(pid) > before + 0.05)
    return background, pid


# -- what a file is -----------------------------------------------------------------------------------


def test_a_video_has_picture_sound_and_duration(prober: Prober, media: Path) -> None:
    info = probe(prober, media / "clip.mp4")
    assert (info.has_picture, info.has_sound, info.error) == (True, True, None)
    assert info.duration_s == pytest.approx(2, abs=0.1)
    assert "320x180" in info.detail


def test_a_silent_video_has_no_sound(prober: Prober, media: Path) -> None:
    info = probe(prober, media / "silent.mp4")
    assert (info.has_picture, info.has_sound, info.error) == (True, False, None)


@pytest.mark.parametrize(("name", "seconds"), [("dub.wav", 2), ("dub.mp3", 10)])
def test_a_sound_file_has_no_picture(prober: Prober, media: Path, name: str, seconds: float) -> None:
    info = probe(prober, media / name)
    assert (info.has_picture, info.has_sound, info.error) == (False, True, None)
    assert info.duration_s == pytest.approx(seconds, abs=0.2)


def test_cover_art_is_no_picture(prober: Prober, media: Path, tmp_path: Path) -> None:
    covered = tmp_path / "covered.mp3"
    covered.write_bytes(id3_with_cover() + (media / "dub.mp3").read_bytes())
    info = probe(prober, covered)
    assert (info.has_picture, info.has_sound, info.error) == (False, True, None)


def id3_with_cover() -> bytes:
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = 32, 32, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    image = b"".join(bytes(packet) for packet in encoder.encode(av.VideoFrame(32, 32, "yuvj420p")))
    body = b"\0image/jpeg\0\x03\0" + image
    frame = b"APIC" + struct.pack(">I", len(body)) + b"\0\0" + body
    size = len(frame)
    return b"ID3\x03\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0)) + frame


def test_a_tag_in_another_encoding_is_no_obstacle(prober: Prober, media: Path, tmp_path: Path) -> None:
    title = "Größe".encode("latin-1") + b"\0"
    info = b"INFOINAM" + struct.pack("<I", len(title)) + title
    body = (media / "dub.wav").read_bytes()[8:] + b"LIST" + struct.pack("<I", len(info)) + info
    assert probe_bytes(prober, tmp_path, b"RIFF" + struct.pack("<I", len(body)) + body).error is None


# -- what is no media ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: b"", "empty"),
        (lambda: b"Dear editor, this is a letter.\n" * 4000, "not a video or sound file"),
        (lambda: random.Random(3).randbytes(2_000_000), "not a video or sound file"),
        (lambda: b"ffconcat version 1.0\nfile clip.mp4\n", "not a video or sound file"),
        (lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nclip.mp4\n#EXT-X-ENDLIST\n", "not a video"),
        (lambda: box(b"ftyp", b"isom\0\0\0\0isom") + box(b"moov", box(b"trak") * 500_000), "memory"),
    ],
)
def test_threat_42_what_is_no_media_is_said_in_plain_words(
    prober: Prober, tmp_path: Path, make: Callable[[], bytes], words: str
) -> None:
    assert words in (probe_bytes(prober, tmp_path, make()).error or "")


def test_threat_36_a_playlist_does_not_lead_to_another_file(prober: Prober, media: Path, tmp_path: Path) -> None:
    """Without the list of formats ffmpeg does follow it: relative to the working folder, which is /."""
    target = str(media / "clip.mp4").lstrip("/")
    assert "not a video" in (
        probe_bytes(prober, tmp_path, f"ffconcat version 1.0\nfile {target}\n".encode()).error or ""
    )


def test_threat_42_300_megabytes_of_nothing_are_refused_fast(prober: Prober, tmp_path: Path) -> None:
    path = tmp_path / "sparse.mp4"
    with path.open("wb") as file:
        file.truncate(300_000_000)
    probe(prober, path)  # starts the child
    began_at = time.monotonic()
    assert probe(prober, path).error
    assert time.monotonic() - began_at < 2


@pytest.mark.parametrize("share", [0.5, 0.75, 0.95])
def test_a_truncated_faststart_video_ends_before_its_index_says(
    prober: Prober, media: Path, tmp_path: Path, share: float
) -> None:
    whole = (media / "long.mp4").read_bytes()
    assert "ends before its index says" in (probe_bytes(prober, tmp_path, whole[: int(len(whole) * share)]).error or "")


def test_a_truncated_mp3_ends_before_its_index_says(prober: Prober, media: Path, tmp_path: Path) -> None:
    whole = (media / "dub.mp3").read_bytes()
    assert "ends before" in (probe_bytes(prober, tmp_path, whole[: len(whole) // 2]).error or "")


def test_a_video_whose_index_never_arrived_cannot_be_read(prober: Prober, tmp_path: Path) -> None:
    data = box(b"ftyp", b"isom\0\0\0\0isom") + box(b"mdat", random.Random(1).randbytes(100_000))
    assert probe_bytes(prober, tmp_path, data).error


def test_threat_42_an_enormous_picture_in_the_header_is_harmless(prober: Prober, media: Path, tmp_path: Path) -> None:
    data = bytearray((media / "silent.mp4").read_bytes())
    for kind, offset in ((b"avc1", 28), (b"mp4v", 28)):
        if (at := data.find(kind, data.find(b"stsd"))) > 0:
            struct.pack_into(">HH", data, at + offset, 0xFFFF, 0xFFFF)
    struct.pack_into(">II", data, data.find(b"stsz") + 8, 1, 0x7FFFFFFF)
    assert isinstance(probe_bytes(prober, tmp_path, bytes(data)), MediaInfo)


def test_flipped_bytes_never_raise(prober: Prober, media: Path, tmp_path: Path) -> None:
    chance = random.Random(7)
    whole = (media / "clip.mp4").read_bytes()
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(25):
            data[chance.randrange(len(data))] = chance.randrange(256)
        assert isinstance(probe_bytes(prober, tmp_path, bytes(data)), MediaInfo)


# -- the descriptor -----------------------------------------------------------------------------------


def test_the_file_is_read_through_its_descriptor_alone(prober: Prober, media: Path, tmp_path: Path) -> None:
    path = tmp_path / "gone.mp4"
    path.write_bytes((media / "clip.mp4").read_bytes())
    fd = os.open(path, os.O_RDONLY)
    path.unlink()
    os.lseek(fd, 123, os.SEEK_SET)
    assert prober.probe(fd).error is None
    assert os.lseek(fd, 0, os.SEEK_CUR) == 123
    os.close(fd)


def test_no_descriptor_is_left_open(prober: Prober, media: Path) -> None:
    probe(prober, media / "clip.mp4")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        probe(prober, media / "clip.mp4")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_threat_17_a_failing_storage_is_not_the_files_fault(prober: Prober, tmp_path: Path) -> None:
    with pytest.raises(Transient, match="could not be read: Is a directory"):
        probe(prober, tmp_path)


def test_a_closed_descriptor_is_a_bug(prober: Prober) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        prober.probe(987)


# -- children -----------------------------------------------------------------------------------------


def test_a_child_is_confined(prober: Prober, media: Path) -> None:
    probe(prober, media / "clip.mp4")
    (pid,) = children()
    limits = {line[:25].strip(): line[25:].split()[1] for line in Path(f"/proc/{pid}/limits").read_text().splitlines()}
    assert limits["Max address space"] == str(1 << 30)
    assert limits["Max file size"] == limits["Max core file size"] == "0"
    status = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert f"CapPrm:\t{0:016x}\nCapEff:\t{0:016x}" in status


def test_a_child_has_no_environment_but_its_import_path(
    prober: Prober, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAMELAION_API_KEY", "secret-of-the-daemon")
    probe(prober, media / "clip.mp4")
    (pid,) = children()
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:
        pytest.skip("a process that cannot be traced shows its environment to root only")
    assert [entry.split(b"=")[0] for entry in environment.split(b"\0") if entry] == [b"PYTHONPATH"]


def test_no_child_runs_before_it_is_needed_and_one_serves_many(prober: Prober, media: Path) -> None:
    assert children() == set()
    seen = set()
    for _ in range(3):
        probe(prober, media / "clip.mp4")
        seen |= children()
    assert len(seen) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_file_whose_check_crashed_once_is_examined_again(prober: Prober, media: Path, number: int) -> None:
    alone = probe(prober, media / "slowish.mp4")
    background, pid = busy_child(prober, media / "slowish.mp4")
    os.kill(pid, number)
    assert background.result() == alone
    assert pid not in children()


def test_threat_10_a_file_whose_check_crashes_twice_is_given_up(prober: Prober, media: Path) -> None:
    background, pid = busy_child(prober, media / "slow.mp4")
    os.kill(pid, signal.SIGSEGV)
    (other,) = eventually(lambda: children() - {pid})
    eventually(lambda: computed_s(other) > 0.6)  # past its start: at work on the file
    os.kill(other, signal.SIGSEGV)
    assert background.result() == MediaInfo(error=CRASHED)
    assert probe(prober, media / "clip.mp4").error is None


def test_a_child_that_dies_between_two_files_goes_unnoticed(prober: Prober, media: Path) -> None:
    probe(prober, media / "clip.mp4")
    (pid,) = children()
    os.kill(pid, signal.SIGKILL)
    assert probe(prober, media / "clip.mp4").error is None
    assert pid not in children()


def test_a_signal_for_the_whole_group_does_not_look_like_a_broken_file(prober: Prober, media: Path) -> None:
    probe(prober, media / "clip.mp4")
    (pid,) = children()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    assert probe(prober, media / "clip.mp4").error is None
    assert children() == {pid}
    assert os.getpgid(pid) != os.getpgid(0)


def test_a_file_that_keeps_it_computing_is_given_up_at_the_deadline(media: Path) -> None:
    prober = Prober(deadline_s=0.6)
    try:
        assert probe(prober, media / "slow.mp4").error == "it could not be examined within 0.6 s: it is damaged"
        assert children() == set()
        assert probe(prober, media / "clip.mp4").error is None
    finally:
        prober.close()


def test_threat_09_a_storage_that_does_not_answer_is_not_the_files_fault(media: Path) -> None:
    prober = Prober(deadline_s=2.0)
    try:
        background, pid = busy_child(prober, media / "slow.mp4")
        os.kill(pid, signal.SIGSTOP)  # as a process is that waits for a dead share
        outcome = background.result()
        assert isinstance(outcome, Transient)
        assert outcome.code == "stalled"
        assert children() == set()
    finally:
        prober.close()


def test_a_child_is_recycled_after_a_thousand_files(prober: Prober, tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    probe(prober, path)
    first = children()
    for _ in range(FILES_PER_CHILD - 2):
        probe(prober, path)
    assert children() == first
    probe(prober, path)
    assert children() == set()
    probe(prober, path)
    assert len(children()) == 1


def test_idle_children_end(media: Path) -> None:
    prober = Prober(idle_s=0.2)
    try:
        probe(prober, media / "clip.mp4")
        assert len(children()) == 1
        eventually(lambda: children() == set())
        assert probe(prober, media / "clip.mp4").error is None
    finally:
        prober.close()


def test_eight_threads_share_two_children(prober: Prober, media: Path) -> None:
    names = ["clip.mp4", "silent.mp4", "dub.wav", "dub.mp3"]
    alone = {name: probe(prober, media / name) for name in names}
    wrong: list[str] = []
    seen: set[int] = set()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(5):
            name = chance.choice(names)
            if probe(prober, media / name) != alone[name]:
                wrong.append(name)
            seen.update(children())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert 1 <= len(seen) <= 2


def test_close_ends_children_at_work_and_tells_their_callers(media: Path) -> None:
    prober = Prober()
    background, _ = busy_child(prober, media / "slow.mp4")
    prober.close()
    assert children() == set()
    assert isinstance(background.result(), Transient)
    assert children() == set()
    with pytest.raises(Transient, match="stopping"):
        probe(prober, media / "clip.mp4")


def test_a_launching_process_that_the_system_ended_is_started_again(prober: Prober, media: Path) -> None:
    probe(prober, media / "clip.mp4")
    (launcher,) = {pid for pid, parent, is_ours in processes() if is_ours and parent == os.getpid()}
    (pid,) = children()
    os.kill(launcher, signal.SIGKILL)
    assert probe(prober, media / "clip.mp4").error is None  # by the child that there is
    os.kill(pid, signal.SIGKILL)
    assert probe(prober, media / "clip.mp4").error is None
    assert len(children() - {pid}) == 1


def test_a_child_ends_with_its_parent(media: Path) -> None:
    script = (
        "import os, sys, time\n"
        "from chamelaion_watch.edges.probe import Prober\n"
        "prober = Prober()\n"
        "prober.probe(os.open(sys.argv[1], os.O_RDONLY))\n"
        "(child,) = prober._all\n"
        "print(child.process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(media / "clip.mp4")], stdout=subprocess.PIPE, check=False)
    child = Path(f"/proc/{int(run.stdout)}/stat")
    eventually(lambda: not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_machine_without_a_working_child_is_not_the_files_fault(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    prober = Prober()
    with pytest.raises(Transient, match="could not be started"):
        probe(prober, media / "clip.mp4")
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    with pytest.raises(Transient, match="could not be started"):
        probe(prober, media / "clip.mp4")
    prober.close()
