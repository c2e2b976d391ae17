"""Whatever the service, a proxy or a media host answers: values of the declared types, or one of our errors."""

from __future__ import annotations

import hashlib
import math
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import example

from chamelaion_watch.core.errors import AccountProblem, NotFound, Rejected, Transient, WatchError
from chamelaion_watch.core.model import MediaInfo, Request
from chamelaion_watch.edges import probe
from chamelaion_watch.edges.answers import Answer, Page, page_of, refusal, request_of, submitted_id
from chamelaion_watch.edges.download import Downloader, Validators
from chamelaion_watch.edges.transport import Timeouts
from tests.fuzz import dice
from tests.fuzz.dice import Dice, briefly, campaign

ID = "3f0c9a52-0000-4000-8000-000000000001"
REFERENCE = "cw-abcdefghijklmnopqrstuvwxyz"
NOW = 1_800_000_000.0
SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
URL = "https://storage.example/outputs/a.mp4?sig=s3cret"
REQUEST = {
    "id": ID,
    "status": "completed",
    "created_at": "2026-11-22T10:00:00Z",
    "output_url": URL,
    "error_message": None,
    "reference_id": REFERENCE,
}
VALID: list[Any] = [
    {"status": "success", "request_id": ID},
    REQUEST,
    REQUEST | {"status": "failed", "error_message": "no face found"},
    {"data": [REQUEST, REQUEST | {"id": "b"}], "pagination": {"limit": 20, "offset": 0, "total": 2}},
    {"error": "rate limit exceeded"},
    {"error": f"cannot read {URL}"},
    REQUEST | {"status": "failed", "error_message": f"no video at {URL}, {URL!r}"},
    {"error": {"message": "internal error", "code": 5}},
]
STATUSES = [
    200,
    201,
    204,
    206,
    299,
    301,
    307,
    400,
    401,
    402,
    403,
    404,
    408,
    409,
    412,
    413,
    422,
    425,
    429,
    500,
    503,
    599,
    100,
    999,
]
WAITS = [
    *("0", "30", "-5", " 1.5 ", "nan", "inf", "1e9", "9" * 400, "9" * 401, "\u0663", "soon", "", "0x10", "1,2", "\udcff"),
    *("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2099 07:28:00 -0000", "Mon, 01 Jan 0001 00:00:00 +2359"),
    *("Fri, 31 Dec 9999 23:59:59 -2359", "Sat, 29 Feb 2027 12:00:00 GMT", "1 Jan 70 00:00 +999999", "Wed, 99 Foo 2026 99:99:99 GMT"),
    *("1 Jan 99999 00:00:00 GMT", ",", ", ,", "\0", "Jan", "1-Jan-2026 1:1:1", "1 1 1 1 1", "0 Jan 2026 0:0:0 -", "()"),
]  # fmt: skip

QUERY = re.compile(r"\?\w*=")  # of whatever it was a part: it may sign


# -- the API ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """An answer, and how it was asked for."""

    answer: Answer
    asked: str
    is_submission: bool
    is_lookup: bool


def said(chosen: Dice) -> Said:
    body = dice.mutated(chosen, chosen.pick(VALID)) if chosen.often(8) else dice.value(chosen)
    headers = {name: wait(chosen) for name in ("retry-after", "retry-after-ms", "date") if chosen.often(3)}
    status = chosen.pick(STATUSES) if chosen.often(6) else 200
    return Said(
        Answer(status, headers, dice.as_bytes(chosen, body)),
        chosen.pick([ID, REFERENCE, "b"]),
        chosen.often(5),
        chosen.often(5),
    )


def wait(chosen: Dice) -> str:
    text = chosen.pick(WAITS)
    if chosen.often(2):
        tokens = [*text.split(" "), *chosen.pick(WAITS).split(" ")]
        return " ".join(chosen.pick(tokens) for _ in range(chosen.below(8)))
    return text if chosen.often(7) else dice.text(chosen)


@campaign(said, size=72)
@example(thrown=Said(Answer(200, {}, b'{"id": "' + ID.encode() + b'", "status": "\\ud800"}'), ID, False, False))
def test_an_answer_is_a_value_that_can_be_kept_or_an_error_of_ours(thrown: Said) -> None:
    answer = thrown.answer
    readers: list[Callable[[dict[str, Any]], Any]] = [
        submitted_id,
        lambda body: request_of(body, thrown.asked),
        lambda body: page_of(body, limit=20, offset=0),
        lambda body: body.get("status") == "ok",
    ]
    with briefly():
        for reader in readers:
            try:
                assert_can_be_kept(reader(answer.object()), thrown.asked)
            except Transient as error:
                assert_is_told_well(error)
        refused = refusal(answer, now=NOW, is_submission=thrown.is_submission, is_lookup=thrown.is_lookup)
    assert_is_told_well(refused)
    assert_is_the_right_reaction(refused, thrown)


