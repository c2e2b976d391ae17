"""The hands of one simulated session: each action is a generator that yields the milliseconds it takes.

Implements `daemon.Starter`. A crash drops the process: nothing that has not happened yet will, but for what the
service has already received. A session that ends within its process (`close`) leaves its threads behind, as the real
one does: without connections, and with nobody who listens.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Generator, Iterator

from chamelaion_watch.core import naming
from chamelaion_watch.core.delivery import SPOOL_LOST
from chamelaion_watch.core.errors import InputProblem, NotFound, OutputProblem, Transient, WatchError
from chamelaion_watch.core.messages import (
    AccountProbed,
    Action,
    Claim,
    Claimed,
    Deliver,
    Delivered,
    Event,
    Failed,
    FilesRemoved,
    Hash,
    Hashed,
    LookedUp,
    LookUp,
    NoteWritten,
    Poll,
    Polled,
    Probe,
    ProbeAccount,
    Probed,
    RemoveFiles,
    ResultSpooled,
    Scan,
    Spooled,
    SpoolResult,
    Submit,
    Unspool,
    Unspooled,
    WriteNote,
)
from chamelaion_watch.core.model import Millis, RelPath, Request, RootState
from chamelaion_watch.core.submission import WITHDRAWN
from tests.sim.broken import Broken, Crash
from tests.sim.clock import ProcessClock, Schedule, SimClock
from tests.sim.counts import Counts
from tests.sim.disk import SimRoot, SimTree
from tests.sim.service import SimService
from tests.sim.uploads import Uploads

Steps = Generator[int, None, Event]

HUNG_STEP_MS = 20_000
LIST_FROM, LIST_PAGE = 4, 100
UNMOUNTED = 0.3  # of the scans that take long


class SimEffects:
    """What one session has under way; `more` draws the later faults, None leaves them out."""

    def __init__(
        self,
        rng: random.Random,
        clock: SimClock,
        process_clock: ProcessClock,
        schedule: Schedule,
        roots: dict[str, SimRoot],
        service: SimService,
        counts: Counts,
        more: random.Random | None = None,
    ) -> None:
        self.post: Callable[[Event], None] = lambda _: None
        self.watch: Callable[[Action], None] = lambda _: None
        self.crash_in: int | None = None  # so many calls from now
        self.frozen_until: Millis = 0  # by the world's clock: nothing of this process runs before
        self.rng = rng
        self.more = more
        self.world_clock = clock
        self.clock = process_clock
        self._schedule = schedule
        self.account = service
        self.roots = roots
        self.counts = counts
        self._trees = {name: SimTree(root) for name, root in roots.items()}
        self.is_alive = True
        self.is_stopping = False
        self._is_closed = False
        self.uploads = Uploads(self)
        self.spool: dict[str, str] = {}  # reference id → content

    # -- what a tick calls ----------------------------------------------------------------------------

    def start(self, action: Action) -> None:
        self._may_crash()
        self.watch(action)
        if isinstance(action, Submit):
            self.uploads.expect(action.job.id)
        self._go_on(action, self._perform(action))

    def grant(self, job_id: int, until: Millis) -> None:
        self._may_crash()
        self.uploads.answer(job_id, until)

    def deny(self, job_id: int, why: str) -> None:
        self.uploads.answer(job_id, why)

    def stop(self) -> None:
        self.is_stopping = True
        self.uploads.stop()

    def close(self) -> None:
        """The session ends within its process: its connections are closed, and nobody hears of it any more."""
        self.stop()
        self._is_closed = True
        self.post = lambda _: None
        self.uploads.forget_answers()

    def die(self) -> None:
        """Nothing of this process happens any more; its sockets are closed."""
        self.is_alive = False
        self.uploads.die()

    @property
    def service(self) -> SimService:
        if self._is_closed:
            raise Transient("simulated: the connection was closed", code="connection_reset")
        return self.account

    def _may_crash(self) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                raise Crash

    # -- going on -------------------------------------------------------------------------------------

    def _go_on(self, action: Action, steps: Steps) -> None:
        if not self.is_alive:
            return
        if self.world_clock.at < self.frozen_until:
            self._schedule.after(self.frozen_until - self.world_clock.at, lambda: self._go_on(action, steps))
            return
        try:
            wait_ms = next(steps)
        except StopIteration as end:
            self.post(end.value)
        except WatchError as error:
            self.post(Failed(action, error))
        else:
            self._schedule.after(wait_ms, lambda: self._go_on(action, steps))

    def _perform(self, action: Action) -> Steps:
        match action:
            case Scan():
                return self._scan(action)
            case Claim():
                return self._claim(action)
            case Hash():
                return self._hash(action)
            case Probe():
                return self._probe(action)
            case Submit():
                return self.uploads.submit(action)
            case LookUp():
                return self._look_up(action)
            case Poll():
                return self._poll(action)
            case Deliver():
                return self._deliver(action)
            case SpoolResult():
                return self._spool(action)
            case Unspool():
                return self._unspool(action)
            case WriteNote():
                return self._write_note(action)
            case RemoveFiles():
                return self._remove(action)
            case ProbeAccount():
                return self._probe_account(action)

    def ms(self, least: int, most: int) -> int:
        return self.rng.randrange(least, most)

    def happens(self, chance: float) -> bool:
        return self.more is not None and chance > 0 and self.more.random() < chance

    def reach(self, root: SimRoot) -> Generator[int, None, None]:
        """Wait for a share that does not answer."""
        while root.is_hung:
            yield HUNG_STEP_MS

    # -- the share ------------------------------------------------------------------------------------

    def _scan(self, action: Scan) -> Steps:
        root, tree = self.roots[action.root], self._trees[action.root]
        yield from self.reach(root)
        yield self.ms(1, 50)
        facts = tree.inspect(action)
        if self.more and self.happens(self.account.odds.torn_scan):
            yield self.more.randrange(50, 10_000)
            if self.more.random() < UNMOUNTED and root.unmount():
                self.counts.away += 1
                self._schedule.after(self.more.randrange(1_000, 300_000), root.mount)
            yield from self.reach(root)
        return tree.scan(action, facts)

    def _claim(self, action: Claim) -> Steps:
        root = self.roots[action.root]
        yield from self.reach(root)
        yield self.ms(1, 20)
        root.require_well()
        root.has_sentinel = True
        return Claimed(action)

    def _hash(self, action: Hash) -> Steps:
        root = self.roots[action.root]
        yield from self.reach(root)
        file = root.find(action.path)
        if file is None or file.signature != action.signature:
            raise InputProblem(f"{action.path}: changed")
        yield self.ms(10, 3_000)
        yield from self.reach(root)
        root.require_readable()
        if file.signature != action.signature:
            raise InputProblem(f"{action.path}: changed while it was read")
        return Hashed(action, file.sha256)

    def _probe(self, action: Probe) -> Steps:
        root = self.roots[action.job.root]
        yield from self.reach(root)
        yield self.ms(5, 500)
        return Probed(action, root.probe(action.job.video), root.probe(action.job.audio))

    def _write_note(self, action: WriteNote) -> Steps:
        root = self.roots[action.root]
        for path, data in action.files:
            yield from self.reach(root)
            root.require_well()
            with self._temp(root, naming.temp_path(path)) as temp:
                yield self.ms(1, 3_000)  # a sync on a share
                yield from self.reach(root)
                self._require_temp(root, temp)
                root.write_note(path, data)
        yield self.ms(1, 30)
        return NoteWritten(action, tuple(path for path, _ in action.files))

    def _remove(self, action: RemoveFiles) -> Steps:
        root = self.roots[action.root]
        for path in action.paths:
            yield from self.reach(root)
            yield self.ms(1, 30)
            root.remove(path)
        return FilesRemoved(action)

    # -- asking ---------------------------------------------------------------------------------------

    def _look_up(self, action: LookUp) -> Steps:
        yield self.ms(10, 2_000)
        return LookedUp(action, self._find(action.job.reference_id))

    def _poll(self, action: Poll) -> Steps:
        answers: dict[int, Request | None] = {}
        try:
            if self.more and len(action.requests) >= LIST_FROM:
                yield from self._list(action, answers)
            for job_id, request_id in action.requests:
                if job_id in action.singly and job_id not in answers:
                    yield self.ms(10, 500)
                    answers[job_id] = self._find(request_id)
        except WatchError as error:
            return Polled(action, answers, error)
        return Polled(action, answers)

    def _list(self, action: Poll, answers: dict[int, Request | None]) -> Generator[int, None, None]:
        """Many are asked for by pages, newest first, as the real hands do; who is not shown is asked for singly."""
        wanted = {request_id: job_id for job_id, request_id in action.requests}
        offset = 0
        for _ in range(2):
            yield self.ms(10, 500)
            page = self.service.page(limit=LIST_PAGE, offset=offset)
            answers.update({wanted[request.id]: request for request in page.requests if request.id in wanted})
            offset += len(page.requests)
            if len(answers) == len(wanted) or not page.requests or offset >= page.total:
                return

    def _find(self, handle: str) -> Request | None:
        try:
            return self.service.find(handle)
        except NotFound:
            return None

    def _probe_account(self, action: ProbeAccount) -> Steps:
        yield self.ms(10, 500)
        self.service.call(needs_key=action.asks_me)
        return AccountProbed(action)

    # -- delivering -----------------------------------------------------------------------------------

    def _spool(self, action: SpoolResult) -> Steps:
        job = action.job
        yield self.ms(1, 100)
        request = self.service.find(job.request_id or job.reference_id)
        if not request.output_url:
            raise Transient("completed, but no output", code="no_output")
        if action.room_bytes < 1_000:
            raise OutputProblem("simulated: no room", root_state=RootState.FULL, code="spool_full")
        yield self.ms(10, 5_000)
        if self.is_stopping:
            raise InputProblem("the daemon is stopping", code=WITHDRAWN)
        content = self.service.fetch(request)
        yield self.ms(1, 100)
        self.spool[job.reference_id] = content
        yield self.ms(1, 100)
        return ResultSpooled(action, Spooled(content, 1_000))

    def _unspool(self, action: Unspool) -> Steps:
        yield self.ms(1, 100)
        for reference_id in action.references:
            self.spool.pop(reference_id, None)
        return Unspooled(action)

    def _deliver(self, action: Deliver) -> Steps:
        job, root = action.job, self.roots[action.job.root]
        names = list(itertools.islice(naming.versions(action.output), 9))
        yield from self.reach(root)
        yield self.ms(1, 100)
        root.require_space()
        for copy in action.copies:
            if self.roots[copy.root].outputs.get(copy.path) == copy.sha256:
                return Delivered(action, root.publish(names, copy.sha256), copy.sha256, copy.size, is_copy=True)
        if action.spooled is not None:
            if self.spool.get(job.reference_id) != action.spooled.sha256:
                raise Transient("gone from the spool", code=SPOOL_LOST)
            output = root.publish(names, action.spooled.sha256)
            yield self.ms(1, 100)
            return Delivered(action, output, action.spooled.sha256, 1_000)
        request = self.service.find(job.request_id or job.reference_id)
        if not request.output_url:
            raise Transient("completed, but no output", code="no_output")
        with self._temp(root, naming.temp_path(action.output)) as temp:
            yield self.ms(10, 5_000)
            if self.is_stopping:
                raise InputProblem("the daemon is stopping", code=WITHDRAWN)
            root.require_space()
            content = self.service.fetch(request)
            yield self.ms(1, 100)
            yield from self.reach(root)
            self._require_temp(root, temp)
            output = root.publish(names, content)
        yield self.ms(1, 100)
        return Delivered(action, output, content, 1_000)

    @contextlib.contextmanager
    def _temp(self, root: SimRoot, temp: RelPath) -> Iterator[RelPath]:
        """A temp of ours, as long as it is written; a dead process leaves it, and a share that went away keeps it."""
        root.temps.add(temp)
        root.writers[temp] = self
        try:
            yield temp
        finally:
            if self.is_alive and root.writers.get(temp) is self:
                del root.writers[temp]
                if root.health is RootState.OK:
                    root.temps.discard(temp)

    def _require_temp(self, root: SimRoot, temp: RelPath) -> None:
        """Of a session that is over, what it had begun may be taken away; of one that goes on, never."""
        if temp in root.temps and root.writers.get(temp) is self:
            return
        if not self._is_closed:
            raise Broken(f"a temp that is being written was removed: {temp}")
        raise OutputProblem(f"{temp}: gone", root_state=RootState.MISSING)
