"""`demo` and `sandbox`: the whole product without an account."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chamelaion_watch.cli import Globals
from chamelaion_watch.cli.output import FAILED, OK, USAGE, exits, leave, say

if TYPE_CHECKING:
    from chamelaion_watch.sandbox.server import Sandbox

SECONDS = 3.0
CONFIG = """\
# Written by `chamelaion-watch demo`. Its times are short, so that you need not wait: leave them out for real work.
api:
  base_url: {base_url}
  key_file: {key_file}
  requests_per_minute: 600     # more than the stand-in allows, so that it has to say 429 once
  poll: {{first: 1s, max: 1s}}
  pause:
    rate_limited: {{first: 1s, max: 5s}}
folders:
  - path: {folder}
    settle: 2s                 # 10s by default
state: {state}
"""


@click.command("demo", short_help="Show the main job without an account, in a few seconds.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Where to leave it (./lipsync-demo).")
@click.pass_obj
def demo_command(obj: Globals, folder: Path | None) -> None:
    """Make media, start a local stand-in of the service, and let the real daemon do its job on them.

    Nothing leaves this machine. It leaves a folder with the sources, the outputs and one error note.
    """
    from chamelaion_watch.sandbox.server import Sandbox, SandboxOptions

    home = _home(folder)
    say(f"1. making two videos and three audio tracks in {home / 'drop'}")
    drop = _make_media(home)
    # The clock of the stand-in runs 20 times faster: its minute is three seconds, its 40 s of rendering are two.
    options = SandboxOptions(rpm=2, queue_s=10.0, processing_s=30.0, speed=20.0)
    with exits(), Sandbox(options) as sandbox:
        say(f"2. a stand-in of the Chamelaion API listens on {sandbox.base_url}; it allows 2 requests a minute")
        say("3. the daemon watches the folder (with a short settle time and short pauses, see its config.yaml)\n")
        _run(home, drop, sandbox, obj.verbosity)
        sys.exit(_report(home, drop, sandbox))


@click.command("sandbox", short_help="Serve a local stand-in of the Chamelaion API.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the API; 0 picks a free one.")
@click.option("--media-port", type=click.IntRange(0, 65535), default=0, help="Port of the outputs; 0 picks a free one.")
@click.option("--key", default="sandbox-key", show_default=True, help="The API key that it accepts.")
@click.option("--rpm", type=int, default=60, show_default=True, help="Generation requests per minute.")
@click.option("--cap", type=int, help="Requests at work at once.  [default: no cap]")
@click.option("--quota", type=int, help="Requests in all.  [default: no end]")
@click.option("--queue-s", type=float, default=0.5, show_default=True, help="Seconds a request is queued.")
@click.option("--processing-s", type=float, default=2.0, show_default=True, help="Seconds a request is at work.")
@click.option("--speed", type=float, default=1.0, show_default=True, help="How much faster its clock runs.")
@click.option("--seed", type=int, help="Seed of ids and random times.  [default: a new one]")
def sandbox_command(**options: float | str | None) -> None:
    """Serve every endpoint and error of the API under /api, and videos with the new sound from a second port.

    The first line on stdout is `READY http://127.0.0.1:PORT/api`. `POST /_sandbox` changes quota, rpm, cap and
    faults while it runs; `GET /_sandbox` tells what it saw. Try it with
    CHAMELAION_BASE_URL=http://127.0.0.1:PORT/api CHAMELAION_API_KEY=sandbox-key chamelaion-watch run.
    """
    from chamelaion_watch.sandbox.server import SandboxOptions, run

    try:
        run(SandboxOptions(**options))  # type: ignore[arg-type]
    except OSError as error:
        leave(69, f"sandbox: {error.strerror}; choose another --port")
    except ValueError as error:
        leave(USAGE, f"sandbox: {error}")


def _home(wanted: Path | None) -> Path:
    """Return a new folder; one that somebody uses is never touched."""
    home = wanted if wanted is not None else next(path for path in _names() if not path.exists())
    home = home.absolute()
    if home.exists() and any(home.iterdir()):
        leave(USAGE, f"{home}: is not empty; name a new folder with --dir")
    (home / "drop").mkdir(parents=True)
    return home


def _names() -> Iterator[Path]:
    yield Path("lipsync-demo")
    number = 2
    while True:
        yield Path(f"lipsync-demo-{number}")
        number += 1


def _make_media(home: Path) -> Path:
    from chamelaion_watch.sandbox.media import make_audio, make_video

    drop = home / "drop"
    make_video(drop / "scene01.mp4", seconds=SECONDS)
    make_audio(drop / "scene01.de.wav", seconds=SECONDS, hz=440)
    make_audio(drop / "scene01.fr.mp3", seconds=SECONDS, hz=550)
    make_video(drop / "black.mp4", seconds=SECONDS, blank=True)  # no face in it: the stand-in refuses it
    make_audio(drop / "black.wav", seconds=SECONDS, hz=330)
    return drop


def _run(home: Path, drop: Path, sandbox: Sandbox, verbosity: int) -> None:
    """The real thing, but for the environment: nobody's key and no real service may slip in."""
    from chamelaion_watch import settings as configuration
    from chamelaion_watch.cli.running import run_daemon
    from chamelaion_watch.core.once import Once

    state = home / "state"
    state.mkdir(mode=0o700)
    key_file = state / "api-key"
    key_file.touch(mode=0o600)
    key_file.write_text(f"{sandbox.key}\n")
    config = home / "config.yaml"
    quoted = {"key_file": key_file, "folder": drop, "state": state}
    values = {name: f"'{str(path).replace(chr(39), chr(39) * 2)}'" for name, path in quoted.items()}
    config.write_text(CONFIG.format(base_url=sandbox.base_url, **values))
    run_daemon(config, configuration.load(config, {}), Once(), verbosity, {})


def _report(home: Path, drop: Path, sandbox: Sandbox) -> int:
    """Show what came of it, checked by decoding."""
    from chamelaion_watch.sandbox.media import describe

    outputs = sorted(drop.glob("*.lipsync.mp4"))
    say("")
    for output in outputs:
        facts = describe(output)
        click.echo(f"{output}  ({facts.duration_s:.1f} s, picture and sound)")
    for note in sorted(drop.glob("*.lipsync-error.txt")):
        click.echo(f"\n{note}:")
        click.echo(note.read_text(encoding="utf-8-sig"))
    throttled = sum(entry["status"] == 429 for entry in sandbox.state()["log"])  # noqa: PLR2004 - HTTP
    click.echo(f"429 answers waited out: {throttled}; paid submissions: {len(sandbox.state()['submissions'])}")
    say(f"\neverything is in {home}; next: `chamelaion-watch init`, then `chamelaion-watch run`")
    is_fine = all(facts.has_video and facts.has_audio for facts in map(describe, outputs))
    return OK if len(outputs) == 2 and is_fine else FAILED  # noqa: PLR2004 - the two languages
