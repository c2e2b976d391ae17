"""One process that brings a result into its place, by the daemon's own hands, and says what that cost.

    python -m tests.bench.downloading BASE_URL HOME CA_FILE

It is what the daemon does with a `Deliver`, by `effects.Effects`: the request is asked for its address, the result is
fetched into a hidden file and hashed on the way, its boxes are walked, a child process looks whether it plays (started
anew here, as after a quiet minute: 0.1 s), it is read again and hashed, fsynced and renamed, its folder fsynced.
HOME is an empty folder; the result is found below it at OUTPUT.
Prints JSON: `transfer_s` and `cpu_s` of the work alone (what a daemon pays once is over by then; the child's CPU is not
in it), `fetch_s` of that until the last byte was written, `rss_mb`, the most that this process ever had; `sha256`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from chamelaion_watch.core.messages import Deliver, Delivered
from chamelaion_watch.core.model import JobState, Signature, Source
from chamelaion_watch.edges.api import Api, Fetched
from chamelaion_watch.edges.mounts import claim_root
from tests.bench.uploading import KEY, LEDGER_ID, Hands, job_of, measured, root_at

FOLDER = "drop"
NAME = "pair.lipsync.mp4"
OUTPUT = f"{FOLDER}/{NAME}"
REQUEST_ID = "0b9a3c52-5c0e-4a4e-9d6c-3f4f5c1f7a10"


class TimedApi(Api):
    """The client, and how long its last download took."""

    fetch_s = 0.0

    def fetch(self, *args: Any, **options: Any) -> Fetched:
        began = time.perf_counter()
        try:
            return super().fetch(*args, **options)
        finally:
            self.fetch_s = time.perf_counter() - began


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.downloading")
    parser.add_argument("base_url")
    parser.add_argument("home", type=Path)
    parser.add_argument("ca_file")
    wanted = parser.parse_args()
    api = TimedApi(base_url=wanted.base_url, key=lambda: KEY, ca_file=wanted.ca_file)
    drop = wanted.home / FOLDER
    drop.mkdir()
    claim_root(str(drop), LEDGER_ID, "bench", now=0)
    hands = Hands(root_at(drop), api, wanted.home / "spool")
    delivered: list[Delivered] = []
    try:
        told = measured(lambda: delivered.append(_delivered(hands)))
    finally:
        hands.close()
        api.close()
    print(json.dumps(told | {"fetch_s": api.fetch_s, "sha256": delivered[0].sha256}))


def _delivered(hands: Hands) -> Delivered:
    source = Source("pair.mp4", Signature(1, 1), "0" * 64)
    job = dataclasses.replace(job_of(1, source, source, JobState.RENDERED), request_id=REQUEST_ID)
    hands.start(Deliver(job, NAME))
    ended = hands.end()
    assert isinstance(ended, Delivered), ended
    return ended


if __name__ == "__main__":
    _main()
