"""Reads the service's answers: tolerant of what it adds or leaves out, strict about ids, blind to web pages.

Part of the HTTP edge; pure. It decides which error of core/errors.py an answer is, and trusts no word in it: texts
are made printable and short, ids must look like ids, and only JSON counts as the service speaking.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
from chamelaion_watch.core.text import printable

MAX_WAIT_S = 3600.0  # a longer Retry-After counts as this
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_NUMBER = re.compile(r"[+-]?\d{1,400}(\.\d{1,20})?", re.ASCII)
_MAX_STATUS_CHARS = 64
# Of a link, and of one that was broken by a space or quote in its middle (found by tests/fuzz): it signs all the same.
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}://[^\s?'\"<>]*)\?[^\s'\"<>]*|\?[^\s'\"<>=]*=[^\s'\"<>]*", re.IGNORECASE)
_MAX_TOLD_CHARS = 2_000
_MAX_URL_CHARS = 16 * 1024
_SERVER_ERRORS = frozenset({408, 409, 425})  # and all from 500 on
_REFUSALS = frozenset({413, 415, 422})  # of these files, whoever says so: a proxy has its own limits
_CONTRADICTION = object()
_MAX_TOOK_MS = 7 * 86_400_000

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `content` is empty where it was cut, encoded or too long."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def object(self) -> JsonObject:
        """The JSON object that a 2xx must be. Raises Transient `not_the_service`."""
        found = _json(self.content)
        if not isinstance(found, dict):
            raise Transient(
                "the answer is not the service's: a captive portal, a proxy, or another api.base_url?",
                code="not_the_service",
                http_status=self.status,
            )
        return found


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list of requests; a `total` that the service does not tell is the least that explains it."""

    requests: tuple[Request, ...]
    limit: int
    offset: int
    total: int


def is_id(text: object) -> bool:
    """Whether this can be an id or a reference: nothing else may go into a path or the ledger."""
    return isinstance(text, str) and bool(_ID.fullmatch(text))


def submitted_id(body: JsonObject) -> str:
    """The id of a new request. Raises Transient `odd_answer`."""
    found = body.get("request_id")
    if not isinstance(found, str) or not is_id(found):
        raise Transient("the service took the files but gave no usable request id", code="odd_answer")
    return found


def request_of(body: JsonObject, asked: str) -> Request:
    """The request that was asked for by id or reference.

    An answer that carries another id and not our reference is another job's: Transient `odd_answer`.
    """
    request = _request(body, asked if body.get("id") is None else None)
    if request is None:
        raise Transient("the service answers with an unusable request id", code="odd_answer")
    if asked not in (request.id, request.reference_id):
        raise Transient("the service answers with another request than the one asked for", code="odd_answer")
    return request


def page_of(body: JsonObject, *, limit: int, offset: int) -> Page:
    """A page of the list; items without a usable id are left out. Raises Transient `odd_answer` without a list."""
    data = body.get("data")
    if not isinstance(data, list):
        raise Transient("the service answers with no list of requests", code="odd_answer")
    found = (_request(item) for item in data if isinstance(item, dict))
    pagination = body.get("pagination")
    told = pagination if isinstance(pagination, dict) else {}
    shown_limit = _count(told.get("limit"), limit) or limit
    least = offset + len(data) + (len(data) >= shown_limit)
    return Page(
        requests=tuple(request for request in found if request is not None),
        limit=shown_limit,
        offset=_count(told.get("offset"), offset),
        total=_count(told.get("total"), least),
    )


def refusal(answer: Answer, *, now: float, is_submission: bool = False, is_lookup: bool = False) -> WatchError:
    """Which error an answer that is no 2xx stands for; `now` is the wall clock in seconds.

    Only a submission can be rejected: a 400 for a poll is nothing that a paid job should die of. And only the
    service's own JSON can say that it does not know a request (which may lead to a second payment), or that it
    rejects one: a web page from something in between cannot, unless these files are too much for it (`_REFUSALS`).
    """
    status, text = answer.status, _error_text(answer)
    asked = asked_wait_s(answer.headers, now)
    wait_s, more = capped_s(asked), _explained(text, asked)
    if status == 429:  # noqa: PLR2004
        return Throttled(f"the service says too many requests{more}", http_status=status, retry_after_s=wait_s)
    if status in (402, 412):
        return QuotaExhausted(f"the token balance is used up{more}", http_status=status, retry_after_s=wait_s)
    if status in (401, 403):
        message = f"the service does not accept the API key{more}"
        return Unauthorized(message, http_status=status, retry_after_s=wait_s)
    if 300 <= status < 400:  # noqa: PLR2004
        message = f"the service answers with a redirect ({status}), which is not followed: check api.base_url"
        return Transient(message, code="redirect", http_status=status)
    if status >= 500 or status in _SERVER_ERRORS:  # noqa: PLR2004
        message = f"the service has a problem ({status}){more}"
        return Transient(message, code="server_error", http_status=status, retry_after_s=wait_s)
    if status == 404 and is_lookup and text:  # noqa: PLR2004
        return NotFound(text, http_status=status)
    if is_submission and status >= 400 and (text or status in _REFUSALS):  # noqa: PLR2004
        return Rejected(text or f"the service refuses these files ({status})", http_status=status)
    message = f"unexpected answer {status} from what should be the service: check api.base_url{more}"
    return Transient(message, code="odd_answer" if text else "not_the_service", http_status=status)


