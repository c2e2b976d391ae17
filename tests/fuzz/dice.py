"""Choices made out of bytes: what a campaign throws, for a tenth of what composed strategies cost, and it still shrinks.

`campaign` makes a test of a builder that asks the dice. Whatever is left to choose when the bytes are used up is the
first choice, so that fewer and smaller bytes always mean less.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chamelaion_watch.core.naming import safe_component
from tests.support import commit_seed

EXAMPLES = 500 if commit_seed() is None else 5_000
LONGEST_S = 2.0  # of computing, for one example
MOST_S = 300  # of a whole campaign, which takes about ten on a machine of its own; a hang ends the run, or it would be shrunk
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)

T = TypeVar("T")
Test = Callable[..., None]


class Dice:
    """Choices out of bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, limit: int) -> int:
        """A number of 0 … limit - 1, at most 65,535."""
        return int.from_bytes(self._taken(1 if limit <= 256 else 2), "big") % limit

    def raw(self, length: int) -> bytes:
        """So many bytes; many are made out of two, for each that hypothesis draws costs 10 µs."""
        if length <= 4:
            return self._taken(length)
        return hashlib.shake_128(self._taken(2)).digest(length)

    def _taken(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at].ljust(count, b"\0")

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def often(self, of_ten: int) -> bool:
        """True for so many of ten."""
        return self.below(10) >= 10 - of_ten

    def some(self, most: int, make: Callable[[], T]) -> list[T]:
        """A list of at most so many."""
        return [make() for _ in range(self.below(most + 1))]


def campaign(build: Callable[[Dice], Any], *, size: int = 48) -> Callable[[Test], Test]:
    """Make a campaign of a test with one argument: what `build` chooses out of `size` bytes."""
    chosen = st.binary(min_size=size, max_size=size).map(lambda data: build(Dice(data)))
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

    def decorated(test: Test) -> Test:
        wanted = settings(max_examples=EXAMPLES, phases=PHASES, deadline=None, suppress_health_check=checks)
        made: Test = pytest.mark.timeout(MOST_S, method="thread")(wanted(given(thrown=chosen)(test)))
        return made

    return decorated


@contextlib.contextmanager
def briefly() -> Iterator[None]:
    """What is inside must not compute for long; waiting does not count, for machines are shared."""
    began = time.thread_time()
    yield
    took = time.thread_time() - began
    assert took < LONGEST_S, f"computed for {took:.1f} s"


def is_visible(line: str) -> bool:
    """No controls, nothing that turns the line's direction, no line ends, nothing without a form; joiners belong."""
    hidden = {"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"}
    return line.isprintable() or not any(
        unicodedata.category(char) in hidden and char not in "\u200c\u200d" for char in line
    )


# -- texts and names ----------------------------------------------------------------------------------

