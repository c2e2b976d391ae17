"""One life of the daemon with one strike: three pairs and a twin, the restart, and everything that must hold.

The sandbox is real HTTP in this process; the daemon is the real command under `tracer`. Nothing here is about a
certain call: what must hold, holds wherever it was struck.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chamelaion_watch.sandbox.media import describe, make_audio, make_video
from chamelaion_watch.sandbox.server import Sandbox
from tests.acceptance.rig import KEY, ROOT, Rig, fingerprints, outputs, rig, submissions, temps
from tests.support import eventually
from tests.walk.points import Mode, Point
from tests.walk.tracer import Spec

SECONDS = 1.0  # of media
PAIRS = {"one": 1, "two": 2, "three": 3, "again/one": 1}  # by seed: the last is the first one's twin, and costs nothing
API = {
    "requests_per_minute": 1000,
    "lookup_grace": "2s",
    "poll": {"first": "300ms", "max": "500ms"},
    "pause": {"unreachable": {"first": "200ms", "max": "500ms"}},
}
FOLDER = {"settle": "1s", "rescan": "1s", "receipts": True, "output": "{dir}/dubbed/{name}.lipsync.mp4"}
PATIENCE_S = 90.0
STOPS_WITHIN_S = 15.0
FULL_FOR_S = 3.0  # how long the disk stays full
MOST_REFUSED = 300  # in that time: more is a busy loop
CLEAR_EXITS = {69, 75}  # cli/output.py: the ledger or the folder is unavailable, or it is temporary
SECRETS = re.compile(rf"{KEY}|Bearer [^*\s]|[?&](sig|expires)=")
NEEDS_A_PERSON = {"failed", "doubtful"}


@dataclass
class Outcome:
    """What a life came to; `problems` says what does not hold."""

    point: str
    problems: list[str] = field(default_factory=list)
    is_reached: bool = False
    code: int | None = None  # with which the struck daemon ended by itself
    reported: int = 0  # pairs that failed, told in a note, not paid twice
    took_s: float = 0.0
    order: list[str] = field(default_factory=list)

    def line(self) -> str:
        ended = "" if self.code is None else f", exit {self.code}"
        told = f", {self.reported} reported to a person" if self.reported else ""
        verdict = "ok  " if self.is_reached else "none"
        if self.problems:
            verdict = "FAIL"
        problems = f": {'; '.join(self.problems)}" if self.problems else ""
        return f"{verdict}  {self.point}{problems}{ended}{told} ({self.took_s:.1f} s)"


def live(point: Point | None) -> Outcome:
    """Live a life, struck at a point or, to record it, not at all."""
    began = time.monotonic()
    outcome = Outcome(str(point or "quiet"))
    with rig(rpm=1000, queue_s=0.1, processing_s=0.2, seed=1) as (at, sandbox):
        at.configure(api=API, folder=FOLDER)
        _drop_pairs(at.drop)
        life = _Life(at, sandbox, outcome, fingerprints(at.drop))
        try:
            life.run(point)
        except AssertionError as error:
            outcome.problems.append(f"{error}; log: {at.log()[-2500:]}")
    outcome.took_s = time.monotonic() - began
    return outcome


class _Life:
    def __init__(self, at: Rig, sandbox: Sandbox, outcome: Outcome, before: dict[str, tuple[object, ...]]) -> None:
        self._at = at
        self._sandbox = sandbox
        self._outcome = outcome
        self._before = before
        self._starts = 0
        self._log_at = 0  # where the log of the present daemon begins
        self._seen: dict[Path, str] = {}  # outputs, and what they held when they were first seen at a standstill

    def run(self, point: Point | None) -> None:
        if point is not None and point.mode in {Mode.KILL, Mode.KILL_AFTER}:
            self._killed(point)
        else:
            self._refused(point)
        if point is not None:
            self._restarted()
        self._check_the_end(point)

    # -- the struck daemon ----------------------------------------------------------------------------

    def _killed(self, point: Point) -> None:
        with self._daemon(point) as run:
            eventually(lambda: run.has_ended() or self._is_over(), PATIENCE_S, every=0.1)
        if run.report.get("is_hit"):
            self._expect(run.code == -signal.SIGKILL, f"killed, it ended with {run.code}")

    def _refused(self, point: Point | None) -> None:
        """Let it live on, to survive or to stop with a clear message."""
        with self._daemon(point) as run:
            eventually(lambda: run.has_ended() or self._is_over() or run.is_full_for(FULL_FOR_S), PATIENCE_S, every=0.1)
            ended_itself = run.has_ended()
        if ended_itself or run.code in CLEAR_EXITS:  # it may just have been ending when it was told to
            self._outcome.code = run.code
            self._expect(point is not None and run.code in CLEAR_EXITS, f"it ended by itself with {run.code}")
            last_words = self._at.log()[self._log_at :].strip().rpartition("\n")[2]
            self._expect(bool(last_words) and " INFO " not in last_words, f"it ended without a word: {last_words}")
        else:
            self._expect(run.code == 0, f"stopped, it ended with {run.code}")
        self._expect(run.report.get("refused", 0) <= MOST_REFUSED, f"a busy loop: {run.report.get('refused')} refused")

    def _restarted(self) -> None:
        with self._daemon(None) as run:
            eventually(lambda: run.has_ended() or self._is_over(), PATIENCE_S, every=0.1)
        self._expect(run.code == 0, f"restarted, it ended with {run.code}")

    @contextlib.contextmanager
    def _daemon(self, point: Point | None) -> Iterator[_Run]:
        self._starts += 1
        self._log_at = len(self._at.log())
        run = _Run(self._at, self._sandbox, point, self._starts)
        try:
            yield run
        finally:
            run.end()
            outcome = self._outcome
            if point is not None or not outcome.order:
                outcome.order = run.report.get("order", [])
            outcome.is_reached = outcome.is_reached or bool(run.report.get("is_hit"))
            outcome.problems += run.report.get("broken", ["no report of the tracer"])
            outcome.problems += [f"it changed something elsewhere: {told}" for told in run.report.get("elsewhere", [])]
            self._expect(not run.report.get("orphans"), "children outlived it")
            self._look_at_outputs()

    # -- is it over -----------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        """Every pair has its output and its receipt, or its note, and the ledger says so."""
        if "watching " not in self._at.log()[self._log_at :] or not all(self._has_result(pair) for pair in PAIRS):
            return False
        return set(self._states().values()) <= {"done", *NEEDS_A_PERSON}

    def _has_result(self, pair: str) -> bool:
        folder, name = _place_of(pair, self._at.drop)
        has_output = bool(list(folder.glob(f"{name}*.lipsync.mp4"))) and (folder / f"{name}.lipsync.json").exists()
        return has_output or bool(self._notes(pair))

    def _notes(self, pair: str) -> list[Path]:
        folder, name = _place_of(pair, self._at.drop)
        return list(folder.glob(f"{name}.lipsync-*.txt"))

    def _states(self) -> dict[str, str]:
        """The state of each pair's newest job."""
        rows = self._at.rows("SELECT key, state FROM jobs ORDER BY id")
        found = {os.fsdecode(key): state for key, state in rows}
        return {pair: found.get(pair, "none") for pair in PAIRS}

    def _look_at_outputs(self) -> None:
        """Nobody writes now: what has an output's name must be whole, and the same ever after."""
        found = outputs(self._at.drop)
        for path in {*found, *self._seen}:
            digest = _sha256(path) if path in found else "nothing"
            self._expect(self._seen.setdefault(path, digest) == digest, f"{path.name} has changed")

    # -- what must hold -------------------------------------------------------------------------------

    def _check_the_end(self, point: Point | None) -> None:
        at, drop, expect = self._at, self._at.drop, self._expect
        self._check_jobs(point)
        expect(fingerprints(drop) == self._before, "the sources are not what they were")
        expect(not temps(drop), f"temps are left: {[path.name for path in temps(drop)]}")
        expect(not list((at.home / "state").glob("*.new*")), "a draft of the ledger is left")
        expect(not list((at.home / "state" / "spool").glob("*")), "something is left in the spool")
        expect(at.rows("PRAGMA integrity_check") == [("ok",)], "the ledger is damaged")
        expect(not self._sandbox.state()["bugs"], f"sandbox: {self._sandbox.state()['bugs']}")
        log = at.log()
        expect("Traceback" not in log, f"a traceback: {log[log.find('Traceback') - 200 :][:2000]}")
        if secret := SECRETS.search(log):
            expect(False, f"a secret in the log: {secret.group()}")

    def _check_jobs(self, point: Point | None) -> None:
        states = self._states()
        paid = Counter((one["video_sha256"], one["audio_sha256"]) for one in submissions(self._sandbox))
        for pair, state in states.items():
            content = _sha256(self._at.drop / f"{pair}.mp4"), _sha256(self._at.drop / f"{pair}.wav")
            times = paid.pop(content, 0) if pair != "again/one" else 1
            if state in NEEDS_A_PERSON and point is not None and point.mode in {Mode.EIO, Mode.ENOSPC, Mode.FULL}:
                self._outcome.reported += 1
                self._expect(times <= 1, f"{pair}: {state}, and paid {times} times")
                self._expect(bool(self._notes(pair)), f"{pair}: {state}, and no note tells of it")
                continue
            self._expect(state == "done", f"{pair}: {state}")
            self._expect(times == 1, f"{pair}: paid {times} times")
        self._expect(not paid, f"paid for {len(paid)} unknown contents")
        self._check_outputs(sum(state == "done" for state in states.values()))

    def _check_outputs(self, done: int) -> None:
        known = {sha256 for (sha256,) in self._at.rows("SELECT output_sha256 FROM jobs WHERE state = 'done'")}
        found = outputs(self._at.drop)
        self._expect(
            len(found) == done, f"{len(found)} outputs for {done} jobs that are done: {[path.name for path in found]}"
        )
        for path in found:
            self._expect(_sha256(path) in known, f"{path.name} is not what the ledger knows")
            self._expect(_plays(path), f"{path.name} does not play")

    def _expect(self, holds: bool, problem: str) -> None:
        if not holds:
            self._outcome.problems.append(problem)


