"""No row of threats.md is silently missing."""

from __future__ import annotations

import pytest

from tests.threats.table import ROWS, by_row, names_of_tests, rows_of


def test_the_table_has_all_85_rows_in_their_order() -> None:
    assert [row.number for row in ROWS] == list(range(1, 86))
    assert all(row.title and row.how for row in ROWS)


def test_each_row_has_a_test_or_a_reason() -> None:
    found = by_row(names_of_tests())
    assert [row.number for row in ROWS if not found.get(row.number) and not row.not_here] == []


def test_no_test_is_named_after_a_row_that_does_not_exist() -> None:
    names = names_of_tests()
    assert len(names) > 200
    for name in names:
        assert rows_of(name), name
        assert set(rows_of(name)) <= set(range(1, 86)), name


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("test_threat_14_a_fact", [14]),
        ("test_threat_14_15_a_fact", [14, 15]),
        ("test_threat_42_300_megabytes", [42]),
        ("test_a_fact", []),
    ],
)
def test_rows_are_read_off_a_name(name: str, rows: list[int]) -> None:
    assert rows_of(name) == rows