def assert_can_be_kept(found: Any, asked: str) -> None:
    match found:
        case str():
            assert SAFE_ID.fullmatch(found)
        case Request():
            assert asked in (found.id, found.reference_id)
            assert_is_request(found)
        case Page():
            for request in found.requests:
                assert_is_request(request)
            assert all(type(number) is int and number >= 0 for number in (found.limit, found.offset, found.total))
            assert found.limit > 0
        case _:
            assert isinstance(found, bool)


def assert_is_request(request: Request) -> None:
    assert SAFE_ID.fullmatch(request.id)
    assert request.reference_id is None or SAFE_ID.fullmatch(request.reference_id)
    for text in (request.status, request.error_message or ""):
        assert_is_storable_line(text)
        assert "?sig=s3cret" not in text
    assert not QUERY.search(request.error_message or "")
    assert request.output_url is None or 0 < len(request.output_url) <= 16_384
    assert "output_url" not in repr(request)


def assert_is_told_well(error: WatchError) -> None:
    assert_is_storable_line(error.message)
    assert error.message
    assert re.fullmatch(r"[a-z_]+", error.code)
    wait_s = getattr(error, "retry_after_s", None)
    assert wait_s is None or (math.isfinite(wait_s) and 0 <= wait_s <= 3600)
    assert not QUERY.search(error.message)


def assert_is_storable_line(text: str) -> None:
    assert dice.is_visible(text), text
    assert len(text) <= 600
    assert DB.execute("SELECT ?", (text,)).fetchone() == (text,)


DB = sqlite3.connect(":memory:")


def assert_is_the_right_reaction(error: WatchError, thrown: Said) -> None:
    """What costs money or stops everybody follows from the status, and only the service's own words reject a pair."""
    status = thrown.answer.status
    assert isinstance(error, AccountProblem) == (status in (401, 402, 403, 412, 429))
    if isinstance(error, Rejected):
        assert thrown.is_submission
        assert 400 <= status < 500
    if isinstance(error, NotFound):
        assert status == 404
        assert thrown.is_lookup
        assert b"error" in thrown.answer.content or b"\0" in thrown.answer.content


# -- the media host -----------------------------------------------------------------------------------


