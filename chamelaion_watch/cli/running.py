"""`run`: the daemon, one pass (`--once`), or only what it would do (`--dry-run`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from chamelaion_watch import log
from chamelaion_watch import settings as configuration
from chamelaion_watch.cli import Globals
from chamelaion_watch.cli.output import OK, exits
from chamelaion_watch.core.once import Once, Outcome
from chamelaion_watch.core.world import World
from chamelaion_watch.daemon import Daemon, stop
from chamelaion_watch.notify import Notifier
from chamelaion_watch.service import Hooks, serve
from chamelaion_watch.settings_model import Settings
from chamelaion_watch.units import duration_s

_LEVELS = {-1: "warning", 1: "debug"}


@click.command("run", short_help="Watch the folders and do the work (--once, --dry-run).")
@click.option("--once", is_flag=True, help="Do what is there now, then exit; later arrivals are ignored.")
@click.option(
    "--patience", metavar="D", help="With --once: how long to wait out a used-up quota (0s) or a dead network (5m)."
)
@click.option("--dry-run", is_flag=True, help="Print the pairs and why others wait; never touches the network.")
@click.pass_obj
def run_command(obj: Globals, once: bool, patience: str | None, dry_run: bool) -> None:
    """Watch the folders of the configuration: submit, poll, deliver.

    Exit codes: 0 ok, 1 some job failed (--once), 69 ledger or folder unavailable, 73 another daemon holds the ledger,
    75 temporary (network, quota, paused), 77 key rejected, 78 configuration wrong or key missing.
    """
    if patience is not None and not once:
        raise click.UsageError("--patience goes with --once")
    if once and dry_run:
        raise click.UsageError("--once and --dry-run exclude each other")
    with exits():
        config = obj.config_path()
        settings = configuration.load(config, os.environ)
        if dry_run:
            from chamelaion_watch.cli.dryrun import dry_run as print_plan

            sys.exit(print_plan(settings, configuration.state_folder(settings, config, os.environ)))
        for warning in configuration.key_problems(settings, os.environ):
            click.echo(warning, err=True)
        sys.exit(
            run_daemon(config, settings, Once(_patience_ms(patience)) if once else None, obj.verbosity, os.environ)
        )


def run_daemon(config: Path, settings: Settings, once: Once | None, verbosity: int, env: Mapping[str, str]) -> int:
    """Serve until the end and return the exit code."""
    from chamelaion_watch.live import Display

    outcome: list[Outcome] = []
    display = Display(sys.stderr, is_live=sys.stderr.isatty() and not env.get("JOURNAL_STREAM"))

    def after_tick(world: World, daemon: Daemon) -> None:
        display.show(world)
        if once is not None and not outcome and not world.is_stopping and (ended := once.ended(world)):
            outcome.append(ended)
            stop(daemon, ended.reason)

    hooks = Hooks(once.begin if once else lambda _: None, after_tick, display.refresh, Notifier.from_env(env))
    state = configuration.state_folder(settings, config, env)
    with display:
        level = _LEVELS.get(verbosity, settings.log.level)
        log.configure(level, settings.log.format, stream=display.stream, env=env)
        serve(config, settings, env, hooks, state=state)
    if not outcome:
        return OK
    display.summary(outcome[0].reason)
    return outcome[0].code


def _patience_ms(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return round(duration_s(text) * 1000)
    except ValueError as error:
        raise click.UsageError(f"--patience: {error}") from error
