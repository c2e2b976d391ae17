"""The hands that ask: a real client against the stand-in service over a socket."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from chamelaion_watch.core.messages import Event, Poll, Polled
from chamelaion_watch.edges.api import Api
from chamelaion_watch.edges.clock import SystemClock
from chamelaion_watch.edges.probe import Prober
from chamelaion_watch.edges.spool import Spool
from chamelaion_watch.effects import Effects
from chamelaion_watch.sandbox.server import Sandbox, SandboxOptions
from tests.acceptance.early_refusal import upload_of
from tests.support import eventually

KEY = "effects-key-77aa"
PAGE = 3


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxOptions(key=KEY, rpm=None, queue_s=600.0)) as started:
        started.control(page_max=PAGE)
        yield started


@pytest.fixture
def api(sandbox: Sandbox) -> Iterator[Api]:
    with contextlib.closing(Api(base_url=sandbox.base_url, key=lambda: KEY, proxies={})) as made:
        yield made


def submitted(api: Api, count: int) -> list[str]:
    return [api.submit(upload_of(io.BytesIO(bytes(5000)), 5000)) for _ in range(count)]


def asked(action: Poll, api: Api, place: Path) -> Polled:
    """Carry out a round."""
    events: list[Event] = []
    with contextlib.closing(Prober()) as prober:
        Effects(
            roots={}, api=api, prober=prober, spool=Spool(place / "spool"), clock=SystemClock(), post=events.append
        ).start(action)
        (event,) = eventually(lambda: events)
    assert isinstance(event, Polled)
    return event


def numbered(requests: list[str]) -> tuple[tuple[int, str], ...]:
    return tuple(enumerate(requests, start=1))


def gets(sandbox: Sandbox) -> list[str]:
    log = sandbox.state()["log"]
    return ["page" if entry["path"].endswith("/requests") else "one" for entry in log if entry["method"] == "GET"]


def test_many_are_asked_for_by_pages_for_as_long_as_there_is_somebody_to_find(
    api: Api, sandbox: Sandbox, tmp_path: Path
) -> None:
    requests = submitted(api, 7)
    event = asked(Poll(numbered(requests[:6]), ()), api, tmp_path)
    assert event.error is None
    assert sorted(event.answers) == [1, 2, 3, 4, 5, 6]
    assert {answer.status for answer in event.answers.values() if answer} == {"queued"}
    assert (event.calls, gets(sandbox)) == (3, ["page"] * 3)


def test_who_is_far_behind_is_asked_for_singly_when_due_and_only_then(
    api: Api, sandbox: Sandbox, tmp_path: Path
) -> None:
    requests = submitted(api, 10)
    others = [*requests[:2], *requests[8:]]  # two of long ago, four pages of other people's between
    event = asked(Poll(numbered(others), (1,)), api, tmp_path)
    assert sorted(event.answers) == [1, 3, 4]
    assert (event.calls, gets(sandbox)) == (3, ["page", "page", "one"])


def test_a_few_are_asked_for_one_by_one(api: Api, sandbox: Sandbox, tmp_path: Path) -> None:
    requests = submitted(api, 3)
    event = asked(Poll(numbered(requests), (1, 2, 3)), api, tmp_path)
    assert (sorted(event.answers), event.calls, gets(sandbox)) == ([1, 2, 3], 3, ["one"] * 3)


def test_a_request_that_the_service_does_not_know_is_answered_so(api: Api, tmp_path: Path) -> None:
    event = asked(Poll(((1, "00000000-0000-4000-8000-000000000000"),), (1,)), api, tmp_path)
    assert event.answers == {1: None}
