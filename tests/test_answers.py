"""What the service's answers mean, whatever stands in them."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest

from chamelaion_watch.core.errors import (
    QuotaExhausted,
    Throttled,
    Transient,
)
from chamelaion_watch.edges.answers import Answer, asked_wait_s, refusal, request_of

ID = "3f0c9a52-0000-4000-8000-000000000001"
REFERENCE = "cw-abcdefghijklmnopqrstuvwxyz"
NOW = 1_800_000_000.0
CONTRADICTING = (
    b'{%s,"status":"completed","status":"failed","output_url":"https://a/","output_url":"https://b/",'
    b'"error_message":"a","error_message":"b"}'
)


# -- what a request may look like -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [("queued", "queued"), ("paused", "paused"), (None, ""), (7, ""), ([], ""), ("\x1b[2J", "\\e[2J"), ("x" * 99, 64)],
)
def test_threat_61_an_odd_status_is_still_in_progress(status: Any, expected: str | int) -> None:
    found = request_of({"id": ID, "status": status}, ID)
    assert (len(found.status) if isinstance(expected, int) else found.status) == expected
    assert not found.is_completed
    assert not found.is_failed


@pytest.mark.parametrize("url", [None, "", [], ["https://x"], 5, {}, "https://x/" + "y" * 20_000])
def test_threat_65_an_odd_output_url_is_none(url: Any) -> None:
    assert request_of({"id": ID, "status": "completed", "output_url": url}, ID).output_url is None


def test_threat_67_a_hostile_error_message_is_short_and_printable() -> None:
    found = request_of({"id": ID, "status": "failed", "error_message": "\x1b]0;x\x07\n<b>" + "A" * 1_000_000}, ID)
    assert found.error_message
    assert len(found.error_message) <= 300
    assert found.error_message.isprintable()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no video at https://cdn.example/a.mp4?sig=s3cret (404)", "no video at https://cdn.example/a.mp4?*** (404)"),
        ("no video at https://cdn.example/ a.mp4?sig=s3cret 'x'", "no video at https://cdn.example/ a.mp4?*** 'x'"),
        ("is it a video? fps=25 is odd", "is it a video? fps=25 is odd"),
    ],
)
def test_threat_82_the_query_of_a_link_is_not_told_even_where_the_link_is_broken(said: str, told: str) -> None:
    found = request_of({"id": ID, "status": "failed", "error_message": said}, ID)
    assert found.error_message == told


@pytest.mark.parametrize(
    "body",
    [
        {"id": "other", "reference_id": "cw-other"},
        {"id": "other"},
        {"id": "../../users/me", "reference_id": REFERENCE},
        {"id": "x" * 10_000, "reference_id": REFERENCE},
        {"id": "a\x00b"},
        {"id": 12},
        {"id": ""},
    ],
)
def test_threat_66_another_jobs_id_or_a_hostile_one_is_not_believed(body: dict[str, Any]) -> None:
    with pytest.raises(Transient) as caught:
        request_of(body, REFERENCE)
    assert caught.value.code == "odd_answer"


def test_an_answer_without_any_id_is_the_one_asked_for() -> None:
    assert request_of({"status": "processing"}, REFERENCE).id == REFERENCE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"error":"a","error":"b"}', ""),
        ('{"error":"a","error":"a"}', "a"),
        ('{"error":"half \\ud800 nul \\u0000"}', "half \\ud800 nul \\x00"),
        ('{"error":NaN}', ""),
        ('{"error":"a","more":' + "9" * 5000 + "}", ""),
        ('{"error":' + "[" * 100_000, ""),
    ],
)
def test_threat_61_an_answer_that_contradicts_itself_says_nothing(text: str, expected: str) -> None:
    error = refusal(Answer(500, {}, text.encode()), now=NOW)
    assert error.message.partition("(500)")[2] == (f": {expected}" if expected else "")


def test_threat_61_contradictions_are_no_status_no_id_and_no_link() -> None:
    found = request_of(Answer(200, {}, CONTRADICTING % (b'"id":"%s"' % ID.encode())).object(), ID)
    assert (found.status, found.output_url, found.error_message) == ("", None, None)
    with pytest.raises(Transient) as caught:
        request_of(Answer(200, {}, CONTRADICTING % (b'"id":"%s","id":"x"' % ID.encode())).object(), ID)
    assert caught.value.code == "odd_answer"


@pytest.mark.parametrize("status", [101, 402, 405, 407, 410, 421, 426, 431, 451, 501])
def test_threat_54_a_page_with_an_odd_status_rejects_no_pair(status: int) -> None:
    """Only the service, or something that limits sizes, may end a pair for good."""
    error = refusal(Answer(status, {}, b"<html>captive</html>"), now=NOW, is_submission=True)
    assert isinstance(error, (Transient, QuotaExhausted))


# -- how long to wait -----------------------------------------------------------------------------------


def date(seconds: float) -> str:
    return formatdate(NOW + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "30"}, 30),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "\x1c2"}, 2),  # str.strip takes it for a space, float does not (found by tests/fuzz)
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "Wed, 99 Foo 2026 99:99:99 GMT"}, None),
        ({"retry-after": "86400"}, 86400),
        ({"retry-after": date(90)}, 90),
        ({"retry-after": date(-90)}, 0),
        ({"retry-after": date(500_090), "date": date(500_000)}, 90),
        ({"retry-after": date(90), "date": "yesterday"}, 90),
        ({"retry-after": date(90).removesuffix(" GMT")}, 90),
        ({"retry-after-ms": "1500", "retry-after": "30"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "30"}, 30),
        ({"retry-after-ms": "-1"}, 0),
    ],
)
def test_threat_55_what_retry_after_asks_for(headers: dict[str, str], expected: float | None) -> None:
    assert asked_wait_s(headers, NOW) == expected


@pytest.mark.parametrize("asked", ["7200", "9" * 400])
def test_threat_55_more_than_an_hour_counts_as_one_and_says_so(asked: str) -> None:
    error = refusal(Answer(429, {"retry-after": asked}, b""), now=NOW)
    assert isinstance(error, Throttled)
    assert error.retry_after_s == 3600
    assert "counts as 3600 s" in error.message


# -- how long a request took ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("created_at", "finished_at", "took_ms"),
    [
        ("2026-01-01T10:00:00Z", "2026-01-01T10:01:30Z", 90_000),
        ("2026-01-01T10:00:00.250Z", "2026-01-01T12:00:00.5+02:00", 250),
        ("2026-01-01T10:00:00Z", None, None),
        ("2026-01-01T10:00:00Z", "2026-01-01T09:59:59Z", None),  # nonsense
        ("2026-01-01T10:00:00", "2026-01-01T10:00:01Z", None),  # one of them names no zone
        ("2026-01-01T10:00:00Z", "2036-01-01T10:00:00Z", None),
        ("yesterday", "today", None),
        (1, 2, None),
    ],
)
def test_what_a_request_took_is_told_by_the_services_own_clock(
    created_at: object, finished_at: object, took_ms: int | None
) -> None:
    body = {"id": "r", "status": "completed", "created_at": created_at, "finished_at": finished_at}
    assert request_of(body, "r").took_ms == took_ms
