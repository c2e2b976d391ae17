"""The Chamelaion service over REST: the daemon's only HTTP client.

The HTTP edge is these files: `api` the calls, `answers` what they mean, `multipart` the upload's body, `download` the
results, `transport` the connections, `stream` their sockets, `addresses` where they may lead. httpx and httpcore are
imported nowhere else.
It goes without `httpx.Client`: redirects, cookies, netrc and a log of signed URLs are what must not happen here.
It retries nothing but a broken download; when to call again is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping

import httpx

from chamelaion_watch.core.errors import ConfigError, Transient, Unauthorized
from chamelaion_watch.core.model import Request
from chamelaion_watch.core.text import printable
from chamelaion_watch.edges.addresses import has_private_address, is_public
from chamelaion_watch.edges.answers import Answer, JsonObject, Page, is_id, page_of, refusal, request_of, submitted_id
from chamelaion_watch.edges.download import Downloader, Fetched, Sink, Validators
from chamelaion_watch.edges.multipart import Body, Upload
from chamelaion_watch.edges.stream import Deadline
from chamelaion_watch.edges.transport import Timeouts, Transport

__all__ = ["Api", "Fetched", "Page", "Sink", "Timeouts", "Upload", "Validators"]

_MAX_ANSWER_BYTES = 1024 * 1024
_REFUSAL_TEXT_S = 0.8  # for the body of a refusal that came early: its status is all that counts
_KEY = re.compile(r"[!-~]+")
_SHORTEST_SECRET = 8  # hiding less would garble answers
_DEFAULT_TIMEOUTS = Timeouts()


def _ignore_progress(_done: int, _total: int | None) -> None:
    return


def _ignore_answer(_method: str, _path: str, _status: int, _took_s: float) -> None:
    return


def _ignore_start(_validators: Validators) -> None:
    return


class Api:
    """Calls to the service, each from any thread; `key` is asked at every call, so it may be read anew.

    Every method may raise Unreachable (nothing was sent), Unauthorized, QuotaExhausted, Throttled, and Transient with
    the codes connection_reset, timed_out, stalled, server_error, redirect, not_the_service, odd_answer.
    No message holds the key or a URL's query. Raises ConfigError if `base_url` or `ca_file` cannot be used.
    `proxies` as `urllib.request.getproxies_environment` gives them, None for just that; `now` is the wall clock.
    `on_answer(method, path, status, seconds)` hears of each answer; its path has no query.
    """

    def __init__(
        self,
        *,
        base_url: str,
        key: Callable[[], str],
        ca_file: str | None = None,
        timeouts: Timeouts = _DEFAULT_TIMEOUTS,
        user_agent: str = "chamelaion-watch",
        proxies: Mapping[str, str] | None = None,
        now: Callable[[], float] = time.time,
        on_answer: Callable[[str, str, int, float], None] = _ignore_answer,
    ) -> None:
        # httpcore's debug lines hold response headers, and with them the signed URL of a redirect
        logging.getLogger("httpcore").setLevel(logging.INFO)
        self._base = _base(base_url)
        self._key = key
        self._timeouts = timeouts
        self._user_agent = user_agent
        self._now = now
        self._on_answer = on_answer
        context = functools.cache(lambda: _tls_context(ca_file))  # 0.1 s of reading authorities: not for plain http
        if ca_file or self._base.scheme == "https":
            context()
        proxies = urllib.request.getproxies_environment() if proxies is None else proxies
        self._service = Transport(context, proxies=proxies)
        self._media = Transport(context, proxies=proxies, is_allowed=self._may_fetch_from)
        self._downloader = Downloader(self._media, self._base.scheme == "http", timeouts, user_agent, now)

    def health(self) -> None:
        """Return if the service says that it is well; needs no key."""
        if self._get("/health", needs_key=False).get("status") != "ok":
            raise Transient("the service says that it is not well: it will be asked again", code="odd_answer")

    def me(self) -> str:
        """The name of the token that the key belongs to."""
        name = self._get("/v1/users/me").get("name")
        return printable(name) if isinstance(name, str) else ""

    def submit(self, upload: Upload) -> str:
        """Send one pair and return the request's id.

        As long as `upload.is_finished` is False after an error, the service cannot have the whole request. Raises
        Rejected if the service refuses the pair, InputProblem if a file is not as announced, and whatever
        `may_finish` or `on_progress` raise, unchanged, after the socket was closed.
        """
        deadline = Deadline()
        body = Body(upload, on_sent=lambda: deadline.within(self._timeouts.answer_s))
        headers = {"Content-Type": body.content_type, "Content-Length": str(body.size)}
        request = self._request("POST", "/v1/lipsync/generate-with-media", deadline, headers=headers, stream=body)
        answer = self._exchange(request, deadline, is_early=lambda: not upload.is_finished)
        return submitted_id(self._accepted(answer, is_submission=True))

    def find(self, id_or_reference: str) -> Request:
        """The request with this id or reference. Raises NotFound only if the service itself says so."""
        if not is_id(id_or_reference):
            raise ValueError("not an id or a reference of a request")
        path = f"/v1/lipsync/requests/{urllib.parse.quote(id_or_reference, safe='')}"
        return request_of(self._get(path, is_lookup=True), id_or_reference)

    def recent(self, *, limit: int, offset: int = 0) -> Page:
        """One page of the account's requests, in the service's order."""
        body = self._get(f"/v1/lipsync/requests?limit={limit:d}&offset={offset:d}")
        return page_of(body, limit=limit, offset=offset)

    def fetch(
        self,
        url: str,
        sink: Sink,
        *,
        known: Validators | None = None,
        max_bytes: int | None = None,
        on_progress: Callable[[int, int | None], None] = _ignore_progress,
        on_start: Callable[[Validators], None] = _ignore_start,
    ) -> Fetched:
        """Download a result into `sink`, going on where it ends if `known` has the strong ETag of what is there.

        `on_start` hands out what `known` must be next time; `on_progress(done, total)` may raise to stop. Raises
        Rejected `output_url_refused` or `output_too_large`, LinkExpired, and Transient with the codes
        connection_reset, timed_out, cut, no_length, not_a_video, not_the_service, media_host, redirect and, where the
        media host cannot be reached, dns, refused, no_answer, tls, proxy, unreachable. What `sink` raises passes on.
        """
        return self._downloader.fetch(
            url, sink, known=known, max_bytes=max_bytes, on_progress=on_progress, on_start=on_start
        )

    def close(self) -> None:
        """End all connections, also those that other threads are using."""
        self._service.close()
        self._media.close()

    def _get(self, path: str, *, needs_key: bool = True, is_lookup: bool = False) -> JsonObject:
        deadline = Deadline(self._timeouts.api_s)
        request = self._request("GET", path, deadline, needs_key=needs_key)
        return self._accepted(self._exchange(request, deadline), is_lookup=is_lookup)

    def _request(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        headers: Mapping[str, str] | None = None,
        stream: Body | None = None,
        needs_key: bool = True,
    ) -> httpx.Request:
        times = self._timeouts
        read_s = times.answer_s if stream else times.progress_s
        own = {
            "Host": self._base.netloc.decode("ascii"),
            "User-Agent": self._user_agent,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        if needs_key:
            own["Authorization"] = f"Bearer {self._checked_key()}"
        return httpx.Request(
            method,
            f"{self._base}{path}",
            headers=own | dict(headers or {}),
            stream=stream,
            extensions={
                "timeout": {"connect": times.connect_s, "read": read_s, "write": times.progress_s},
                "deadline": deadline,
            },
        )

    def _checked_key(self) -> str:
        """The key, if it can stand in a header: h11's own complaint would show it."""
        key = self._key()
        if not _KEY.fullmatch(key):
            what = "holds characters that no key has" if key else "is empty"
            raise Unauthorized(f"the API key {what}: set it again, as the web app shows it")
        return key

    def _exchange(
        self, request: httpx.Request, deadline: Deadline, *, is_early: Callable[[], bool] = lambda: False
    ) -> Answer:
        began = time.monotonic()
        with contextlib.closing(self._service.handle_request(request)) as response:
            self._on_answer(request.method, request.url.path, response.status_code, time.monotonic() - began)
            if response.is_success:
                content = _read(response)
            else:
                if is_early():
                    deadline.within(_REFUSAL_TEXT_S)
                content = _read_if_it_comes(response)
            return Answer(response.status_code, response.headers, _without_key(content, request))

    def _accepted(self, answer: Answer, *, is_submission: bool = False, is_lookup: bool = False) -> JsonObject:
        if httpx.codes.is_success(answer.status):
            return answer.object()
        raise refusal(answer, now=self._now(), is_submission=is_submission, is_lookup=is_lookup)

    def _may_fetch_from(self, address: str) -> bool:
        """Results on this machine or in a private network are fetched only if the service itself lies there."""
        return is_public(address) or has_private_address(self._base.host)


