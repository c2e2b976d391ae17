"""What polling costs and how soon it notices: 500 jobs in flight, list pages of 100.

Steady: the account lets 500 render at once, for 30 to 90 s each, as in `rate`; 1,500 pairs wait, so 500 are in flight
until the last 500 run out. Burst, reported beside it: 500 are sent as fast as they can be and render for 60 to 300 s;
the last is accepted before the first is completed, and ever fewer are in flight.

The clock is sped up on both sides alike (`at_speed`): all times are in the daemon's seconds. The poll settings are the
defaults. Every status call counts, those before a delivery as well, from the first submission to the last completion
that was noticed. The peer is computed from the same renderings: it polls each job 5 s after it was accepted, and every
5 s from then on, until it is told the end.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tests.acceptance.rig import Rig
from tests.bench.at_speed import hurried, real_s
from tests.bench.herd import DEFAULT_POLL, Service, acquaint, await_watching, make_pairs, service
from tests.bench.table import IS_SMALL, Bench, Row, Run, just, ratio
from tests.support import eventually

IN_FLIGHT = 50 if IS_SMALL else 500
SPEED = 2.0
PEER_EVERY_S = 5.0
DONE_WITHIN_S = 600.0
LOOK_EVERY_S = 0.5
STATUS_CALLS = ("list", "get")
PAGE = 100
LIMITS = {"rpm": None, "cap": None, "queue_s": 0.0, "page_max": PAGE, "retry_after": "ms"}
API = {"requests_per_minute": 100_000, "max_in_flight": IN_FLIGHT, "uploads": 8, **DEFAULT_POLL}
STEADY_S = (30.0, 90.0)  # how long each job renders
BURST_S = (60.0, 300.0)  # those of the burst
MOST_CALLS = 0.3  # per job
TARGET_S = 5.0
COMPLETED = "SELECT j.request_id, a.at FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.code = 'completed'"


def run(place: Path) -> Run:
    steady = _measured(place / "steady", 3 * IN_FLIGHT, STEADY_S)
    burst = _measured(place / "burst", IN_FLIGHT, BURST_S)
    return steady | {f"burst_{name}": figure for name, figure in burst.items()}


def _measured(home: Path, jobs: int, rendering_s: tuple[float, float]) -> dict[str, float]:
    home.mkdir()
    make_pairs(home / "batch", jobs)
    with service(LIMITS | {"processing_s": rendering_s}, speed=SPEED) as api:
        rig = Rig(home, api.base_url)
        rig.configure(api=API, folder={"backlog": "take"})
        acquaint(rig)
        epoch_s = time.time()
        with hurried(rig, SPEED, epoch_s) as daemon:
            await_watching(rig, daemon)
            (home / "batch").rename(rig.drop / "batch")
            eventually(lambda: len(rig.rows(COMPLETED)) >= jobs, DONE_WITHIN_S, every=LOOK_EVERY_S)
        noticed = {request_id: real_s(at_ms, SPEED, epoch_s) for request_id, at_ms in rig.rows(COMPLETED)}
        return _figures(api, noticed)


def _figures(api: Service, noticed: dict[str, float]) -> dict[str, float]:
    """`noticed` is when the daemon took in that a request was completed, Unix seconds."""
    log = api.state()["log"]  # before our own questions
    requests = [
        (noticed[request["id"]], _at(request["created_at"]), _at(request["finished_at"])) for request in api.requests()
    ]
    first, last = min(created for _, created, _ in requests), max(noticed.values())
    calls = [entry for entry in log if entry["endpoint"] in STATUS_CALLS and first <= entry["at"] <= last]
    delays_s = sorted((told - finished) * SPEED for told, _, finished in requests)
    took_s = [(finished - created) * SPEED for _, created, finished in requests]
    return {
        "calls": len(calls) / len(requests),
        "list_calls": sum(entry["endpoint"] == "list" for entry in calls) / len(requests),
        "peer_calls": statistics.mean(math.ceil(seconds / PEER_EVERY_S) for seconds in took_s),
        "delay_p50_s": statistics.median(delays_s),
        "delay_p95_s": _percentile(delays_s, 95),
        "delay_max_s": delays_s[-1],
        "peer_delay_p95_s": _percentile(sorted(-seconds % PEER_EVERY_S for seconds in took_s), 95),
        "in_flight_p50": statistics.median(_in_flight(requests)),
        "submitting_s": (max(created for _, created, _ in requests) - first) * SPEED,
        "refused": sum(entry["status"] != 200 for entry in calls),
    }


def _in_flight(requests: Sequence[tuple[float, float, float]]) -> Sequence[int]:
    """How many requests were rendering whenever one had just been accepted."""
    begun = [created for _, created, _ in requests]
    return [sum(created <= at < finished for _, created, finished in requests) for at in begun]


def _at(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


_PAGES = math.ceil(IN_FLIGHT / PAGE)
_ENDING_S = BURST_S[1] - BURST_S[0]  # all finish in that time
_ROUNDS = MOST_CALLS * IN_FLIGHT / _PAGES
_NEEDED_CALLS = _PAGES * _ENDING_S * 0.95 / TARGET_S / IN_FLIGHT
BURST = (
    f"only reported, for the target is of {IN_FLIGHT} in flight, and the burst has them at its beginning alone: they "
    f"finish over {_ENDING_S:.0f} s, {IN_FLIGHT / _ENDING_S:.1f} a second, where the steady state has "
    f"{IN_FLIGHT / statistics.mean(STEADY_S):.1f}. All in flight lie on {_PAGES} pages of {PAGE}, however few of them are left; "
    f"{MOST_CALLS} calls a job are {MOST_CALLS * IN_FLIGHT:.0f} calls, {_ROUNDS:.0f} rounds of {_PAGES} pages, one in "
    f"{_ENDING_S / _ROUNDS:.1f} s. So the 95th percentile cannot be much below {0.95 * _ENDING_S / _ROUNDS:.1f} s at "
    f"{MOST_CALLS} calls a job, and {TARGET_S:.0f} s would take {_NEEDED_CALLS:.2f}."
)

BENCH = Bench(
    title=f"Polling: {IN_FLIGHT} jobs in flight, list pages of 100",
    run=run,
    peers=lambda: [f"polling each job every {PEER_EVERY_S:.0f} s, computed"],
    rows=(
        Row(
            "status calls per finished job",
            just("calls"),
            "per job",
            at_most=MOST_CALLS,
            ours="calls",
            peer="peer_calls",
            shown="calls",
        ),
        Row("the same, against polling each job", ratio("calls", "peer_calls"), "×"),
        Row(
            "from the completion at the service to the daemon's knowing it, 95th percentile",
            just("delay_p95_s"),
            "s",
            at_most=TARGET_S,
            ours="delay_p95_s",
            peer="peer_delay_p95_s",
        ),
        Row("the same, median", just("delay_p50_s"), "s"),
        Row("the same, longest", just("delay_max_s"), "s"),
        Row("jobs in flight whenever one was accepted, median", just("in_flight_p50"), "jobs"),
        Row(
            "burst: status calls per finished job",
            just("burst_calls"),
            "per job",
            peer="burst_peer_calls",
            shown="calls",
            why=BURST,
        ),
        Row(
            "burst: noticed after, 95th percentile",
            just("burst_delay_p95_s"),
            "s",
            peer="burst_peer_delay_p95_s",
            why="as above.",
        ),
    ),
)
