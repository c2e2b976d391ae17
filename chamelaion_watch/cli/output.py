"""What commands print, the times that people type, and how commands exit.

Results go to stdout, talk to stderr; `--json` prints one envelope for scripts.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

import click

from chamelaion_watch.core.errors import (
    AccountProblem,
    ConfigError,
    LedgerUnavailable,
    RootProblem,
    Unauthorized,
    WatchError,
)
from chamelaion_watch.core.model import Millis
from chamelaion_watch.edges.clock import utc_offset_s
from chamelaion_watch.units import duration_s

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

OK, FAILED, USAGE, NO_INPUT, UNAVAILABLE, HELD, TEMPORARY, UNAUTHORIZED, CONFIG = 0, 1, 2, 66, 69, 73, 75, 77, 78

# What JSON lets through and a terminal obeys or hides, and what is no text at all: escaped, it means the same.
_HIDDEN = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

json_option = click.option("--json", "as_json", is_flag=True, help="Print the facts as one JSON object, for scripts.")


def emit(command: str, data: Any, *, ok: bool = True, warnings: Sequence[str] = ()) -> None:
    """Print the envelope that scripts read."""
    envelope = {"schema_version": 1, "command": command, "ok": ok, "data": data, "warnings": list(warnings)}
    text = json.dumps(envelope, ensure_ascii=False, indent=2)
    click.echo(_HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def say(text: str) -> None:
    """Talk to the person at the terminal."""
    click.echo(text, err=True)


def leave(code: int, *lines: str) -> NoReturn:
    """Say why, and exit."""
    for line in lines:
        say(line)
    sys.exit(code)


@contextlib.contextmanager
def exits(json_of: str | None = None) -> Iterator[None]:
    """Turn the errors that a command may meet into their exit codes, with what to do.

    `json_of` is the command's name if it was asked for JSON: then the envelope says so as well.
    """
    try:
        yield
    except WatchError as error:
        lines = error.problems if isinstance(error, ConfigError) else [error.message]
        if json_of is not None:
            emit(json_of, None, ok=False, warnings=lines)
        leave(exit_code(error), *lines)


def exit_code(error: WatchError) -> int:
    """Return the exit code that an error stands for."""
    match error:
        case ConfigError():
            return CONFIG
        case LedgerUnavailable():
            return HELD if error.code == "ledger_held" else UNAVAILABLE
        case RootProblem():
            return UNAVAILABLE
        case Unauthorized():
            return UNAUTHORIZED
        case AccountProblem():
            return TEMPORARY
        case _:
            return FAILED


# -- times --------------------------------------------------------------------------------------------


def instant(at: Millis | None) -> str:
    """Show an instant in local time."""
    if at is None:
        return "-"
    return datetime.fromtimestamp(at / 1000 + utc_offset_s(), tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def utc(at: Millis | None) -> str | None:
    """Show an instant for machines: ISO 8601, UTC."""
    return None if at is None else datetime.fromtimestamp(at / 1000, tz=UTC).isoformat(timespec="milliseconds")


def moment(text: str, now: Millis, *, is_past: bool = False) -> Millis:
    """Return the instant that `2026-11-23 08:00`, `08:00` or `2h` means to a person here: the next one, or the last.

    Raises click.UsageError.
    """
    with contextlib.suppress(ValueError):
        span = round(duration_s(text) * 1000)
        return now - span if is_past else now + span
    try:
        if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}", text):
            return _at_time_of_day(time.fromisoformat(text.zfill(5)), now, is_past=is_past)
        return round(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(
            f"{text!r} is no time: write `2026-11-23 08:00`, `08:00`, or a span such as 2h"
        ) from error


def _at_time_of_day(clock: time, now: Millis, *, is_past: bool) -> Millis:
    today = datetime.fromtimestamp(now / 1000, tz=UTC).astimezone().date()
    days = [datetime.combine(today + timedelta(days=off), clock).astimezone() for off in (-1, 0, 1)]
    instants = [round(day.timestamp() * 1000) for day in days]
    if is_past:
        return max(at for at in instants if at <= now)
    return min(at for at in instants if at > now)


# -- tables -------------------------------------------------------------------------------------------


class Grid(NamedTuple):
    """Rows below their titles."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]


Page: TypeAlias = Sequence[str | Grid]


def table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> None:
    """Print a table, with rich on a terminal and as plain columns in a pipe."""
    show([Grid(head, rows)])


def show(page: Page) -> None:
    """Print lines and tables, with rich on a terminal and plain, with tabs, in a pipe."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(drawn(page))
        return
    for part in page:
        click.echo(part if isinstance(part, str) else "\n".join(_plain(part)))


def drawn(page: Page) -> Group:
    """Return lines and tables as rich draws them."""
    from rich.console import Group
    from rich.text import Text

    return Group(*(Text(part) if isinstance(part, str) else _drawn_grid(part) for part in page))


def _drawn_grid(grid: Grid) -> Table:
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in grid.head:
        made.add_column(title, overflow="fold")
    for row in grid.rows:
        made.add_row(*(Text(_cell(cell)) for cell in row))
    return made


def _plain(grid: Grid) -> Iterator[str]:
    for row in (grid.head, *grid.rows):
        yield "\t".join(map(_cell, row))


def _cell(cell: Any) -> str:
    return "" if cell is None else str(cell)
