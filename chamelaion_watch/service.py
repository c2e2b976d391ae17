"""One daemon from its settings to its end: what is composed, in which order it starts and stops.

Composition by hand. A reload and a ledger that comes back are the same as a restart, within the process: the world
is dropped and read again from the ledger, for what it says is all that counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from loguru import logger

from chamelaion_watch import log, restore, settings_key
from chamelaion_watch import settings as configuration
from chamelaion_watch.core.errors import ConfigError, LedgerUnavailable, Unauthorized
from chamelaion_watch.core.gate import Gate
from chamelaion_watch.core.messages import Hint, ReloadAsked
from chamelaion_watch.core.model import AccountState, JobState, Millis, Options
from chamelaion_watch.core.pairing import PairingRules
from chamelaion_watch.core.policy import FolderPolicy, Growth, Policy
from chamelaion_watch.core.world import World
from chamelaion_watch.daemon import Daemon, stop
from chamelaion_watch.edges.api import Api
from chamelaion_watch.edges.clock import Clock, SystemClock, utc_offset_s, worked_s
from chamelaion_watch.edges.disk import ignore_lease_signal
from chamelaion_watch.edges.ledger.protocol import Ledger
from chamelaion_watch.edges.ledger.sqlite import DaemonLock, SqliteLedger
from chamelaion_watch.edges.probe import Prober
from chamelaion_watch.edges.process import collect_seldom, forbid_dumps, give_back_memory
from chamelaion_watch.edges.spool import Spool
from chamelaion_watch.edges.watcher import Watcher
from chamelaion_watch.effects import Effects
from chamelaion_watch.notify import Notifier
from chamelaion_watch.rootwork import RootWork
from chamelaion_watch.settings_model import FolderSettings, Settings
from chamelaion_watch.settings_model import Growth as GrowthSettings
from chamelaion_watch.status import account, pause_ms, snapshot
from chamelaion_watch.version import __version__

TRIM_EVERY_MS = 60_000
LEDGER_RETRY_S = 5.0
GONE_WITHIN_S = 9.5  # after a signal, whatever hangs: systemd and people wait no longer (design.md)
WATCHING_LEDGER = "the ledger cannot be used, so nothing is submitted"


def policy_of(settings: Settings) -> Policy:
    """Return what the core needs of the settings."""
    api = settings.api
    return Policy(
        options=Options(api.disable_active_speaker_detection, api.model),
        requests_per_minute=api.requests_per_minute,
        max_in_flight=api.max_in_flight,
        uploads=api.uploads,
        downloads=api.downloads,
        poll=_growth(api.poll),
        lookup_grace_ms=round(api.lookup_grace * 1000),
        pauses={
            AccountState.RATE_LIMITED: _growth(api.pause.rate_limited),
            AccountState.QUOTA_EXHAUSTED: _growth(api.pause.quota),
            AccountState.UNAUTHORIZED: _growth(api.pause.unauthorized),
            AccountState.UNREACHABLE: _growth(api.pause.unreachable),
        },
        max_jobs_per_day=settings.max_jobs_per_day,
        spool_bytes=settings.spool_max,
    )


def folder_policy_of(folder: FolderSettings) -> FolderPolicy:
    """Return what the core needs of one folder's settings."""
    return FolderPolicy(
        name=folder.name,
        path=folder.path,
        output=folder.output,
        recursive=folder.recursive,
        pairing=PairingRules(folder.video, folder.audio, folder.languages),
        settle_ms=None if folder.settle is None else round(folder.settle * 1000),
        rescan_ms=None if folder.rescan is None else round(folder.rescan * 1000),
        min_bytes=folder.min_bytes,
        ignore=folder.ignore,
        holds_backlog=folder.backlog == "hold",
        preflight=folder.preflight.model_dump(),
        has_receipts=folder.receipts,
        mode=folder.mode,
        priority=folder.priority,
    )


class Key:
    """The API key, read once and again whenever the service refused it; every value is hidden from the log."""

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        self._settings, self._env = settings, env
        self._value = ""
        self.reload()

    def reload(self) -> None:
        """Read the key again; raises ConfigError if there is none."""
        self._value = settings_key.read_key(self._settings, self._env)
        log.hide(self._value)

    def __call__(self) -> str:
        return self._value


class ProbingApi(Api):
    """The client with the key read again before each probe of the account, so that a changed one resumes."""

    key_source: Key

    def me(self) -> str:
        try:
            self.key_source.reload()
        except ConfigError as error:
            raise Unauthorized(error.message) from error
        return super().me()


