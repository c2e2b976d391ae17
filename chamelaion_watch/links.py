"""The links that polls have told, kept in memory for a minute: a delivery that follows at once need not ask again.

A link is secret and short-lived: it is never stored, and good for one try. The next try asks anew, for the service may
have refused it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from chamelaion_watch.core.model import Millis, Request
from chamelaion_watch.edges.clock import Clock

TOLD_LASTS_MS = 60_000  # how long a link lives is not documented: what had to wait longer for its turn asks anew


class Links:
    """What the service said of completed requests; any thread may tell and ask."""

    def __init__(self, ask: Callable[[str], Request], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, tuple[Request, Millis]] = {}  # by request id, the oldest first

    def tell(self, requests: Iterable[Request | None]) -> None:
        """Keep those that have a link."""
        now = self._clock.now()
        with self._lock:
            while self._told and now - next(iter(self._told.values()))[1] >= TOLD_LASTS_MS:
                del self._told[next(iter(self._told))]
            for request in requests:
                if request is not None and request.is_completed and request.output_url:
                    self._told.pop(request.id, None)
                    self._told[request.id] = (request, now)

    def find(self, handle: str) -> Request:
        """Return how a request is: as was told just now, or else as the service says; raises what `Api.find` does."""
        with self._lock:
            request, told_at = self._told.pop(handle, (None, 0))
        if request is not None and self._clock.now() - told_at < TOLD_LASTS_MS:
            return request
        return self._ask(handle)
