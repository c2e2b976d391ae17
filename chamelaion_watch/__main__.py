"""The command: `chamelaion-watch`, or `python -m chamelaion_watch`."""

from __future__ import annotations

import sys

from chamelaion_watch.version import __version__


def main() -> None:
    """Run the command line; `--version` answers before anything else is imported (click alone takes 40 ms)."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"chamelaion-watch {__version__}\n")
        return
    from chamelaion_watch.cli import cli

    cli(prog_name="chamelaion-watch")


if __name__ == "__main__":
    main()
