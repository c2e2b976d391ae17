"""Whole lives of the daemon in a simulated world: faults, people, crashes, and what must hold nevertheless.

`python -m tests.sim SEED` replays one with a trace; `FIRST-LAST` lives many. See `tests.sim` for the table of what is
checked where. Two kinds of lives are pinned: seeds, as narrow lives, whose draws do not change when the simulation
grows; and scripts, which set their faults by hand.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from loguru import logger

from chamelaion_watch.core.model import Job, JobState, Millis, RootState
from chamelaion_watch.core.policy import Policy
from chamelaion_watch.sandbox.limits import Limits
from chamelaion_watch.service import LEDGER_RETRY_S
from tests.sim.__main__ import memory as in_memory
from tests.sim.clock import START
from tests.sim.counts import Counts
from tests.sim.disk import SimFile
from tests.sim.life import LEDGER_RETRY_MS, MINUTE_MS, Life
from tests.sim.script import live
from tests.support import commit_seed

IS_CI = commit_seed() is not None
LIVES = 280 if IS_CI else 40
BATCH = 20
DRAWN_LIVES = 100 if IS_CI else 20
LARGEST_SEED = 10**9
PINNED = {
    6: "content that is back after other content, and a restart between: its run was paid, the loop was busy",
    8: "a probe inside the time that a 500 had named",
    37: "a delivery wrote into a temp that was being removed as a dead one's",
    96: "a source that went while the daemon was down kept its job queued for ever",
    40482: "the note of a newer job was removed with the older one's, and so asked for a run that nobody wanted",
    30989: "content that came during a doubt was forgotten when the doubt was cancelled",
    8448: "a 412 let polls pass inside the time that a 503 had named",
    1619: "a source that went and came back had its failed run paid for again",
}


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    logger.remove()


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder for ledgers: in memory where the system has it, for nothing here is about the disk."""
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        yield Path(folder)


# -- drawn lives --------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(1, LIVES, BATCH))
def test_lives(first: int, memory: Path) -> None:
    for seed in range(first, first + BATCH):
        lived(seed, memory)


@pytest.mark.timeout(600)  # for a machine that others share
@settings(max_examples=DRAWN_LIVES, database=None, phases=[Phase.generate])  # a smaller seed is no simpler life
@given(st.integers(LIVES + 1, LARGEST_SEED))
def test_lives_that_each_commit_draws_anew(seed: int) -> None:
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        lived(seed, Path(folder))


@pytest.mark.parametrize("seed", PINNED)
def test_lives_that_broke_once(seed: int, memory: Path) -> None:
    lived(seed, memory, is_narrow=True)


@pytest.mark.parametrize("seed", [8628, 13459])
def test_a_temp_whose_removal_failed_is_removed_later(seed: int, memory: Path) -> None:
    lived(seed, memory)


@pytest.mark.parametrize("seed", [34933, 38314, 46468, 57224, 58059, 79256, 94205])
def test_lives_that_broke_among_the_hundred_thousand(seed: int, memory: Path) -> None:
    lived(seed, memory)


@pytest.mark.parametrize("seed", range(11, 19))
def test_a_seed_is_the_whole_of_a_life(seed: int, memory: Path) -> None:
    traces: list[list[str]] = [[], []]
    for number, trace in enumerate(traces):
        (folder := memory / str(number)).mkdir()
        live(seed, folder, trace.append)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 20


def lived(seed: int, memory: Path, *, is_narrow: bool = False) -> None:
    (folder := memory / str(seed)).mkdir()
    try:
        live(seed, folder, is_narrow=is_narrow)
    except Exception as error:
        how = "--narrow " if is_narrow else ""
        raise AssertionError(f"replay with `python -m tests.sim {how}{seed}`: {error}") from error


# -- scripts ------------------------------------------------------------------------------------------


def pairs(life: Life, count: int, *, root: str = "a") -> None:
    for number in range(count):
        for ending in (".mp4", ".wav"):
            name = f"s{number:02}{ending}"
            life.roots[root].media[name] = SimFile(f"{name} of {root}", 5_000, 1)


