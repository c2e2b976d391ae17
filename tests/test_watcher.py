"""Hints from real events: prompt, few, never missing the last one, and honest when they cannot be had."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog import events

from chamelaion_watch.edges import watcher as module
from chamelaion_watch.edges.watcher import GAP_S, Watcher, identity
from tests.support import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify")


class Heard:
    """The hints that arrived, with their times."""

    def __init__(self) -> None:
        self.hints: list[tuple[str, float]] = []

    def __call__(self, root_name: str) -> None:
        self.hints.append((root_name, time.monotonic()))

    def of(self, root_name: str) -> list[float]:
        return [at for name, at in self.hints if name == root_name]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def watcher(heard: Heard) -> Iterator[Watcher]:
    watcher = Watcher(heard)
    yield watcher
    watcher.close()


def forget(heard: Heard) -> None:
    """Wait until what happened so far has been heard, then forget it."""
    eventually(lambda: not heard.hints or time.monotonic() - heard.hints[-1][1] > 3 * GAP_S)
    del heard.hints[:]


def test_a_written_file_is_hinted_at(tmp_path: Path, heard: Heard, watcher: Watcher) -> None:
    assert watcher.watch("share", str(tmp_path), recursive=True) == ""
    (tmp_path / "a.mp4").write_bytes(b"x")
    eventually(lambda: heard.of("share"))


@pytest.mark.parametrize("kind", ["move in", "move folder in", "delete", "deep"])
def test_each_kind_of_change_is_hinted_at(tmp_path: Path, heard: Heard, watcher: Watcher, kind: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "sub").mkdir(parents=True)
    (root / "old.mp4").touch()
    (outside / "folder").mkdir(parents=True)
    (outside / "folder" / "a.mp4").touch()
    assert watcher.watch("share", str(root), recursive=True) == ""
    match kind:
        case "move in":
            (outside / "folder" / "a.mp4").rename(root / "a.mp4")
        case "move folder in":
            (outside / "folder").rename(root / "folder")
        case "delete":
            (root / "old.mp4").unlink()
        case _:
            (root / "sub" / "a.mp4").write_bytes(b"x")
    eventually(lambda: heard.of("share"))


def test_a_folder_that_is_made_is_watched_as_well(tmp_path: Path, heard: Heard, watcher: Watcher) -> None:
    watcher.watch("share", str(tmp_path), recursive=True)
    (tmp_path / "new").mkdir()
    eventually(lambda: heard.hints)
    forget(heard)
    (tmp_path / "new" / "a.mp4").write_bytes(b"x")
    eventually(lambda: heard.hints)


@pytest.mark.parametrize(
    ("event", "is_heard"),
    [
        (events.FileCreatedEvent("/r/.s.lipsync-part"), False),
        (events.FileClosedEvent("/r/.s.lipsync-part"), False),
        (events.FileMovedEvent("/r/.s.lipsync-part", "/r/s.lipsync.mp4"), False),
        (events.FileClosedEvent("/r/s.lipsync-error.txt"), False),
        (events.FileDeletedEvent("/r/s.lipsync-error.txt"), True),
        (events.FileMovedEvent("/r/s.lipsync-error.txt", "/r/old.txt"), True),
        (events.FileMovedEvent("/r/s.lipsync.mp4", "/r/s2.mp4"), True),
        (events.FileClosedEvent("/r/.lipsync-root"), True),
        (events.FileClosedEvent("/r/s.mp4"), True),
    ],
)
def test_what_we_write_ourselves_wakes_nobody(event: events.FileSystemEvent, is_heard: bool) -> None:
    """Each of 2,000 results had its folder of thousands listed again."""
    heard: list[None] = []
    module._handler(lambda: heard.append(None)).dispatch(event)
    assert bool(heard) == is_heard


@pytest.mark.parametrize("kind", ["note deleted", "note renamed", "result renamed", "sentinel"])
def test_what_people_do_to_our_files_is_hinted_at(tmp_path: Path, heard: Heard, watcher: Watcher, kind: str) -> None:
    for name in ("s.lipsync-error.txt", "s.lipsync.mp4"):
        (tmp_path / name).write_bytes(b"x")
    assert watcher.watch("share", str(tmp_path), recursive=True) == ""
    match kind:
        case "note deleted":
            (tmp_path / "s.lipsync-error.txt").unlink()
        case "note renamed":
            (tmp_path / "s.lipsync-error.txt").rename(tmp_path / "read.txt")
        case "result renamed":
            (tmp_path / "s.lipsync.mp4").rename(tmp_path / "s2.mp4")
        case _:
            (tmp_path / ".lipsync-root").write_text("another ledger's")
    eventually(lambda: heard.of("share"))


def test_reading_is_no_news(tmp_path: Path, heard: Heard, watcher: Watcher) -> None:
    """Events come in their order: had reading made any, they would be heard before the last one."""
    for name in ("read", "written"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "a.mp4").write_bytes(b"x")
        watcher.watch(name, str(tmp_path / name), recursive=True)
    for _ in range(20):
        (tmp_path / "read" / "a.mp4").read_bytes()
        list((tmp_path / "read" / "sub").iterdir())
    (tmp_path / "written" / "a.mp4").write_bytes(b"y")
    eventually(lambda: heard.of("written"))
    assert not heard.of("read")


def test_a_root_behind_a_link_is_watched(tmp_path: Path, heard: Heard, watcher: Watcher) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    watcher.watch("share", str(tmp_path / "link"), recursive=True)
    (tmp_path / "real" / "a.mp4").touch()
    eventually(lambda: heard.hints)


def test_a_storm_gives_few_hints_and_one_after_its_end(tmp_path: Path, heard: Heard, watcher: Watcher) -> None:
    watcher.watch("share", str(tmp_path), recursive=True)
    began = time.monotonic()
    while time.monotonic() - began < 5 * GAP_S:
        (tmp_path / "a.mp4").write_bytes(b"x")
    ended = time.monotonic()
    eventually(lambda: heard.hints and heard.hints[-1][1] >= ended)
    quiet_since = time.monotonic()
    eventually(lambda: time.monotonic() - quiet_since > GAP_S)
    assert len(heard.hints) <= (time.monotonic() - began) / GAP_S + 1


def test_a_listener_that_hangs_stops_no_events(tmp_path: Path) -> None:
    release, heard = threading.Event(), Heard()

    def hang(root_name: str) -> None:
        heard(root_name)
        release.wait(10)

    watcher = Watcher(hang)
    watcher.watch("share", str(tmp_path), recursive=True)
    (tmp_path / "a.mp4").touch()
    eventually(lambda: heard.hints)
    for number in range(50):
        (tmp_path / f"{number}.mp4").touch()
    release.set()
    eventually(lambda: len(heard.hints) > 1)
    watcher.close()


def test_two_roots_are_told_apart_and_one_can_be_left(tmp_path: Path, heard: Heard, watcher: Watcher) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert watcher.watch(name, str(tmp_path / name), recursive=True) == ""
    (tmp_path / "a" / "x").touch()
    eventually(lambda: heard.of("a"))
    assert not heard.of("b")
    watcher.unwatch("a")
    watcher.unwatch("a")
    forget(heard)
    (tmp_path / "a" / "y").touch()
    (tmp_path / "b" / "y").touch()
    eventually(lambda: heard.of("b"))
    assert not heard.of("a")
    assert (watcher.is_alive("a"), watcher.is_alive("b")) == (False, True)


def test_a_root_that_goes_ends_its_watch_and_can_be_watched_anew(
    tmp_path: Path, heard: Heard, watcher: Watcher
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    watcher.watch("share", str(root), recursive=True)
    before = identity(str(root))
    assert watcher.is_alive("share")
    (tmp_path / "next").mkdir()  # made before the other goes, it cannot get its inode
    shutil.rmtree(root)
    eventually(lambda: not watcher.is_alive("share"))
    assert identity(str(root)) is None
    (tmp_path / "next").rename(root)
    assert identity(str(root)) not in {None, before}
    assert watcher.watch("share", str(root), recursive=True) == ""
    assert watcher.is_alive("share")
    forget(heard)
    (root / "a.mp4").touch()
    eventually(lambda: heard.of("share"))


def test_what_is_not_there_is_not_watched_and_the_reason_is_told(tmp_path: Path, watcher: Watcher) -> None:
    assert watcher.watch("share", str(tmp_path / "none"), recursive=True).startswith(
        f"{tmp_path}/none: cannot be watched"
    )
    assert not watcher.is_alive("share")
    assert watcher.watch("share", str(tmp_path), recursive=True) == ""


def test_an_unused_watcher_closes(watcher: Watcher) -> None:
    watcher.close()
    watcher.close()


def test_a_closed_watcher_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    watcher = Watcher(Heard())
    watcher.watch("share", str(tmp_path), recursive=True)
    (tmp_path / "a").touch()
    watcher.close()
    eventually(lambda: set(threading.enumerate()) <= before)


def test_threat_23_lost_events_are_hinted_at_for_every_root(tmp_path: Path, heard: Heard, watcher: Watcher) -> None:
    """watchdog only logs an overflow; this is the line that it logs."""
    import logging

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        watcher.watch(name, str(tmp_path / name), recursive=True)
    logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed; filesystem events were lost")
    eventually(lambda: heard.of("a") and heard.of("b"))


LIMITED = """
import sys
sys.path[:0] = sys.argv[2:]
from chamelaion_watch.edges.watcher import Watcher
watcher = Watcher(lambda name: None)
print(watcher.watch("share", sys.argv[1], recursive=True))
print(watcher.watch("share", sys.argv[1], recursive=False))
watcher.close()
"""


def test_threat_23_the_limit_of_watches_is_told_although_watchdog_is_silent(tmp_path: Path) -> None:
    """A user namespace has a limit of its own, so the machine's stays as it is."""
    for number in range(10):
        (tmp_path / str(number)).mkdir()
    shell = 'echo 5 > /proc/sys/user/max_inotify_watches && exec "$@"'
    repository = str(Path(module.__file__).parents[2])
    command = ["unshare", "-Ur", "sh", "-c", shell, "sh", sys.executable, "-c", LIMITED, str(tmp_path), repository]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        pytest.skip("no unshare")
    if "unshare" in done.stderr or "max_inotify_watches" in done.stderr:
        pytest.skip("may not make a user namespace")
    first, second = done.stdout.split("\n")[:2]
    assert "fs.inotify.max_user_watches" in first
    assert second == ""


CRAMPED = """
import resource, sys, threading
sys.path[:0] = sys.argv[2:]
from pathlib import Path
import watchdog.observers.inotify  # which takes memory too
from chamelaion_watch.edges.watcher import Watcher
is_heard = threading.Event()
watcher = Watcher(lambda _: is_heard.set())
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (6 << 20), resource.RLIM_INFINITY))  # a thread's stack takes 8
print(watcher.watch("share", sys.argv[1], recursive=True))
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(watcher.watch("share", sys.argv[1], recursive=True))
(Path(sys.argv[1]) / "a").touch()
print(is_heard.wait(20))
watcher.close()
"""


def test_threat_08_without_room_for_a_thread_it_says_so_and_watches_later(tmp_path: Path) -> None:
    """It ended watchdog's thread in silence, and the stop with a traceback: the first hint started the thread."""
    command = [sys.executable, "-c", CRAMPED, str(tmp_path), str(Path(module.__file__).parents[2])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    first, second, is_heard = done.stdout.split("\n")[:3]
    assert first.startswith(f"{tmp_path}: cannot be watched (can't start new thread)")
    assert (second, is_heard) == ("", "True")