class Memory:
    """A sink in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> object:
        self.data += data
        return None

    def restart(self) -> None:
        self.data.clear()


class Scripted(httpx.BaseTransport):
    """A host that answers from a list, then 404; it keeps what it was asked."""

    def __init__(self, answers: list[httpx.Response]) -> None:
        self._answers = answers
        self.asked: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self._answers.pop(0) if self._answers else httpx.Response(404)


class Pieces(httpx.SyncByteStream):
    """A body that may break off as the edge reports it."""

    def __init__(self, pieces: list[bytes], is_broken: bool) -> None:
        self._pieces = pieces
        self._is_broken = is_broken

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._is_broken:
            raise Transient("the connection was reset", code="connection_reset")


@dataclass(frozen=True)
class Hosted:
    """A link, what lies in the sink, what is known of it, and the answers of the host."""

    url: str
    there: bytes
    known: Validators | None
    max_bytes: int | None
    answers: tuple[tuple[int, Mapping[str, str], tuple[bytes, ...], bool], ...]


FILE = b"\0\0\0\x18ftypmp42" + bytes(range(88))  # 100 bytes
OTHER = b"\0\0\0\x18ftypisom" + bytes(range(88, 0, -1))
TAGS = ['"v1"', '"v2"', 'W/"v1"', '""', "v1", '"' + "x" * 400 + '"', ""]
LINKS = [
    *(URL, "http://storage.example/a", "https://[::1", "https://u:p@h/", "file:///etc/passwd", "//h/a", "/b", "?x", "", "a b"),
    *("ftp://h/", "https://", "https:///a", "javascript:1", "https://h:99999/", "https://h:x/", "https://\udcff/", "https://é.example/"),
    *("https://xn--a/", "https://a..b/", "https://" + "a" * 70 + ".example/", "https://h/\0", "https://h/\n", "\x1b[2J", "https://%00/"),
]  # fmt: skip


def hosted(chosen: Dice) -> Hosted:
    tag = chosen.pick([*TAGS[:2], None])
    there = version(tag)[: chosen.pick([0, 0, 30, 60, 100, 1])]
    known = Validators(tag, chosen.pick([100, None, 50, 0])) if chosen.often(7) else None
    answers = tuple(hosted_answer(chosen, len(there)) for _ in range(1 + chosen.below(5)))
    url = URL if chosen.often(7) else chosen.pick(LINKS) if chosen.often(7) else dice.text(chosen)
    return Hosted(url, there, known, chosen.pick([None, None, 100, 99]), answers)


def version(tag: str | None) -> bytes:
    """What a strong tag stands for; the host may lie about all else."""
    return OTHER if tag == '"v2"' else FILE


def hosted_answer(chosen: Dice, at: int) -> tuple[int, Mapping[str, str], tuple[bytes, ...], bool]:
    status = chosen.pick([200, 206, 206, 302, 416, 403, 500, 304, 204])
    start = chosen.pick([at, at, at, 0, 50, 100])
    tag = chosen.pick(TAGS[:3]) if chosen.often(8) else chosen.pick(TAGS)
    whole = version(tag)
    data = whole[start:] if status == 206 else chosen.pick([whole, whole, whole, b"<html>", b""])
    headers = {"etag": tag}
    if chosen.often(8):
        headers["content-length"] = str(len(data))
    if chosen.often(2):
        headers["transfer-encoding"] = "chunked"
    if status == 206 and chosen.often(9):
        odd = ["", "bytes */100", "bytes 60-50/100", "items 0-1/2", "bytes 1-2", "bytes 30-99/" + "9" * 30]
        total = chosen.pick(["100", "100", "*"])
        headers["content-range"] = f"bytes {start}-99/{total}" if chosen.often(8) else chosen.pick(odd)
    if status == 302:
        headers["location"] = chosen.pick(LINKS).encode("ascii", "replace").decode().translate({0: "", 10: "", 27: ""})
    cut = chosen.pick([len(data), len(data), 5, 40])
    return status, headers, (data[:cut], data[cut:] if chosen.often(8) else b""), chosen.often(1)


@campaign(hosted, size=56)
def test_a_download_is_exactly_one_file_or_an_error_of_ours(thrown: Hosted) -> None:
    responses = [httpx.Response(s, headers=dict(h), stream=Pieces(list(p), b)) for s, h, p, b in thrown.answers]
    host, sink = Scripted(responses), Memory(thrown.there)
    downloader = Downloader(host, False, Timeouts(), "agent", lambda: NOW)
    try:
        with briefly():
            found = downloader.fetch(
                thrown.url,
                sink,
                known=thrown.known,
                max_bytes=thrown.max_bytes,
                on_progress=lambda _done, _total: None,
                on_start=lambda _known: None,
            )
    except WatchError as error:
        assert_is_told_well(error)
    else:
        assert found.bytes == sink.size
        assert found.total in (None, sink.size)
        assert found.sha256 in (None, hashlib.sha256(sink.data).hexdigest())
        assert thrown.max_bytes is None or sink.size <= max(thrown.max_bytes, len(thrown.there))
        assert any(whole.startswith(sink.data) for whole in (FILE, OTHER)), "never bytes of two versions"
    for request in host.asked:
        assert request.url.scheme == "https"
        assert not request.url.userinfo
        assert not {"authorization", "cookie", "x-api-key"} & set(request.headers)


# -- the child that looks at media ---------------------------------------------------------------------


ODD: list[Any] = [-1, 1e308, float("nan"), True, "1", [], {}, {"a": "\0"}, "\ud800\x1b\n" * 500, 10**400, None]


@pytest.mark.parametrize("name", ["duration_s", "detail", "error", "has_picture", "has_sound", "read_error", None])
@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_what_a_child_says_of_a_file_is_checked(name: str | None, odd: Any) -> None:
    """A number that is no float was an OverflowError, and so a defect of the daemon."""
    said = odd if name is None else {name: odd}
    try:
        info = probe._media_info(said)
    except (ValueError, TypeError, Transient):
        return
    assert isinstance(info, MediaInfo)
    assert info.duration_s is None or (math.isfinite(info.duration_s) and info.duration_s >= 0)
    assert {type(info.has_picture), type(info.has_sound)} == {bool}
    for text in (info.detail, info.error or ""):
        assert_is_storable_line(text)