@dataclass
class Hooks:
    """What whoever runs the daemon wants to know: called on the control thread."""

    before: Callable[[World], None] = lambda _world: None  # once, before the first tick
    after_tick: Callable[[World, Daemon], None] = lambda _world, _daemon: None
    beat: Callable[[], None] = lambda: None  # at least once a second
    notifier: Notifier = field(default_factory=lambda: Notifier.from_env({}))


def serve(config: Path, settings: Settings, env: Mapping[str, str], hooks: Hooks, *, state: Path) -> None:
    """Run the daemon until it is told to stop; raises ConfigError or LedgerUnavailable before anything is touched."""
    forbid_dumps()
    collect_seldom()
    ignore_lease_signal()
    key = Key(settings, env)
    signals = _Signals(hooks.notifier)
    with signals.installed(), contextlib.ExitStack() as stack:  # from here on a signal is no sudden death
        lock = DaemonLock(state)
        lock.take()
        stack.callback(lock.release)
        current: tuple[Settings, Key] | None = settings, key
        while current is not None:
            reload = _Reload(config, *current, env)
            _serve_once(*current, hooks, state, signals, reload)
            current = reload.fresh


def _serve_once(settings: Settings, key: Key, hooks: Hooks, state: Path, signals: _Signals, reload: _Reload) -> None:
    """Serve until a stop or a reload; a ledger that fails while serving is waited for, with a new world."""
    is_first, held = True, None
    while True:
        session = None
        try:
            with _opened(state) as ledger:
                is_first = False
                session = _Session(settings, key, hooks, ledger, state, signals, reload, held)
                session.run()
                return
        except LedgerUnavailable as error:
            if is_first:
                raise
            held = session.daemon.world.gate if session else held
            logger.error("{}: {}; trying again in {:.0f} s", WATCHING_LEDGER, error, LEDGER_RETRY_S)
            hooks.notifier.status(WATCHING_LEDGER)
            if signals.wait(LEDGER_RETRY_S):
                return


class _Session:
    """One world with its hands, from the ledger to the stop."""

    def __init__(
        self,
        settings: Settings,
        key: Key,
        hooks: Hooks,
        ledger: SqliteLedger,
        state: Path,
        signals: _Signals,
        reload: _Reload,
        held: Gate | None,
    ) -> None:
        self._clock = SystemClock()
        self._started_at = self._clock.now()
        self._hooks = hooks
        self._ledger = ledger
        self._signals = signals
        self._reload = reload
        self._told: str | None = None
        self._told_at: Millis = 0
        self._tell_every_ms: Millis = pause_ms(0)
        self._is_ready = False
        self._is_stale = True
        self._beat_at: Millis = 0
        self._trimmed_at: Millis = 0
        policies = [folder_policy_of(folder) for folder in settings.folders]
        world = restore.restore(
            ledger, policy_of(settings), policies, now=self._started_at, utc_offset_s=utc_offset_s(), held=held
        )
        spool = Spool(state / "spool")
        spool.prune({job.reference_id for job in world.book.of(JobState.RENDERED)})
        world.spooled |= spool.results()
        hooks.before(world)
        self.daemon = Daemon(world, ledger, self._clock, after_tick=self._after_tick, heartbeat=self._heartbeat)
        self._watcher = Watcher(lambda name: self.daemon.post(Hint(name)))
        self._prober = Prober()
        self._api = ProbingApi(
            base_url=settings.api.base_url,
            key=key,
            ca_file=settings.api.ca_file,
            user_agent=f"chamelaion-watch/{__version__}",
            on_answer=partial(logger.debug, "{} {}: {} after {:.3f} s"),
        )
        self._api.key_source = key
        self.daemon.effects = self._effects = Effects(
            roots={policy.name: self._root(policy, ledger, self._clock) for policy in policies},
            api=self._api,
            prober=self._prober,
            spool=spool,
            clock=self._clock,
            post=self.daemon.post,
        )

    def run(self) -> None:
        self._signals.daemon = self.daemon
        try:
            if self._signals.is_stop:
                return
            self.daemon.run()
        finally:
            self._signals.daemon = None
            self._effects.stop()  # whatever ended the session: no upload of it may be finished from here on
            self._tell(self.daemon.world, is_last=True)
            self._watcher.close()
            self._prober.close()
            self._api.close()

    def _root(self, policy: FolderPolicy, ledger: Ledger, clock: Clock) -> RootWork:
        known = restore.known_root(ledger, policy.name, policy.path)
        return RootWork(policy, ledger_id=ledger.ledger_id, known=known, watcher=self._watcher, clock=clock)

    def _after_tick(self, world: World) -> None:
        if not self._is_ready and all(folder.facts is not None for folder in world.folders.values()):
            self._is_ready = True
            self._hooks.notifier.ready("watching")
            logger.info("watching {}", ", ".join(folder.policy.path for folder in world.folders.values()))
        self._is_stale = True
        if self.daemon.commanded_at == world.now:
            self._tell(world)  # who gave the command looks next
        if self._signals.is_reload:
            self._signals.is_reload = False
            if self._reload.is_accepted():
                stop(self.daemon, "reload")
            else:
                self._hooks.notifier.ready("watching")
        self._hooks.after_tick(world, self.daemon)

    def _tell(self, world: World, *, is_last: bool = False) -> None:
        """Store the snapshot, and see what that took: the next may be the later for it."""
        began_s = worked_s()
        self._store(world, is_last=is_last)
        self._is_stale, self._told_at = False, world.now
        self._tell_every_ms = pause_ms(round(1000 * (worked_s() - began_s)))

    def _store(self, world: World, *, is_last: bool) -> None:
        """Store the snapshot if it says anything new."""
        data = snapshot(world, pid=os.getpid(), started_at=self._started_at)
        body = json.dumps(data, ensure_ascii=True)
        if body == self._told:
            return
        self._told = body
        tolerant = contextlib.suppress(LedgerUnavailable) if is_last else contextlib.nullcontext()
        with tolerant, self._ledger.transaction():
            self._ledger.save_snapshot(world.now, body)
        self._hooks.notifier.status(_status_line(world, data))

    def _heartbeat(self) -> None:
        """Each turn of the control loop, at least once a second: the snapshot, the display, and systemd's watchdog."""
        self._hooks.beat()
        interval_s = self._hooks.notifier.watchdog_s
        now = self._clock.now()
        if self._is_stale and now - self._told_at >= self._tell_every_ms:
            self._tell(self.daemon.world)
        if interval_s is not None and now - self._beat_at >= interval_s * 1000 / 3:
            self._beat_at = now
            self._hooks.notifier.watchdog()
        if now - self._trimmed_at >= TRIM_EVERY_MS and not self.daemon.world.running:
            self._trimmed_at = now
            give_back_memory()


