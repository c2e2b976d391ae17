"""What the sandbox saw, for tests to judge by: a log of exchanges, counters, credentials in wrong places, its own bugs.

Plain facts, appended by the server; bounded, so that a long run does not grow for ever.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any

LOG_MAX = 20_000


@dataclass(slots=True)
class Entry:
    """One exchange; `at` is Unix seconds at its arrival, `status` None while or because nothing was answered."""

    at: float
    endpoint: str
    method: str
    path: str
    query: str
    has_credentials: bool
    user_agent: str
    status: int | None = None
    retry_after: str | None = None  # as it was sent: `Retry-After`, or milliseconds as `N ms`
    received_bytes: int = 0  # of the body
    is_over: bool = False


class Journal:
    def __init__(self) -> None:
        self.bugs: list[str] = []  # tracebacks: a test can see that the sandbox itself failed
        self._log: deque[Entry] = deque(maxlen=LOG_MAX)
        self._refused: deque[Entry] = deque(maxlen=LOG_MAX)
        self._counters: Counter[tuple[str, str]] = Counter()
        self._media_credentials = 0

    def began(self, entry: Entry) -> None:
        self._log.append(entry)
        if entry.endpoint == "media" and entry.has_credentials:
            self._media_credentials += 1

    def answered(self, entry: Entry, status: int, retry_after: str | None = None) -> None:
        entry.status, entry.retry_after = status, retry_after
        self._counters[entry.endpoint, str(status)] += 1
        if entry.endpoint == "submit" and status != 200:  # noqa: PLR2004 -- what the API says to all it takes
            self._refused.append(entry)

    def ended(self, entry: Entry) -> None:
        entry.is_over = True
        if entry.status is None:
            self._counters[entry.endpoint, "none"] += 1

    def facts(self, newest: int = LOG_MAX) -> dict[str, Any]:
        """Return everything as JSON values; of the log only the `newest` entries, oldest first."""
        counters: dict[str, dict[str, int]] = {}
        for (endpoint, status), count in self._counters.items():
            counters.setdefault(endpoint, {})[status] = count
        log = list(self._log)[-newest:] if newest else []
        return {
            "counters": counters,
            "media_requests_with_credentials": self._media_credentials,
            "refused_uploads": [asdict(entry) for entry in self._refused],
            "bugs": list(self.bugs),
            "log": [asdict(entry) for entry in log],
        }