@pytest.mark.parametrize("window", ["fixed", "sliding"])
@pytest.mark.parametrize("processing_s", [0.5, 5.0, 30.0, 90.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_threat_56_five_a_minute_at_the_server_costs_two_429s_at_most(
    window: str, processing_s: float, seed: int, memory: Path
) -> None:
    limits = Limits(rpm=5, window=window, retry_after="none", queue_s=0.5, processing_s=processing_s)
    life = Life(seed, memory, limits=limits, policy=Policy(max_in_flight=8))
    life.odds.named = 0.0
    pairs(life, 10)
    life.run(START + 1_000)
    assert life.states() == {JobState.DONE: 10}
    assert life.service.refusals <= 2


@pytest.mark.parametrize("cap", [1, 3])
def test_a_cap_at_the_server_is_learned_and_everything_gets_done(cap: int, memory: Path) -> None:
    life = Life(5, memory, limits=Limits(rpm=None, cap=cap, processing_s=40.0))
    pairs(life, 10)
    life.run(START + 1_000)
    assert life.states() == {JobState.DONE: 10}
    assert life.service.refusals <= 4


def test_a_quiet_life_sends_each_pair_once_and_asks_little(memory: Path) -> None:
    life = Life(9, memory)
    pairs(life, 4)
    life.run(START + 1_000)
    assert (life.states(), life.boots, life.counts.submissions) == ({JobState.DONE: 4}, 1, 4)


# -- a share that hangs -------------------------------------------------------------------------------

HUNG_POLICY = Policy(uploads=1, downloads=1, max_in_flight=2)


def hanging(life: Life, root: str, at_s: float, until_s: float) -> None:
    for when_s, is_hung in ((at_s, True), (until_s, False)):
        life.schedule.after(round(when_s * 1000), partial(setattr, life.roots[root], "is_hung", is_hung))


def done_at(life: Life, root: str, count: int) -> Callable[[], Millis | None]:
    """When a root had all its outputs, or None."""
    seen: list[Millis] = []

    def look() -> None:
        if len(life.roots[root].outputs) >= count:
            seen.append(life.clock.at)
        else:
            life.schedule.after(1_000, look)

    look()
    return lambda: seen[0] if seen else None


@pytest.mark.parametrize("at_s", [0.001, 5, 9, 12, 15, 18, 21, 24, 30, 40, 50, 70, 100])
def test_threat_26_a_share_that_hangs_for_an_hour_holds_up_no_other(at_s: float, memory: Path) -> None:
    """At whatever step it hangs, with slots for one upload and one download: all of them may be its own."""
    life = Life(3, memory, roots=2, limits=Limits(rpm=None, processing_s=20.0), policy=HUNG_POLICY)
    pairs(life, 4, root="a")
    pairs(life, 4, root="b")
    hanging(life, "a", at_s, 3_600)
    end = done_at(life, "b", 4)
    life.run(START + 60 * MINUTE_MS)
    done = end()
    assert done is not None
    assert done - START < 15 * MINUTE_MS
    assert life.states() == {JobState.DONE: 8}


def test_a_copy_that_lies_on_a_hung_share_is_fetched_instead(memory: Path) -> None:
    life = Life(4, memory, roots=2, limits=Limits(rpm=None, processing_s=5.0))
    pairs(life, 1, root="a")
    hanging(life, "a", 120, 3_600)

    def drop() -> None:
        for path, file in life.roots["a"].media.items():
            life.roots["b"].media[path] = SimFile(file.content, 5_000, 1)

    life.schedule.after(300_000, drop)
    end = done_at(life, "b", 1)
    life.run(START + 60 * MINUTE_MS)
    done = end()
    assert done is not None
    assert done - START < 15 * MINUTE_MS
    assert life.counts.paid == 1


# -- doubts that end in a restart, clocks, ledgers ----------------------------------------------------


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000, 400 * 86_400_000, -400 * 86_400_000])
@pytest.mark.parametrize("at_s", [5, 25, 40, 61])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_threat_78_a_clock_that_jumps_stops_nothing(jump_ms: int, at_s: int, is_restarted: bool, memory: Path) -> None:
    """While the daemon runs nothing; over a restart a poll waits for 5 min at most, and nothing is paid twice."""
    life = Life(6, memory, limits=Limits(rpm=None, processing_s=30.0))
    life.odds.lag = 1.0  # so that there is a doubt whose grace the jump could end
    pairs(life, 3)
    life.schedule.after(at_s * 1000, partial(life.set_wall_clock, jump_ms))
    if is_restarted:
        life.schedule.after(at_s * 1000 + 7_000, life.crash)
    end = done_at(life, "a", 3)
    life.run(START + 15 * MINUTE_MS)
    done = end()
    assert done is not None
    assert done - START < (12 if is_restarted else 3) * MINUTE_MS
    assert (life.states(), life.counts.paid) == ({JobState.DONE: 3}, 3)


