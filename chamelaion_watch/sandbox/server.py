"""The stand-in service on two loopback ports, in a background thread: for tests, the demo and the command line.

One event loop serves the API and the media origin. `Sandbox` is ready when it has been made; `run` is the
same for a process that waits for a signal.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from uvicorn import Config
from uvicorn.server import ServerState

from chamelaion_watch.sandbox.api import Api, World
from chamelaion_watch.sandbox.core import Service
from chamelaion_watch.sandbox.exchange import Recorded, WireProtocol
from chamelaion_watch.sandbox.journal import LOG_MAX, Journal
from chamelaion_watch.sandbox.limits import Span
from chamelaion_watch.sandbox.outputs import Outputs
from chamelaion_watch.sandbox.studio import Clock, Studio

HOST = "127.0.0.1"
KEEP_ALIVE_S = 60
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """How a sandbox starts; all but the ports, `speed` and `seed` can be changed by `control` later."""

    port: int = 0  # 0 picks a free one
    media_port: int = 0
    key: str = "sandbox-key"
    rpm: int | None = 60
    cap: int | None = None
    quota: int | None = None
    queue_s: Span = 0.5
    processing_s: Span = 2.0
    speed: float = 1.0  # its clock against the client's
    seed: int | None = None  # None draws one: two sandboxes in turn must not give out the same ids


class Sandbox:
    """A running sandbox; `close` it, or use it as a context manager.

    Raises OSError if a port cannot be had, ValueError for options out of range.
    """

    def __init__(self, options: SandboxOptions | None = None) -> None:
        self.options = options or SandboxOptions()
        if not self.options.speed > 0:
            raise ValueError(f"speed must be more than 0, not {self.options.speed}")
        self._folder = tempfile.TemporaryDirectory(prefix="chamelaion-sandbox-")
        self._sockets: list[socket.socket] = []
        try:
            self._sockets.append(_listening(self.options.port))
            self._sockets.append(_listening(self.options.media_port))
            self._start()
        except BaseException:
            self._discard()
            raise

    @property
    def base_url(self) -> str:
        return f"{self._origins[0]}/api"

    @property
    def media_origin(self) -> str:
        return self._origins[1]

    @property
    def key(self) -> str:
        return self._shared.service.key

    def control(self, **changes: Any) -> None:
        """Do what POST /_sandbox does. Raises ValueError."""
        self._in_loop(lambda: self._api.control(changes))

    def state(self, log: int = LOG_MAX) -> dict[str, Any]:
        """Return what GET /_sandbox answers, with the newest `log` entries of its log."""
        return self._in_loop(lambda: self._api.facts(log))

    def close(self) -> None:
        """Stop serving, abort what is under way, remove the files. Does nothing the second time."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the thread -----------------------------------------------------------------------------------

    def _start(self) -> None:
        self._origins = [f"http://{HOST}:{listener.getsockname()[1]}" for listener in self._sockets]
        self._shared = self._world()
        self._api = Api(self._shared)
        self._stop = asyncio.Event()
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="sandbox", daemon=True)
        self._thread.start()
        ready.result()

    def _world(self) -> World:
        options, journal, clock = self.options, Journal(), Clock(self.options.speed)
        seed = secrets.randbits(32) if options.seed is None else options.seed
        service = Service(key=options.key, seed=seed, speed=options.speed, epoch=clock.epoch)
        names = ("rpm", "cap", "quota", "queue_s", "processing_s")
        service.limits = service.limits.changed({name: getattr(options, name) for name in names})
        studio = Studio(Path(self._folder.name), service, clock, journal)
        return World(service, clock, studio, self._origins[1], journal=journal)

    def _serve(self, ready: Future[None]) -> None:
        try:
            asyncio.run(self._serving(ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serving(self, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        state = ServerState()
        apps = (self._api.application(), Outputs(self._shared).application())
        servers = [
            await self._loop.create_server(_protocol(app, state), sock=listener)
            for app, listener in zip(apps, self._sockets, strict=True)
        ]
        ready.set_result(None)
        await self._stop.wait()
        for server in servers:
            server.close()
        await _end(state)
        await self._shared.studio.close()

    def _in_loop(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, done where nothing else touches the state; after `close`, here."""
        if not self._thread.is_alive():
            return work()

        async def call() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _discard(self) -> None:
        for listener in self._sockets:
            listener.close()
        self._folder.cleanup()


def run(options: SandboxOptions) -> None:
    """Serve until SIGTERM or SIGINT; the first line on stdout says where. Raises as Sandbox does."""
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with Sandbox(options) as sandbox:
            print(f"READY {sandbox.base_url}", flush=True)  # noqa: T201 -- the command's result
            stop.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port), backlog=512)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {HOST}:{port}: {error.strerror}") from error


def _protocol(app: Recorded, state: ServerState) -> Callable[[], WireProtocol]:
    """Return what makes a protocol for each connection.

    uvicorn's own Server is not used: it looks every 0.1 s whether it should stop, and a test stops many sandboxes.
    """
    config = Config(
        app,
        http=WireProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    config.load()
    return lambda: WireProtocol(config=config, server_state=state, app_state={})


async def _end(state: ServerState) -> None:
    """Abort all connections, then cancel what still runs for them."""
    for connection in list(state.connections):
        connection.transport.abort()
    for _ in range(3):  # the loop reports the loss of a connection one round later
        await asyncio.sleep(0)
    tasks = list(state.tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
