"""`doctor`: does everything work that a run needs? One line each, with what to do.

It reads. The one thing that it writes is an empty hidden file in a folder that is well and ours or nobody's, removed
at once: that is how one knows whether a share can be written. It creates no folder, no ledger, no sentinel.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click

from chamelaion_watch import settings as configuration
from chamelaion_watch.cli import Globals
from chamelaion_watch.cli.dryrun import Memory, memory_of
from chamelaion_watch.cli.looking import open_ledger, read_status
from chamelaion_watch.cli.output import (
    CONFIG,
    FAILED,
    OK,
    TEMPORARY,
    UNAUTHORIZED,
    UNAVAILABLE,
    emit,
    instant,
    json_option,
    leave,
)
from chamelaion_watch.core.errors import ConfigError, LedgerUnavailable, Unauthorized, WatchError
from chamelaion_watch.core.model import RootState
from chamelaion_watch.core.text import printable
from chamelaion_watch.edges import mounts
from chamelaion_watch.edges.api import Api, Timeouts
from chamelaion_watch.edges.clock import SystemClock
from chamelaion_watch.edges.disk import ignore_lease_signal
from chamelaion_watch.edges.ledger.sqlite import LedgerMissing, SqliteLedger, holder
from chamelaion_watch.edges.process import may_lease_of_others
from chamelaion_watch.edges.watcher import Watcher
from chamelaion_watch.service import folder_policy_of
from chamelaion_watch.settings_key import PLACES, is_there
from chamelaion_watch.settings_model import FolderSettings, Settings
from chamelaion_watch.templates import landing

T = TypeVar("T")

ANSWER_WITHIN_S = 10.0  # a share that takes longer is as good as hung
LOW_BYTES = 1 << 30  # of free space; a result is easily that large
LEDGER_NEEDS_BYTES = 64 << 20
EARLIEST_YEAR = 2024
CLOCK_SLACK_MS = 300_000
INOTIFY = (("max_user_watches", 65_536, 524_288), ("max_user_instances", 64, 512))  # few, and plenty
LONG_NAME_BYTES = 255
SPECIFIC = (CONFIG, UNAUTHORIZED, UNAVAILABLE, TEMPORARY, FAILED)  # of several reasons the first is the exit code

FAIL, WARN, GOOD = "fail", "warn", "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, in words with what to do, and the exit code if it failed."""

    what: str
    state: str
    words: str
    code: int = FAILED


Findings = Iterator[Finding]


@click.command("doctor", short_help="Does everything work? One line each, with what to do (--offline).")
@click.option("--offline", is_flag=True, help="Do not ask the service.")
@json_option
@click.pass_obj
def doctor_command(obj: Globals, offline: bool, as_json: bool) -> None:
    """Look at the key, the service, the folders, the ledger and this machine, and say what to do.

    Exits with 0 if nothing failed, else 78 (configuration or key missing), 77 (key rejected), 69 (folder or ledger
    unavailable), 75 (network), or 1.
    """
    ignore_lease_signal()
    found = []
    for finding in _examine(obj, offline):
        found.append(finding)
        if not as_json:
            click.echo(f"{finding.state:<4}  {finding.what}: {finding.words}")
    codes = {finding.code for finding in found if finding.state == FAIL}
    if as_json:
        facts = [{"what": f.what, "state": f.state, "words": f.words} for f in found]
        emit("doctor", {"checks": facts}, ok=not codes)
    leave(next((code for code in SPECIFIC if code in codes), OK))


def _examine(obj: Globals, offline: bool) -> Findings:
    try:
        config = obj.config_path()
        settings = configuration.load(config, os.environ)
    except ConfigError as error:
        yield from (Finding("configuration", FAIL, problem, CONFIG) for problem in error.problems)
        return
    yield Finding("configuration", GOOD, f"{printable(str(config), 4096)}, {len(settings.folders)} folder(s)")
    yield from _key(settings)
    if not offline:
        yield from _service(settings)
    state = configuration.state_folder(settings, config, os.environ)
    yield from _state_folder(state)
    ledger, findings = _ledger(state)
    yield from findings
    with contextlib.closing(ledger) if ledger is not None else contextlib.nullcontext():
        yield from _daemon(state, ledger)
        yield from _clock(ledger)
        for folder in settings.folders:
            yield from _folder(folder, memory_of(ledger, folder_policy_of(folder)))
    yield from _inotify(settings)


