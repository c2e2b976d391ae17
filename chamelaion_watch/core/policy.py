"""What the administrator decided, as the core needs it: plain frozen values, times in milliseconds.

`settings` reads and checks the YAML; `daemon` converts. The core never sees the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from chamelaion_watch.core.completeness import GateRules
from chamelaion_watch.core.model import AccountState, Options
from chamelaion_watch.core.pairing import PairingRules

LOCAL_SETTLE_MS, NETWORK_SETTLE_MS = 10_000, 30_000
RESCAN_WITH_EVENTS_MS, RESCAN_WITHOUT_EVENTS_MS = 60_000, 10_000


@dataclass(frozen=True, slots=True)
class Growth:
    """An interval that starts at `first_ms` and doubles up to `max_ms`."""

    first_ms: int
    max_ms: int

    def at(self, strikes: int) -> int:
        """Return the interval after so many strikes in a row, the first being 1."""
        return int(min(self.max_ms, self.first_ms * 2 ** min(max(strikes - 1, 0), 30)))


@dataclass(frozen=True, slots=True)
class FolderPolicy:
    """One watched folder."""

    name: str
    path: str
    output: str
    recursive: bool
    pairing: PairingRules
    settle_ms: int | None = None  # None: by the kind of file system
    rescan_ms: int | None = None
    min_bytes: int = 1024
    ignore: tuple[str, ...] = ()
    holds_backlog: bool = True
    preflight: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    has_receipts: bool = False
    mode: int = 0o664
    priority: int = 0

    def gate(self, *, is_network: bool) -> GateRules:
        """Return the completeness rules: shares settle longer, for their attribute caches lag."""
        default = NETWORK_SETTLE_MS if is_network else LOCAL_SETTLE_MS
        return GateRules(settle_ms=self.settle_ms or default, min_bytes=self.min_bytes)

    def rescan(self, *, has_events: bool) -> int:
        """Return how often names are listed, in milliseconds."""
        return self.rescan_ms or (RESCAN_WITH_EVENTS_MS if has_events else RESCAN_WITHOUT_EVENTS_MS)


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that `plan` and the gate ask for."""

    options: Options = field(default_factory=Options)
    requests_per_minute: int = 60
    max_in_flight: int = 8
    uploads: int = 2
    downloads: int = 2
    poll: Growth = Growth(10_000, 30_000)
    lookup_grace_ms: int = 120_000
    pauses: Mapping[AccountState, Growth] = field(
        default_factory=lambda: MappingProxyType(
            {
                AccountState.RATE_LIMITED: Growth(30_000, 300_000),
                AccountState.QUOTA_EXHAUSTED: Growth(900_000, 3_600_000),
                AccountState.UNAUTHORIZED: Growth(60_000, 300_000),
                AccountState.UNREACHABLE: Growth(5_000, 60_000),
            }
        )
    )
    max_jobs_per_day: int | None = None
    spool_bytes: int = 50 * 2**30  # for results whose folder is away