class _Signals:
    """SIGTERM and SIGINT ask to stop, a second one leaves at once; SIGHUP reads the configuration again."""

    def __init__(self, notifier: Notifier) -> None:
        self.daemon: Daemon | None = None
        self._notifier = notifier
        self.is_stop = False
        self.is_reload = False
        self._woken = threading.Event()
        self._last_resort = threading.Timer(GONE_WITHIN_S, os._exit, (0,))
        self._last_resort.daemon = True

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._reload)
        try:
            yield
        finally:
            self._last_resort.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self, seconds: float) -> bool:
        """Wait, and say whether a stop was asked for."""
        self._woken.wait(seconds)
        return self.is_stop

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self.is_stop:
            os._exit(0)  # every tick is committed: there is nothing to lose
        self.is_stop = True
        with contextlib.suppress(RuntimeError):  # out of threads
            self._last_resort.start()
        self._notifier.stopping()
        self._woken.set()
        if self.daemon is not None:
            stop(self.daemon, signal.Signals(number).name)

    def _reload(self, _number: int, _frame: FrameType | None) -> None:
        self.is_reload = True
        self._notifier.reloading()
        if self.daemon is not None:
            self.daemon.post(ReloadAsked())


@contextlib.contextmanager
def _opened(state: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(state)
    try:
        yield ledger
    finally:
        ledger.close()


@dataclass
class _Reload:
    """The configuration read again: `fresh` takes over if it is right; if not, the old one stays, loudly."""

    config: Path
    settings: Settings
    key: Key
    env: Mapping[str, str]
    fresh: tuple[Settings, Key] | None = None

    def is_accepted(self) -> bool:
        try:
            settings = configuration.load(self.config, self.env)
            key = Key(settings, self.env)
        except ConfigError as error:
            for problem in error.problems:
                logger.error("{}", problem)
            logger.error("{}: not read again, the old configuration stays in force", self.config)
            return False
        if self._state_of(settings) != self._state_of(self.settings):
            logger.error("{}: `state` changes only with a restart; the old configuration stays in force", self.config)
            return False
        logger.info("{}: read again", self.config)
        self.fresh = settings, key
        return True

    def _state_of(self, settings: Settings) -> Path:
        return configuration.state_folder(settings, self.config, self.env)


def _growth(growth: GrowthSettings) -> Growth:
    return Growth(round(growth.first * 1000), round(growth.max * 1000))


def _status_line(world: World, data: dict[str, Any]) -> str:
    told = account(world)
    paused = "" if told["state"] == "open" else f"; account {told['state']}"
    unwell = [f"{root['name']} {root['state']}" for root in data["roots"] if root["state"] != "ok"]
    return (
        f"{len(data['pairs'])} open, {told['in_flight']} in flight{paused}{'; ' + ', '.join(unwell) if unwell else ''}"
    )