# -- key and service ----------------------------------------------------------------------------------


def _key(settings: Settings) -> Findings:
    try:
        configuration.read_key(settings, os.environ)
    except ConfigError as error:
        yield Finding("key", FAIL, error.message, CONFIG)
        return
    warnings = configuration.key_problems(settings, os.environ)
    yield from (Finding("key", WARN, warning) for warning in warnings)
    if not warnings:
        yield Finding("key", GOOD, f"found in {key_place(settings, os.environ)}")


def key_place(settings: Settings, env: Mapping[str, str]) -> str:
    """Return which of the places names the key: the first that is set."""
    credentials = env.get("CREDENTIALS_DIRECTORY")
    are_set = (
        bool(credentials) and is_there(Path(credentials or "", "chamelaion-api-key")),
        "CHAMELAION_API_KEY_FILE" in env,
        "CHAMELAION_API_KEY" in env,
        settings.api.key_file is not None,
    )
    return next((place for place, is_set in zip(PLACES, are_set, strict=True) if is_set), "no place")


def _service(settings: Settings) -> Findings:
    try:
        api = Api(
            base_url=settings.api.base_url,
            key=lambda: configuration.read_key(settings, os.environ),
            ca_file=settings.api.ca_file,
            timeouts=Timeouts(connect_s=ANSWER_WITHIN_S, progress_s=ANSWER_WITHIN_S, api_s=2 * ANSWER_WITHIN_S),
        )
    except ConfigError as error:
        yield Finding("service", FAIL, error.message, CONFIG)
        return
    with contextlib.closing(api):
        yield from _asked(api, settings.api.base_url)


def _asked(api: Api, base_url: str) -> Findings:
    try:
        api.health()
        yield Finding("service", GOOD, f"{base_url} answers")
    except WatchError as error:
        yield Finding("service", FAIL, f"{base_url}: {error.message}", TEMPORARY)
        return
    try:
        yield Finding("key accepted", GOOD, f"the service knows it as {api.me()!r}")
    except ConfigError:
        pass  # there is none: said already
    except Unauthorized as error:
        words = f"{error.message}: make a new one in the web app, and put it where the old one is"
        yield Finding("key accepted", FAIL, words, UNAUTHORIZED)
    except WatchError as error:
        yield Finding("key accepted", FAIL, error.message, TEMPORARY)


# -- ledger, daemon, clock ----------------------------------------------------------------------------


def _state_folder(state: Path) -> Findings:
    shown = printable(str(state), 4096)
    nearest = _nearest(state)
    mount = mounts.mount_of(str(nearest))
    if mount.is_network:
        words = f"{shown}: lies on a network share ({mount.fstype}): name a local folder as `state`"
        yield Finding("state folder", FAIL, words, UNAVAILABLE)
    elif not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        words = f"{shown}: cannot be written: let the service's user write {nearest}, or name another one as `state`"
        yield Finding("state folder", FAIL, words, UNAVAILABLE)
    else:
        yield _space("state folder", shown if nearest == state else f"{shown} (made by the first run)", str(nearest))


