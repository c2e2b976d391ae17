"""`report`: one line per job, for spreadsheets and scripts; `prune`: forget old history."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

import click

from chamelaion_watch.cli import Globals
from chamelaion_watch.cli.looking import opened
from chamelaion_watch.cli.output import emit, exits, json_option, moment, utc
from chamelaion_watch.core.model import Job, JobState, Millis
from chamelaion_watch.core.text import printable
from chamelaion_watch.edges.clock import SystemClock
from chamelaion_watch.units import duration_s

SHORTEST_S = 86_400.0  # history of today is what `max_jobs_per_day` and people still need


@click.command("report", short_help="One line per job, as CSV or JSON (--since, --format).")
@click.option(
    "--since", metavar="T", help="What changed since `2026-11-23 08:00`, `08:00` (the last one), or for `7d`."
)
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", help="csv unless you say json.")
@json_option
@click.pass_obj
def report_command(obj: Globals, since: str | None, form: str, as_json: bool) -> None:
    """Print one line per job: what, from what, when, how long, with which outcome.

    Example: chamelaion-watch report --since 30d > jobs.csv
    """
    as_json = as_json or form == "json"
    after = None if since is None else moment(since, SystemClock().now(), is_past=True)
    with exits("report" if as_json else None), opened(obj) as at:
        lines = [_line(job) for job in at.ledger.jobs(since=after)]
    if as_json:
        emit("report", lines)
    else:
        click.echo(_csv(lines), nl=False)


def _line(job: Job) -> dict[str, Any]:
    is_over = job.state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.SUPERSEDED)
    return {
        "job": job.id,
        "folder": job.root,
        "name": job.key,
        "lang": job.lang,
        "state": str(job.state),
        "code": job.code,
        "message": job.message,
        "run": job.run_no,
        "created_at": utc(job.created_at),
        "accepted_at": utc(job.accepted_at),
        "rendered_at": utc(job.rendered_at),
        "finished_at": utc(job.changed_at) if is_over else None,
        "rendering_s": _seconds(job.accepted_at, job.rendered_at),
        "output": job.output,
        "output_bytes": job.output_bytes,
        "video": job.video.path,
        "video_bytes": job.video.signature.size,
        "audio": job.audio.path,
        "audio_bytes": job.audio.signature.size,
        "reference_id": job.reference_id,
        "request_id": job.request_id,
    }


COLUMNS = (
    *("job", "folder", "name", "lang", "state", "code", "message", "run", "created_at", "accepted_at", "rendered_at"),
    *("finished_at", "rendering_s", "output", "output_bytes", "video", "video_bytes", "audio", "audio_bytes"),
    *("reference_id", "request_id"),
)


def _seconds(began_at: Millis | None, ended_at: Millis | None) -> float | None:
    return None if began_at is None or ended_at is None else (ended_at - began_at) / 1000


def _csv(lines: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in line.items()} for line in lines)
    return text.getvalue()


def _cell(value: object) -> object:
    """Return what a spreadsheet shows as it is: a name that begins like a formula would be run as one."""
    if not isinstance(value, str):
        return value
    shown = printable(value, 4096)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown


# -- prune --------------------------------------------------------------------------------------------


@click.command("prune", short_help="Forget old history (--older-than 90d); no file is touched.")
@click.option("--older-than", metavar="D", required=True, help="Such as 90d; at least 1d.")
@json_option
@click.pass_obj
def prune_command(obj: Globals, older_than: str, as_json: bool) -> None:
    """Forget superseded and cancelled jobs, done ones but the newest of each pair, and the diary, from before then.

    No file is touched, and works beside a running daemon. What was paid for stays known, so nothing is paid twice.
    """
    try:
        age_s = duration_s(older_than)
    except ValueError as error:
        raise click.UsageError(f"--older-than: {error}") from error
    if age_s < SHORTEST_S:
        raise click.UsageError("--older-than: at least 1d")
    with exits("prune" if as_json else None), opened(obj) as at:
        before = SystemClock().now() - round(age_s * 1000)
        removed = at.ledger.prune(before)
    if as_json:
        emit("prune", {"removed": removed, "before": utc(before)})
    else:
        click.echo(f"{removed} jobs forgotten")
