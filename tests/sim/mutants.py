"""Checks the checker: known mistakes, planted into a copy of the package one at a time; the simulation must find each.

Not visible here, and so not planted: a rename before fsync, and a file that is published before its size is checked;
there the disk and the download are simulated (`tests/walk` and `test_outputs` look at those).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "chamelaion_watch"
LAST_SEED = 200
# The copy must be what is imported, not the installed package.
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import chamelaion_watch
assert chamelaion_watch.__file__.startswith(sys.argv[1]), chamelaion_watch.__file__
from tests.sim.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


@dataclass(frozen=True)
class Mutant:
    """One mistake: `old` stands exactly once in `file` of the package and becomes `new`; `also` a second layer's."""

    name: str
    breaks: str
    file: str
    old: str
    new: str
    also: tuple[tuple[str, str, str], ...] = ()  # (file, old, new)


@dataclass(frozen=True)
class Caught:
    """The first seed that broke, and how; `seed` None: none did."""

    mutant: str
    seed: int | None
    how: str

    def line(self) -> str:
        return f"{self.mutant:34} {'survived' if self.seed is None else f'seed {self.seed}':>9}  {self.how}"


MUTANTS = (
    Mutant(
        "no write-ahead",
        "a submission starts before the ledger has it",
        "daemon.py",
        "        if self._ledger.claim_job(action.job):\n            return True\n",
        "        if action.job.id:\n            return True\n",
    ),
    Mutant(
        "leave before it is written",
        "a crash after the last piece is taken for one before it",
        "core/submission.py",
        "    world.change(job, finishing_at=world.now, sent_until=until)\n",
        "    world.change(job, sent_until=until)\n",
    ),
    Mutant(
        "look-up skipped",
        "an upload without a clear answer is sent again",
        "core/submission.py",
        "            world.change(job, doubt_at=world.now, next_at=world.now)\n        case _:\n",
        "            _try_later(world, job, Transient(error.message))\n        case _:\n",
    ),
    Mutant(
        "grace removed",
        "the first 404s to a look-up are believed",
        "core/submission.py",
        "    return job.doubt_at is not None and world.now - job.doubt_at >= world.policy.lookup_grace_ms\n",
        "    return job.doubt_at is not None\n",
    ),
    Mutant(
        "412 is the job's failure",
        "what everybody waits for becomes one pair's error",
        "core/submission.py",
        "        case Rejected():\n            _fail(world, job, error)\n",
        "        case _ if isinstance(error, Rejected) or error.http_status == 412:\n            _fail(world, job, error)\n",
    ),
    Mutant(
        "429 is not global",
        "polls go on inside a promised Retry-After",
        "core/gate.py",
        "        case AccountState.RATE_LIMITED:\n            return max(now, gate.until_at)\n",
        "        case AccountState.RATE_LIMITED:\n            return now\n",
    ),
    Mutant(
        "promise forgotten at a restart",
        "a restart goes before a Retry-After is over",
        "core/gate.py",
        "        until_at=min(gate.until_at, now + longest),\n",
        "        until_at=now,\n",
    ),
    Mutant(
        "404 of a known job believed",
        "one 404 makes a paid job doubtful",
        "core/rendering.py",
        "        world.change(job, doubt_at=job.doubt_at or world.now, next_at=world.now + 1000)\n",
        '        world.step(job, Step.LOSE, code="doubtful", message="unknown")\n',
    ),
    Mutant(
        "no canary",
        "a herd goes after a stop",
        "core/gate.py",
        "    return gate.is_half_open or not gate.is_open\n\n\ndef probe_at",
        "    return False\n\n\ndef probe_at",
    ),
    Mutant(
        "no pacing",
        "more submissions in a minute than allowed",
        "core/gate.py",
        "    slot = base + ",
        "    slot = now + 0 * ",
    ),
    Mutant(
        "one_sender ignored",
        "two pairs with one content are both sent: neither the plan nor the ledger stands in the way",
        "core/turns.py",
        "    if twin := twins.active(world, job):\n",
        "    if (twin := twins.active(world, job)) and not job.id:\n",
        also=(("edges/ledger/schema.py", "CREATE UNIQUE INDEX one_sender", "CREATE INDEX one_sender"),),
    ),
    Mutant(
        "notes are not removed",
        "a note lies there when its reason is gone",
        "core/notebook.py",
        "            yield RemoveFiles(note.root, paths, note.subject)\n",
        "            yield from ()\n",
    ),
    Mutant(
        "one look at a missing note",
        "an unmounted share asks for everything again",
        "core/folder.py",
        "        return self._missing_notes.get(path, 0) >= 2",
        "        return self._missing_notes.get(path, 0) >= 1",
    ),
    Mutant(
        "every temp is a dead process's",
        "a note loses its temp while it is written",
        "core/folder.py",
        "            if was_away or not self.is_scanned:",
        "            if path:",
        (
            (
                "core/planner.py",
                "    if any(isinstance(action, WriteNote) and action.root == name for action in world.running):\n        return\n",
                "",
            ),
        ),
    ),
    Mutant(
        "another's request is taken",
        "a pair gets the result of other content",
        "core/rendering.py",
        "    if request is not None and request.reference_id not in (None, job.reference_id):\n",
        "    if request is not None and request.reference_id == ():\n",
    ),
)


def run_all(mutants: Iterable[Mutant | None], *, at_once: int = 2) -> Iterator[Caught]:
    """Yield what became of each, in the order given."""
    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(run, mutants)


def run(mutant: Mutant | None, *, last_seed: int = LAST_SEED) -> Caught:
    """Live the seeds with a mutant, or with none, until one breaks; raises ValueError if it cannot be planted."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PACKAGE, Path(folder) / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        if mutant is not None:
            plant(mutant, Path(folder) / PACKAGE.name)
        done = subprocess.run(
            [sys.executable, "-c", RUN, folder, f"1-{last_seed}", "--stop"],
            cwd=PACKAGE.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    return _judged(mutant.name if mutant else "no mutant", done)


def plant(mutant: Mutant, package: Path) -> None:
    """Make the mistake; raises ValueError where the code is not what the mutant was written for."""
    for file, old, new in ((mutant.file, mutant.old, mutant.new), *mutant.also):
        path = package / file
        text = path.read_text(encoding="utf-8")
        if (count := text.count(old)) != 1:
            raise ValueError(f"mutant {mutant.name!r}: its text stands {count} times in {file}: write it anew")
        path.write_text(text.replace(old, new), encoding="utf-8")


def _judged(name: str, done: subprocess.CompletedProcess[str]) -> Caught:
    found = re.search(r"^seed (\d+): (.*)$", done.stdout, re.MULTILINE)
    if done.returncode == 0 and not found:
        return Caught(name, None, done.stdout.partition("\n")[0])
    if found is None:
        raise ValueError(f"{name}: {done.stdout}{done.stderr}")
    return Caught(name, int(found[1]), found[2][:160])
