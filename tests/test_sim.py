"""Whole lives of the daemon in a simulated world: faults, people, crashes, and what must hold nevertheless.

`python -m tests.sim SEED` replays one with a trace; `FIRST-LAST` lives many.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chamelaion_watch.core.model import JobState
from chamelaion_watch.core.policy import Policy
from chamelaion_watch.sandbox.limits import Limits
from tests.sim.clock import START
from tests.sim.disk import SimFile
from tests.sim.life import Life
from tests.sim.script import live

LIVES = 120
BATCH = 10
MEMORY = "/dev/shm"
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


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder for ledgers: in memory where the system has it, for nothing here is about the disk."""
    with tempfile.TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("first", range(1, LIVES, BATCH))
def test_lives(first: int, memory: Path) -> None:
    for seed in range(first, first + BATCH):
        lived(seed, memory)


@pytest.mark.parametrize("seed", PINNED)
def test_lives_that_broke_once(seed: int, memory: Path) -> None:
    lived(seed, memory)


def lived(seed: int, memory: Path) -> None:
    (folder := memory / str(seed)).mkdir()
    try:
        live(seed, folder)
    except Exception as error:
        raise AssertionError(f"replay with `python -m tests.sim {seed}`: {error}") from error


def pairs(life: Life, count: int) -> None:
    for number in range(count):
        for ending in (".mp4", ".wav"):
            name = f"s{number:02}{ending}"
            life.roots["a"].media[name] = SimFile(name, 5_000, 1)


@pytest.mark.parametrize("window", ["fixed", "sliding"])
@pytest.mark.parametrize("processing_s", [0.5, 5.0, 30.0, 90.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_five_a_minute_at_the_server_costs_two_429s_at_most(
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
    assert (life.states(), life.boots, len(life.service.arrivals)) == ({JobState.DONE: 4}, 1, 4)


def test_a_seed_is_the_whole_of_a_life(memory: Path) -> None:
    traces: list[list[str]] = [[], []]
    for number, trace in enumerate(traces):
        (folder := memory / str(number)).mkdir()
        live(11, folder, trace.append)
    assert traces[0] == traces[1]
