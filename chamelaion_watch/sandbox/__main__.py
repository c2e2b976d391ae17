"""`python -m chamelaion_watch.sandbox`: the stand-in service as a process of its own."""

from __future__ import annotations

import argparse
import sys

from chamelaion_watch.sandbox.server import SandboxOptions, run


def main(arguments: list[str] | None = None) -> int:
    """Serve as the flags say; return the exit code."""
    try:
        run(SandboxOptions(**vars(_parser().parse_args(arguments))))
    except OSError as error:
        print(f"sandbox: {error.strerror}", file=sys.stderr)  # noqa: T201 -- a command talks on stderr
        return 69
    except ValueError as error:
        print(f"sandbox: {error}", file=sys.stderr)  # noqa: T201 -- a command talks on stderr
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = SandboxOptions()
    parser = argparse.ArgumentParser("sandbox", description="a local stand-in of the Chamelaion API")
    parser.add_argument("--port", type=int, default=defaults.port, help="of the API; 0 picks a free one")
    parser.add_argument("--media-port", type=int, default=defaults.media_port, help="of the outputs; 0 picks one")
    parser.add_argument("--key", default=defaults.key, help="the API key (%(default)s)")
    parser.add_argument("--rpm", type=int, default=defaults.rpm, help="generations per minute (%(default)s)")
    parser.add_argument("--cap", type=int, default=defaults.cap, help="requests at work at once (no cap)")
    parser.add_argument("--quota", type=int, default=defaults.quota, help="requests in all (no end)")
    parser.add_argument("--queue-s", type=float, default=defaults.queue_s, help="seconds queued (%(default)s)")
    parser.add_argument(
        "--processing-s", type=float, default=defaults.processing_s, help="seconds at work (%(default)s)"
    )
    parser.add_argument("--speed", type=float, default=defaults.speed, help="of its clock (%(default)s)")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of ids and random times (a new one)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
