"""`retry`, `cancel`, `pause`, `resume`, `adopt`: what a person may ask for.

The first four only append to the ledger's table of commands: the daemon applies them within a second, or when it
runs again. `adopt` writes the sentinel of a folder itself, and nothing else on the share.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import click

from chamelaion_watch.cli import Globals
from chamelaion_watch.cli.looking import Opened, folder_named, job_or_leave, opened
from chamelaion_watch.cli.output import HELD, NO_INPUT, emit, exits, json_option, leave, moment, say, utc
from chamelaion_watch.core.errors import RootProblem
from chamelaion_watch.core.model import Millis, RootState
from chamelaion_watch.core.text import printable
from chamelaion_watch.edges import mounts
from chamelaion_watch.edges.clock import SystemClock, monotonic_s
from chamelaion_watch.edges.ledger.protocol import CommandRow, RootRow
from chamelaion_watch.edges.ledger.sqlite import holder
from chamelaion_watch.restore import known_root
from chamelaion_watch.settings_model import FolderSettings

ANSWER_WITHIN_S = 3.0  # the daemon looks for commands each second
SNAPSHOT_WITHIN_S = 1.2  # it tells what it knows as soon as it has applied one, if that changed anything
LOOK_EVERY_S = 0.05

Wish = tuple[str, Mapping[str, str]]  # verb and arguments


@click.command("retry", short_help="Try jobs again (JOB…, or --failed).")
@click.argument("jobs", metavar="JOB...", type=int, nargs=-1)
@click.option("--failed", is_flag=True, help="All that are `failed` now.")
@json_option
@click.pass_obj
def retry_command(obj: Globals, jobs: tuple[int, ...], failed: bool, as_json: bool) -> None:
    """Try jobs again; JOB is a number that `jobs` shows.

    A doubtful job may have been paid for already, and a done one is rendered anew: both may cost again. A failed job
    whose result is paid for is only fetched again.

    Examples: chamelaion-watch retry 12 13, chamelaion-watch retry --failed
    """
    if bool(jobs) == failed:
        raise click.UsageError("name the jobs, or say --failed")
    json_of = "retry" if as_json else None
    with exits(json_of), opened(obj) as at:
        _ask(at, [("retry", {"failed": "1"})] if failed else _of_jobs(at, "retry", jobs, json_of), json_of)


@click.command("cancel", short_help="Cancel jobs: not sent, or not delivered.")
@click.argument("jobs", metavar="JOB...", type=int, nargs=-1, required=True)
@json_option
@click.pass_obj
def cancel_command(obj: Globals, jobs: tuple[int, ...], as_json: bool) -> None:
    """Cancel jobs; JOB is a number that `jobs` shows.

    Before the end of its upload a job costs nothing. After it the service goes on and is paid, and the result is not
    delivered.
    """
    json_of = "cancel" if as_json else None
    with exits(json_of), opened(obj) as at:
        _ask(at, _of_jobs(at, "cancel", jobs, json_of), json_of)


@click.command("pause", short_help="Submit nothing more (--folder, --until, --reason).")
@click.option("--folder", metavar="NAME", help="Only this folder.")
@click.option("--until", metavar="T", help="Go on by itself then: `2026-11-23 08:00`, `08:00` (the next one), `2h`.")
@click.option("--reason", metavar="TEXT", help="Shown to whoever wonders.")
@json_option
@click.pass_obj
def pause_command(obj: Globals, folder: str | None, until: str | None, reason: str | None, as_json: bool) -> None:
    """Submit nothing more until `resume`; what is paid for is finished and delivered.

    Example: chamelaion-watch pause --until 08:00 --reason "the night is for the archive"
    """
    json_of = "pause" if as_json else None
    now = SystemClock().now()
    until_at = None if until is None else moment(until, now)
    if until_at is not None and until_at <= now:
        raise click.UsageError(f"--until: {until} is over")
    wishes = {"folder": folder, "until": None if until_at is None else str(until_at), "reason": reason}
    with exits(json_of), opened(obj) as at:
        folder_named(at.settings, folder)
        _ask(at, [("pause", _given(wishes))], json_of)


@click.command("resume", short_help="End a pause, take a held backlog, probe the account.")
@click.option("--folder", metavar="NAME", help="Only this folder: ends its pause and takes what it holds.")
@json_option
@click.pass_obj
def resume_command(obj: Globals, folder: str | None, as_json: bool) -> None:
    """End a pause. Without --folder the account is probed at once, unless the service named a time to wait for."""
    json_of = "resume" if as_json else None
    with exits(json_of), opened(obj) as at:
        folder_named(at.settings, folder)
        _ask(at, [("resume", _given({"folder": folder}))], json_of)


# -- asking the daemon --------------------------------------------------------------------------------


def _given(arguments: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in arguments.items() if value is not None}


def _of_jobs(at: Opened, verb: str, ids: Sequence[int], json_of: str | None) -> list[Wish]:
    """Return one wish for each job; an unknown one ends the command before any wish is noted."""
    return [(verb, {"job": str(job_or_leave(at, job_id, json_of).id)}) for job_id in dict.fromkeys(ids)]


def _ask(at: Opened, wishes: Sequence[Wish], json_of: str | None) -> None:
    """Note the wishes, and wait for the answers if a daemon is there to give them."""
    now = SystemClock().now()
    with at.ledger.transaction():
        ids = [at.ledger.add_command(verb, args, now) for verb, args in wishes]
    is_up = holder(at.state) is not None
    rows = _answers(at, ids) if is_up else _rows(at, ids)
    talk = _talk(rows, is_up)
    if json_of is not None:
        emit(json_of, {"commands": [_command_facts(row) for row in rows]}, warnings=talk)
        return
    for row in rows:
        if row.result is not None:
            click.echo(printable(row.result, 4096))
    for line in talk:
        say(line)


def _answers(at: Opened, ids: Sequence[int]) -> list[CommandRow]:
    """Return the rows once they are applied and `status` tells of it, or as they are when it takes too long."""
    deadline = monotonic_s() + ANSWER_WITHIN_S
    while monotonic_s() < deadline:
        rows = _rows(at, ids)
        if all(row.applied_at is not None for row in rows):
            _await_snapshot(at, max(row.applied_at or 0 for row in rows))
            return rows
        time.sleep(LOOK_EVERY_S)
    return _rows(at, ids)


def _await_snapshot(at: Opened, applied_at: Millis) -> None:
    """Wait until `status` can tell; a wish that changes nothing makes no new snapshot."""
    deadline = monotonic_s() + SNAPSHOT_WITHIN_S
    while monotonic_s() < deadline and all(told_at < applied_at for _, told_at, _ in at.ledger.snapshots()):
        time.sleep(LOOK_EVERY_S)


def _rows(at: Opened, ids: Sequence[int]) -> list[CommandRow]:
    return [row for command_id in ids if (row := at.ledger.command(command_id))]


def _talk(rows: Sequence[CommandRow], is_up: bool) -> list[str]:
    if all(row.applied_at is not None for row in rows):
        return []
    if is_up:
        return [f"noted; the daemon has not answered within {ANSWER_WITHIN_S:.0f} s and applies it when it can"]
    return ["noted; the daemon is not running: it is applied when it runs"]


def _command_facts(row: CommandRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "verb": row.verb,
        "args": dict(row.args),
        "applied_at": utc(row.applied_at),
        "result": row.result,
    }


# -- adopt --------------------------------------------------------------------------------------------


@click.command("adopt", short_help="Take over a folder that another ledger served.")
@click.argument("path", metavar="PATH")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def adopt_command(obj: Globals, path: str, yes: bool, as_json: bool) -> None:
    """Make PATH, a folder of the configuration, this ledger's own.

    For a folder that another daemon served (remove it from that one's configuration first), whose sentinel file was
    lost or damaged, that was emptied on purpose, or that lies on another file system for good.
    """
    json_of = "adopt" if as_json else None
    with exits(json_of), opened(obj) as at:
        folder = _folder_at(at, path)
        if folder is None:
            paths = ", ".join(printable(each.path, 1024) for each in at.settings.folders)
            leave(NO_INPUT, f"{printable(path, 1024)} is no folder of the configuration; there are: {paths}")
        row = at.ledger.roots().get(folder.name)
        row = row if row is not None and row.path == folder.path else None
        report = _inspected(at, folder)
        _check_daemon(at, row, report)
        if not (yes or report.state is RootState.OK):
            _confirm(report)
        result = _adopt(at, folder, row, report)
    if json_of is not None:
        emit(json_of, {"path": folder.path, "was": str(report.state), "reason": report.reason}, warnings=result[1:])
        return
    click.echo(result[0])
    for line in result[1:]:
        say(line)


def _folder_at(at: Opened, path: str) -> FolderSettings | None:
    wanted = {os.path.abspath(path), os.path.realpath(path)}  # noqa: PTH100 - resolves `..` without asking the disk
    return next((f for f in at.settings.folders if wanted & {f.path, os.path.realpath(f.path)}), None)


def _inspected(at: Opened, folder: FolderSettings) -> mounts.RootReport:
    """Look at the folder; raises RootProblem if it cannot be adopted as it is."""
    known = known_root(at.ledger, folder.name, folder.path)
    report = mounts.inspect_root(folder.path, ledger_id=at.ledger.ledger_id, known=known)
    if report.state not in (RootState.OK, RootState.FOREIGN, RootState.NOT_MOUNTED):
        raise RootProblem(report.reason, root_state=report.state)
    if awaited := mounts.expects_mount(folder.path):  # never into a bare mount point
        raise RootProblem(f"{folder.path}: {awaited}: mount it first", root_state=RootState.NOT_MOUNTED)
    return report


def _check_daemon(at: Opened, row: RootRow | None, report: mounts.RootReport) -> None:
    """A running daemon that knows the folder would not ask the service for what the other ledger has paid for."""
    pid = holder(at.state)
    if report.state is RootState.FOREIGN and row is not None and pid is not None:
        leave(
            HELD,
            report.reason,
            f"this ledger served the folder before: stop its daemon (pid {pid}) first, adopt, then start it again, "
            "so that it asks the service for what the other one has paid for",
        )


def _confirm(report: mounts.RootReport) -> None:
    say(report.reason)
    if not sys.stdin.isatty():
        raise click.UsageError("adopt asks on a terminal; say --yes to take the folder over without")
    click.confirm("Take it over?", abort=True, err=True)


def _adopt(at: Opened, folder: FolderSettings, row: RootRow | None, report: mounts.RootReport) -> list[str]:
    """Write sentinel and ledger; returns the result and what else to know."""
    ledger, path = at.ledger, folder.path
    if report.state is RootState.OK and not report.may_claim:
        return [f"{path}: is served by this ledger already"]
    if row is not None and report.mount is not None:
        # A root whose path differs counts as never seen: its pairs are looked up at the service before they are paid
        # for, and a large backlog is held. `path` comes back with the daemon's first scan.
        is_foreign = report.state is RootState.FOREIGN
        with ledger.transaction():
            ledger.save_root(
                replace(
                    row,
                    path="" if is_foreign else row.path,
                    mount_source=report.mount.source,
                    mount_type=report.mount.fstype,
                    has_sentinel=not report.is_read_only,
                    is_read_only=report.is_read_only,
                )
            )
    if not (report.is_read_only and report.sentinel is None):
        mounts.claim_root(path, ledger.ledger_id, socket.gethostname(), now=SystemClock().now(), adopt=True)
    return [f"{path}: is served by this ledger now", *_reload_advice(at)]


def _reload_advice(at: Opened) -> list[str]:
    pid = holder(at.state)
    if pid is None:
        return ["start `chamelaion-watch run` to serve it"]
    return [f"the running daemon takes it at its next look; if it does not, reload it: kill -HUP {pid}"]
