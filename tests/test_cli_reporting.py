"""`report` and `prune` on real ledgers."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from chamelaion_watch.cli.reporting import COLUMNS
from chamelaion_watch.core.model import JobState
from chamelaion_watch.edges.clock import SystemClock
from tests.test_cli_looking import AT, JOB, Place, place

__all__ = ["place"]

DONE = replace(
    JOB,
    state=JobState.DONE,
    accepted_at=AT + 1000,
    rendered_at=AT + 3500,
    changed_at=AT + 5000,
    output="scene01.de.lipsync.mp4",
    output_bytes=2000,
)
DAY = 86_400_000


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_report_has_one_line_per_job_with_its_times(place: Place) -> None:
    place.add(DONE, replace(JOB, key="b", state=JobState.RENDERING))
    first, second = rows(place.run("report").stdout)
    assert (first["job"], first["folder"], first["name"], first["lang"]) == ("1", "drop", "scene01.de", "de")
    assert (first["state"], first["finished_at"]) == ("done", "2026-11-18T11:06:45.000+00:00")
    assert (first["rendering_s"], first["output"], first["output_bytes"]) == ("2.5", "scene01.de.lipsync.mp4", "2000")
    assert (second["state"], second["finished_at"]) == ("rendering", "")


def test_both_formats_have_the_same_columns(place: Place) -> None:
    place.add(DONE)
    envelope = place.json("report")
    assert tuple(envelope["data"][0]) == COLUMNS == tuple(rows(place.run("report").stdout)[0])
    assert place.run("report", "--format", "json").stdout == place.run("report", "--json").stdout


def test_an_empty_report_still_has_its_head(place: Place) -> None:
    place.add()
    assert place.run("report").stdout == ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@x"])
def test_a_name_that_is_a_formula_is_not_one_in_a_spreadsheet(place: Place, name: str) -> None:
    place.add(replace(DONE, key=name))
    assert rows(place.run("report").stdout)[0]["name"] == f"'{name}"
    assert place.json("report")["data"][0]["name"] == name


def test_threat_38_a_name_with_quotes_commas_and_line_breaks_stays_in_its_cell(place: Place) -> None:
    place.add(replace(DONE, key='a,"b"\nc'))
    (row,) = rows(place.run("report").stdout)
    assert row["name"] == 'a,"b"\\nc'


def test_since_leaves_out_what_did_not_change_since(place: Place) -> None:
    now = SystemClock().now()
    place.add(replace(DONE, changed_at=now - 3 * DAY), replace(DONE, changed_at=now - DAY // 2))
    assert [row["job"] for row in rows(place.run("report", "--since", "1d").stdout)] == ["2"]
    assert place.run("report", "--since", "soon").exit_code == 2


def test_prune_forgets_old_history_and_keeps_what_was_paid_for(place: Place) -> None:
    now = SystemClock().now()
    old = now - 100 * DAY
    place.add(
        replace(DONE, changed_at=old),
        replace(JOB, state=JobState.FAILED, changed_at=old, key="b"),
        replace(DONE, changed_at=old),  # the newest of its pair
        replace(DONE, changed_at=now, key="c"),
    )
    assert place.run("prune", "--older-than", "90d").stdout == "1 jobs forgotten\n"
    assert [job["id"] for job in place.json("jobs")["data"]] == [2, 3, 4]
    assert place.json("prune", "--older-than", "90d")["data"]["removed"] == 0


def test_prune_works_beside_a_running_daemon(place: Place) -> None:
    place.add(DONE)
    with place.daemon():
        assert place.run("prune", "--older-than", "1d").exit_code == 0


@pytest.mark.parametrize("age", [(), ("--older-than", "90"), ("--older-than", "1h"), ("--older-than", "x")])
def test_prune_without_a_sound_age_is_a_usage_error(place: Place, age: tuple[str, ...]) -> None:
    place.add(DONE)
    assert place.run("prune", *age).exit_code == 2