def asked_wait_s(headers: Mapping[str, str], now: float) -> float | None:
    """What `retry-after-ms` or `Retry-After` asks for, in seconds from now, never negative; None for nothing usable."""
    millis = _number(headers.get("retry-after-ms"))
    if millis is not None:
        return max(0.0, millis / 1000)
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is None and (until := _instant(text)) is not None:
        seconds = until - (_instant(headers.get("date")) or now)  # by the server's clock where it tells it
    return None if seconds is None else max(0.0, seconds)


def capped_s(wait_s: float | None) -> float | None:
    """An hour at most: a wait that a broken server names must not stop everybody for a day."""
    return None if wait_s is None else min(wait_s, MAX_WAIT_S)


def _explained(text: str, asked_s: float | None) -> str:
    explained = f": {text}" if text else ""
    if asked_s is not None and asked_s > MAX_WAIT_S:
        explained += f" (it asks to wait {min(asked_s, 1e12):.0f} s, which counts as {MAX_WAIT_S:.0f} s)"
    return explained


def _request(body: JsonObject, default_id: str | None = None) -> Request | None:
    found = default_id or body.get("id")
    if not isinstance(found, str) or not is_id(found):
        return None
    status, error, url, reference = (
        body.get(name) for name in ("status", "error_message", "output_url", "reference_id")
    )
    return Request(
        id=found,
        status=printable(status, _MAX_STATUS_CHARS) if isinstance(status, str) else "",
        reference_id=reference if isinstance(reference, str) and is_id(reference) else None,
        output_url=url if isinstance(url, str) and 0 < len(url) <= _MAX_URL_CHARS else None,
        error_message=_told(error) if isinstance(error, str) and error else None,
        took_ms=_took_ms(body.get("created_at"), body.get("finished_at")),
    )


def _took_ms(created: object, finished: object) -> int | None:
    """Milliseconds between two of the service's instants; None where it does not tell both, or tells nonsense."""
    try:
        began, ended = (dt.datetime.fromisoformat(text) for text in (created, finished) if isinstance(text, str))
        took_ms = round((ended - began).total_seconds() * 1000)
    except (ValueError, TypeError, OverflowError):
        return None
    return took_ms if 0 <= took_ms <= _MAX_TOOK_MS else None


def _error_text(answer: Answer) -> str:
    body = _json(answer.content)
    found = body.get("error") if isinstance(body, dict) else None
    if isinstance(found, dict):
        found = found.get("message")
    return _told(found) if isinstance(found, str) else ""


def _told(text: str) -> str:
    """What the service says, for notes and the ledger: one visible line, without the queries of links, as they sign."""
    return printable(_QUERY.sub(lambda link: f"{link[1] or ''}?***", text[:_MAX_TOLD_CHARS]))


def _json(content: bytes) -> object:
    try:
        return json.loads(content, object_pairs_hook=_unambiguous)
    except (ValueError, RecursionError):  # ValueError also covers bad UTF-8 and numbers of thousands of digits
        return None


def _unambiguous(pairs: list[tuple[str, Any]]) -> JsonObject:
    """An object; a key that stands there twice with different values has none that anybody could use."""
    found: JsonObject = {}
    for name, value in pairs:
        found[name] = value if name not in found or found[name] == value else _CONTRADICTION
    return found


def _count(found: object, default: int) -> int:
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else default


def _number(text: str | None) -> float | None:
    return float(text.strip()) if text and _NUMBER.fullmatch(text.strip()) else None


def _instant(text: str | None) -> float | None:
    try:
        if not text:
            return None
        found = email.utils.parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp()  # a date of HTTP is always GMT
    except (ValueError, TypeError, OverflowError):
        return None
