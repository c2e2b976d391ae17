"""The daemon, in a process that kills itself with SIGKILL at one named place of a job's life.

`python -m tests.acceptance.kill_child PLACE CONFIG`. It runs the real command, having wrapped one function of it in this
process only; the daemon itself knows nothing of it. `PLACES` is what `kill_at_named_places.py` goes through.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from chamelaion_watch import __main__ as command
from chamelaion_watch import effects, rootwork
from chamelaion_watch.core.messages import Submit
from chamelaion_watch.core.model import JobState
from chamelaion_watch.daemon import Daemon
from chamelaion_watch.edges import multipart, outputs
from chamelaion_watch.edges.api import Api
from chamelaion_watch.edges.ledger.sqlite import SqliteLedger
from chamelaion_watch.edges.spool import Spool

When: TypeAlias = Callable[..., bool]


@dataclass(frozen=True)
class Place:
    """Where to die: around the call number `nth` of those of `owner.name` for which `when(*arguments)` holds."""

    owner: Any
    name: str
    is_after: bool = False
    nth: int = 1
    when: When = lambda *_: True

    def set_up(self) -> None:
        inner = getattr(self.owner, self.name)
        seen = 0

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            is_it = self.when(*args)
            seen += is_it
            if is_it and seen == self.nth and not self.is_after:
                kill()
            result = inner(*args, **kwargs)
            if is_it and seen == self.nth and self.is_after:
                kill()
            return result

        setattr(self.owner, self.name, wrapped)


@dataclass(frozen=True)
class MidUpload:
    """In the middle of the body."""

    def set_up(self) -> None:
        inner = Api.submit

        def submit(api: Api, upload: multipart.Upload) -> str:
            upload.on_progress = lambda sent, total: kill() if sent * 2 > total else None
            return inner(api, upload)

        Api.submit = submit  # type: ignore[method-assign,assignment]


@dataclass(frozen=True)
class AllSent:
    """Every byte was handed to the kernel; `wait_s` later."""

    wait_s: float = 0.0

    def set_up(self) -> None:
        inner = multipart.Body.__init__

        def init(body: multipart.Body, upload: multipart.Upload, *, on_sent: Callable[[], None]) -> None:
            def sent() -> None:
                on_sent()
                die(self.wait_s)

            inner(body, upload, on_sent=sent)

        multipart.Body.__init__ = init  # type: ignore[method-assign,assignment]


def die(wait_s: float) -> None:
    if wait_s:
        threading.Timer(wait_s, kill).start()
    else:
        kill()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    while True:  # the signal is on its way: nothing more may happen here
        signal.pause()


def in_state(state: JobState) -> When:
    return lambda daemon, *_: bool(daemon.world.book.by_state[state])


def committed(state: JobState) -> Place:
    """A job got this state in the ledger, and nothing has been started for it yet."""
    return Place(Daemon, "_answer_uploads", when=in_state(state))


def is_submit(_effects: Any, action: Any) -> bool:
    return isinstance(action, Submit)


PLACES: dict[str, Place | MidUpload | AllSent] = {
    "after a source was hashed": Place(rootwork.RootWork, "sha256", is_after=True),
    "before the queued row is committed": Place(SqliteLedger, "add_job", is_after=True),
    "after the queued row is committed": committed(JobState.QUEUED),
    "before the claim is committed": Place(SqliteLedger, "claim_job", is_after=True),
    "after the claim is committed, before the upload starts": Place(effects.Effects, "start", when=is_submit),
    "in mid-upload": MidUpload(),
    "before leave is asked": Place(effects.Effects, "_ask_leave"),
    "after leave was committed, before the last piece": Place(effects.Effects, "_ask_leave", is_after=True),
    "after the last piece, before it is read": AllSent(),
    "after the last piece, created, before the answer": AllSent(wait_s=1.0),
    "after the last piece, created 2 s later": AllSent(),
    "after the last piece, never received": AllSent(),
    "after the answer, before it is committed": Place(Api, "submit", is_after=True),
    "after the acceptance is committed": committed(JobState.RENDERING),
    "rendering": Place(effects.Effects, "_poll", is_after=True, nth=2),
    "after completed is committed": committed(JobState.RENDERED),
    "in mid-download": Place(outputs.Part, "write", is_after=True, nth=3),
    "before what a broken download left is put aside": Place(outputs.Part, "move_to"),
    "after what a broken download left was put aside": Place(Spool, "keep", is_after=True),
    "after what was put aside was taken up again": Place(Spool, "take", is_after=True, nth=2),
    "before the output is flushed": Place(outputs.Part, "publish"),
    "before the output is renamed": Place(outputs, "place", when=lambda *names: names[2].endswith(".lipsync.mp4")),
    "after the rename, before the folder is flushed": Place(outputs, "place", is_after=True),
    "after the rename, before the ledger knows": Place(effects, "deliver", is_after=True),
    "after done is committed": committed(JobState.DONE),
}


def main() -> None:
    place, config = sys.argv[1:]
    PLACES[place].set_up()
    sys.argv[1:] = ["--config", config, "-v", "run"]
    command.main()


if __name__ == "__main__":
    main()
