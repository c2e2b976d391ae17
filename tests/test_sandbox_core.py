"""The stand-in service's state machine, its limits, its faults and its checks of what is submitted: all without a socket."""

from __future__ import annotations

import email.utils
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chamelaion_watch.sandbox.core import Fate, Media, Refused, Request, Service, Submission
from chamelaion_watch.sandbox.faults import KINDS, Faults
from chamelaion_watch.sandbox.limits import Limits, retry_after_headers
from chamelaion_watch.sandbox.upload import FetchError, fetch, parse_generate

ORIGIN = "http://127.0.0.1:1"


def service(*, speed: float = 1.0, seed: int = 7, **limits: object) -> Service:
    made = Service(key="right", seed=seed, speed=speed, epoch=1_700_000_000.0)
    made.limits = Limits().changed({"queue_s": 5.0, "processing_s": 90.0} | limits)
    return made


def submitted(served: Service, now: float, reference_id: str | None = None, fate: Fate | None = None) -> Request:
    return served.accept(served.admit(now), Submission(Media(), Media(), reference_id), now, fate)


def refusal(action: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.status, caught.value.text


def wait_s(action: Callable[[], object]) -> float | None:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.wait_s


# -- the life of a request ----------------------------------------------------------------------------


def test_a_request_goes_from_queued_over_processing_to_completed() -> None:
    served = service()
    request = submitted(served, 0.0)
    assert request.status(4.9) == "queued"
    assert request.status(5.0) == "processing"
    served.rendered(request, 20.0, Media("abc", 3))
    assert request.status(94.9) == "processing"
    assert request.status(95.0) == "completed"


def test_nothing_is_completed_before_its_output_is_there() -> None:
    served = service()
    request = submitted(served, 0.0)
    assert request.status(500.0) == "processing"
    served.rendered(request, 500.0, Media("abc", 3))
    assert request.status(500.0) == "completed"
    assert served.view(request, 600.0, ORIGIN)["finished_at"] == "2023-11-14T22:21:40.000Z"


def test_an_error_in_the_work_fails_the_request_with_its_text() -> None:
    served = service()
    request = submitted(served, 0.0)
    served.rendered(request, 1.0, error="No face detected in the video")
    shown = served.view(request, 95.0, ORIGIN)
    assert (shown["status"], shown["error_message"]) == ("failed", "No face detected in the video")
    assert "output_url" not in shown


def test_fates_fail_never_end_hide_and_forget() -> None:
    served = service(speed=10.0)
    failing = submitted(served, 0.0, fate=Fate(failure="bad luck"))
    endless = submitted(served, 0.0, fate=Fate(is_endless=True))
    hidden = submitted(served, 0.0, "late", fate=Fate(hidden_s=3.0))
    forgotten = submitted(served, 0.0, fate=Fate(is_forgotten=True))
    assert failing.status(95.0) == "failed"
    assert endless.status(1e9) == "processing"
    assert refusal(lambda: served.find("late", 29.9)) == (404, "lipsync request not found")  # 3 s of the client
    assert served.find("late", 30.0) is hidden
    assert refusal(lambda: served.find(forgotten.id, 1e9))[0] == 404


def test_times_are_drawn_from_their_range_by_the_seed() -> None:
    def starts(seed: int) -> list[float]:
        served = service(seed=seed, queue_s=[10, 20])
        return [submitted(served, 0.0).start_at for _ in range(5)]

    assert starts(1) == starts(1) != starts(2)
    assert all(10 <= start <= 20 for start in starts(1))


def test_the_view_shows_only_what_is_known_and_in_client_time() -> None:
    served = service(speed=10.0)
    request = submitted(served, 100.0)
    assert served.view(request, 100.0, ORIGIN) == {
        "id": request.id,
        "status": "queued",
        "created_at": "2023-11-14T22:13:30.000Z",
    }
    served.rendered(request, 120.0, Media("abc", 3))
    shown = served.view(request, 195.0, ORIGIN)
    assert shown["finished_at"] == "2023-11-14T22:13:39.500Z"
    assert shown["output_url"].startswith(f"{ORIGIN}/outputs/{request.id}.mp4?expires=")


# -- asking -------------------------------------------------------------------------------------------


def test_a_reference_is_not_unique_and_finds_the_newest() -> None:
    served = service()
    submitted(served, 0.0, "same")
    newer = submitted(served, 1.0, "same")
    assert served.find("same", 2.0) is newer
    assert refusal(lambda: served.find("other", 2.0)) == (404, "lipsync request not found")


def test_pages_are_newest_first_filtered_and_no_longer_than_the_largest() -> None:
    served = service(page_max=3)
    ids = [submitted(served, 0.0, "odd" if n % 2 else "even").id for n in range(5)]
    page, pagination = served.page(0.0, limit=50, offset=1)
    assert [request.id for request in page] == [ids[3], ids[2], ids[1]]
    assert pagination == {"limit": 3, "offset": 1, "total": 5}
    odd, pagination = served.page(0.0, limit=20, offset=0, reference_id="odd")
    assert ([request.id for request in odd], pagination["total"]) == ([ids[3], ids[1]], 2)


FATES = st.builds(Fate, is_forgotten=st.booleans(), hidden_s=st.sampled_from([0.0, 2.0, 9.0]))


@given(
    st.lists(st.tuples(st.sampled_from([None, "a", "b"]), FATES), max_size=8),
    st.sampled_from([None, "a", "none"]),
    st.sets(st.integers(0, 7)),
    st.integers(0, 4),
    st.integers(1, 4),
)
def test_a_page_shows_what_may_be_seen_and_counts_no_more(
    made: list[tuple[str | None, Fate]], asked: str | None, left_out: set[int], offset: int, limit: int
) -> None:
    served = service()
    jobs = [submitted(served, float(at), reference, fate) for at, (reference, fate) in enumerate(made)]
    without = frozenset(job.id for number, job in enumerate(jobs) if number in left_out)
    seen = [
        job
        for job in reversed(jobs)
        if job.is_visible(8.0) and job.id not in without and asked in {None, job.submission.reference_id}
    ]
    page, told = served.page(8.0, limit=limit, offset=offset, reference_id=asked, without=without)
    assert (page, told["total"]) == (seen[offset : offset + limit], len(seen))


# -- the account --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "api_key", "text"),
    [
        (None, None, "missing authorization header"),
        ("Basic right", None, "invalid authorization format"),
        ("right", None, "invalid authorization format"),
        ("Bearer", None, "missing token"),
        (None, "", "missing token"),
        ("Bearer wrong", None, "invalid token"),
        ("Bearer  right", None, "invalid token"),
        ("Bearer right ", None, "invalid token"),
        (None, "wrong", "invalid token"),
    ],
)
def test_a_bad_key_is_told_what_is_bad(authorization: str | None, api_key: str | None, text: str) -> None:
    assert refusal(lambda: service().authorize(authorization, api_key)) == (401, text)


