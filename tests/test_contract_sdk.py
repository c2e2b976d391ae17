"""What the official SDK expects of the API, held against the sandbox: the SDK's strict validation is the witness."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import chamelaion
import pytest
from chamelaion.types.lipsync import LipsyncRequest

from chamelaion_watch.sandbox.media import make_audio, make_video
from chamelaion_watch.sandbox.server import Sandbox, SandboxOptions
from tests.support import eventually


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("clip")
    make_video(folder / "scene.mp4", seconds=0.4)
    make_audio(folder / "scene.wav", seconds=0.4)
    return folder / "scene.mp4", folder / "scene.wav"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxOptions(speed=50.0, rpm=1000)) as running:
        yield running


@contextmanager
def sdk(sandbox: Sandbox, **changes: Any) -> Iterator[chamelaion.Chamelaion]:
    settings: dict[str, Any] = {"bearer_token": sandbox.key, "max_retries": 0, "timeout": 10.0} | changes
    plain = chamelaion.DefaultHttpxClient(trust_env=False, verify=False)  # no proxies; loading authorities takes 40 ms
    with chamelaion.Chamelaion(
        base_url=sandbox.base_url, http_client=plain, _strict_response_validation=True, **settings
    ) as client:
        yield client


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[chamelaion.Chamelaion]:
    with sdk(sandbox) as opened:
        yield opened


def finished(client: chamelaion.Chamelaion, handle: str) -> LipsyncRequest:
    def look() -> LipsyncRequest | None:
        request = client.lipsync.requests.retrieve(handle)
        return request if request.status in {"completed", "failed"} else None

    found = eventually(look)
    assert found is not None
    return found


def test_health_needs_no_key(sandbox: Sandbox) -> None:
    with sdk(sandbox, bearer_token="wrong") as client:
        assert client.health.check().status == "ok"


def test_me_names_the_token_with_either_header(sandbox: Sandbox) -> None:
    with sdk(sandbox) as bearer, sdk(sandbox, bearer_token=None, api_key=sandbox.key) as header:
        assert bearer.users.retrieve_current().name == header.users.retrieve_current().name == "My API Token"


def test_an_upload_becomes_a_completed_request_with_an_output(
    client: chamelaion.Chamelaion, clip: tuple[Path, Path]
) -> None:
    video, audio = clip
    generated = client.lipsync.generate_with_media(
        video=video, audio=audio, reference_id="cw-a", disable_active_speaker_detection=True
    )
    assert generated.status == "success"
    request = finished(client, "cw-a")
    assert request.id == generated.request_id
    assert request.status == "completed"
    assert request.reference_id == "cw-a"
    assert request.error_message is None
    assert request.output_url is not None
    assert request.output_url.startswith("http://127.0.0.1:")


def test_times_are_utc_and_in_order(client: chamelaion.Chamelaion, clip: tuple[Path, Path]) -> None:
    generated = client.lipsync.generate_with_media(video=clip[0], audio=clip[1])
    request = finished(client, generated.request_id)
    assert request.started_at is not None
    assert request.finished_at is not None
    assert request.created_at <= request.started_at <= request.finished_at
    assert request.created_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - request.finished_at) < timedelta(seconds=30)


def test_a_fresh_request_has_no_times_or_output_yet(sandbox: Sandbox, clip: tuple[Path, Path]) -> None:
    sandbox.control(queue_s=1e9)
    with sdk(sandbox) as client:
        generated = client.lipsync.generate_with_media(video=clip[0], audio=clip[1])
        request = client.lipsync.requests.retrieve(generated.request_id)
    assert request.status == "queued"
    assert request.started_at is None
    assert request.finished_at is None
    assert request.output_url is None
    assert request.reference_id is None


def test_generate_takes_urls_and_fails_what_it_may_not_fetch(client: chamelaion.Chamelaion) -> None:
    generated = client.lipsync.generate(
        inputs=[
            {"type": "audio", "url": "https://media.example.com/a.wav"},
            {"type": "video", "url": "https://media.example.com/v.mp4"},
        ],
        reference_id="urls",
    )
    request = finished(client, generated.request_id)
    assert request.status == "failed"
    assert request.error_message is not None
    assert "loopback" in request.error_message


def test_generate_fetches_from_loopback(client: chamelaion.Chamelaion, clip: tuple[Path, Path]) -> None:
    client.lipsync.generate_with_media(video=clip[0], audio=clip[1], reference_id="first")
    url = finished(client, "first").output_url
    assert url is not None
    client.lipsync.generate(inputs=[{"type": "video", "url": url}, {"type": "audio", "url": url}], reference_id="again")
    assert finished(client, "again").status == "completed"


def test_the_list_is_newest_first_and_paged(client: chamelaion.Chamelaion, clip: tuple[Path, Path]) -> None:
    ids = [
        client.lipsync.generate_with_media(video=clip[0], audio=clip[1], reference_id=reference).request_id
        for reference in ("a", "b", "b")
    ]
    page = client.lipsync.requests.list(limit=2, offset=1)
    assert [request.id for request in page.data] == [ids[1], ids[0]]
    assert (page.pagination.limit, page.pagination.offset, page.pagination.total) == (2, 1, 3)
    same = client.lipsync.requests.list(reference_id="b")
    assert [request.id for request in same.data] == [ids[2], ids[1]]
    assert same.pagination.limit == 20
    assert client.lipsync.requests.retrieve("b").id == ids[2]


def test_an_unknown_request_is_not_found(client: chamelaion.Chamelaion) -> None:
    with pytest.raises(chamelaion.NotFoundError) as caught:
        client.lipsync.requests.retrieve("a/b?c d")
    assert caught.value.body == {"error": "lipsync request not found"}


def test_a_wrong_key_is_an_authentication_error(sandbox: Sandbox) -> None:
    with sdk(sandbox, bearer_token="wrong") as client, pytest.raises(chamelaion.AuthenticationError) as caught:
        client.users.retrieve_current()
    assert caught.value.body == {"error": "invalid token"}


def test_the_rate_limit_names_a_time_that_the_sdk_waits_out(sandbox: Sandbox, clip: tuple[Path, Path]) -> None:
    sandbox.control(rpm=1, window_s=20.0)  # 0.4 s of ours
    with sdk(sandbox, max_retries=3) as client:
        for _ in range(2):
            client.lipsync.generate_with_media(video=clip[0], audio=clip[1])
    assert sandbox.state()["counters"]["submit"] == {"200": 2, "429": 1}


def test_an_exhausted_quota_is_a_412(sandbox: Sandbox, clip: tuple[Path, Path]) -> None:
    sandbox.control(quota=0)
    with sdk(sandbox) as client, pytest.raises(chamelaion.APIStatusError) as caught:
        client.lipsync.generate_with_media(video=clip[0], audio=clip[1])
    assert (caught.value.status_code, caught.value.body) == (412, {"error": "token limit reached"})


def test_an_internal_error_is_tried_again_by_the_sdk_itself(sandbox: Sandbox) -> None:
    sandbox.control(faults=[{"on": "me", "kind": "status", "status": 500}])
    with sdk(sandbox, max_retries=1) as client:
        assert client.users.retrieve_current().name == "My API Token"
    assert sandbox.state()["counters"]["me"] == {"500": 1, "200": 1}


def test_the_asynchronous_sdk_is_satisfied_too(sandbox: Sandbox, clip: tuple[Path, Path]) -> None:
    async def upload() -> str:
        async with chamelaion.AsyncChamelaion(
            bearer_token=sandbox.key,
            base_url=sandbox.base_url,
            max_retries=0,
            http_client=chamelaion.DefaultAsyncHttpxClient(trust_env=False, verify=False),
            _strict_response_validation=True,
        ) as client:
            generated = await client.lipsync.generate_with_media(video=clip[0], audio=clip[1])
            return (await client.lipsync.requests.retrieve(generated.request_id)).status

    assert asyncio.run(upload()) in {"queued", "processing", "completed"}
