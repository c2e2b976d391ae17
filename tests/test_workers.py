"""Threads that are used again."""

from __future__ import annotations

import itertools
import queue
import threading

from chamelaion_watch.workers import Workers
from tests.support import eventually


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def test_one_call_after_another_runs_in_one_thread() -> None:
    workers, ran = Workers(), list[tuple[int | None, str]]()
    for number in range(20):
        before = len(ran)
        workers.run(f"call {number}", lambda: ran.append((threading.get_ident(), threading.current_thread().name)))
        eventually(lambda before=before: len(ran) > before and workers._idle)  # type: ignore[misc]
    assert {ident for ident, _ in ran} == {ran[0][0]}
    assert [name for _, name in ran] == [f"call {number}" for number in range(20)]


def test_a_call_that_hangs_holds_up_no_other() -> None:
    workers, gate, done = Workers(), threading.Event(), queue.SimpleQueue[int]()
    workers.run("hangs", gate.wait)
    for number in range(5):
        workers.run("goes on", lambda number=number: done.put(number))  # type: ignore[misc]
    assert {done.get(timeout=10) for _ in range(5)} == {0, 1, 2, 3, 4}
    gate.set()


def test_a_thread_without_work_ends() -> None:
    before = threads()
    workers, ran = Workers(idle_s=0.05), threading.Event()
    workers.run("short", ran.set)
    assert ran.wait(10)
    eventually(lambda: threads() <= before)
    assert workers._idle == []


def test_no_call_is_lost_to_a_thread_that_is_about_to_end() -> None:
    workers, done = Workers(idle_s=0.0005), itertools.count()
    pause = threading.Event()
    for number in range(300):
        workers.run("now", lambda: next(done))
        pause.wait(0.0005 * (number % 3))
    eventually(lambda: repr(done) == "count(300)")
