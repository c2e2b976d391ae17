"""How much of what the account allows is used: of a rate of 60 per minute, and of a cap that the daemon is not told.

The clock is sped up on both sides alike (`at_speed`): all times are in the service's seconds. Disk, network and
processor are not, so a millisecond of theirs costs us SPEED times what it would: the rate is measured at 3 times (one
submission in 333 ms of this machine; a lateness of 3 ms is 0.9 % of it), the cap at 20 (one in 375 ms). A refusal of
the rate names its time, as `retry-after-ms`, which is the only form that is fine enough at speed; whether the service
names one at the cap is not known, so both are measured. The service's limit is a sliding window, and each rendering
takes 30 to 90 s.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from chamelaion_watch.core.gate import LATE_MS, PACE_MARGIN
from tests.acceptance.rig import Rig
from tests.bench.at_speed import hurried
from tests.bench.herd import (
    DEFAULT_POLL,
    Service,
    acquaint,
    await_watching,
    make_pairs,
    service,
    snippet,
    versions,
)
from tests.bench.table import IS_SMALL, Bench, Row, Run, just, ratio
from tests.support import eventually

PAIRS = 40 if IS_SMALL else 300
PER_MINUTE = 60
WIDE = (
    100  # the account's cap where the rate is measured; what the daemon believes where the cap is; the peer's threads
)
NARROW = 8
RENDERING_S = (30.0, 90.0)
RATE_SPEED = 3.0
CAP_SPEED = 20.0
DONE_WITHIN_S = 900.0
LOOK_EVERY_S = 0.5
LIMITS = {"rpm": PER_MINUTE, "cap": WIDE, "processing_s": RENDERING_S, "retry_after": "ms"}
API = {"requests_per_minute": PER_MINUTE, "max_in_flight": WIDE, **DEFAULT_POLL}


def run(place: Path) -> Run:
    return (
        _rated("ours", _ours(place / "ours", LIMITS, RATE_SPEED))
        | _snippet(place / "sdk", "sdk", LIMITS, RATE_SPEED)
        | _snippet(place / "best", "best", LIMITS, RATE_SPEED)
        | _capped("ours_cap", _ours(place / "cap", LIMITS | {"cap": NARROW}, CAP_SPEED))
        | _capped("ours_mute", _ours(place / "mute", LIMITS | {"cap": NARROW, "retry_after": "none"}, CAP_SPEED))
        | _snippet(place / "sdk_cap", "sdk_cap", LIMITS | {"cap": NARROW}, CAP_SPEED)
    )


# -- the two sides ------------------------------------------------------------------------------------


Seen = dict[str, Any]


def _ours(home: Path, limits: Mapping[str, Any], speed: float) -> Seen:
    """What the service saw when it had accepted the last pair."""
    with _service(home, limits, speed) as api:
        rig = Rig(home, api.base_url)
        rig.configure(api=API, folder={"backlog": "take"})
        acquaint(rig)
        with hurried(rig, speed, time.time()) as daemon:
            await_watching(rig, daemon)
            (home / "batch").rename(rig.drop / "batch")
            eventually(lambda: len(api.state(log=0)["submissions"]) >= PAIRS, DONE_WITHIN_S, every=LOOK_EVERY_S)
            return _seen(api, speed)


def _snippet(home: Path, name: str, limits: Mapping[str, Any], speed: float) -> dict[str, float]:
    with _service(home, limits, speed) as api:
        options = ["--client", name.partition("_")[0], "--threads", str(WIDE), "--speed", str(speed)]
        _, told = snippet(home, home / "batch", api.base_url, *options)
        seen = _seen(api, speed)
    figures = _capped(name, seen) if limits["cap"] == NARROW else _rated(name, seen)
    return figures | {f"{name}_given_up": told["failed"] / PAIRS * 100}


@contextmanager
def _service(home: Path, limits: Mapping[str, Any], speed: float) -> Iterator[Service]:
    home.mkdir()
    make_pairs(home / "batch", PAIRS)
    with service(limits, speed=speed) as api:
        yield api


def _seen(api: Service, speed: float) -> Seen:
    """The times of all requests, in the service's seconds, and how the POSTs were answered."""
    state = api.state(log=0)
    ends = {request["id"]: _seconds(request.get("finished_at")) for request in api.requests()}
    accepted = sorted((asked["accepted_at"] * speed, asked["id"]) for asked in state["submissions"])
    posts = state["counters"]["submit"]
    return {
        "begun": [at for at, _ in accepted],
        "ended": [at * speed for _, request_id in accepted if (at := ends[request_id]) is not None],
        "posts": sum(posts.values()),
        "refused": posts.get("429", 0),
    }


def _seconds(stamp: str | None) -> float | None:
    return None if stamp is None else datetime.fromisoformat(stamp).timestamp()


# -- the figures --------------------------------------------------------------------------------------


