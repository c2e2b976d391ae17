"""One process that uploads a pair, by the daemon's own hands or by the official SDK, and says what that cost.

    python -m tests.bench.uploading ours|sdk|sdk-open|hash BASE_URL VIDEO AUDIO [--ca-file FILE] [--times 1]

`ours` is what the daemon does with a `Submit`, by `effects.Effects`: sources opened and verified, progress reported,
leave asked for before the last piece; leave is given at once here, where the daemon commits to its ledger first.
`--times`: so many of ours at once, a thread each, on one client.
`sdk` hands the SDK paths, as its guide does; `sdk-open` open files. Both trust SSL_CERT_FILE, and hold some 6 MB of
ours that they do not need. `hash` reads both files as the daemon does before it makes a pair of them.
Prints JSON: `transfer_s` and `cpu_s` of the work alone (what a daemon pays once is over by then: imports, authorities,
the process that launches probes), and `rss_mb`, the most that this process ever had.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import time
from collections.abc import Callable
from pathlib import Path

from chamelaion_watch.core.messages import Action, Event, Hash, Hashed, LeaveAsked, Progress, Submit, Submitted
from chamelaion_watch.core.model import Job, JobState, Options, Signature, Source
from chamelaion_watch.core.pairing import PairingRules
from chamelaion_watch.core.policy import FolderPolicy
from chamelaion_watch.edges.api import Api
from chamelaion_watch.edges.clock import SystemClock
from chamelaion_watch.edges.probe import Prober
from chamelaion_watch.edges.spool import Spool
from chamelaion_watch.effects import Effects
from chamelaion_watch.rootwork import RootWork
from tests.bench import process

KEY = "bench-key-4d21"
ROOT_NAME = "drop"
LEDGER_ID = "bench"
LEAVE_MS = 60_000


def measured(work: Callable[[], None]) -> dict[str, float]:
    """Do the work; returns its seconds, its CPU (all threads), and the peak memory of the process."""
    cpu_before_s, began = time.process_time(), time.perf_counter()
    work()
    return {
        "transfer_s": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu_before_s,
        "rss_mb": process.peak_mb(os.getpid()),
    }


def root_at(folder: Path) -> RootWork:
    """Return the hands in a folder, with the daemon's defaults."""
    rules = PairingRules((".mp4",), (".wav",))
    policy = FolderPolicy(ROOT_NAME, str(folder), "{dir}/{name}.lipsync.mp4", True, rules)
    return RootWork(policy, ledger_id=LEDGER_ID, known=None, watcher=None, clock=SystemClock())


class Hands:
    """The daemon's effects on one folder, and what they tell at their ends."""

    def __init__(self, root: RootWork, api: Api, spool: Path) -> None:
        self._clock = SystemClock()
        self._told = queue.SimpleQueue[Event]()
        self._prober = _quiet_prober()
        self._effects = Effects(
            roots={ROOT_NAME: root},
            api=api,
            prober=self._prober,
            spool=Spool(spool),
            clock=self._clock,
            post=self._hear,
        )

    def start(self, action: Action) -> None:
        self._effects.start(action)

    def end(self) -> Event:
        """Return what the next action to end has come to."""
        return self._told.get()

    def now(self) -> int:
        return self._clock.now()

    def close(self) -> None:
        self._prober.close()

    def _hear(self, event: Event) -> None:
        if isinstance(event, LeaveAsked):
            self._effects.grant(event.job_id, self._clock.now() + LEAVE_MS)
        elif not isinstance(event, Progress):
            self._told.put(event)


def _quiet_prober() -> Prober:
    """Return a prober as it is a minute after the last file: what launches its children is up, and no child is."""
    prober = Prober(idle_s=0)
    with Path(__file__).open("rb") as file:
        prober.probe(file.fileno())
    return prober


def source_of(path: Path) -> Source:
    status = path.stat()
    return Source(path.name, Signature(status.st_size, status.st_mtime_ns), "0" * 64)


def job_of(number: int, video: Source, audio: Source, state: JobState) -> Job:
    """Return the row of a pair; its reference is as long as all of ours."""
    return Job(
        id=number,
        root=ROOT_NAME,
        key="pair",
        name="pair",
        folder="",
        stem="pair",
        lang=None,
        video=video,
        audio=audio,
        options=Options(),
        run_no=1,
        reference_id=f"cw-{number:026}".replace("0", "a").replace("1", "b"),
        state=state,
        created_at=0,
        changed_at=0,
    )


# -- the ways -----------------------------------------------------------------------------------------


def _by_ours(wanted: argparse.Namespace) -> dict[str, float]:
    api = Api(base_url=wanted.base_url, key=lambda: KEY, ca_file=wanted.ca_file)
    hands = Hands(root_at(wanted.video.parent), api, wanted.video.parent / "spool")
    video, audio = source_of(wanted.video), source_of(wanted.audio)
    jobs = [job_of(number, video, audio, JobState.SUBMITTING) for number in range(1, wanted.times + 1)]

    def upload() -> None:
        for job in jobs:
            hands.start(Submit(job, hands.now()))
        for ended in [hands.end() for _ in jobs]:
            assert isinstance(ended, Submitted), ended

    try:
        return measured(upload)
    finally:
        hands.close()
        api.close()


def _by_hashing(wanted: argparse.Namespace) -> dict[str, float]:
    api = Api(base_url="http://127.0.0.1:9", key=lambda: KEY)
    hands = Hands(root_at(wanted.video.parent), api, wanted.video.parent / "spool")

    def read() -> None:
        for source in (source_of(wanted.video), source_of(wanted.audio)):
            hands.start(Hash(ROOT_NAME, source.path, source.signature))
            ended = hands.end()
            assert isinstance(ended, Hashed), ended

    try:
        return measured(read)
    finally:
        hands.close()


def _by_sdk(wanted: argparse.Namespace) -> dict[str, float]:
    import chamelaion

    with chamelaion.Chamelaion(bearer_token=KEY, base_url=wanted.base_url) as client:
        send = client.lipsync.generate_with_media  # imported at the first touch
        return measured(lambda: _accepted(send(video=wanted.video, audio=wanted.audio)))


def _by_sdk_with_open_files(wanted: argparse.Namespace) -> dict[str, float]:
    import chamelaion

    with (
        chamelaion.Chamelaion(bearer_token=KEY, base_url=wanted.base_url) as client,
        wanted.video.open("rb") as video,
        wanted.audio.open("rb") as audio,
    ):
        send = client.lipsync.generate_with_media
        return measured(lambda: _accepted(send(video=video, audio=audio)))


def _accepted(answer: object) -> None:
    assert getattr(answer, "status", None) == "success", answer


WAYS: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "ours": _by_ours,
    "sdk": _by_sdk,
    "sdk-open": _by_sdk_with_open_files,
    "hash": _by_hashing,
}


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.uploading")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("base_url")
    parser.add_argument("video", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--ca-file")
    parser.add_argument("--times", type=int, default=1)
    wanted = parser.parse_args()
    print(json.dumps(WAYS[wanted.way](wanted)))


if __name__ == "__main__":
    _main()
