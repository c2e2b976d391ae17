"""What polling costs and how soon it notices: 500 jobs in flight, list pages of 100, rendering 60 to 300 s.

The clock is sped up 3 times on both sides alike (`at_speed`): all times are in the daemon's seconds, and the last of
500 is accepted before the first is completed. The poll settings are the defaults; the jobs are accepted as fast as
they can be sent, one after the other. Every status call counts, from the first submission to the last completion that
was noticed. The peer is computed from the same renderings: it polls each job 5 s after it was accepted, and every 5 s
from then on, until it is told the end.
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
from tests.bench.herd import DEFAULT_POLL, SMALL, Service, acquaint, await_watching, make_pairs, service
from tests.bench.table import Bench, Row, Run, just, ratio
from tests.support import eventually

JOBS = 50 if SMALL else 500
RENDERING_S = (60.0, 300.0)
SPEED = 3.0
PEER_EVERY_S = 5.0
DONE_WITHIN_S = 600.0
LOOK_EVERY_S = 0.5
STATUS_CALLS = ("list", "get")
LIMITS = {"rpm": None, "cap": None, "queue_s": 0.0, "processing_s": RENDERING_S, "page_max": 100, "retry_after": "ms"}
API = {"requests_per_minute": 100_000, "max_in_flight": JOBS, "uploads": 8, **DEFAULT_POLL}
COMPLETED = "SELECT j.request_id, a.at FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.code = 'completed'"


def run(place: Path) -> Run:
    make_pairs(place / "batch", JOBS)
    with service(LIMITS, speed=SPEED) as api:
        rig = Rig(place, api.base_url)
        rig.configure(api=API, folder={"backlog": "take"})
        acquaint(rig)
        epoch_s = time.time()
        with hurried(rig, SPEED, epoch_s) as daemon:
            await_watching(rig, daemon)
            (place / "batch").rename(rig.drop / "batch")
            eventually(lambda: len(rig.rows(COMPLETED)) >= JOBS, DONE_WITHIN_S, every=LOOK_EVERY_S)
        noticed = {request_id: real_s(at_ms, SPEED, epoch_s) for request_id, at_ms in rig.rows(COMPLETED)}
        return _figures(api, noticed)


def _figures(api: Service, noticed: dict[str, float]) -> Run:
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
        "most_in_flight": max(_in_flight(requests)),
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


BENCH = Bench(
    title=f"Polling: {JOBS} jobs in flight, list pages of 100, rendering 60 to 300 s",
    run=run,
    peers=lambda: [f"polling each job every {PEER_EVERY_S:.0f} s, computed"],
    rows=(
        Row(
            "status calls per finished job",
            just("calls"),
            "per job",
            at_most=0.3,
            ours="calls",
            peer="peer_calls",
            shown="calls",
        ),
        Row("the same, against polling each job", ratio("calls", "peer_calls"), "×"),
        Row(
            "from the completion at the service to the daemon's knowing it, 95th percentile",
            just("delay_p95_s"),
            "s",
            at_most=5,
            ours="delay_p95_s",
            peer="peer_delay_p95_s",
        ),
        Row("the same, median", just("delay_p50_s"), "s"),
        Row("the same, longest", just("delay_max_s"), "s"),
        Row("most jobs in flight at once", just("most_in_flight"), "jobs"),
    ),
)