def _read(response: httpx.Response) -> bytes:
    """The body; empty if encoded, which was not asked for. Raises Transient `odd_answer` above the limit."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        return b""
    content = bytearray()
    for chunk in response.iter_raw():
        content += chunk
        if len(content) > _MAX_ANSWER_BYTES:
            raise Transient(f"the answer is larger than {_MAX_ANSWER_BYTES} bytes", code="odd_answer")
    return bytes(content)


def _read_if_it_comes(response: httpx.Response) -> bytes:
    """The text of a refusal: if it breaks off or never ends, the status alone says enough."""
    try:
        return _read(response)
    except Transient:
        return b""


def _without_key(content: bytes, request: httpx.Request) -> bytes:
    """An answer may repeat the key, as in "invalid token …", and what it says goes to notes and the ledger."""
    key = request.headers.get("authorization", "").removeprefix("Bearer ")
    for form in {key, json.dumps(key)[1:-1], key.replace("/", "\\/")}:
        content = content.replace(form.encode(), b"***") if len(form) >= _SHORTEST_SECRET else content
    return content


def _base(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text.rstrip("/"))
        host = url.host  # decoded here, which may fail
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError([f"api.base_url: not an address: {printable(text)}"]) from error
    if url.scheme not in ("http", "https") or not host or url.userinfo or url.query or url.fragment:
        raise ConfigError(["api.base_url: must be https://HOST/PATH, without user name, query or fragment"])
    return url


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    try:
        context = httpx.create_ssl_context()
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            [f"SSL_CERT_FILE or SSL_CERT_DIR: cannot be used ({reason}): correct it or unset it"]
        ) from error
    if ca_file is None:
        return context
    try:
        context.load_verify_locations(cafile=ca_file)
    except OSError as error:
        raise ConfigError([f"api.ca_file: {ca_file}: no readable PEM certificates ({error.strerror})"]) from error
    return context
