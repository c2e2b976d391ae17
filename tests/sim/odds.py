"""How likely each fault is. All of it is zero once the faults stop."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields


@dataclass
class Odds:
    """Chances per call, unless said otherwise; threats.md's rows in brackets."""

    refused: float = 0.0  # 429 out of the blue [55, 56]
    named: float = 0.5  # a refusal names its time
    server_error: float = 0.0  # [60]
    unreachable: float = 0.0
    reset: float = 0.0  # in mid-upload [49]
    lost: float = 0.0  # the answer to a whole upload, whatever became of it [47, 53]
    lag: float = 0.0  # the request is hidden from the index at first [48]
    failing: float = 0.0  # the request ends failed
    forgotten: float = 0.0  # for one answer to a poll only: 404 [63]
    broken: float = 0.0  # a download [73]
    slow_upload: float = 0.0
    crash: float = 0.0  # per tick
    # -- drawn from streams of their own, so that a life without them stays what it was
    absurd: float = 0.0  # of a named time: 0, negative, an hour and more, words, a date [55]
    odd_head: float = 0.0  # a submission is refused early with a status that nobody expects [50, 69]
    odd_end: float = 0.0  # … after all of it was sent: pages, 3xx, 408, unusable ids [47, 54, 66]
    swapped: float = 0.0  # the id of another job in the answer to a submission [66]
    bad_pair: float = 0.0  # per content: 400, 413, 422 [59]
    odd_status: float = 0.0  # unknown, missing, of the wrong type [61]
    backwards: float = 0.0  # an earlier status once more [62]
    flipped: float = 0.0  # completed and then failed, or failed and then completed, and it stays so [62]
    stranger: float = 0.0  # another job's request in the answer [66]
    no_url: float = 0.0  # completed without a usable output_url [65]
    odd_page: float = 0.0  # the list of requests: not all of it, none, late [48, 61]
    endless: float = 0.0  # the request never ends [64]
    hidden: float = 0.0  # per request: once it was asked for, it is unknown for minutes or for ever [63]
    expired: float = 0.0  # a link answers 403 [72]
    odd_output: float = 0.0  # a page, nothing, no length, another status [70, 74, 76]
    disk_error: float = 0.0  # EIO, ENOSPC, EACCES at one write, before it or after it [14, 16, 18]
    torn_scan: float = 0.0  # a scan takes long, and the share may go in the middle of it [27]
    ledger: float = 0.0  # per transaction [11, 15]
    stopped_clock: float = 0.0  # an upload that was paused finds its connection gone

    def stop(self) -> None:
        for one in fields(self):
            setattr(self, one.name, 0.0)


def drawn(rng: random.Random) -> Odds:
    """The faults of the first simulation, as they have been drawn since."""

    def some(chance: float, most: float) -> float:
        return rng.uniform(0, most) if rng.random() < chance else 0.0

    return Odds(
        refused=some(0.3, 0.3),
        named=rng.random(),
        server_error=some(0.4, 0.3),
        unreachable=some(0.3, 0.3),
        reset=some(0.4, 0.5),
        lost=some(0.6, 0.7),
        lag=some(0.3, 0.6),
        failing=some(0.3, 0.5),
        forgotten=some(0.3, 0.1),
        broken=some(0.3, 0.5),
        slow_upload=some(0.3, 0.5),
        crash=some(0.5, 0.08),
    )


def widen(odds: Odds, rng: random.Random) -> None:
    """Every other fault, each in some of the lives."""

    def some(chance: float, most: float) -> float:
        return rng.uniform(0, most) if rng.random() < chance else 0.0

    odds.absurd = some(0.4, 0.6)
    odds.odd_head = some(0.3, 0.3)
    odds.odd_end = some(0.4, 0.5)
    odds.swapped = some(0.25, 0.5)
    odds.bad_pair = some(0.2, 0.5)
    odds.odd_status = some(0.4, 0.5)
    odds.backwards = some(0.3, 0.5)
    odds.flipped = some(0.2, 0.4)
    odds.stranger = some(0.25, 0.4)
    odds.no_url = some(0.3, 0.9)
    odds.odd_page = some(0.5, 0.8)
    odds.endless = some(0.2, 0.5)
    odds.hidden = some(0.25, 0.6)
    odds.expired = some(0.3, 0.8)
    odds.odd_output = some(0.3, 0.5)
    odds.disk_error = some(0.4, 0.4)
    odds.torn_scan = some(0.3, 0.3)
    odds.ledger = some(0.25, 0.03)
    odds.stopped_clock = some(0.5, 1.0)
