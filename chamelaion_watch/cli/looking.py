"""`status`, `jobs`, `show`: what is going on and what became of each job, as the ledger tells it.

They need no key, ask no service, work with the daemon up or down, and never create a ledger.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from chamelaion_watch import settings as configuration
from chamelaion_watch.cli import Globals
from chamelaion_watch.cli.output import (
    NO_INPUT,
    Grid,
    Page,
    drawn,
    emit,
    exits,
    instant,
    json_option,
    leave,
    say,
    show,
    utc,
)
from chamelaion_watch.core.advice import advice_for
from chamelaion_watch.core.lifecycle import NEEDS_A_PERSON
from chamelaion_watch.core.model import Attempt, Job, JobState, Millis, Source
from chamelaion_watch.core.text import printable
from chamelaion_watch.edges.ledger.protocol import EventRow
from chamelaion_watch.edges.ledger.sqlite import SqliteLedger, holder
from chamelaion_watch.settings_model import Settings

WATCH_EVERY_S = 1.0
MOST_EVENTS = 10_000  # of one job
NO_ACCOUNT = {"state": None, "reason": "", "until": None, "in_flight": 0, "limit": None}


@dataclass(frozen=True, slots=True)
class Opened:
    """A configuration and its ledger, for commands that look or leave a wish."""

    settings: Settings
    state: Path
    ledger: SqliteLedger


@contextlib.contextmanager
def opened(obj: Globals) -> Iterator[Opened]:
    """Open the ledger that there is; raises ConfigError, LedgerUnavailable."""
    config = obj.config_path()
    settings = configuration.load(config, os.environ)
    state = configuration.state_folder(settings, config, os.environ)
    ledger = open_ledger(state)
    try:
        yield Opened(settings, state, ledger)
    finally:
        ledger.close()


def open_ledger(state: Path) -> SqliteLedger:
    """Return the ledger that there is; raises LedgerUnavailable, also for one that this user may not look at."""
    return SqliteLedger(state, must_exist=True)


def folder_named(settings: Settings, name: str | None) -> str | None:
    """Return the name if a folder of the configuration has it, None for none; raises click.UsageError."""
    names = [folder.name for folder in settings.folders]
    if name is not None and name not in names:
        raise click.UsageError(f"no folder {name!r} in the configuration; there are: {', '.join(names)}")
    return name


# -- status -------------------------------------------------------------------------------------------


@click.command("status", short_help="What is going on: account, folders, open pairs (--watch).")
@click.option("--watch", is_flag=True, help="Show it again each second, until Ctrl-C.")
@json_option
@click.pass_obj
def status_command(obj: Globals, watch: bool, as_json: bool) -> None:
    """Show the account, the folders, and every pair that is under way or needs a person.

    Works with the daemon up or down; when it is down it shows what was so when it was last seen.
    """
    with exits("status" if as_json else None), opened(obj) as at:
        if not watch:
            _print_status(at, as_json)
            return
        _watch(at, as_json)


def read_status(state: Path, ledger: SqliteLedger) -> tuple[dict[str, Any], list[str]]:
    """Return what is known, with instants in milliseconds, and what to know about it.

    `files`, those that are not complete, are for `explain`.
    """
    stored = ledger.snapshots()
    told: dict[str, Any] = json.loads(stored[0][2]) if stored else {}
    daemon, warnings = _daemon(holder(state), told.get("daemon", {}), stored[0][1] if stored else None)
    if more := told.get("more_pairs"):
        warnings.append(f"{more} more pairs are open than are listed")
    facts = {
        "daemon": daemon,
        "account": told.get("account", NO_ACCOUNT),
        "roots": told.get("roots", []),
        "jobs": ledger.count_jobs(),
        "pairs": told.get("pairs", []),
        "files": told.get("files", []),
    }
    return facts, warnings


def _daemon(pid: int | None, told: dict[str, Any], seen_at: Millis | None) -> tuple[dict[str, Any], list[str]]:
    version = told.get("version")
    if pid is None:
        last = f"last seen {instant(seen_at)}" if seen_at else "never seen"
        warning = f"not running; {last}: start `chamelaion-watch run`; what follows is as it was then"
        return {"state": "stopped", "pid": None, "since": seen_at, "version": version}, [warning]
    if pid != told.get("pid"):
        return {"state": "starting", "pid": pid, "since": None, "version": None}, ["the daemon is just starting"]
    return {"state": told.get("state"), "pid": pid, "since": told.get("since"), "version": version}, []


def _print_status(at: Opened, as_json: bool) -> None:
    facts, warnings = read_status(at.state, at.ledger)
    if as_json:
        emit("status", status_json(facts), warnings=warnings)
    else:
        show(_status_page(facts, warnings))


def _watch(at: Opened, as_json: bool) -> None:
    """Show it each second until Ctrl-C, which only ends the wait: an interrupt anywhere could end in a traceback."""
    ended = threading.Event()
    signal.signal(signal.SIGINT, lambda _number, _frame: ended.set())
    if as_json or not sys.stdout.isatty():
        while not ended.is_set():
            _print_status(at, as_json)
            sys.stdout.flush()
            ended.wait(WATCH_EVERY_S)
        return
    from rich.live import Live

    with Live(auto_refresh=False, screen=True) as live:
        while not ended.is_set():
            live.update(drawn(_status_page(*read_status(at.state, at.ledger))), refresh=True)
            ended.wait(WATCH_EVERY_S)


def status_json(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts with instants as machines read them."""
    return {
        "daemon": _with_utc(facts["daemon"], "since"),
        "account": _with_utc(facts["account"], "until"),
        "roots": [_with_utc(root, "last_scan_at") for root in facts["roots"]],
        "jobs": facts["jobs"],
        "pairs": [_with_utc(pair, "since") for pair in facts["pairs"]],
    }