def test_both_headers_carry_the_key() -> None:
    service().authorize("Bearer right", None)
    service().authorize(None, "right")


def test_a_rotated_key_is_unauthorized_until_it_comes_back() -> None:
    served = service()
    served.rotate("new")
    served.authorize("Bearer new", None)
    assert refusal(lambda: served.authorize("Bearer right", None)) == (401, "unauthorized")
    served.rotate("right")
    served.authorize("Bearer right", None)


def test_a_sliding_window_frees_one_place_at_a_time() -> None:
    served = service(rpm=2)
    submitted(served, 0.0)
    submitted(served, 30.0)
    assert refusal(lambda: served.admit(59.0)) == (429, "rate limit exceeded")
    assert wait_s(lambda: served.admit(59.0)) == 1.0
    submitted(served, 60.0)
    assert wait_s(lambda: served.admit(60.0)) == 30.0


def test_a_fixed_window_frees_all_places_at_its_border() -> None:
    served = service(rpm=2, window="fixed")
    for at in (50.0, 59.0, 60.0, 60.0):
        submitted(served, at)
    assert wait_s(lambda: served.admit(90.0)) == 30.0


@given(st.lists(st.floats(0, 30), max_size=40), st.integers(0, 4))
def test_no_sliding_window_ever_holds_more_than_its_limit(gaps: list[float], rpm: int) -> None:
    served, now = service(rpm=rpm), 0.0
    taken: list[float] = []
    waits: list[float | None] = []
    for gap in gaps:
        now += gap
        try:
            served.admit(now)
            taken.append(now)
        except Refused as refused:
            waits.append(refused.wait_s)
        assert sum(at + 60 > now for at in taken) <= rpm
    assert all(wait is not None and 0 <= wait < 60.001 for wait in waits)  # floats: a border may be missed by a hair


@given(st.floats(0, 1e6), st.sampled_from(["sliding", "fixed"]))
def test_who_waits_as_long_as_told_is_admitted(at: float, window: str) -> None:
    served = service(rpm=1, window=window)
    served.admit(at)
    wait = wait_s(lambda: served.admit(at))
    assert wait is not None
    served.admit(at + max(1, math.ceil(wait)))


