"""What commands print, the times that people type, and how commands exit."""

from __future__ import annotations

import io
import json
import os
from datetime import datetime, timedelta

import click
import pytest
from rich.console import Console

from chamelaion_watch.cli import output
from chamelaion_watch.core.errors import (
    ConfigError,
    LedgerUnavailable,
    RootProblem,
    Transient,
    Unauthorized,
    Unreachable,
    WatchError,
)
from chamelaion_watch.core.model import RootState

NOON = round(datetime(2026, 11, 22, 12, 0).astimezone().timestamp() * 1000)
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2h", NOON + 2 * HOUR),
        ("90m", NOON + 90 * 60_000),
        ("13:30", NOON + 90 * 60_000),
        ("8:00", NOON + 20 * HOUR),
        ("12:00", NOON + 24 * HOUR),
        ("2026-11-23 08:00", NOON + 20 * HOUR),
        ("2026-11-23T08:00:00", NOON + 20 * HOUR),
    ],
)
def test_a_moment_is_the_next_one(text: str, at: int) -> None:
    assert output.moment(text, NOON) == at


@pytest.mark.parametrize(
    ("text", "at"), [("2h", NOON - 2 * HOUR), ("08:00", NOON - 4 * HOUR), ("13:00", NOON - 23 * HOUR)]
)
def test_a_moment_in_a_report_is_the_last_one(text: str, at: int) -> None:
    assert output.moment(text, NOON, is_past=True) == at


def test_a_moment_with_an_offset_is_taken_as_it_is_written() -> None:
    assert output.moment("1970-01-02T00:00:00+00:00", NOON) == timedelta(days=1).total_seconds() * 1000


@pytest.mark.parametrize("text", ["", "tomorrow", "25:00", "8", "2026-13-01", "-2h", "0001-01-01T00:00+23:00"])
def test_what_is_no_time_is_a_usage_error_that_says_how_to_write_one(text: str) -> None:
    with pytest.raises(click.UsageError, match="08:00"):
        output.moment(text, NOON)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(["config.yaml:1:1: wrong"]), 78),
        (LedgerUnavailable("gone"), 69),
        (LedgerUnavailable("held", code="ledger_held"), 73),
        (RootProblem("gone", root_state=RootState.MISSING), 69),
        (Unauthorized("no"), 77),
        (Unreachable("no network"), 75),
        (Transient("later"), 1),
    ],
)
def test_each_error_has_its_exit_code_and_its_envelope(
    error: WatchError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left, output.exits("status"):
        raise error
    printed = capsys.readouterr()
    envelope = json.loads(printed.out)
    assert left.value.code == code
    assert (envelope["ok"], envelope["data"], envelope["command"]) == (False, None, "status")
    assert envelope["warnings"] == [error.message] == printed.err.splitlines()


def test_threat_39_a_name_that_is_no_utf8_comes_back_as_its_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit("jobs", [os.fsdecode(b"caf\xe9.mp4"), "naïve 🎬"])
    assert [os.fsencode(name) for name in json.loads(capsys.readouterr().out)["data"]] == [
        b"caf\xe9.mp4",
        "naïve 🎬".encode(),
    ]


def test_a_pipe_gets_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(["head", output.Grid(("job", "why"), [(1, None), (2, "[red]no[/red]")])])
    assert capsys.readouterr().out == "head\njob\twhy\n1\t\n2\t[red]no[/red]\n"


def test_threat_38_44_on_a_terminal_a_name_is_never_taken_for_markup() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    console.print(output.drawn(["[bold]a[/bold]", output.Grid(("name",), [("[red]x[/red] [/]",)])]))
    assert isinstance(console.file, io.StringIO)
    assert "[bold]a[/bold]" in console.file.getvalue()
    assert "[red]x[/red] [/]" in console.file.getvalue()