def _with_utc(facts: dict[str, Any], name: str) -> dict[str, Any]:
    return facts | {name: utc(facts.get(name))}


def _status_page(facts: dict[str, Any], warnings: list[str]) -> Page:
    daemon, account = facts["daemon"], facts["account"]
    page: list[str | Grid] = list(warnings)
    if daemon["state"] in ("running", "stopping"):
        since = f"{daemon['state']} since {instant(daemon['since'])}"
        page.append(f"daemon   {since} (pid {daemon['pid']}, version {daemon['version']})")
    page.append(f"account  {_account_line(account)}")
    counted = ", ".join(f"{number} {state}" for state, number in sorted(facts["jobs"].items()))
    page.append(f"jobs     {counted or 'none yet'}")
    roots = [
        (root["name"], root["state"], root["files"], instant(root["last_scan_at"]), root["path"], root["reason"])
        for root in facts["roots"]
    ]
    page += ["", Grid(("folder", "state", "files", "last scan", "path", "why"), roots)]
    pairs = [_pair_row(pair) for pair in facts["pairs"]]
    page += ["", Grid(("pair", "state", "since", "job", "%", "why"), pairs) if pairs else "no pair is open"]
    return page


def _account_line(account: dict[str, Any]) -> str:
    if account["state"] is None:
        return "not known yet"
    until = f" until {instant(account['until'])}" if account["until"] else ""
    reason = f": {account['reason']}" if account["reason"] else ""
    limit = f" of {account['limit']}" if account["limit"] else ""
    return f"{account['state']}{until}{reason}; {account['in_flight']}{limit} in flight"


def _pair_row(pair: dict[str, Any]) -> tuple[Any, ...]:
    name = f"{pair['root']}/{pair['name']}"
    return name, pair["state"], instant(pair["since"]), pair["job"], pair["progress"], pair["reason"]


# -- jobs ---------------------------------------------------------------------------------------------


@click.command("jobs", short_help="The jobs, oldest first (--state, --folder).")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    type=click.Choice([state.value for state in JobState]),
    help=f"Only these, given once for each: {', '.join(state.value for state in JobState)}.",
)
@click.option("--folder", metavar="NAME", help="Only those of this folder.")
@json_option
@click.pass_obj
def jobs_command(obj: Globals, states: tuple[str, ...], folder: str | None, as_json: bool) -> None:
    """List the jobs, oldest first.

    Example: chamelaion-watch jobs --state failed --state doubtful
    """
    with exits("jobs" if as_json else None), opened(obj) as at:
        if folder not in at.ledger.roots():  # one that left the configuration still has its jobs
            folder_named(at.settings, folder)
        found = at.ledger.jobs(states=[JobState(state) for state in states] or None, root=folder)
        if as_json:
            emit("jobs", [job_facts(job) for job in found])
        elif found:
            rows = [(job.id, job.state, instant(job.changed_at), job_name(job), _detail(job)) for job in found]
            show([Grid(("job", "state", "since", "pair", "what"), rows)])
        else:
            say("no such jobs")


def job_name(job: Job) -> str:
    """Name a job's pair for people."""
    return printable(f"{job.root}/{job.key}", 1024)


def job_facts(job: Job) -> dict[str, Any]:
    """Return all that may be known of a job; nothing secret is stored with one."""
    return {
        "id": job.id,
        "root": job.root,
        "name": job.key,
        "lang": job.lang,
        "state": str(job.state),
        "code": job.code,
        "message": job.message,
        "http_status": job.http_status,
        "run_no": job.run_no,
        "reference_id": job.reference_id,
        "request_id": job.request_id,
        "request_status": job.request_status,
        "tries": job.tries,
        "priority": job.priority,
        "is_superseded": job.is_superseded,
        "options": {
            "disable_active_speaker_detection": job.options.disable_active_speaker_detection,
            "model": job.options.model,
        },
        **{name: utc(getattr(job, name)) for name in _INSTANTS},
        "video": _source_facts(job.video),
        "audio": _source_facts(job.audio),
        "output": job.output,
        "output_bytes": job.output_bytes,
        "output_sha256": job.output_sha256,
    }