@pytest.mark.parametrize("at_ms", range(12_000, 24_000, 500))
def test_threat_05_ten_minutes_of_nothing_pay_for_nothing_twice(at_ms: int, memory: Path) -> None:
    """SIGSTOP, or a lid that is closed: what was going to be sent is not sent by an old decision."""
    life = Life(7, memory, limits=Limits(rpm=None, processing_s=5.0))
    life.odds.stopped_clock = 1.0
    pairs(life, 2)
    life.schedule.after(at_ms, partial(life.freeze, 600_000))
    life.run(START + 15 * MINUTE_MS)
    assert (life.states(), life.counts.paid) == ({JobState.DONE: 2}, 2)


def test_threat_15_nothing_is_sent_while_the_ledgers_disk_is_full(memory: Path) -> None:
    life = Life(8, memory)
    life.ledger_disk.is_full = True
    pairs(life, 2)
    sent: list[int] = []
    life.schedule.after(590_000, lambda: sent.append(life.counts.submissions))
    life.run(START + 10 * MINUTE_MS)
    assert sent == [0]
    assert life.states() == {JobState.DONE: 2}


@pytest.mark.parametrize("seed", range(30))
def test_a_commit_that_fails_and_was_written_pays_for_nothing_twice(seed: int, memory: Path) -> None:
    life = Life(seed, memory, limits=Limits(rpm=None, processing_s=5.0))
    life.odds.ledger = 0.1
    life.odds.lost = 0.3
    pairs(life, 3)
    life.run(START + 3 * MINUTE_MS)
    assert life.counts.ledger_failures > 0


def test_what_the_service_asked_for_holds_over_a_failure_of_the_ledger(memory: Path) -> None:
    """Seed 463: the tick that heard of a Retry-After could not be committed, and the next session polled inside it."""
    counts = Counts()
    for seed in range(20):
        life = Life(seed, memory / str(seed), limits=Limits(rpm=None, processing_s=20.0))
        life.odds.ledger, life.odds.refused, life.odds.named = 0.2, 0.4, 1.0
        pairs(life, 3)
        life.run(START + 5 * MINUTE_MS)
        counts.add(life.counts)
    assert counts.ledger_failures > 20
    assert counts.r429 > 20


def test_threat_27_an_empty_mount_point_in_the_middle_of_a_scan_is_no_deletion(memory: Path) -> None:
    life = Life(10, memory, limits=Limits(rpm=None, processing_s=120.0))
    life.odds.torn_scan = 1.0
    pairs(life, 3)
    root = life.roots["a"]

    def flap(is_bare: bool) -> None:
        root.is_bare, root.health = is_bare, RootState.NOT_MOUNTED if is_bare else RootState.OK
        life.schedule.after(15_000, partial(flap, not is_bare))

    life.schedule.after(40_000, partial(flap, True))
    jobs: list[Job] = []
    life.schedule.after(9 * MINUTE_MS, lambda: jobs.extend(life.jobs()))
    life.run(START + 10 * MINUTE_MS, begin_peace=lambda: None)
    assert not [job for job in jobs if job.state is JobState.CANCELLED]
    assert (life.states(), life.counts.paid) == ({JobState.DONE: 3}, 3)


def test_the_simulation_waits_for_a_failed_ledger_as_the_service_does() -> None:
    assert LEDGER_RETRY_S * 1000 == LEDGER_RETRY_MS
