"""Hints that something happened in a root: watchdog's events, boiled down to "have a look".

Never the truth: events are lost when queues overflow, do not exist on shares and die with their folder. A hint only
wakes the scan, at most one per root each 100 ms, and the last event is never without one. What we write ourselves
wakes nobody. On network file systems do not watch at all.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from chamelaion_watch.core.naming import Ours, is_ours

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers.api import BaseObserver, ObservedWatch

GAP_S = 0.1

_PATIENCE_S = 5.0  # with threads at the end: they are daemons
_LIMITS = {errno.ENOSPC: "max_user_watches", errno.EMFILE: "max_user_instances"}
_LIMITS_FOLDER = "/proc/sys/fs/inotify"
_IN_CREATE = 0x100  # inotify(7)


def identity(path: str) -> tuple[int, int] | None:
    """Return device and inode of a root, None if it is not there: another identity needs another `watch`.

    Compared from sweep to sweep only, and only where events are delivered: inodes lie on shares.
    """
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Watcher:
    """Calls `on_hint` with a root's name, in a thread of its own, soon after something changed there."""

    def __init__(self, on_hint: Callable[[str], None]) -> None:
        self._hints = _Hints(on_hint)
        self._observer: BaseObserver | None = None
        self._watches: dict[str, ObservedWatch] = {}
        self._lock = threading.RLock()  # each root is scanned in a thread of its own; watchdog serializes them as well
        self._overflow = _OverflowListener(self._hint_all)

    def watch(self, root_name: str, path: str, recursive: bool) -> str:
        """Watch a root, anew if it was watched before; return "", or why that cannot be had and what to do.

        Walks the folders below, so it takes a while on a large tree.
        """
        with self._lock:
            self.unwatch(root_name)
            try:
                self._watches[root_name] = self._schedule(root_name, os.path.realpath(path), recursive)
                _check_room()
            except (OSError, RuntimeError) as error:  # the latter where no thread can be started
                self.unwatch(root_name)  # half a watch hides that it is half, and takes the user's watches from others
                return _reason(path, error)
            return ""

    def unwatch(self, root_name: str) -> None:
        """Stop watching a root; nothing happens if it is not watched."""
        with self._lock:
            watch = self._watches.pop(root_name, None)
            if watch and self._observer:
                with contextlib.suppress(KeyError, OSError):
                    self._observer.unschedule(watch)

    def is_alive(self, root_name: str) -> bool:
        """Say whether the root's events still have a thread that reads them: one dies with its folder."""
        watch = self._watches.get(root_name)
        if watch is None or self._observer is None or not self._observer.is_alive():
            return False
        return any(emitter.watch == watch and emitter.is_alive() for emitter in list(self._observer.emitters))

    def close(self) -> None:
        """End all threads; no hint begins after this."""
        self._watches.clear()
        logging.getLogger("watchdog").removeHandler(self._overflow)
        if self._observer:
            self._observer.stop()
            self._observer.join(_PATIENCE_S)
            self._observer = None
        self._hints.close()

    def _schedule(self, root_name: str, path: str, recursive: bool) -> ObservedWatch:
        handler = _handler(lambda: self._hints.add(root_name))
        return self._running().schedule(handler, path, recursive=recursive, event_filter=_events())

    def _running(self) -> BaseObserver:
        if self._observer is None:
            from watchdog.observers import Observer

            self._hints.start()
            observer = Observer()
            observer.daemon = True
            observer.start()
            self._observer = observer
            logging.getLogger("watchdog").addHandler(self._overflow)
        return self._observer

    def _hint_all(self) -> None:
        for root_name in list(self._watches):
            self._hints.add(root_name)


class _Hints:
    """Gathers the names of roots and passes them on, each at most once per gap, from a thread of its own."""

    def __init__(self, on_hint: Callable[[str], None]) -> None:
        self._on_hint = on_hint
        self._changed = threading.Condition()
        self._pending: set[str] = set()
        self._is_closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, once; raises RuntimeError where there is no room for one.

        Not at the first hint: what fails there ends watchdog's thread, and with it every watch.
        """
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="hints", daemon=True)
                thread.start()
                self._thread = thread

    def add(self, root_name: str) -> None:
        """Note a hint; never blocks, whatever `on_hint` does."""
        with self._changed:
            self._pending.add(root_name)
            self._changed.notify()

    def close(self) -> None:
        self._is_closed.set()
        with self._changed:
            self._changed.notify()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        while not self._is_closed.is_set():
            for root_name in sorted(self._taken()):
                self._on_hint(root_name)
            self._is_closed.wait(GAP_S)

    def _taken(self) -> set[str]:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._is_closed.is_set())
            taken, self._pending = self._pending, set()
            return set() if self._is_closed.is_set() else taken


def _events() -> list[type[FileSystemEvent]]:
    """Return the events that are listened to.

    Never opened, modified or attribute events: watchdog's own walk would make more of them for ever (7.1, from 5,000
    folders on). Files that are moved in, by themselves or within a folder, come as created.
    """
    from watchdog import events

    files = [events.FileClosedEvent, events.FileCreatedEvent, events.FileMovedEvent, events.FileDeletedEvent]
    return [*files, events.DirCreatedEvent, events.DirMovedEvent, events.DirDeletedEvent]


def _handler(on_event: Callable[[], None]) -> FileSystemEventHandler:
    from watchdog import events

    class Handler(events.FileSystemEventHandler):
        def dispatch(self, event: FileSystemEvent) -> None:
            if not _is_our_work(event):
                on_event()

    return Handler()


def _is_our_work(event: FileSystemEvent) -> bool:
    """Whether we wrote or renamed a file of ours; that one is gone may be a person's word."""
    names = (os.fsdecode(path).rpartition("/")[2] for path in (event.src_path, event.dest_path) if path)
    # A sentinel may be another daemon's.
    return event.event_type != "deleted" and all(is_ours(name) not in {None, Ours.ROOT} for name in names)


class _OverflowListener(logging.Handler):
    """Hears watchdog log that events were lost: it tells nobody else (7.1)."""

    def __init__(self, on_overflow: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._on_overflow = on_overflow

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage():
            self._on_overflow()


def _check_room() -> None:
    """Raise OSError if no more folder can be watched: watchdog 7.1 skips sub-folders beyond the limit silently.

    Asked of the kernel itself: a watch of watchdog's that ends as soon as it has begun closes a descriptor that its
    reading thread, or by then another root's, still uses (EBADF, in `test_many_folders_are_served_from_the_start`).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        return
    instance = libc.inotify_init1(os.O_CLOEXEC)
    if instance < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        if libc.inotify_add_watch(instance, b"/", _IN_CREATE) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(instance)


def _reason(path: str, error: OSError | RuntimeError) -> str:
    name = _LIMITS.get(error.errno or 0) if isinstance(error, OSError) else None
    words = (isinstance(error, OSError) and error.strerror) or str(error)
    if name is None:
        return f"{path}: cannot be watched ({words}); new files are found by the regular scan"
    advice = f"raise it with `sysctl fs.inotify.{name}=…`; until then new files are found by the regular scan"
    return f"{path}: the limit fs.inotify.{name} of {_limit(name)} is reached: {advice}"


def _limit(name: str) -> str:
    try:
        return (Path(_LIMITS_FOLDER) / name).read_text().strip()
    except OSError:
        return "an unknown number"