def _nearest(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    return next(each for each in (path, *path.parents) if os.path.exists(each))  # noqa: PTH110 - never raises


def _space(what: str, words: str, path: str) -> Finding:
    """Say how much room there is; file systems that tell no sizes are taken at their word."""
    from rich.filesize import decimal

    status = os.statvfs(path)
    free = status.f_bavail * status.f_frsize
    if not status.f_blocks:
        return Finding(what, GOOD, words)
    words = f"{words}, {decimal(free)} free"
    if free < LEDGER_NEEDS_BYTES:
        return Finding(what, FAIL, f"{words}: make room", UNAVAILABLE)
    return Finding(what, WARN, f"{words}: make room") if free < LOW_BYTES else Finding(what, GOOD, words)


def _ledger(state: Path) -> tuple[SqliteLedger | None, list[Finding]]:
    try:
        ledger = open_ledger(state)
    except LedgerMissing:
        return None, [Finding("ledger", GOOD, "none yet: the first run makes it")]
    except LedgerUnavailable as error:
        return None, [Finding("ledger", FAIL, error.message, UNAVAILABLE)]
    if not ledger.is_sound():
        return ledger, [Finding("ledger", FAIL, "fails its integrity check: restore it from a backup", UNAVAILABLE)]
    jobs = sum(ledger.count_jobs().values())
    return ledger, [Finding("ledger", GOOD, f"sound, {jobs} jobs, id {ledger.ledger_id}")]


def _daemon(state: Path, ledger: SqliteLedger | None) -> Findings:
    pid = holder(state)
    if pid is None:
        words = "not running: start `chamelaion-watch run`"
        yield Finding("daemon", WARN if ledger else GOOD, words)
        return
    account = read_status(state, ledger)[0]["account"] if ledger else {"state": None}
    is_open = account["state"] in ("open", None)
    words = "" if is_open else f"; the account is {account['state']}: {account['reason']}"
    yield Finding("daemon", GOOD if is_open else WARN, f"running (pid {pid}){words}")


def _clock(ledger: SqliteLedger | None) -> Findings:
    now = SystemClock().now()
    stored = ledger.snapshots() if ledger else []
    words = "set it, and keep it right with NTP: certificates and file times depend on it"
    if datetime.fromtimestamp(now / 1000, tz=UTC).year < EARLIEST_YEAR:
        yield Finding("clock", FAIL, f"says {instant(now)}: {words}")
    elif stored and stored[0][1] > now + CLOCK_SLACK_MS:
        yield Finding("clock", WARN, f"says {instant(now)}, but the ledger knows {instant(stored[0][1])}: {words}")
    else:
        yield Finding("clock", GOOD, instant(now))


# -- folders ------------------------------------------------------------------------------------------


def _folder(folder: FolderSettings, memory: Memory) -> Findings:
    what = f"folder {folder.name}"
    report = _within(
        lambda: mounts.inspect_root(folder.path, ledger_id=memory.ledger_id, known=memory.known), ANSWER_WITHIN_S
    )
    if report is None:
        words = f"{folder.path}: has not answered for {ANSWER_WITHIN_S:.0f} s: check the share and its server"
        yield Finding(what, FAIL, words, UNAVAILABLE)
    elif report.state is not RootState.OK:
        yield Finding(what, FAIL, f"{report.state}: {printable(report.reason, 2000)}", UNAVAILABLE)
    else:
        yield _there(what, folder, report)
        yield from _writing(what, folder, report)
        if not report.is_read_only:
            yield _space(f"{what}, room", printable(folder.path, 1024), folder.path)


def _there(what: str, folder: FolderSettings, report: mounts.RootReport) -> Finding:
    assert report.mount is not None, "a root that is OK lies on a mount"
    mount = report.mount
    kind = "a network share" if mount.is_network else "local"
    every_s = folder_policy_of(folder).rescan(has_events=False) / 1000
    found = "found by events" if mount.delivers_events else f"found by listing it every {every_s:g} s"
    served = "served by this ledger" if report.sentinel else "served by nobody yet"
    words = f"{printable(folder.path, 1024)}: {kind} ({mount.fstype} of {printable(mount.source)}), {served}; "
    return Finding(what, GOOD, f"{words}new files are {found}{': ' + report.reason if report.reason else ''}")


def _writing(what: str, folder: FolderSettings, report: mounts.RootReport) -> Findings:
    what = f"{what}, writing"
    target = landing(folder.output, folder.path).folder
    is_elsewhere = target != folder.path and not target.startswith(folder.path.rstrip("/") + "/")
    if is_elsewhere:
        nearest = _nearest(Path(target))
        if not os.access(nearest, os.W_OK | os.X_OK):
            words = f"{target}: results cannot be written: let the service's user write {nearest}"
            yield Finding(what, FAIL, words, UNAVAILABLE)
            return
    if report.is_read_only:
        if is_elsewhere:
            yield Finding(what, GOOD, f"read-only, and results go to {target}")
        else:
            words = "cannot be written: let the service's user write there, or set `output` to a folder elsewhere"
            yield Finding(what, FAIL, f"{printable(folder.path, 1024)}: {words}", UNAVAILABLE)
        return
    traits = _within(lambda: _traits(folder.path, has_leases=bool(report.mount and report.mount.has_leases)), 10.0)
    if traits is None:
        yield Finding(what, FAIL, "writing takes longer than 10 s: check the share and its server", UNAVAILABLE)
    elif traits.trouble:
        yield Finding(what, FAIL, f"{printable(folder.path, 1024)}: {traits.trouble}", UNAVAILABLE)
    else:
        yield Finding(what, GOOD if traits.has_long_names else WARN, traits.words())


@dataclass(frozen=True, slots=True)
class Traits:
    """What an empty file showed of a file system."""

    trouble: str = ""
    ignores_case: bool = False
    has_lease: bool = False
    has_long_names: bool = True

    def words(self) -> str:
        case = "A.mp4 and a.mp4 are one file" if self.ignores_case else "case counts"
        whose = "" if may_lease_of_others() else " (of this user's files only: CAP_LEASE is missing)"
        lease = f"a lease proves when a copy has ended{whose}" if self.has_lease else "no leases: settle has to do"
        long = "" if self.has_long_names else f"; no names of {LONG_NAME_BYTES} bytes: long ones cannot get results"
        return f"works; {case}; {lease}{long}"


def _traits(folder: str, *, has_leases: bool) -> Traits:
    """Try out a file system with empty hidden files that are removed at once."""
    name = f".chamelaion-doctor-{os.getpid()}.lipsync-part"
    try:
        with _empty_file(folder, name) as path:
            ignores_case = os.path.lexists(os.path.join(folder, name.upper()))  # noqa: PTH118 - any bytes
            has_lease = has_leases and _has_lease(path)
    except OSError as error:
        return Traits(f"cannot be written: {(error.strerror or str(error)).lower()}")
    try:
        with _empty_file(folder, name.replace("doctor-", "doctor-" + "x" * (LONG_NAME_BYTES - len(name)))):
            has_long_names = True
    except OSError:
        has_long_names = False
    return Traits("", ignores_case, has_lease, has_long_names)


@contextlib.contextmanager
def _empty_file(folder: str, name: str) -> Iterator[str]:
    path = os.path.join(folder, name)  # noqa: PTH118 - any bytes
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.close(fd)
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):  # a running daemon clears such files away as well
            os.unlink(path)  # noqa: PTH108 - any bytes


