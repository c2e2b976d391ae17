"""The command line: which commands there are, in which group, and where their code lies.

Each command's module is imported only when it runs, so that a look costs no more than it must.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click

GROUPS: dict[str, dict[str, str]] = {
    "Run": {"run": "running", "check": "configuring", "init": "configuring", "doctor": "doctoring"},
    "Look": {"status": "looking", "jobs": "looking", "show": "looking", "explain": "explaining", "report": "reporting"},
    "Repair": {
        "retry": "repairing",
        "cancel": "repairing",
        "pause": "repairing",
        "resume": "repairing",
        "adopt": "repairing",
        "prune": "reporting",
    },
    "Try": {"demo": "trying", "sandbox": "trying"},
}
_MODULES = {command: module for commands in GROUPS.values() for command, module in commands.items()}


@dataclass(frozen=True, slots=True)
class Globals:
    """What stands before the command."""

    config: str | None
    verbosity: int  # -1 quiet, 0 normal, 1 verbose

    def config_path(self) -> Path:
        """Find the configuration; raises ConfigError."""
        from chamelaion_watch.settings import find_config

        return find_config(self.config, os.environ, Path.cwd())


class Commands(click.Group):
    """A group that loads its commands when they are asked for, and lists them by purpose."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _MODULES:
            return None
        module = _imported(f"chamelaion_watch.cli.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in GROUPS.items():
            rows = []
            for name in names:
                command = self.get_command(ctx, name)
                rows.append((name, command.get_short_help_str(80) if command else ""))
            with formatter.section(title):
                formatter.write_dl(rows)


def _imported(name: str) -> ModuleType:
    """Import a module without two things that cost a fifth of the daemon's start, 160 of 779 ms, and do nothing for it.

    Looking for garbage in what is being defined; and httpx's own command line, which pulls in rich and pygments.
    """
    no_module: Any = None  # what stands so in the table of modules is "not found", and httpx allows for that
    sys.modules.setdefault("httpx._main", no_module)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config",
    metavar="PATH",
    help="The configuration; else $CHAMELAION_WATCH_CONFIG, ./config.yaml, /etc/chamelaion-watch/config.yaml.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say more (log level debug).")
@click.option("-q", "--quiet", is_flag=True, help="Say only what needs attention.")
@click.version_option(package_name="chamelaion-watch", message="%(package)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, config: str | None, verbose: bool, quiet: bool) -> None:
    """Drop a video and an audio track into a folder; the lip-synced video appears beside them."""
    if verbose and quiet:
        raise click.UsageError("-v and -q exclude each other")
    ctx.obj = Globals(config, 1 if verbose else -1 if quiet else 0)
