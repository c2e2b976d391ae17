"""What commands print and how they exit: results to stdout, talk to stderr, one envelope for `--json`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import click

from chamelaion_watch.core.errors import ConfigError, LedgerUnavailable, Unauthorized, WatchError
from chamelaion_watch.core.model import Millis
from chamelaion_watch.edges.clock import utc_offset_s

OK, FAILED, USAGE, NO_INPUT, UNAVAILABLE, HELD, TEMPORARY, UNAUTHORIZED, CONFIG = 0, 1, 2, 66, 69, 73, 75, 77, 78


def emit(command: str, data: Any, *, ok: bool = True, warnings: Sequence[str] = ()) -> None:
    """Print the envelope that scripts read."""
    envelope = {"schema_version": 1, "command": command, "ok": ok, "data": data, "warnings": list(warnings)}
    click.echo(json.dumps(envelope, ensure_ascii=False, indent=2).encode("utf-8", "backslashreplace").decode())


def say(text: str) -> None:
    """Talk to the person at the terminal."""
    click.echo(text, err=True)


def leave(code: int, *lines: str) -> NoReturn:
    """Say why, and exit."""
    for line in lines:
        say(line)
    sys.exit(code)


@contextlib.contextmanager
def exits() -> Iterator[None]:
    """Turn the errors that a command may meet into their exit codes, with what to do."""
    try:
        yield
    except ConfigError as error:
        leave(CONFIG, *error.problems)
    except LedgerUnavailable as error:
        leave(HELD if error.code == "ledger_held" else UNAVAILABLE, error.message)
    except Unauthorized as error:
        leave(UNAUTHORIZED, error.message)
    except WatchError as error:
        leave(FAILED, error.message)


def instant(at: Millis | None) -> str:
    """Show an instant in local time."""
    if at is None:
        return "-"
    return datetime.fromtimestamp(at / 1000 + utc_offset_s(), tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def utc(at: Millis | None) -> str | None:
    """Show an instant for machines: ISO 8601, UTC."""
    return None if at is None else datetime.fromtimestamp(at / 1000, tz=UTC).isoformat(timespec="milliseconds")


def table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> None:
    """Print a table, with rich on a terminal and as plain columns in a pipe."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    drawn = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        drawn.add_row(*("" if cell is None else str(cell).replace("[", r"\[") for cell in row))
    if sys.stdout.isatty():
        console.print(drawn)
        return
    for row in (head, *rows):
        click.echo("\t".join("" if cell is None else str(cell) for cell in row))
