"""What the service puts on the wire, right or wrong, read by the real `edges.answers`: no error is made up here.

Every function takes the life's stream of random numbers for wire faults; nothing here knows of requests or money.
"""

from __future__ import annotations

import json
import random
from email.utils import formatdate
from typing import Any

from chamelaion_watch.core.errors import LinkExpired, Rejected, Transient, WatchError
from chamelaion_watch.edges.answers import Answer, JsonObject, refusal

ODD_HEADS = (301, 302, 307, 403, 404, 408, 409, 418, 425, 500, 502, 503, 504)
# After the last piece: those that say that nothing was taken, and those that leave it open.
CLEAR_ENDS = (400, 401, 412, 413, 415, 422, 429)
UNCLEAR_ENDS = (302, 307, 408, 409, 425, 500, 502, 503, 504)
PAGES = (b"", b"<html>captive portal</html>", b"[]", b'{"request_id": "../../x"}', b'{"request_id": 7}', b"[" * 5000)
BAD_PAIR = (400, 413, 415, 422)
ABSURD_WAITS = ("0", "-30", "soon", "7200", "99999999999", "0.001", "")
TEXTS = {
    400: "audio file is required",
    401: "unauthorized",
    412: "token limit reached",
    429: "rate limit exceeded",
    404: "lipsync request not found",
}
EARLIER = ("queued", "processing")


def refused(
    status: int,
    now_s: float,
    *,
    wait: str | None = None,
    text: str | None = None,
    is_submission: bool = False,
    is_lookup: bool = False,
) -> WatchError:
    """The error that the edge makes of a refusal; `wait` is the Retry-After, `text` None the documented words."""
    words = TEXTS.get(status, f"simulated {status}") if text is None else text
    content = json.dumps({"error": words}).encode() if words else b"<html>simulated</html>"
    answer = Answer(status, {} if wait is None else {"retry-after": wait}, content)
    return refusal(answer, now=now_s, is_submission=is_submission, is_lookup=is_lookup)


def plainly(wait_s: float) -> str:
    """A Retry-After with the fraction that real servers leave out."""
    return f"{wait_s:.9f}"


def absurdly(rng: random.Random, now_s: float) -> str:
    """A Retry-After as nobody should send it."""
    return rng.choice([*ABSURD_WAITS, formatdate(now_s + rng.choice([-90, 25, 90_000]), usegmt=True)])


def page(rng: random.Random) -> Answer:
    """A 200 that names no request."""
    return Answer(200, {}, rng.choice(PAGES))


def oddly_put(body: JsonObject, rng: random.Random) -> None:
    """A status that nobody documented, or none."""
    body["extra"] = {"nested": [1, 2, 3]}
    match rng.randrange(5):
        case 0:
            del body["status"]
        case 1:
            body["status"] = None
        case 2:
            body["status"] = 7
        case 3:
            body["status"] = "reticulating\x1b[2J splines" * 9
        case 4:
            body["status"] = "COMPLETED"


def without_url(body: JsonObject, rng: random.Random) -> None:
    if "output_url" in body:
        body["output_url"] = rng.choice(["", None, [], {"url": body["output_url"]}, 7])


def oddly_listed(body: dict[str, Any], rng: random.Random) -> None:
    """A list that misses some, tells nothing of its size, or is none."""
    match rng.randrange(4):
        case 0:
            body["data"] = [item for item in body["data"] if rng.random() < 0.5]
        case 1:
            del body["pagination"]
        case 2:
            body["data"] = {"0": body["data"]}
        case 3:
            body["data"] = [*body["data"], None, {"id": "../x"}, {"status": "completed"}]


def output_trouble(rng: random.Random) -> WatchError:
    """What `edges.download` raises for the answers of media hosts (its tests hold it to that)."""
    wait = rng.choice([None, 30.0, 3600.0])
    return rng.choice(
        [
            Transient("simulated: a web page", code="not_a_video"),
            Transient("simulated: no length", code="no_length"),
            Transient("simulated: no answer", code="timed_out"),
            Transient("simulated: no such host", code="dns"),
            Transient("simulated: the media host answers 503", code="media_host", http_status=503, retry_after_s=wait),
            Rejected("simulated: file:///etc/passwd", code="output_url_refused"),
        ]
    )


def expired() -> LinkExpired:
    return LinkExpired("simulated: the link answers 403", http_status=403)
