"""What polls have told, against a client that says how often it was asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from chamelaion_watch.core.model import Request
from chamelaion_watch.links import TOLD_LASTS_MS, Links


@dataclass
class Service:
    """Answers as a finished request, and remembers the questions."""

    asked: list[str] = field(default_factory=list)

    def find(self, handle: str) -> Request:
        self.asked.append(handle)
        return Request(handle, "completed", output_url="https://media.example/asked")


@dataclass
class Clock:
    at: int = 0

    def now(self) -> int:
        return self.at

    def chance(self) -> float:
        return 0.5


def told(handle: str, status: str = "completed", link: str | None = "https://media.example/told") -> Request:
    return Request(handle, status, output_url=link)


def test_a_link_that_was_told_just_now_is_not_asked_for_again_and_is_good_for_one_try() -> None:
    """Each finished job took a call of its own, beside those of all polls."""
    service = Service()
    links = Links(service.find, Clock())
    links.tell([told("a"), told("b"), None])
    assert links.find("a").output_url == "https://media.example/told"
    assert service.asked == []
    assert links.find("a").output_url == "https://media.example/asked"  # it may have been refused
    assert service.asked == ["a"]


def test_what_is_old_unfinished_or_without_a_link_is_asked_for() -> None:
    service, clock = Service(), Clock()
    links = Links(service.find, clock)
    links.tell([told("old")])
    clock.at = TOLD_LASTS_MS
    links.tell([told("running", status="processing"), told("bare", link=None), told("empty", link=""), told("new")])
    for handle in ("old", "running", "bare", "empty", "new"):
        links.find(handle)
    assert service.asked == ["old", "running", "bare", "empty"]


def test_the_newest_word_counts_and_old_ones_are_forgotten() -> None:
    service, clock = Service(), Clock()
    links = Links(service.find, clock)
    links.tell([told("a", link="https://media.example/first")])
    clock.at = TOLD_LASTS_MS - 1
    links.tell([told("a", link="https://media.example/second")])
    clock.at = TOLD_LASTS_MS
    links.tell([told("b")])
    assert links.find("a").output_url == "https://media.example/second"
    clock.at = 3 * TOLD_LASTS_MS
    links.tell([])
    assert not links._told