class _Run:
    """The daemon under the tracer, from its start to its end."""

    def __init__(self, at: Rig, sandbox: Sandbox, point: Point | None, number: int) -> None:
        self._path = at.home / f"report-{number}"
        ports = {str(urlsplit(url).port): word for url, word in _origins(sandbox).items()}
        spec = Spec(str(self._path), str(at.home / "state"), str(at.drop), ports, str(point or ""), has_namespace())
        self.report: dict[str, Any] = {}
        self._hit_at: float | None = None
        self._is_to_be_full = point is not None and point.mode is Mode.FULL
        with (at.home / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.walk.tracer", json.dumps(asdict(spec)), *at.command()[:5], "-v", "run"],
                env=at.env(PYTHONDONTWRITEBYTECODE="1"),  # its own files are not what this is about
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    @property
    def code(self) -> int | None:
        """With what the daemon ended; negative is a signal."""
        code: int | None = self.report.get("code")
        return code

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def is_full_for(self, seconds: float) -> bool:
        if not self._is_to_be_full:
            return False
        if self._hit_at is None and any("hit" in line for line in self._lines()):
            self._hit_at = time.monotonic()
        return self._hit_at is not None and time.monotonic() - self._hit_at > seconds

    def end(self) -> None:
        """Stop it, if it still lives, and read the report."""
        if not self.has_ended():
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            for line in self._lines():
                if "pid" in line:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(line["pid"], signal.SIGKILL)
            self._process.wait(STOPS_WITHIN_S)
        self.report = next((line for line in self._lines() if "order" in line), {})

    def _lines(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text(errors="surrogateescape").splitlines()]


@functools.cache
def has_namespace() -> bool:
    """Whether the tracer needs a user namespace of its own to look into the daemon."""
    from tests.walk.tracer import why_not

    return bool(why_not(namespace=False))


def _place_of(pair: str, drop: Path) -> tuple[Path, str]:
    """Where a pair's output and notes lie, and its NAME."""
    source = drop / pair
    return source.parent / "dubbed", source.name


def _origins(sandbox: Sandbox) -> dict[str, str]:
    return {sandbox.base_url: "service", sandbox.media_origin: "media"}


def _drop_pairs(drop: Path) -> None:
    (drop / "again").mkdir()
    for pair, seed in PAIRS.items():
        for ending in (".wav", ".mp4"):
            shutil.copyfile(_media() / f"{seed}{ending}", drop / f"{pair}{ending}")


@functools.cache
def _media() -> Path:
    """Small media, made once."""
    made = tempfile.TemporaryDirectory(prefix="lipsync-walk-media-")
    _KEPT.append(made)
    folder = Path(made.name)
    for seed in set(PAIRS.values()):
        make_audio(folder / f"{seed}.wav", seconds=SECONDS, seed=seed)
        make_video(folder / f"{seed}.mp4", seconds=SECONDS, width=160, height=90, seed=seed)
    return folder


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plays(path: Path) -> bool:
    facts = describe(path)
    return facts.has_video and facts.has_audio and abs(facts.duration_s - SECONDS) < 0.2