def _has_lease(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


# -- this machine -------------------------------------------------------------------------------------


def _inotify(settings: Settings) -> Findings:
    """Say whether changes can be watched: by the limits, and by trying."""
    limits = Path("/proc/sys/fs/inotify")
    if not limits.is_dir():
        return
    for name, few, plenty in INOTIFY:
        with contextlib.suppress(OSError, ValueError):
            limit = int((limits / name).read_text())
            advice = f": for large folders raise it with `sysctl fs.inotify.{name}={plenty}`"
            yield Finding(f"inotify {name}", WARN if limit < few else GOOD, f"{limit}{advice if limit < few else ''}")
    watched = next((f.path for f in settings.folders if mounts.mount_of(f.path).delivers_events), None)
    if watched is not None and Path(watched).is_dir():
        watcher = Watcher(lambda _: None)
        with contextlib.closing(watcher):
            why_not = watcher.watch("doctor", watched, recursive=False)
            yield Finding("inotify", WARN if why_not else GOOD, why_not or "folders can be watched")


def _within(call: Callable[[], T], seconds: float) -> T | None:
    """Return what a call that may hang returns, None if it takes longer; its thread is left behind then."""
    result: list[T] = []
    thread = threading.Thread(target=lambda: result.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    return result[0] if result else None
