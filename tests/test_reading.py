"""Which file is read next."""

from __future__ import annotations

from chamelaion_watch.core.model import Signature
from chamelaion_watch.core.reading import LARGE_BYTES, Reading

SMALL, LARGE = Signature(5_000, 1), Signature(LARGE_BYTES, 1)


def test_files_are_read_in_the_order_in_which_they_were_wanted() -> None:
    reading = Reading()
    for path in ("b", "a"):
        reading.want(path, SMALL)
    assert reading.next() == ("b", SMALL)
    reading.begun("b", SMALL)
    assert reading.next() == ("a", SMALL)
    reading.want("a", None)
    assert reading.next() is None


def test_a_file_that_changed_while_it_was_read_is_read_again_afterwards() -> None:
    reading = Reading()
    reading.want("a", SMALL)
    reading.begun("a", SMALL)
    reading.want("a", Signature(6_000, 2))
    assert reading.next() is None
    reading.ended("a")
    assert reading.next() == ("a", Signature(6_000, 2))


def test_two_large_files_are_not_read_at_once() -> None:
    reading = Reading()
    reading.want("a", LARGE)
    reading.want("b", LARGE)
    reading.want("c", SMALL)
    reading.begun("a", LARGE)
    assert reading.next() == ("c", SMALL)
    reading.ended("a")
    reading.want("a", None)
    assert reading.next() == ("b", LARGE)
