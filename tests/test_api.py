"""The calls to the service: what is sent, what each answer means, and what must never leak."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from chamelaion_watch.core.errors import (
    NotFound,
    QuotaExhausted,
    Rejected,
    Throttled,
    Transient,
    Unauthorized,
    WatchError,
)
from chamelaion_watch.core.model import Request
from chamelaion_watch.edges.api import Api, Page, Timeouts, Upload
from tests.acceptance.early_refusal import Connection, Origin, Seen, api_for, upload_of

ID = "3f0c9a52-0000-4000-8000-000000000001"
REFERENCE = "cw-abcdefghijklmnopqrstuvwxyz"
JSON = "Content-Type: application/json"
HTML = b"<!doctype html><html><body>Please log in to FreeWifi</body></html>"
NOW = 1_800_000_000.0


def answering(status: int, body: bytes, *headers: str, seen: list[Seen] | None = None) -> Origin:
    """A server with one answer for everything."""

    def handle(connection: Connection) -> None:
        head = connection.head()
        if seen is not None:
            seen.append(head)
        connection.skip(int(head.headers.get("content-length", 0)))
        connection.answer(status, body, *headers)

    return Origin(handle)


def a_pair() -> Upload:
    return upload_of(io.BytesIO(bytes(5000)), 5000)


def error_of(call: Callable[[Api], object], origin: Origin) -> WatchError:
    with origin, contextlib.closing(api_for(origin.url)) as api, pytest.raises(WatchError) as caught:
        call(api)
    return caught.value


def submitting(api: Api) -> str:
    return api.submit(a_pair())


def finding(api: Api) -> Request:
    return api.find(ID)


# -- the calls ----------------------------------------------------------------------------------------


def test_a_submission_is_one_post_with_bearer_and_length() -> None:
    seen: list[Seen] = []
    with answering(200, f'{{"status":"success","request_id":"{ID}"}}'.encode(), seen=seen) as origin:
        upload = a_pair()
        assert api_for(origin.url).submit(upload) == ID
    assert upload.is_finished
    (head,) = seen
    assert (head.method, head.target) == ("POST", "/api/v1/lipsync/generate-with-media")
    assert head.headers["authorization"] == "Bearer secret-key"
    assert head.headers["host"] == f"127.0.0.1:{origin.port}"
    assert head.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert head.headers["accept-encoding"] == "identity"
    assert "transfer-encoding" not in head.headers


def test_health_needs_no_key() -> None:
    seen: list[Seen] = []
    with answering(200, b'{"status":"ok"}', seen=seen) as origin:
        api_for(origin.url).health()
    assert seen[0].target == "/api/health"
    assert "authorization" not in seen[0].headers


def test_me_is_the_name_of_the_token() -> None:
    with answering(200, b'{"name":"My API Token"}') as origin:
        assert api_for(origin.url).me() == "My API Token"


def test_the_key_is_asked_for_at_every_call() -> None:
    seen: list[Seen] = []
    keys = iter(["first", "second"])
    with answering(200, b'{"name":"x"}', seen=seen) as origin:
        api = Api(base_url=f"{origin.url}/api/", key=lambda: next(keys))
        api.me()
        api.me()
    assert [head.headers["authorization"] for head in seen] == ["Bearer first", "Bearer second"]
    assert {head.target for head in seen} == {"/api/v1/users/me"}


def test_each_answer_is_told_without_its_query() -> None:
    told: list[tuple[str, str, int, float]] = []
    with answering(200, b'{"data":[]}') as origin:
        Api(base_url=origin.url, key=lambda: "k", on_answer=lambda *answer: told.append(answer)).recent(limit=3)
    ((*call, took_s),) = told
    assert call == ["GET", "/v1/lipsync/requests", 200]
    assert 0 < took_s < 60


@pytest.mark.parametrize("key", ["", "abc\r\nX: y", "abc def", "schlüssel"])
def test_a_key_that_cannot_be_one_is_never_sent_nor_shown(key: str) -> None:
    seen: list[Seen] = []
    with answering(200, b"{}", seen=seen) as origin, pytest.raises(Unauthorized) as caught:
        Api(base_url=origin.url, key=lambda: key).me()
    assert not seen
    assert not key or key not in str(caught.value)


def test_find_asks_by_id_or_reference() -> None:
    seen: list[Seen] = []
    body = {"id": ID, "status": "completed", "reference_id": REFERENCE, "output_url": "https://x/y?sig=1", "more": 1}
    with answering(200, json.dumps(body).encode(), seen=seen) as origin:
        for asked in (ID, REFERENCE):
            found = api_for(origin.url).find(asked)
            assert found == Request(ID, "completed", REFERENCE, "https://x/y?sig=1")
    assert [head.target for head in seen] == [f"/api/v1/lipsync/requests/{asked}" for asked in (ID, REFERENCE)]


@pytest.mark.parametrize("asked", ["", "..", "../../users/me", "a/b", "x" * 129, "ä", "a\n"])
def test_threat_66_an_id_that_is_none_goes_into_no_path(asked: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        api_for("http://127.0.0.1:9").find(asked)


def test_threat_71_cookies_are_neither_kept_nor_sent() -> None:
    seen: list[Seen] = []
    with answering(200, b'{"name":"x"}', "Set-Cookie: session=1", seen=seen) as origin:
        api = api_for(origin.url)
        api.me()
        api.me()
    assert all("cookie" not in head.headers for head in seen)


# -- lists --------------------------------------------------------------------------------------------


def page(body: object, limit: int = 20, offset: int = 0) -> Page:
    with answering(200, json.dumps(body).encode()) as origin:
        return api_for(origin.url).recent(limit=limit, offset=offset)


def test_recent_reads_a_page() -> None:
    seen: list[Seen] = []
    body = {"data": [{"id": "a", "status": "queued"}], "pagination": {"limit": 1, "offset": 2, "total": 30}}
    with answering(200, json.dumps(body).encode(), seen=seen) as origin:
        found = api_for(origin.url).recent(limit=5, offset=2)
    assert found == Page((Request("a", "queued"),), 1, 2, 30)
    assert seen[0].target == "/api/v1/lipsync/requests?limit=5&offset=2"


def test_threat_66_items_that_are_not_usable_are_left_out() -> None:
    items: list[Any] = [None, 3, [], {}, {"id": None}, {"id": "../x"}, {"id": "y" * 200}, {"id": "good"}]
    assert [request.id for request in page({"data": items}).requests] == ["good"]


@pytest.mark.parametrize("pagination", [None, [], {"limit": "20", "offset": None, "total": -1}, {"total": True}])
def test_a_page_without_numbers_says_whether_more_may_follow(pagination: Any) -> None:
    full = page({"data": [{"id": "a"}, {"id": "b"}], "pagination": pagination}, limit=2, offset=4)
    short = page({"data": [{"id": "a"}], "pagination": pagination}, limit=2, offset=4)
    assert (full.limit, full.offset, full.total) == (2, 4, 7)
    assert (short.limit, short.offset, short.total) == (2, 4, 5)


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": {"id": "a"}}])
def test_no_list_is_no_evidence_of_an_empty_one(body: Any) -> None:
    with pytest.raises(Transient) as caught:
        page(body)
    assert caught.value.code == "odd_answer"


@pytest.mark.parametrize("answer", [b"{}", b'{"request_id":null}', b'{"request_id":"../x"}', b'{"request_id":["a"]}'])
def test_threat_66_a_submission_without_a_usable_id_is_in_doubt(answer: bytes) -> None:
    upload = a_pair()
    with answering(200, answer) as origin, pytest.raises(Transient) as caught:
        api_for(origin.url).submit(upload)
    assert caught.value.code == "odd_answer"
    assert upload.is_finished


# -- errors by status -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected), (404, Rejected), (413, Rejected), (415, Rejected), (422, Rejected),
        (401, Unauthorized), (403, Unauthorized), (412, QuotaExhausted), (402, QuotaExhausted), (429, Throttled),
        (408, Transient), (409, Transient), (425, Transient), (500, Transient), (502, Transient), (503, Transient),
    ],
)  # fmt: skip
def test_what_a_refused_submission_means(status: int, kind: type[WatchError]) -> None:
    error = error_of(submitting, answering(status, b'{"error":"in the service\'s words"}', JSON))
    assert type(error) is kind
    assert error.http_status == status
    assert "in the service's words" in error.message


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFound),
        (400, Transient),
        (405, Transient),
        (422, Transient),
        (401, Unauthorized),
        (429, Throttled),
        (500, Transient),
    ],
)
def test_what_a_refused_look_up_means(status: int, kind: type[WatchError]) -> None:
    assert type(error_of(finding, answering(status, b'{"error":"lipsync request not found"}'))) is kind


@pytest.mark.parametrize("body", [HTML, b"", b"not found", b"{}", b'{"message":"no Route matched"}', b'{"error":{}}'])
def test_threat_63_only_the_service_itself_can_say_that_it_does_not_know_a_request(body: bytes) -> None:
    error = error_of(finding, answering(404, body))
    assert type(error) is Transient
    assert error.code == "not_the_service"


@pytest.mark.parametrize("status", [400, 404])
def test_threat_54_a_web_page_in_between_rejects_no_pair(status: int) -> None:
    error = error_of(submitting, answering(status, HTML))
    assert type(error) is Transient
    assert "FreeWifi" not in error.message


def test_a_page_of_a_proxy_that_limits_sizes_does_reject() -> None:
    error = error_of(submitting, answering(413, b"<html><h1>413 Request Entity Too Large</h1></html>"))
    assert type(error) is Rejected
    assert "<" not in error.message


def test_threat_67_the_services_words_are_shortened_and_escaped() -> None:
    body = json.dumps({"error": "\x1b[31m\u202e" + "long " * 10_000}).encode()
    error = error_of(submitting, answering(400, body))
    assert len(error.message) <= 300
    assert error.message.isprintable()


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
def test_threat_69_a_redirect_is_never_followed(status: int) -> None:
    seen: list[Seen] = []
    with answering(200, b"{}", seen=seen) as elsewhere:
        location = f"Location: {elsewhere.url}/steal?sig=1"
        for call in (submitting, finding):
            error = error_of(call, answering(status, b"", location))
            assert (type(error), error.code) == (Transient, "redirect")
            assert "steal" not in error.message
    assert not seen


@pytest.mark.parametrize(
    "body", [HTML, b"", b"[]", b"null", b'"x"', b"{", b"\xff\xfe\x00", b"[" * 200_000, b"9" * 5000]
)
def test_threat_54_a_200_that_is_not_the_services_is_no_success(body: bytes) -> None:
    upload = a_pair()
    with answering(200, body) as origin, pytest.raises(Transient) as caught:
        api_for(origin.url).submit(upload)
    assert caught.value.code == "not_the_service"
    assert upload.is_finished


def test_threat_68_deeply_nested_json_is_no_crash() -> None:
    assert error_of(finding, answering(200, b'{"a":' * 150_000 + b"1" + b"}" * 150_000)).code == "not_the_service"


def test_threat_68_an_encoded_answer_was_not_asked_for() -> None:
    bomb = gzip.compress(bytes(3_000_000))
    error = error_of(finding, answering(200, bomb, "Content-Encoding: gzip"))
    assert error.code == "not_the_service"


@pytest.mark.parametrize("announced", [True, False])
def test_threat_68_an_answer_above_one_mebibyte_is_not_read(announced: bool) -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        length = "Content-Length: 400000000" if announced else "Connection: close"
        connection.send(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        while not connection.stop.is_set():
            connection.send(b" " * 65536)

    assert error_of(finding, Origin(handle)).code == "odd_answer"


def test_threat_68_a_bomb_of_headers_ends() -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\n")
        while not connection.stop.is_set():
            connection.send(b"X-Bomb: " + b"x" * 8192 + b"\r\n")

    assert error_of(finding, Origin(handle)).code == "not_the_service"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "connection_reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Len", "connection_reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "connection_reset"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not_the_service"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "not_the_service"),
    ],
)
def test_threat_47_an_answer_lost_after_the_body_is_in_doubt(answer: bytes, code: str) -> None:
    def handle(connection: Connection) -> None:
        connection.skip(int(connection.head().headers["content-length"]))
        connection.send(answer)

    upload = a_pair()
    with Origin(handle) as origin, pytest.raises(Transient) as caught:
        api_for(origin.url).submit(upload)
    assert caught.value.code == code
    assert upload.is_finished


def test_threat_68_a_refusal_whose_text_never_ends_is_still_a_refusal() -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 500\r\n\r\n{")
        connection.stop.wait(20)

    with Origin(handle) as origin, pytest.raises(Unauthorized):
        api_for(origin.url, None, Timeouts(api_s=0.4)).me()


@pytest.mark.parametrize("status", [412, 401, 503, 429])
def test_threat_55_retry_after_comes_with_every_error_that_waits(status: int) -> None:
    error = error_of(submitting, answering(status, b"{}", "Retry-After: 11"))
    assert getattr(error, "retry_after_s", None) == 11


# -- what must not leak ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 429, 500])
def test_no_key_and_no_query_in_errors_or_logs(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for call in (submitting, finding):
        error = error_of(call, answering(status, HTML, "Location: https://media.example/x?signature=abc"))
        told = "".join(traceback.format_exception(error)) + repr(error) + caplog.text
        assert "secret-key" not in told
        assert "signature" not in told


def test_an_unreadable_answer_is_not_quoted() -> None:
    def handle(connection: Connection) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 302 Found\r\nLocation: https://media.example/x?signature=abc\x00\r\n\r\n")
        connection.stop.wait(5)

    error = error_of(finding, Origin(handle))
    assert error.code == "not_the_service"
    assert "signature" not in "".join(traceback.format_exception(error))
