from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chamelaion_watch.core.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("scene01.mp4", "scene01.mp4"),
        ("Szene über 日本 👩‍👩‍👧.mp4", "Szene über 日本 👩‍👩‍👧.mp4"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred\x07", "\\e[31mred\\x07"),
        ("x\x85y\x7f", "x\\x85y\\x7f"),
        ("evil\u202egpj.mp4", "evil\\u202egpj.mp4"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\u2028para\u2029", "line\\u2028para\\u2029"),
        ("tag\U000e0041", "tag\\U000e0041"),
        (os.fsdecode(b"caf\xe9.mp4"), "caf\\xe9.mp4"),
        ("lone\ud800", "lone\\ud800"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_threat_38_44_what_cannot_be_seen_becomes_a_visible_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_long_text_is_cut_with_an_ellipsis() -> None:
    assert printable("x" * 300) == "x" * 300
    assert printable("x" * 301) == "x" * 299 + "…"


def test_an_escape_is_never_cut_in_the_middle() -> None:
    assert printable("abc\n", 5) == "abc\\n"
    assert printable("abc\n", 4) == "abc…"
    assert printable("abc\nd", 5) == "abc…"


def test_a_megabyte_costs_no_more_than_its_beginning() -> None:
    assert len(printable("<\x00>" * 1_000_000, 300)) <= 300


@given(st.text(alphabet=st.characters()), st.integers(0, 40))
def test_the_result_is_one_encodable_line_within_the_limit(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