def _rated(name: str, seen: Seen) -> dict[str, float]:
    """Ideal is one POST each 60 s / rate, from the first that is accepted to the last; a burst may be more than that."""
    begun = seen["begun"]
    span_s, ideal_s = begun[-1] - begun[0], (len(begun) - 1) * 60 / PER_MINUTE
    return {f"{name}_span_s": span_s, f"{name}_ideal_s": ideal_s, f"{name}_used": ideal_s / span_s * 100} | _refused(
        name, seen
    )


def _capped(name: str, seen: Seen) -> dict[str, float]:
    """Ideal is a full cap from the first acceptance to the last; a job is in flight from its own to its end."""
    first, last = seen["begun"][0], seen["begun"][-1]
    begun_s = sum(last - at for at in seen["begun"])
    unused_s = sum(last - at for at in seen["ended"] if at < last)
    in_flight = (begun_s - unused_s) / (last - first)
    return {f"{name}_in_flight": in_flight, f"{name}_cap": NARROW, f"{name}_used": in_flight / NARROW * 100} | _refused(
        name, seen
    )


def _refused(name: str, seen: Seen) -> dict[str, float]:
    return {f"{name}_refused": seen["refused"] / seen["posts"] * 100, f"{name}_posts": seen["posts"]}


# -- the table ----------------------------------------------------------------------------------------


PACED = (
    f"the pace keeps {100 * (PACE_MARGIN - 1):.1f} % below the limit, so {100 / PACE_MARGIN:.2f} % is the most. A slot "
    f"is counted from when the one before it was due, or from when that was taken if it came more than {LATE_MS} ms "
    "late: then, and only then, the lateness is lost."
)
SPAN = (
    "the sandbox counts a sliding minute: a client that does not pace has its first "
    f"{PER_MINUTE} accepted at once, and is ahead by a minute, once, whatever the number of pairs. The snippet buys it "
    "with about half of its POSTs refused; the daemon paces on purpose, so that a 429 is the exception."
)


def _used(name: str, what: str, at_least: float | None = None, why: str = "") -> Row:
    ours, ideal = f"{name}_span_s", f"{name}_ideal_s"
    return Row(what, just(f"{name}_used"), "%", at_least=at_least, ours=ours, peer=ideal, why=why)


def _sdk_used(what: str, figure: str, shown: str, unit: str) -> Row:
    """What the snippet came to by itself: ours has no part in it."""
    return Row(what, just(figure), "%", peer=shown, shown=unit)


def _cap_used(name: str, what: str, at_least: float | None = None, at_first: float | None = None) -> Row:
    return Row(
        what,
        just(f"{name}_used"),
        "%",
        at_least=at_least,
        at_first=at_first,
        ours=f"{name}_in_flight",
        peer=f"{name}_cap",
        shown="in flight",
    )


def _share(name: str, what: str, at_most: float | None = None) -> Row:
    return Row(what, just(name), "%", at_most=at_most)


BENCH = Bench(
    title=f"Using what is allowed: {PAIRS} pairs, {PER_MINUTE} per minute, rendering 30 to 90 s",
    run=run,
    peers=lambda: ["the ideal schedule, computed", *versions()],
    rows=(
        _used("ours", "rate: share of the allowed rate, first to last accepted POST", 98, PACED),
        _share("ours_refused", "rate: 429s of all POSTs", 1),
        Row(
            "rate: time from the first to the last accepted POST, against the vendor's snippet",
            ratio("ours_span_s", "sdk_span_s"),
            "×",
            ours="ours_span_s",
            peer="sdk_span_s",
            why=SPAN,
        ),
        _sdk_used(
            f"rate: the vendor's snippet with {WIDE} threads, over the official SDK", "sdk_used", "sdk_span_s", "s"
        ),
        _share("sdk_refused", "rate: its 429s of all POSTs"),
        _share("sdk_given_up", "rate: pairs that it gave up"),
        _share("best_refused", "rate: the same by hand, without the SDK's own retries: its 429s of all POSTs"),
        _share("best_given_up", "rate: pairs that it gave up"),
        _cap_used(
            "ours_cap", f"cap of {NARROW} that the daemon is not told: share used; a refusal names a time", 95, 93
        ),
        _share("ours_cap_refused", "cap: 429s of all POSTs; a refusal names a time", 2),
        _cap_used("ours_mute", "cap: share used; a refusal names no time", 95, 93),
        _share("ours_mute_refused", "cap: 429s of all POSTs; a refusal names no time", 2),
        _sdk_used(
            f"cap: the vendor's snippet with {WIDE} threads, over the official SDK",
            "sdk_cap_used",
            "sdk_cap_in_flight",
            "in flight",
        ),
        _share("sdk_cap_refused", "cap: its 429s of all POSTs"),
        _share("sdk_cap_given_up", "cap: pairs that it gave up"),
    ),
)
