"""What is known of a root's files: a mapping, however it is packed."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from chamelaion_watch.core.known import Known, Memory
from chamelaion_watch.core.model import Signature
from tests.builders import sha

PATHS = ["s.mp4", "a/s.mp4", "a/t.wav", "a/b/s.mp4", "b/s.mp4", os.fsdecode(b"a/caf\xe9.mp4")]
CHANGES = st.lists(st.tuples(st.sampled_from(["get", "set", "pop", "in"]), st.sampled_from(PATHS)), max_size=30)


def memory(number: int) -> Memory:
    return Signature(number, 10**18 + number), sha(str(number)), bool(number % 2)


@given(first=st.lists(st.sampled_from(PATHS), unique=True), changes=CHANGES)
def test_it_is_a_mapping(first: list[str], changes: list[tuple[str, str]]) -> None:
    plain = {path: memory(number) for number, path in enumerate(first)}
    known = Known(plain.items())
    for number, (change, path) in enumerate(changes):
        match change:
            case "get":
                assert known.get(path) == plain.get(path)
            case "set":
                known[path] = plain[path] = memory(number)
            case "pop":
                assert known.pop(path, None) == plain.pop(path, None)
            case _:
                assert (path in known) == (path in plain)
        assert len(known) == len(plain)
    assert dict(known) == plain


def test_what_is_taken_out_leaves_nothing_behind() -> None:
    known = Known((f"a/{number}", memory(number)) for number in range(1_000))
    assert sum(map(len, known._packed["a"])) < 150_000
    for number in range(1_000):
        assert known.pop(f"a/{number}") == memory(number)
    assert (known._packed, known._unpacked, len(known)) == ({}, {}, 0)
