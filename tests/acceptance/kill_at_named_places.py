"""SIGKILL at every named place of one job's life, then a restart: one submission, one right output, nothing else.

`python tests/acceptance/kill_at_named_places.py [WORD…]` prints a line with its figures per place (only those that
hold a WORD) and exits with 1 if one does not hold.
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chamelaion_watch.sandbox.media import describe, make_audio, make_video
from chamelaion_watch.sandbox.server import Sandbox
from tests.acceptance.kill_child import PLACES
from tests.acceptance.rig import ROOT, Rig, eventually, fingerprints, outputs, rig, submissions, temps

SECONDS = 8.0  # of media: 1 MB, so that there is a middle of the upload and of the download
AT_ONCE = 2
BROKEN = {"on": "media", "kind": "truncate", "count": 4}  # one more than a download resumes by itself
FAULTS: dict[str, dict[str, Any]] = {  # what the service does in the meantime
    "after the last piece, before it is read": {"on": "submit", "kind": "delay", "seconds": 2},
    "after the last piece, created, before the answer": {
        "on": "submit",
        "kind": "stall",
        "create": True,
        "seconds": 5,
    },
    "after the last piece, created 2 s later": {"on": "submit", "kind": "late", "delay_s": 2},
    "after the last piece, never received": {"on": "submit", "kind": "lost_before"},
    "before what a broken download left is put aside": BROKEN,
    "after what a broken download left was put aside": BROKEN,
    "after what was put aside was taken up again": BROKEN,
    "in mid-download": {"on": "media", "kind": "slow"},
}


@dataclass
class Figures:
    """What was found after the restart; `problems` says what does not hold."""

    place: str
    took_s: float
    facts: dict[str, object]
    problems: list[str]

    def line(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        verdict = f"FAIL  {self.place}: {'; '.join(self.problems)}" if self.problems else f"ok    {self.place}"
        return f"{verdict}: {told} ({self.took_s:.1f} s)"


def main() -> int:
    words = sys.argv[1:]
    chosen = [place for place in PLACES if not words or any(word in place for word in words)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = []
        for figures in pool.map(survive, chosen):
            print(figures.line(), flush=True)
            found.append(figures)
    failed = [figures.place for figures in found if figures.problems]
    print(f"{len(failed)} of {len(found)} places fail" if failed else f"all {len(found)} places hold")
    return 1 if failed else 0


def survive(place: str) -> Figures:
    """Kill at one place, restart, wait for the end."""
    began = time.monotonic()
    with rig(rpm=1000, queue_s=0.2, processing_s=1.0) as (at, sandbox):
        at.configure(api={"requests_per_minute": 1000, "lookup_grace": "4s"})
        if place in FAULTS:
            sandbox.control(faults=[FAULTS[place]])
        make_video(at.drop / "scene.mp4", seconds=SECONDS, width=960, height=540, seed=1)
        make_audio(at.drop / "scene.wav", seconds=SECONDS, seed=1)
        before = fingerprints(at.drop)
        problems = [] if was_killed(at, place) else ["it was not killed there"]
        try:
            with at.daemon("-v"):
                eventually(lambda: is_over(at), 60, every=0.1)
        except AssertionError:
            problems.append(f"not done 60 s after the restart; log: {at.log()[-3000:]}")
        facts = figures(at, sandbox, problems, before == fingerprints(at.drop))
    return Figures(place, time.monotonic() - began, facts, problems)


def was_killed(at: Rig, place: str) -> bool:
    with (at.home / "killed.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.kill_child", place, str(at.config)],
            env=at.env(),
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
        try:
            return child.wait(40) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return False


def is_over(at: Rig) -> bool:
    """The restarted daemon has looked around, and the ledger says that the pair is done."""
    return "watching " in at.log() and at.states() == ["done"]


def figures(at: Rig, sandbox: Sandbox, problems: list[str], is_untouched: bool) -> dict[str, object]:
    """Measure everything that has to hold, and add to `problems` what does not."""
    sent, results = submissions(sandbox), outputs(at.drop)
    facts: dict[str, object] = {
        "submissions": len(sent),
        "outputs": len(results),
        "plays": [plays(path) for path in results] == [True],
        "as in the ledger": at.rows("SELECT output_sha256 FROM jobs") == [(sha256(path),) for path in results],
        "right sources": [(one["video_sha256"], one["audio_sha256"]) for one in sent]
        == [(sha256(at.drop / "scene.mp4"), sha256(at.drop / "scene.wav"))],
        "sources untouched": is_untouched,
        "temps": len(temps(at.drop)),
        "notes": len(list(at.drop.rglob("*.lipsync-*.*"))),
        "ledger": at.rows("PRAGMA integrity_check")[0][0],
        "sandbox bugs": len(sandbox.state()["bugs"]),
    }
    wanted = {"submissions": 1, "outputs": 1, "temps": 0, "notes": 0, "ledger": "ok", "sandbox bugs": 0}
    problems += [name for name, value in facts.items() if value != wanted.get(name, True)]
    return facts


def plays(path: Path) -> bool:
    facts = describe(path)
    return facts.has_video and facts.has_audio and abs(facts.duration_s - SECONDS) < 0.2


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
