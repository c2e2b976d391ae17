"""The vendor's snippet: the official SDK in a loop over pairs, with the retry and the polling of the vendor's guides.

    python -m tests.bench.snippet FOLDER BASE_URL [--threads 8] [--client sdk|best] [--speed 1] [--first-poll-s 1]

Each thread submits a pair, asks until it is completed (at once, then after 1, 2, 4 … 10 s) and downloads the output
to NAME.lipsync.mp4. A call that meets a 429, a 5xx or the network pauses 1, 2 and 4 s, then the pair is given up.
`sdk` is the official SDK as it comes, which retries twice by itself; `best` the same by hand over one httpx client.
Prints, and writes to `--told`, JSON: done, failed, seconds (the start of Python and its imports left out).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import chamelaion
import httpx

PAUSES_S = (1.0, 2.0, 4.0)
LONGEST_POLL_S = 10.0
TIMEOUT_S = 60.0  # the SDK's own default
OUTPUT = ".lipsync.mp4"
T = TypeVar("T")


class GaveUp(Exception):
    """The service ended a request as failed."""


class Client(Protocol):
    """The three calls that a pair takes."""

    def submit(self, video: Path, audio: Path) -> str: ...
    def status(self, request_id: str) -> tuple[str, str | None]: ...
    def download(self, url: str, target: Path) -> None: ...


class Sdk:
    """The official SDK; for the output, which it has no call for, the standard library."""

    def __init__(self, base_url: str, key: str, speed: float) -> None:
        self._client = _Chamelaion(bearer_token=key, base_url=base_url)
        self._client.speed = speed

    def submit(self, video: Path, audio: Path) -> str:
        return self._client.lipsync.generate_with_media(video=video, audio=audio).request_id

    def status(self, request_id: str) -> tuple[str, str | None]:
        found = self._client.lipsync.requests.retrieve(request_id)
        return found.status, found.output_url

    def download(self, url: str, target: Path) -> None:
        urllib.request.urlretrieve(url, target)  # httpx.get() would read all certificate authorities for each


class _Chamelaion(chamelaion.Chamelaion):
    """The SDK with its own pauses on a faster clock: what the service names is in real seconds already."""

    speed = 1.0

    def _parse_retry_after_header(self, response_headers: httpx.Headers | None = None) -> float | None:
        named_s = super()._parse_retry_after_header(response_headers)
        return None if named_s is None else named_s * self.speed

    def _calculate_retry_timeout(self, *args: Any, **named: Any) -> float:
        return super()._calculate_retry_timeout(*args, **named) / self.speed


class Best:
    """The same by hand: one client whose connections are kept, small files sent from memory."""

    def __init__(self, base_url: str, key: str, threads: int) -> None:
        limits = httpx.Limits(max_connections=2 * threads, max_keepalive_connections=2 * threads)
        self._client = httpx.Client(limits=limits, timeout=TIMEOUT_S)
        self._lipsync = f"{base_url}/v1/lipsync"
        self._headers = {"Authorization": f"Bearer {key}"}  # of each call: the outputs' host must not see it

    def submit(self, video: Path, audio: Path) -> str:
        files = {"video": (video.name, video.read_bytes()), "audio": (audio.name, audio.read_bytes())}
        answer = self._client.post(f"{self._lipsync}/generate-with-media", files=files, headers=self._headers)
        return str(_object(answer)["request_id"])

    def status(self, request_id: str) -> tuple[str, str | None]:
        found = _object(self._client.get(f"{self._lipsync}/requests/{request_id}", headers=self._headers))
        return found["status"], found.get("output_url")

    def download(self, url: str, target: Path) -> None:
        target.write_bytes(self._client.get(url).raise_for_status().content)


def _object(answer: httpx.Response) -> Mapping[str, Any]:
    found: Mapping[str, Any] = answer.raise_for_status().json()
    return found


# -- one pair -----------------------------------------------------------------------------------------


class Loop:
    """What one thread does with one pair; every pause is divided by `speed`."""

    def __init__(self, client: Client, speed: float, first_poll_s: float) -> None:
        self._client = client
        self._speed = speed
        self._first_poll_s = first_poll_s
        self._never = threading.Event()

    def made(self, video: Path) -> bool:
        """Make the output of one pair, and say whether it is there."""
        try:
            self._make(video)
        except Exception as error:
            print(f"{video.name} given up: {type(error).__name__}", flush=True)
            return False
        return True

    def _make(self, video: Path) -> None:
        client = self._client
        request_id = self._retried(lambda: client.submit(video, video.with_suffix(".wav")))
        url = self._finished(request_id)
        self._retried(lambda: client.download(url, video.with_suffix(OUTPUT)))

    def _finished(self, request_id: str) -> str:
        for pause_s in _polls(self._first_poll_s):
            status, url = self._retried(lambda: self._client.status(request_id))
            if status == "completed" and url:
                return url
            if status == "failed":
                break
            self._pause(pause_s)
        raise GaveUp

    def _retried(self, call: Callable[[], T]) -> T:
        for pause_s in PAUSES_S:
            try:
                return call()
            except Exception as error:
                if not _may_pass(error):
                    raise
                self._pause(pause_s)
        return call()

    def _pause(self, seconds: float) -> None:
        self._never.wait(seconds / self._speed)


def _polls(first_s: float) -> Iterator[float]:
    return (min(first_s * 2.0**number, LONGEST_POLL_S) for number in itertools.count())


def _may_pass(error: Exception) -> bool:
    match error:
        case chamelaion.APIStatusError(status_code=status):
            return _is_passing(status)
        case httpx.HTTPStatusError(response=response):
            return _is_passing(response.status_code)
        case urllib.error.HTTPError(code=status):
            return _is_passing(status or 0)
        case _:
            return isinstance(error, chamelaion.APIConnectionError | httpx.TransportError | OSError)


def _is_passing(status: int) -> bool:
    return status == 429 or status >= 500


# -- the program --------------------------------------------------------------------------------------


def main() -> None:
    wanted = _parser().parse_args()
    key = os.environ["CHAMELAION_API_KEY"]
    if wanted.client == "sdk":
        client: Client = Sdk(wanted.base_url, key, wanted.speed)
    else:
        client = Best(wanted.base_url, key, wanted.threads)
    loop = Loop(client, wanted.speed, wanted.first_poll_s)
    began = time.perf_counter()
    videos = sorted(path for path in wanted.folder.rglob("*.mp4") if not path.name.endswith(OUTPUT))
    with ThreadPoolExecutor(wanted.threads) as pool:
        made = list(pool.map(loop.made, videos))
    seconds = time.perf_counter() - began
    told = json.dumps({"done": sum(made), "failed": len(made) - sum(made), "seconds": round(seconds, 3)})
    print(told, flush=True)
    if wanted.told is not None:
        wanted.told.write_text(told)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.snippet", description="a loop over pairs")
    parser.add_argument("folder", type=Path, help="with NAME.mp4 and NAME.wav, in sub-folders too")
    parser.add_argument("base_url")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--client", choices=("sdk", "best"), default="sdk")
    parser.add_argument("--speed", type=float, default=1.0, help="of the service's clock: all pauses are divided by it")
    parser.add_argument("--first-poll-s", type=float, default=1.0, help="pause after the first poll; it doubles")
    parser.add_argument("--told", type=Path, metavar="FILE", help="where to write the result, too")
    return parser


if __name__ == "__main__":
    main()
