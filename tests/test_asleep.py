"""Packed scopes, and the looks that those need which only the ledger has seen."""

from __future__ import annotations

import os

from chamelaion_watch.core.asleep import Asleep
from chamelaion_watch.core.model import RelPath, Source
from tests.builders import source

ODD = os.fsdecode(b"caf\xe9.mp4")


def scope(name: str, count: int) -> list[Source]:
    return [source(f"{name}/s{number}.mp4") for number in range(count)]


def asleep(**counts: int) -> Asleep:
    made = Asleep()
    for name, count in counts.items():
        made.put(name, scope(name, count), is_verified=False)
    return made


def test_what_is_packed_comes_out_as_it_was() -> None:
    made, sources = Asleep(), [source(ODD), source("b.wav")]
    made.put("", sources)
    assert ("" in made, list(made), made.files) == (True, [""], 2)
    assert made.sources("") == {one.path: one for one in sources}
    assert made.take("") == sources
    assert ("" in made, list(made), made.files, made.sources("")) == (False, [], 0, {})


def test_a_scope_that_is_not_here_has_no_files() -> None:
    made = asleep(a=1)
    assert made.sources("b") == {}
    assert list(made.sources("a")) == ["a/s0.mp4"]


def verify(made: Asleep, most: int) -> list[RelPath]:
    paths = made.to_verify(most)
    made.verified(paths)
    return [path.partition("/")[0] for path in paths]


def test_whole_scopes_are_looked_at_one_after_another_and_a_large_one_by_itself() -> None:
    made = asleep(a=2, b=2, c=9, d=1)
    assert verify(made, 4) == ["a", "a", "b", "b"]
    assert (verify(made, 4), made.is_verified) == (["c"] * 9, False)
    assert (verify(made, 4), made.is_verified) == (["d"], True)
    assert verify(made, 4) == []


def test_what_was_not_looked_at_after_all_is_asked_for_again() -> None:
    made = asleep(a=2, b=2)
    first = made.to_verify(2)
    made.verified([])  # a scan that failed, or found the root unwell
    assert made.to_verify(2) == first
    made.verified(first)
    assert verify(made, 9) == ["b", "b"]


def test_a_scope_that_was_woken_meanwhile_is_passed_over() -> None:
    made = asleep(a=1, b=1)
    made.take("a")
    assert verify(made, 1) == ["b"]
    assert made.is_verified


def test_one_that_is_woken_while_it_is_looked_at_takes_no_look_from_the_others() -> None:
    made = asleep(a=1, b=1, c=1)
    looked_at = made.to_verify(2)
    made.take("a")
    made.verified(looked_at)
    assert (made.awaits_look("b"), made.awaits_look("c")) == (False, True)


def test_what_was_watched_when_it_was_packed_needs_no_look() -> None:
    made = Asleep()
    made.put("a", scope("a", 3))
    assert made.is_verified


def test_a_file_takes_less_than_a_hundred_bytes() -> None:
    made = Asleep()
    made.put("Show 04/Episode 12", [source(f"Show 04/Episode 12/Scene {number:04}.mp4") for number in range(100)])
    assert len(made._packed["Show 04/Episode 12"]) / 100 < 100