_INSTANTS = ("created_at", "changed_at", "next_at", "sent_at", "doubt_at", "accepted_at", "rendered_at")


def _source_facts(source: Source) -> dict[str, Any]:
    return {"path": source.path, "bytes": source.signature.size, "sha256": source.sha256}


def _detail(job: Job) -> str:
    if job.state is JobState.DONE:
        return printable(job.output or "", 1024)
    if job.code:
        return f"{job.code}: {printable(job.message or '')}"
    return job.request_status or ""


# -- show ---------------------------------------------------------------------------------------------


@click.command("show", short_help="Everything about one job: files, request, each attempt.")
@click.argument("job_id", metavar="JOB", type=int)
@json_option
@click.pass_obj
def show_command(obj: Globals, job_id: int, as_json: bool) -> None:
    """Show one job with the timeline of every attempt; JOB is a number that `jobs` shows."""
    with exits("show" if as_json else None), opened(obj) as at:
        job = job_or_leave(at, job_id, "show" if as_json else None)
        attempts = at.ledger.attempts(job_id)
        events = at.ledger.events(job_id=job_id, limit=MOST_EVENTS)
        now = next((pair for pair in read_status(at.state, at.ledger)[0]["pairs"] if pair["job"] == job_id), None)
        if as_json:
            emit("show", _show_json(job, attempts, events, now))
        else:
            show(_show_page(job, attempts, events, now))


def job_or_leave(at: Opened, job_id: int, json_of: str | None) -> Job:
    """Return the job, or exit with 66."""
    job = at.ledger.job(job_id) if abs(job_id) < 2**63 else None
    if job is None:
        message = f"there is no job {job_id}: `chamelaion-watch jobs` lists them"
        if json_of is not None:
            emit(json_of, None, ok=False, warnings=[message])
        leave(NO_INPUT, message)
    return job


def _show_json(job: Job, attempts: list[Attempt], events: list[EventRow], now: dict[str, Any] | None) -> dict[str, Any]:
    return {
        **job_facts(job),
        "reason": now["reason"] if now else None,
        "progress": now["progress"] if now else None,
        "what_to_do": _advice(job)[1] if job.state in NEEDS_A_PERSON else None,
        "attempts": [
            {"at": utc(a.at), "step": a.step, "code": a.code, "message": a.message, "http_status": a.http_status}
            for a in attempts
        ],
        "events": [{"at": utc(event.at), "kind": event.kind, "text": event.text} for event in events],
    }


def _show_page(job: Job, attempts: list[Attempt], events: list[EventRow], now: dict[str, Any] | None) -> Page:
    facts = [(name, value) for name, value in _shown_facts(job) if value]
    page: list[str | Grid] = [f"job {job.id}: {job.state}: {job_name(job)}"]
    if now and now["reason"]:
        page.append(f"now: {now['reason']}" + ("" if now["progress"] is None else f", {now['progress']} %"))
    if job.state in NEEDS_A_PERSON:
        what_happened, what_to_do = _advice(job)
        page += [f"what happened: {what_happened}", f"what to do: {what_to_do}"]
    timeline = [(a.at, 0, a.step, f"{a.code}: {printable(a.message, 1000)}{_status(a)}") for a in attempts]
    timeline += [(event.at, 1, event.kind, printable(event.text, 1000)) for event in events]
    rows = [(instant(at), step, text) for at, _, step, text in sorted(timeline, key=lambda line: line[:2])]
    return [*page, "", Grid(("fact", "value"), facts), "", Grid(("at", "step", "what"), rows)]


def _shown_facts(job: Job) -> list[tuple[str, str | None]]:
    trouble = f"{job.code}: {printable(job.message or '', 1000)}" if job.code else None
    size = f" ({job.output_bytes} bytes)" if job.output_bytes else ""
    return [
        ("video", _shown_source(job.video)),
        ("audio", _shown_source(job.audio)),
        ("output", printable(job.output, 1024) + size if job.output else None),
        ("trouble", trouble),
        ("http status", str(job.http_status) if job.http_status else None),
        ("run", str(job.run_no)),
        ("reference", job.reference_id),
        ("request", job.request_id and f"{job.request_id} ({job.request_status or 'accepted'})"),
        ("created", instant(job.created_at)),
        ("accepted", instant(job.accepted_at) if job.accepted_at else None),
        ("rendered", instant(job.rendered_at) if job.rendered_at else None),
        ("next step at", instant(job.next_at) if job.next_at else None),
    ]


def _shown_source(source: Source) -> str:
    return f"{printable(source.path, 1024)} ({source.signature.size} bytes, sha256 {source.sha256})"


def _advice(job: Job) -> tuple[str, str]:
    advice = advice_for(job.code or "", job.message or "")
    return advice.what_happened, advice.what_to_do


def _status(attempt: Attempt) -> str:
    return f" (HTTP {attempt.http_status})" if attempt.http_status else ""