def test_what_is_refused_or_released_counts_nowhere() -> None:
    served = service(rpm=1, quota=1, cap=1)
    for _ in range(3):
        served.release(served.admit(0.0))
    ticket = served.admit(0.0)
    refusal(lambda: served.admit(0.0))
    assert wait_s(lambda: served.admit(10.0)) == 50.0  # the refusal at 0 did not prolong it
    served.accept(ticket, Submission(Media(), Media()), 0.0)
    served.release(ticket)  # too late: it stays counted
    assert refusal(lambda: served.admit(0.0))[0] == 429


def test_the_cap_counts_queued_and_processing_and_uploads_under_way() -> None:
    served = service(cap=2)
    served.rendered(submitted(served, 0.0), 1.0, Media())
    ticket = served.admit(0.0)
    assert refusal(lambda: served.admit(94.0)) == (429, "rate limit exceeded")
    assert wait_s(lambda: served.admit(94.0)) == 1.0
    submitted(served, 95.0)
    served.release(ticket)
    submitted(served, 95.0)


def test_the_quota_counts_accepted_requests_for_ever() -> None:
    served = service(quota=1)
    served.rendered(submitted(served, 0.0), 1.0, Media())
    assert refusal(lambda: served.admit(1000.0)) == (412, "token limit reached")
    served.limits = served.limits.changed({"quota": 2})
    served.admit(1000.0)


def test_rate_is_checked_before_cap_and_cap_before_quota() -> None:
    served = service(rpm=1, cap=1, quota=1)
    submitted(served, 0.0)
    assert wait_s(lambda: served.admit(1.0)) == 59.0
    assert refusal(lambda: served.admit(61.0))[0] == 429
    served.limits = served.limits.changed({"cap": None})
    assert refusal(lambda: served.admit(61.0))[0] == 412


# -- links --------------------------------------------------------------------------------------------


def opened(served: Service, link: str, now: float) -> Request:
    path, _, query = link.partition("?")
    expires, signature = (value.split("=")[1] for value in query.split("&"))
    return served.open_link(path.rpartition("/")[2], expires, signature, now)


def test_a_link_opens_until_it_expires_and_cannot_be_changed() -> None:
    served = service(speed=10.0, link_ttl_s=100.0)
    request = submitted(served, 0.0)
    link = served.link(request, 50.0)
    assert opened(served, link, 149.9) is request
    assert refusal(lambda: opened(served, link, 150.0)) == (403, "Request has expired")
    assert refusal(lambda: opened(served, link.replace("expires=1", "expires=9"), 50.0))[0] == 403
    assert refusal(lambda: opened(served, link.replace(request.id, "x"), 50.0))[0] == 403


# -- limits -------------------------------------------------------------------------------------------


def test_retry_after_is_said_in_every_way() -> None:
    assert retry_after_headers("seconds", 1.2, 0.0) == {"Retry-After": "2"}
    assert retry_after_headers("ms", 1.2, 0.0) == {"retry-after-ms": "1200"}
    assert retry_after_headers("none", 1.2, 0.0) == {}
    assert retry_after_headers("banana", 1.2, 0.0) == {"Retry-After": "banana"}
    assert retry_after_headers("-5", 1.2, 0.0) == {"Retry-After": "-5"}
    date = retry_after_headers("date", 1.2, 1_700_000_000.5)["Retry-After"]
    assert email.utils.parsedate_to_datetime(date).timestamp() == 1_700_000_003


