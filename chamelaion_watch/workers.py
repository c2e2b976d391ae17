"""Threads that carry out one call after another: started when none is idle, gone when there was nothing to do.

Daemon threads and no pool (`concurrent.futures` joins at exit): one that hangs on a dead share holds up nobody, and no
stop. Starting a thread for each action was 8 % of a herd's processor time.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeAlias

IDLE_S = 10.0  # then a thread ends: an idle daemon has none of them

_Call: TypeAlias = Callable[[], object]
_Inbox: TypeAlias = "queue.SimpleQueue[tuple[str, _Call]]"


class Workers:
    """As many threads as there are calls under way; each call is to catch what it raises."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._idle: list[_Inbox] = []  # the last to become idle goes first, so that the others may end

    def run(self, name: str, call: _Call) -> None:
        """Have `call` run in a thread of this name; raises RuntimeError where no thread can be started."""
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is not None:
            inbox.put((name, call))
        else:
            threading.Thread(target=self._work, args=(name, call), name=name, daemon=True).start()

    def _work(self, name: str, call: _Call) -> None:
        inbox: _Inbox = queue.SimpleQueue()
        while True:
            threading.current_thread().name = name
            call()
            with self._lock:
                self._idle.append(inbox)
            try:
                name, call = self._next(inbox)
            except queue.Empty:
                return

    def _next(self, inbox: _Inbox) -> tuple[str, _Call]:
        """Wait for the next call; raises queue.Empty when there was none for long, and then none can come any more."""
        try:
            return inbox.get(timeout=self._idle_s)
        except queue.Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    raise
            return inbox.get()  # chosen in this very moment
