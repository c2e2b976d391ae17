"""Durations and sizes: what people write, what they get, what they are told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chamelaion_watch.units import duration_s, duration_text, size_bytes, size_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("500ms", 0.5),
        ("5m", 300.0),
        ("6h", 21_600.0),
        ("90d", 7_776_000.0),
        ("1.5h", 5400.0),
        ("0.25s", 0.25),
        ("0s", 0.0),
    ],
)
def test_durations_are_seconds(text: Any, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1024B", 1024),
        ("1KiB", 1024),
        ("2GiB", 2 * 2**30),
        ("64MB", 64_000_000),
        ("1kB", 1000),
        ("1.5MiB", 1_572_864),
        ("3TB", 3 * 10**12),
    ],
)
def test_sizes_are_bytes(text: Any, count: int) -> None:
    assert size_bytes(text) == count


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (10, "a number needs a unit: write 10s"),
        (1.5, "a number needs a unit: write 1.5s"),
        ("10", "a number needs a unit: write 10s"),
        (True, "must be a number and a unit such as 10s"),
        (None, "must be a number and a unit such as 10s"),
        (["10s"], "must be a number and a unit such as 10s"),
        ("10 s", "must be a number and a unit; did you mean 10s?"),
        ("5M", "must be a number and a unit; did you mean 5m?"),
        ("ten", "must be a number and a unit such as 10s (units: d, h, m, s, ms)"),
        ("", "must be a number and a unit such as 10s (units: d, h, m, s, ms)"),
        ("-5s", "must be a number and a unit such as 10s (units: d, h, m, s, ms)"),
        ("1h30m", "must be a number and a unit such as 10s (units: d, h, m, s, ms)"),
        ("१s", "must be a number and a unit such as 10s (units: d, h, m, s, ms)"),
        ("10s\n", "must be a number and a unit; did you mean 10s?"),
        ("0.0001s", "0.0001s is finer than a millisecond"),
        ("36501d", "36501d is too long: at most 36500d"),
        ("9" * 5000 + "s", "must be a number and a unit such as 10s (units: d, h, m, s, ms)"),
    ],
)
def test_a_wrong_duration_says_what_to_write(value: Any, words: str) -> None:
    with pytest.raises(ValueError) as error:
        duration_s(value)
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1024, "a number needs a unit: write 1024B"),
        ("1024", "a number needs a unit: write 1024B"),
        ("64mb", "must be a number and a unit; did you mean 64MB?"),
        ("1 KiB", "must be a number and a unit; did you mean 1KiB?"),
        ("1K", "must be a number and a unit such as 1KiB (units: TiB, GiB, MiB, KiB, TB, GB, MB, kB, B)"),
        ("0.5B", "0.5B is not a whole number of bytes"),
        ("99999999TiB", "99999999TiB is larger than any file can be"),
        ({}, "must be a number and a unit such as 1KiB"),
    ],
)
def test_a_wrong_size_says_what_to_write(value: Any, words: str) -> None:
    with pytest.raises(ValueError) as error:
        size_bytes(value)
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.5, "500ms"), (90.0, "90s"), (120.0, "2m"), (7_776_000.0, "90d"), (1.5, "1500ms")],
)
def test_a_duration_is_written_in_the_largest_exact_unit(seconds: float, text: Any) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (1, "1B"), (1024, "1KiB"), (1025, "1025B"), (64_000_000, "64MB"), (50 * 2**30, "50GiB")],
)
def test_a_size_is_written_in_the_largest_exact_unit(count: int, text: Any) -> None:
    assert size_text(count) == text


@settings(max_examples=300)
@given(st.integers(0, 36_500 * 86_400_000))
def test_every_duration_survives_writing_and_reading(ms: int) -> None:
    assert duration_s(duration_text(ms / 1000)) == ms / 1000


@settings(max_examples=300)
@given(st.integers(0, 10**15 - 1) | st.integers(0, 2**13).map(lambda n: n * 2**40))
def test_every_size_survives_writing_and_reading(count: int) -> None:
    assert size_bytes(size_text(count)) == count


@settings(max_examples=300)
@given(
    st.text() | st.integers() | st.floats() | st.none() | st.from_regex(r"[0-9.]{1,20} ?[a-zA-Z]{0,3}", fullmatch=True)
)
def test_whatever_is_written_is_a_value_or_a_value_error(value: Any) -> None:
    for parse in (duration_s, size_bytes):
        try:
            outcome: Any = parse(value)
        except ValueError as error:
            outcome = str(error)
        assert 0 < len(outcome) < 400 if isinstance(outcome, str) else outcome >= 0