# Bytes that a file name may hold, and that somebody along the way may take for more than a letter.
PIECES = [
    *("a", "B", "scene01", "é", "e\u0301", "ß", "ﬁ", "İ", "日本", "😀", "👩‍👩‍👧", " ", ".", "..", "-", "_", "~", "x" * 90, "é" * 45),
    *("\n", "\r", "\t", "\x1b[2J", "\x1b]0;x\x07", "\x7f", "\x85", "\u2028", "\u202e", "\u200b", "\ufeff", "\U000e0041"),
    *('"', "'", "\\", ":", "?", "*", "<", ">", "|", "$(id)", "`id`", "-rf", "%s{0}", "{stem}", "{lang}", "{dir}", "&amp;"),
    *("con", "CON", "nul.", "COM1", "lpt³", ".de", ".ger", "_de", ".pt-BR", "_v2", "_superseded", ".mp4", ".lipsync"),
    *(".lipsync.mp4", ".lipsync-part", ".lipsync-root", "\r\n--b\r\nX: 1", "a\u0301\u0302\u0303", "\U0010ffff", "\ufffe"),
]  # fmt: skip
RAW_PIECES = [piece.encode() for piece in PIECES] + [b"\xff", b"\x80", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f"]


def stem(dice: Dice, longest: int = 240) -> str:
    """A name as the disk would list it: 1 … `longest` bytes, any but `/` and NUL."""
    if dice.often(2):
        data = dice.raw(1 + dice.below(24))
    else:
        data = b"".join(dice.pick(RAW_PIECES) for _ in range(1 + dice.below(5)))
    if dice.often(2):
        data = (data * longest)[: longest - dice.below(4)]
    return _name(data, longest)


def twin(dice: Dice, of: str, longest: int = 240) -> str:
    """Another name that somebody may take for the same, or that is made to look like what we make of it."""
    shapes: list[Callable[[str], str]] = [
        safe_component,
        str.upper,
        lambda text: unicodedata.normalize("NFC", text),
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: safe_component(text, max_bytes=200),
        lambda text: f"{text}.de",
        lambda text: f"{text}_v2",
        lambda text: f"{text}_superseded",
        lambda text: f"{text} ",
        lambda text: text[:-1],
        lambda text: text.replace(":", "?").replace("\n", "\r"),
    ]
    return _name(dice.pick(shapes)(of).encode("utf-8", "surrogateescape"), longest)


def _name(data: bytes, longest: int) -> str:
    data = data.replace(b"/", b"_").replace(b"\0", b"_")[:longest]
    text = (data or b"a").decode("utf-8", "surrogateescape")
    return "a" if text in {".", ".."} else text


def text(dice: Dice) -> str:
    """Any text that JSON can carry, lone surrogates and a megabyte among them."""
    kind = dice.below(8)
    if kind == 0:
        return dice.raw(dice.below(20)).decode("latin-1")
    if kind == 1:
        return dice.pick(
            ["", "\ud800", "\udfff\ud83d", "a\udc80b", "\0", "A" * 20_000, "\x1b\n" * 500, "../../etc/passwd"]
        )
    return "".join(dice.pick(PIECES) for _ in range(dice.below(4)))


# -- JSON ---------------------------------------------------------------------------------------------

NUMBERS = [
    0,
    1,
    -1,
    20,
    1.5,
    -0.0,
    2**31,
    2**63,
    -(2**63) - 1,
    10**400,
    1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
]


def value(dice: Dice, depth: int = 3) -> Any:
    """Any JSON value."""
    kind = dice.below(9 if depth else 6)
    if kind < 3:
        return text(dice)
    if kind < 5:
        return dice.pick(NUMBERS)
    if kind == 5:
        return dice.pick([None, True, False])
    if kind == 6:
        return dice.some(3, lambda: value(dice, depth - 1))
    return {text(dice): value(dice, depth - 1) for _ in range(dice.below(4))}


def mutated(dice: Dice, valid: Any) -> Any:
    """A valid value with some of it replaced, taken out, or of another type."""
    if dice.often(3) and not isinstance(valid, dict):
        return value(dice)
    if isinstance(valid, dict):
        kept = {key: mutated(dice, item) if dice.often(4) else item for key, item in valid.items() if dice.often(9)}
        return kept | ({text(dice): value(dice)} if dice.often(2) else {})
    if isinstance(valid, list):
        return [mutated(dice, item) for item in valid] + dice.some(2, lambda: value(dice))
    return valid


def as_bytes(dice: Dice, found: Any) -> bytes:
    """JSON as it may come over the wire: rarely damaged, cut, nested for ever, or in another encoding."""
    raw = json.dumps(found).encode()
    kind = dice.below(16)
    if kind == 1:
        return json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if kind == 2:
        return json.dumps(found).encode("utf-16")
    if kind == 3:
        return raw[: dice.below(len(raw) + 1)]
    if kind == 4:
        return dice.raw(dice.below(40))
    if kind == 5:
        return dice.pick(
            [
                b"",
                b"[" * 10_000,
                b"[" * 100_000,
                b'{"a":' * 50_000,
                b"9" * 5_000,
                b"<html>",
                b"\xff\xfe",
                b'{"id":1e999}',
            ]
        )
    return damaged(dice, raw) if kind == 6 else raw


def damaged(dice: Dice, raw: bytes) -> bytes:
    """The bytes with a few flipped, doubled, taken out or put in."""
    data = bytearray(raw)
    for _ in range(1 + dice.below(4)):
        at = dice.below(len(data) + 1)
        match dice.below(4):
            case 0:
                data[at : at + 1] = dice.raw(1)
            case 1:
                del data[at : at + 1 + dice.below(8)]
            case 2:
                data[at:at] = dice.raw(1 + dice.below(4))
            case _:
                data[at:at] = data[at : at + 1 + dice.below(64)]
    return bytes(data)
