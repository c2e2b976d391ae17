"""What lives contained: how often each thing happened that the daemon must survive."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

DAY_MS = 86_400_000


@dataclass
class Counts:
    """Sums over one life, or over many."""

    lives: int = 0
    simulated_ms: int = 0
    ticks: int = 0
    boots: int = 0
    crashes: int = 0
    stops: int = 0  # clean ones, asked for by a person
    submissions: int = 0  # heads that arrived at the service
    paid: int = 0  # requests that the service created
    ambiguous: int = 0  # POSTs whose last piece had left and that got no clear answer; of these
    created: int = 0  # … it was created at once,
    late: int = 0  # … it was created after the socket had been closed,
    never: int = 0  # … nothing came of it
    r429: int = 0
    r412: int = 0
    r401: int = 0
    r4xx: int = 0  # refusals of one pair
    r5xx: int = 0
    not_found: int = 0  # 404s of jobs that the service knows
    odd_answers: int = 0  # wrong ids, pages, statuses that contradict each other
    outages: int = 0  # spells
    revoked: int = 0  # spells
    away: int = 0  # spells of a share that is not there, or not ours
    hung: int = 0  # spells
    disk_full: int = 0  # spells
    disk_errors: int = 0  # single calls
    ledger_failures: int = 0
    clock_jumps: int = 0
    pauses: int = 0  # nothing ran for minutes: SIGSTOP, a suspended machine
    replaced: int = 0  # inputs
    wishes: int = 0  # commands and deleted notes

    def add(self, other: Counts) -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def as_dict(self) -> dict[str, int]:
        return asdict(self)

    def lines(self) -> list[str]:
        """Say all of it to people, a line per group."""
        one = self
        return [
            f"{one.lives} lives, {one.simulated_ms / DAY_MS:.1f} simulated days, {one.ticks} ticks",
            f"{one.boots} boots, {one.crashes} crashes, {one.stops} clean stops, {one.pauses} pauses",
            f"{one.clock_jumps} clock jumps, {one.ledger_failures} failures of the ledger",
            f"{one.submissions} submissions, {one.paid} paid",
            f"{one.ambiguous} ambiguous POSTs: {one.created} created, {one.late} created late, {one.never} never",
            f"{one.r429} 429s, {one.r412} 412s, {one.r401} 401s, {one.r4xx} refusals of a pair, {one.r5xx} 5xx",
            f"{one.not_found} 404s of known jobs, {one.odd_answers} odd answers",
            f"spells: {one.outages} outages, {one.revoked} keys revoked, {one.away} shares away, {one.hung} hung",
            f"{one.disk_full} spells of a full disk, {one.disk_errors} single disk errors",
            f"{one.replaced} replaced inputs, {one.wishes} wishes",
        ]
