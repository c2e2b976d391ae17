"""Drive the sandbox, as a process, with the official SDK: every endpoint and every documented error.

Run as `.venv/bin/python tests/acceptance/sdk_against_sandbox.py`; one line per fact, exit 1 if one does not hold.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import chamelaion
import httpx
from chamelaion.types.lipsync import LipsyncRequest

from chamelaion_watch.sandbox.media import describe, make_audio, make_video
from tests.support import eventually

KEY = "acceptance-key"
FLAGS = ["--key", KEY, "--speed", "20", "--rpm", "1000", "--seed", "4"]
UPLOAD = "/v1/lipsync/generate-with-media"
GENERATE = "/v1/lipsync/generate"
VIDEO = {"type": "video", "url": "https://media.example.com/v.mp4"}
AUDIO = {"type": "audio", "url": "https://media.example.com/a.wav"}

failures = 0


def fact(name: str, holds: bool, figures: object = "") -> None:
    global failures  # noqa: PLW0603 -- a script's tally
    failures += not holds
    print(f"{'ok  ' if holds else 'FAIL'} {name}: {figures}", flush=True)


@contextmanager
def sandbox() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    began = time.monotonic()
    command = [sys.executable, "-m", "chamelaion_watch.sandbox", *FLAGS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        word, _, base_url = process.stdout.readline().strip().partition(" ")
        fact("READY is the first line", word == "READY", f"{base_url} after {time.monotonic() - began:.2f} s")
        try:
            yield base_url, process
        finally:
            process.terminate()
            fact("SIGTERM ends it cleanly", process.wait(10) == 0, f"exit {process.returncode}")


def sdk(base_url: str, key: str | None = KEY, api_key: str | None = None, **headers: Any) -> chamelaion.Chamelaion:
    return chamelaion.Chamelaion(
        bearer_token=key,
        api_key=api_key,
        base_url=base_url,
        max_retries=0,
        http_client=chamelaion.DefaultHttpxClient(trust_env=False),
        default_headers=headers or None,
        _strict_response_validation=True,
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, sandbox() as (base_url, _process):
        clip = made_clip(Path(folder))
        with sdk(base_url) as client:
            identity(base_url, client)
            uploads(client, clip, Path(folder))
            urls(client)
            lists(client)
            bad_requests(client, clip)
            account_errors(base_url, client, clip)
    print(f"{failures} failed" if failures else "all hold")
    return 1 if failures else 0


def made_clip(folder: Path) -> tuple[Path, Path]:
    make_video(folder / "scene.mp4", seconds=1.0, seed=3)
    make_audio(folder / "scene.mp3", seconds=1.4, seed=3)
    return folder / "scene.mp4", folder / "scene.mp3"


def identity(base_url: str, client: chamelaion.Chamelaion) -> None:
    with sdk(base_url, key="wrong") as stranger:
        fact("health needs no key", stranger.health.check().status == "ok", "ok")
    fact("me, bearer", client.users.retrieve_current().name == "My API Token", "My API Token")
    with sdk(base_url, key=None, api_key=KEY) as other:
        fact("me, x-api-key", other.users.retrieve_current().name == "My API Token", "My API Token")


def uploads(client: chamelaion.Chamelaion, clip: tuple[Path, Path], folder: Path) -> None:
    generated = client.lipsync.generate_with_media(video=clip[0], audio=clip[1], reference_id="upload")
    fact("generate_with_media", generated.status == "success", generated.request_id)
    request = finished(client, generated.request_id)
    took = (
        (request.finished_at - request.started_at).total_seconds() if request.finished_at and request.started_at else -1
    )
    fact("completed by id", request.status == "completed", f"processing {took:.2f} s of the client")
    fact("same by reference_id", client.lipsync.requests.retrieve("upload").id == request.id, "upload")
    answer = httpx.get(str(request.output_url), trust_env=False)
    output = folder / "output.mp4"
    output.write_bytes(answer.content)
    facts = describe(output)
    plays = facts.has_video and facts.has_audio and abs(facts.duration_s - 1.0) < 0.1
    fact("the output plays", plays, f"{len(answer.content)} bytes, {facts.duration_s} s, picture and sound")


def urls(client: chamelaion.Chamelaion) -> None:
    url = str(client.lipsync.requests.retrieve("upload").output_url)
    generated = client.lipsync.generate(
        inputs=[{"type": "audio", "url": url}, {"type": "video", "url": url}], reference_id="urls"
    )
    fact("generate", generated.status == "success", generated.request_id)
    fact("generate completes from loopback", finished(client, "urls").status == "completed", "completed")
    client.lipsync.generate(inputs=[{"type": "audio", "url": AUDIO["url"]}, {"type": "video", "url": VIDEO["url"]}])
    newest = client.lipsync.requests.list(limit=1).data[0]
    failed = finished(client, newest.id)
    fact("generate fails elsewhere", failed.status == "failed", failed.error_message)


def lists(client: chamelaion.Chamelaion) -> None:
    everything = client.lipsync.requests.list()
    stamps = [request.created_at for request in everything.data]
    fact("list, newest first", stamps == sorted(stamps, reverse=True) and len(stamps) == 3, f"{len(stamps)} requests")
    page = client.lipsync.requests.list(limit=1, offset=1)
    shown = page.pagination
    holds = (shown.limit, shown.offset, shown.total) == (1, 1, 3) and page.data[0].id == everything.data[1].id
    fact("list, a page", holds, f"limit {shown.limit} offset {shown.offset} total {shown.total}")
    same = client.lipsync.requests.list(reference_id="upload")
    fact("list, by reference_id", [r.reference_id for r in same.data] == ["upload"], f"total {same.pagination.total}")


def bad_requests(client: chamelaion.Chamelaion, clip: tuple[Path, Path]) -> None:
    def generate(*inputs: Any) -> Callable[[], object]:
        return lambda: client.lipsync.generate(inputs=inputs)

    def media(data: dict[str, str], *names: str) -> Callable[[], object]:
        files = {name: (path.name, path.read_bytes()) for name, path in zip(("video", "audio"), clip, strict=True)}
        kept: dict[str, Any] = {name: files[name] for name in names}
        headers = {"Content-Type": "multipart/form-data"}
        return lambda: client.post(UPLOAD, cast_to=object, body=data, files=kept, options={"headers": headers})

    def raw(path: str) -> Callable[[], object]:
        headers = {"Content-Type": "text/plain"}
        return lambda: client.post(path, cast_to=object, content=b"x", options={"headers": headers})

    refused("invalid request body", 400, generate({"type": "video"}, AUDIO))
    refused("content-type must be application/json", 400, raw(GENERATE))
    refused("content-type must be multipart/form-data", 400, raw(UPLOAD))
    refused("expected exactly one video input", 400, generate(AUDIO))
    refused("expected exactly one audio input", 400, generate(VIDEO, AUDIO, AUDIO))
    refused('input type must be "video" or "audio"', 400, generate(VIDEO | {"type": "image"}, AUDIO))
    refused("video file is required", 400, media({}, "audio"))
    refused("audio file is required", 400, media({}, "video"))
    refused('model must be "lipsync-2"', 400, media({"model": "lipsync-1"}, "video", "audio"))
    refused("lipsync request not found", 404, lambda: client.lipsync.requests.retrieve("nobody"))


def account_errors(base_url: str, client: chamelaion.Chamelaion, clip: tuple[Path, Path]) -> None:
    def me(**headers: Any) -> Callable[[], object]:
        return lambda: client.users.retrieve_current(extra_headers=headers)

    def upload() -> object:
        return client.lipsync.generate_with_media(video=clip[0], audio=clip[1])

    refused("missing authorization header", 401, me(Authorization=chamelaion.Omit()))
    refused("invalid authorization format", 401, me(Authorization="Basic x"))
    refused("missing token", 401, me(Authorization="Bearer"))
    refused("invalid token", 401, me(Authorization="Bearer x"))
    control(base_url, rpm=1)
    refused("rate limit exceeded", 429, upload, "retry-after")
    control(base_url, rpm=1000, cap=0)
    refused("rate limit exceeded", 429, upload, "retry-after")
    control(base_url, cap=None, quota=1)
    refused("token limit reached", 412, upload)
    control(base_url, faults=[{"on": "me", "kind": "status", "status": 500}])
    refused("internal error", 500, me())
    control(base_url, key="rotated")
    refused("unauthorized", 401, me())
    state = httpx.get(f"{base_url}/_sandbox", trust_env=False).json()
    fact("no key reached the media origin", state["media_requests_with_credentials"] == 0, "0 requests")
    fact("no bug in the sandbox", state["bugs"] == [], f"{len(state['log'])} exchanges")


def refused(text: str, status: int, action: Callable[[], object], header: str | None = None) -> None:
    try:
        action()
    except chamelaion.APIStatusError as error:
        named = f", {header} {error.response.headers.get(header)}" if header else ""
        holds = (error.status_code, error.body) == (status, {"error": text}) and "None" not in named
        fact(f"{status} {text}", holds, f"{type(error).__name__} {error.body}{named}")
    else:
        fact(f"{status} {text}", holds=False, figures="was accepted")


def control(base_url: str, **changes: Any) -> None:
    httpx.post(f"{base_url}/_sandbox", json=changes, trust_env=False).raise_for_status()


def finished(client: chamelaion.Chamelaion, handle: str) -> LipsyncRequest:
    def look() -> LipsyncRequest | None:
        request = client.lipsync.requests.retrieve(handle)
        return request if request.status in {"completed", "failed"} else None

    found = eventually(look)
    assert found is not None
    return found


if __name__ == "__main__":
    sys.exit(main())
