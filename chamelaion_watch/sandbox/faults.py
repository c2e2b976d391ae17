"""Faults to order: what they are, whom they hit and how often; pure, carried out by `answers` and `outputs`.

A fault is `{"on": endpoint, "kind": …, "count": 1, "after": 0, "reference_id": null, …}`. It skips `after` matches,
then hits `count` of them (-1: all). Its own times (`seconds`, `delay_s`) are the CLIENT's, never sped up: faults
are set against the client's time-outs.

A request meets at most one fault on its arrival (before every check; on `submit` the body is not read, unless
`read_body`), at most one in place of its answer, and on `submit` every fate that matches. What names a
`reference_id` or asks for `create` waits until the upload is read: only then is the reference known.

kind            on                    parameters and effect
status          any                   status, body, headers, content_type; the documented text if there is no body
html            any                   a login page with 200 (or `status`)
json            API                   `body`, any JSON value, with 200 (or `status`)
broken_json     API                   JSON that breaks off
deep_json       API                   `depth` (200,000) nested lists
huge            any                   a body of `megabytes` (300)
gzip_bomb       any                   the same, small on the wire
redirect        any                   `status` (307) to `location`
delay           any                   `seconds`, then as usual
stall           any                   no answer for `seconds` (3600), then closed; on media after `after_bytes`
reset_early     any                   RST; on submit before the body is read
reset_late      submit                the request is created, then RST
lost            any                   closed without an answer; on submit the request is created
lost_before     submit                everything is read, nothing created, closed without an answer
late            submit                closed without an answer; the request is created `delay_s` later
created_500     submit                the request is created, the answer is 500 (or `status`)
patch           API                   the usual answer, keys of `set` put in and those of `remove` taken out; in a list:
                                      in each item, but `data` and `pagination` in the answer itself
drip            any                   the usual answer, one byte every `every_s` (1)
lag             submit                fate: 404 and not in lists for `delay_s` after creation
fail            submit                fate: ends `failed` with `message`
never           submit                fate: never ends
forget          submit, get, list     fate, or for this answer only: unknown, not in the list
truncate        media                 Content-Length of all, half the data, RST
short           media                 half the data, with a Content-Length to match
cut_chunked     media                 chunked, no length, cut in the middle
cut_close       media                 no length at all, closed in the middle: looks whole
empty           media                 200 with no data
ignore_range    media                 200 with everything
wrong_range     media                 206 from byte 0, whatever was asked for
etag_change     media                 another ETag each time
slow            media                 `bytes_per_s` (65,536)
expired         media                 403 as of an expired link

On `submit`, every kind that answers in place of the service takes `"create": true`: the request is created first.
`status` there takes `"then"`, what happens to the rest of the body after an early answer: `drain` (default), `reset`,
or `stop` (nothing more is read, for `seconds`).
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

API = frozenset({"submit", "get", "list", "me", "health"})
MEDIA = frozenset({"media"})
SUBMIT = frozenset({"submit"})
ANY = API | MEDIA

KINDS: dict[str, frozenset[str]] = (
    dict.fromkeys(("status", "html", "huge", "gzip_bomb", "redirect", "delay", "stall"), ANY)
    | dict.fromkeys(("reset_early", "lost", "drip"), ANY)
    | dict.fromkeys(("json", "broken_json", "deep_json", "patch"), API)
    | dict.fromkeys(("reset_late", "lost_before", "late", "created_500", "lag", "fail", "never"), SUBMIT)
    | {"forget": frozenset({"submit", "get", "list"})}
    | dict.fromkeys(("truncate", "short", "cut_chunked", "cut_close", "empty", "ignore_range"), MEDIA)
    | dict.fromkeys(("wrong_range", "etag_change", "slow", "expired"), MEDIA)
)
FATES = frozenset({"lag", "fail", "never", "forget"})
CREATING = frozenset({"reset_late", "lost", "late", "created_500", "patch", "drip"})  # on submit
AFTER_BODY = CREATING | {"lost_before"}

_NUMBERS = ("seconds", "delay_s", "every_s", "bytes_per_s", "megabytes", "depth", "after_bytes", "status")


@dataclass(slots=True)
class Fault:
    """One order; `count` and `after` go down as it is carried out."""

    on: str
    kind: str
    count: int = 1
    after: int = 0
    reference_id: str | None = None
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """When it strikes a submission: on "arrival", in place of the "answer", or as its "fate"."""
        if self.on != "submit":
            return "arrival"
        if self.kind in FATES:
            return "fate"
        late = self.kind in AFTER_BODY or self.reference_id is not None or self.creates
        return "answer" if late else "arrival"

    @property
    def creates(self) -> bool:
        return self.on == "submit" and (self.kind in CREATING or bool(self.params.get("create")))

    def number(self, name: str, default: float) -> float:
        return float(self.params.get(name, default))

    def facts(self) -> dict[str, Any]:
        named = {"on": self.on, "kind": self.kind, "count": self.count, "after": self.after}
        return named | {"reference_id": self.reference_id} | self.params


class Faults:
    """The orders that are still open, oldest first."""

    def __init__(self) -> None:
        self._open: list[Fault] = []

    def add(self, orders: Collection[Mapping[str, Any]]) -> None:
        """Append all `orders`, or none: raises ValueError that names what is wrong."""
        self._open += [parsed(order) for order in orders]

    def clear(self) -> None:
        self._open.clear()

    def take(self, on: str, stage: str = "arrival", references: Container[str | None] = ()) -> Fault | None:
        """Return the fault that this match meets, counted down; the first in order wins."""
        for fault in list(self._open):
            if fault.on == on and fault.stage == stage and self._hits(fault, references):
                return fault
        return None

    def take_fates(self, references: Container[str | None]) -> list[Fault]:
        """Return every fate that meets this submission, counted down."""
        return [fault for fault in list(self._open) if fault.stage == "fate" and self._hits(fault, references)]

    def facts(self) -> list[dict[str, Any]]:
        return [fault.facts() for fault in self._open]

    def _hits(self, fault: Fault, references: Container[str | None]) -> bool:
        if fault.reference_id is not None and fault.reference_id not in references:
            return False
        if fault.after > 0:
            fault.after -= 1
            return False
        if fault.count > 0:
            fault.count -= 1
            if not fault.count:
                self._open.remove(fault)
        return True


def parsed(order: Mapping[str, Any]) -> Fault:
    """Return the order as a fault; raises ValueError."""
    if not isinstance(order, Mapping):
        raise ValueError(f"a fault is an object, not {order!r}")  # noqa: TRY004 -- one error for all bad orders
    on, kind = order.get("on"), order.get("kind")
    if kind not in KINDS:
        raise ValueError(f"unknown kind of fault {kind!r}; there are: {', '.join(sorted(KINDS))}")
    if on not in KINDS[kind]:
        raise ValueError(f"{kind} cannot happen on {on!r}, only on: {', '.join(sorted(KINDS[kind]))}")
    count, after, reference = order.get("count", 1), order.get("after", 0), order.get("reference_id")
    if type(count) is not int or type(after) is not int or count < -1 or count == 0 or after < 0:
        raise ValueError(f"count is -1 or at least 1 and after at least 0, not {count!r} and {after!r}")
    if reference is not None and not isinstance(reference, str):
        raise ValueError(f"reference_id is a text, not {reference!r}")
    named = {"on", "kind", "count", "after", "reference_id"}
    params = {name: value for name, value in order.items() if name not in named}
    _check_params(kind, params)
    return Fault(str(on), str(kind), count, after, reference, params)


def _check_params(kind: str, params: Mapping[str, Any]) -> None:
    for name in _NUMBERS:
        value = params.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ValueError(f"{name} is a number of at least 0, not {value!r}")
    if kind == "status" and "status" not in params:
        raise ValueError("a fault of kind status needs a status")
    if "status" in params and not 100 <= params["status"] <= 599:  # noqa: PLR2004 -- what HTTP can say
        raise ValueError(f"{params['status']!r} is no HTTP status")
    if kind == "redirect" and not isinstance(params.get("location"), str):
        raise ValueError("a redirect needs a location")
    if not isinstance(params.get("headers", {}), Mapping) or not isinstance(params.get("set", {}), Mapping):
        raise ValueError("headers and set are objects")  # noqa: TRY004 -- one error for all bad orders
    if params.get("then", "drain") not in {"drain", "reset", "stop"}:
        raise ValueError('then is "drain", "reset" or "stop"')