@pytest.mark.parametrize(
    "changes",
    [
        {"rpm": -1},
        {"cap": True},
        {"quota": "1"},
        {"window": "round"},
        {"window_s": 0},
        {"queue_s": [1, 2, 3]},
        {"processing_s": "2"},
        {"link_ttl_s": float("inf")},
        {"retry_after": 5},
        {"speed": 2},
        {"page_max": None},
    ],
)
def test_a_bad_setting_is_named(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Limits().changed(changes)


# -- faults -------------------------------------------------------------------------------------------


def ordered(*orders: dict[str, Any]) -> Faults:
    faults = Faults()
    faults.add(orders)
    return faults


def test_a_fault_skips_then_strikes_then_is_over() -> None:
    faults = ordered({"on": "get", "kind": "html", "after": 2, "count": 2})
    assert [faults.take("get") is not None for _ in range(6)] == [False, False, True, True, False, False]
    assert faults.facts() == []


def test_a_fault_for_ever_stays() -> None:
    faults = ordered({"on": "get", "kind": "html", "count": -1})
    assert all(faults.take("get") for _ in range(100))


def test_a_fault_with_a_reference_strikes_only_that() -> None:
    faults = ordered({"on": "get", "kind": "html", "reference_id": "a"})
    assert faults.take("get", references={"b"}) is None
    assert faults.take("list", references={"a"}) is None
    assert faults.take("get", references={"a", "c"}) is not None


def test_on_submit_faults_strike_when_what_they_need_is_known() -> None:
    stages: dict[str, list[dict[str, Any]]] = {
        "arrival": [{"kind": "status", "status": 500}, {"kind": "reset_early"}],
        "answer": [{"kind": "lost"}, {"kind": "html", "create": True}, {"kind": "html", "reference_id": "a"}],
        "fate": [{"kind": "lag"}, {"kind": "never", "reference_id": "a"}],
    }
    for stage, orders in stages.items():
        for order in orders:
            faults = ordered({"on": "submit"} | order)
            found = [name for name in ("arrival", "answer") if faults.take("submit", name, {"a"})]
            assert (found or ["fate"]) == [stage]
            assert bool(faults.take_fates({"a"})) is (stage == "fate")


@pytest.mark.parametrize(
    "order",
    [
        {"on": "submit", "kind": "nonsense"},
        {"on": "media", "kind": "lost_before"},
        {"on": "nowhere", "kind": "html"},
        {"on": "get", "kind": "html", "count": 0},
        {"on": "get", "kind": "html", "after": -1},
        {"on": "get", "kind": "html", "reference_id": 5},
        {"on": "get", "kind": "status"},
        {"on": "get", "kind": "status", "status": 999},
        {"on": "get", "kind": "redirect"},
        {"on": "get", "kind": "delay", "seconds": "1"},
        {"on": "get", "kind": "patch", "set": []},
        {"on": "submit", "kind": "status", "status": 429, "then": "dance"},
    ],
)
def test_a_bad_order_is_refused_and_nothing_of_its_list_is_taken(order: dict[str, Any]) -> None:
    faults = Faults()
    with pytest.raises(ValueError):
        faults.add([{"on": "me", "kind": "html"}, order])
    assert faults.facts() == []


def test_the_documentation_of_faults_names_every_kind() -> None:
    from chamelaion_watch.sandbox import faults

    documented = {line.split()[0] for line in (faults.__doc__ or "").splitlines() if line[:1].isalpha()}
    assert set(KINDS) <= documented


# -- what is submitted --------------------------------------------------------------------------------

VIDEO = {"type": "video", "url": "https://media.example.com/v.mp4"}
AUDIO = {"type": "audio", "url": "https://media.example.com/a.wav"}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "invalid request body"),
        ("[" * 100_000, "invalid request body"),
        ([VIDEO, AUDIO], "invalid request body"),
        ({"inputs": {"video": VIDEO}}, "invalid request body"),
        ({"inputs": ["video", "audio"]}, "invalid request body"),
        ({"inputs": [{"type": "video"}, AUDIO]}, "invalid request body"),
        ({"inputs": [VIDEO | {"url": "file:///etc/passwd"}, AUDIO]}, "invalid request body"),
        ({"inputs": [VIDEO, AUDIO], "reference_id": 5}, "invalid request body"),
        ({"inputs": [VIDEO, AUDIO], "disable_active_speaker_detection": "true"}, "invalid request body"),
        ({"inputs": [VIDEO | {"type": "image"}, AUDIO]}, 'input type must be "video" or "audio"'),
        ({"inputs": [AUDIO]}, "expected exactly one video input"),
        ({"inputs": [VIDEO, VIDEO, AUDIO]}, "expected exactly one video input"),
        ({"inputs": [VIDEO]}, "expected exactly one audio input"),
    ],
)
def test_a_bad_json_submission_is_told_what_is_bad(body: object, text: str) -> None:
    raw = body if isinstance(body, str) else json.dumps(body)
    assert refusal(lambda: parse_generate(raw.encode())) == (400, text)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/v.mp4",
        "file:///etc/hostname",
        "http://192.0.2.1/v.mp4",
        "http://127.0.0.1.example.com/v.mp4",
        "http://127.0.0.1@192.0.2.1/v.mp4",
    ],
)
def test_nothing_but_loopback_is_ever_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="loopback"):
        fetch(url, tmp_path / "input")
    assert not (tmp_path / "input").exists()


def test_a_json_submission_takes_its_inputs_in_any_order() -> None:
    asked = {"inputs": [AUDIO, VIDEO], "reference_id": "r", "disable_active_speaker_detection": True, "new": 1}
    taken = parse_generate(json.dumps(asked).encode())
    assert (taken.video.url, taken.audio.url, taken.reference_id) == (VIDEO["url"], AUDIO["url"], "r")
    assert taken.fields == {"disable_active_speaker_detection": True, "new": 1}
