"""The work behind accepted requests: fetch what came as a URL, dub, hash; in worker threads, two at a time.

Owns the folder with uploads and outputs. What goes wrong with the media becomes the request's error message.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
import traceback
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from chamelaion_watch.sandbox.core import Media, Request, Service
from chamelaion_watch.sandbox.journal import Journal
from chamelaion_watch.sandbox.media import MediaError, dub
from chamelaion_watch.sandbox.upload import FetchError, fetch

RENDERERS = 2


class Clock:
    """The sandbox's own seconds since its start."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.epoch = time.time()
        self._start = time.monotonic()

    def now(self) -> float:
        return (time.monotonic() - self._start) * self.speed


class Studio:
    """Renders requests in the background and tells the service how it went."""

    def __init__(self, folder: Path, service: Service, clock: Clock, journal: Journal) -> None:
        self._folder = folder
        self._service = service
        self._clock = clock
        self._journal = journal
        self._free = asyncio.Semaphore(RENDERERS)
        self._tasks: set[asyncio.Task[None]] = set()

    def desk(self, name: str) -> Path:
        """Return a new folder for the files of one submission."""
        path = self._folder / name
        path.mkdir()
        return path

    def clear(self, desk: Path) -> None:
        shutil.rmtree(desk, ignore_errors=True)

    def output(self, request: Request) -> Path:
        return self._folder / f"{request.id}.mp4"

    def start(self, request: Request, desk: Path) -> None:
        """Begin the work on `request`, whose uploads lie on `desk`."""
        self.spawn(self._render(request, desk))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the background until it ends or the studio closes."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _render(self, request: Request, desk: Path) -> None:
        if not request.fate.failure and not request.fate.is_endless:
            async with self._free:
                output, error = await asyncio.to_thread(self._made, request, desk)
            self._service.rendered(request, self._clock.now(), output, error=error)
        self.clear(desk)

    def _made(self, request: Request, desk: Path) -> tuple[Media | None, str | None]:
        try:
            self._fetch(request, desk)
            target = self.output(request)
            dub(desk / "video", desk / "audio", target)
            return _described(target), None
        except (MediaError, FetchError) as error:
            return None, str(error)
        except Exception:  # noqa: BLE001 -- a bug of ours must not leave the request processing for ever
            self._journal.bugs.append(traceback.format_exc())
            return None, "internal error"

    def _fetch(self, request: Request, desk: Path) -> None:
        asked = request.submission
        if asked.video.url and asked.audio.url:
            video, audio = fetch(asked.video.url, desk / "video"), fetch(asked.audio.url, desk / "audio")
            request.submission = replace(asked, video=video, audio=audio)


def _described(path: Path) -> Media:
    with path.open("rb") as file:
        return Media(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size, path.name)
