"""An idle daemon, its ten pairs done, over 60 s: under 0.5 % of a core and 90 MB, and its probe children gone.

The memory is that of the daemon and of the small process that starts probe children.

`python tests/acceptance/idle.py [SECONDS]` prints the figures and exits with 1 if one is above its bound. Linux only.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from chamelaion_watch.sandbox.media import make_audio, make_video
from tests.acceptance.rig import Facts, children, eventually, outputs, rig, submissions

PAIRS = 10
SECONDS = 60.0
MAX_CORE_SHARE = 0.005
MAX_RSS_MB = 90.0
CHILDREN_GONE_S = 90.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """Of one process, with those of its children that it has collected."""

    cpu_s: float
    rss_mb: float
    switches: int
    uptime_s: float


def main() -> None:
    facts = Facts()
    seconds = float(sys.argv[1]) if sys.argv[1:] else SECONDS
    with rig(rpm=1000, queue_s=0.1, processing_s=0.5) as (at, sandbox):
        at.configure(api={"requests_per_minute": 1000})
        for number in range(PAIRS):
            make_video(at.drop / f"scene{number}.mp4", seconds=1, seed=number)
            make_audio(at.drop / f"scene{number}.wav", seconds=1, seed=number)
        with at.daemon() as process:
            eventually(lambda: len(outputs(at.drop)) == PAIRS, 90)
            busy = usage(process.pid)
            told = ", ".join(f"{usage(child).rss_mb:.1f} MB" for child in children(process.pid)) or "none"
            facts.check("ten pairs are done", len(submissions(sandbox)) == PAIRS, f"{busy.cpu_s:.2f} s CPU so far")
            print(f"      after the work: RSS {busy.rss_mb:.1f} MB, probe children: {told}")
            (launcher,) = eventually(lambda: alone(children(process.pid)), CHILDREN_GONE_S, every=0.5)
            facts.check("the probe children are gone when idle", children(process.pid) == {launcher})
            first = usage(process.pid)
            eventually(lambda: usage(process.pid).uptime_s - first.uptime_s >= seconds, seconds + 30, every=1.0)
            last, beside = usage(process.pid), usage(launcher)
        measured_s = last.uptime_s - first.uptime_s
        share = (last.cpu_s - first.cpu_s) / measured_s
        switches = (last.switches - first.switches) / measured_s
        facts.check(
            f"under {MAX_CORE_SHARE:.1%} of a core over {seconds:.0f} s",
            share < MAX_CORE_SHARE,
            f"{share:.2%}: {last.cpu_s - first.cpu_s:.2f} s, {switches:.1f} wake-ups/s",
        )
        rss_mb = last.rss_mb + beside.rss_mb
        told = f"{rss_mb:.1f} MB, {beside.rss_mb:.1f} of them what starts probe children"
        facts.check(f"under {MAX_RSS_MB:.0f} MB", rss_mb < MAX_RSS_MB, told)
    facts.end()


def alone(pids: set[int]) -> set[int]:
    """Return the process that is left once all probe children have ended; none before."""
    return pids if len(pids) == 1 else set()


def usage(pid: int) -> Usage:
    """Read /proc. Times of the process and of its collected children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    switches = sum(_switches(thread / "status") for thread in Path(f"/proc/{pid}/task").iterdir())
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    cpu_ticks = sum(int(value) for value in fields[11:15])  # utime, stime, cutime, cstime
    return Usage(cpu_ticks / TICKS_PER_S, int(status["VmRSS"].split()[0]) / 1024, switches, uptime_s)


def _switches(path: Path) -> int:
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
    return int(lines["voluntary_ctxt_switches"])


if __name__ == "__main__":
    main()
