"""Durations and sizes as people write them: `10s`, `500ms`, `90d`; `1KiB`, `64MB`, `1024B`.

Used by the configuration and by the command line. A number without a unit is refused, with the way out in the
message: a bare `10` has meant seconds, minutes and milliseconds in other programs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

_MS_PER_UNIT = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_BYTES_PER_UNIT = {
    "TiB": 2**40,
    "GiB": 2**30,
    "MiB": 2**20,
    "KiB": 2**10,
    "TB": 10**12,
    "GB": 10**9,
    "MB": 10**6,
    "kB": 10**3,
    "B": 1,
}
# One digit more would not fit a file offset or a wall clock anyway; it also keeps every value exact as a float.
_NUMBER_AND_UNIT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([A-Za-z]+)", re.ASCII)
_LONGEST_MS = 36_500 * _MS_PER_UNIT["d"]
_LARGEST_BYTES = 2**63 - 1

DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$"


def duration_s(text: object) -> float:
    """Return the seconds that `10s`, `5m`, `6h`, `90d` or `500ms` means, to the millisecond.

    Raises ValueError with the way out in its message; a bare number is refused.
    """
    ms = _amount(text, _MS_PER_UNIT, example="10s")
    if ms.denominator != 1:
        raise ValueError(f"{text} is finer than a millisecond")
    if ms > _LONGEST_MS:
        raise ValueError(f"{text} is too long: at most {duration_text(_LONGEST_MS / 1000)}")
    return int(ms) / 1000


def duration_text(seconds: float) -> str:
    """Return how a duration is written, in the largest unit that needs no fraction: 90.0 is `90s`, 120.0 is `2m`."""
    ms = round(seconds * 1000)
    return "0s" if ms == 0 else _in_largest_unit(ms, _MS_PER_UNIT)


def size_bytes(text: object) -> int:
    """Return the bytes that `1KiB`, `2GiB`, `64MB` or `1024B` means.

    Raises ValueError with the way out in its message; a bare number is refused.
    """
    count = _amount(text, _BYTES_PER_UNIT, example="1KiB")
    if count.denominator != 1:
        raise ValueError(f"{text} is not a whole number of bytes")
    if count > _LARGEST_BYTES:
        raise ValueError(f"{text} is larger than any file can be")
    return int(count)


def size_text(count: int) -> str:
    """Return how a size is written: 1024 is `1KiB`, 64,000,000 is `64MB`, 1025 is `1025B`."""
    return "0B" if count == 0 else _in_largest_unit(count, _BYTES_PER_UNIT)


def _amount(text: object, units: Mapping[str, int], *, example: str) -> Fraction:
    """Return number times unit; raise ValueError if `text` is anything but a number and one of `units`."""
    if not isinstance(text, str):
        raise ValueError(_advice_for_number(text, example))  # noqa: TRY004 - pydantic collects ValueErrors only
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match and match[2] in units:
        return Fraction(match[1]) * units[match[2]]
    raise ValueError(_advice(text, units, example))


def _advice_for_number(value: object, example: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number and a unit such as {example}"
    return _needs_unit(value, example)


def _advice(text: str, units: Mapping[str, int], example: str) -> str:
    match = re.fullmatch(r"([0-9.]{1,20})\s*([A-Za-z]*)", text.strip(), re.ASCII)
    if match and not match[2]:
        return _needs_unit(match[1], example)
    near = [unit for unit in units if match and unit.lower() == match[2].lower()]
    if match and near:
        return f"must be a number and a unit; did you mean {match[1]}{near[0]}?"
    return f"must be a number and a unit such as {example} (units: {', '.join(units)})"


def _needs_unit(number: object, example: str) -> str:
    return f"a number needs a unit: write {number}{'s' if example == '10s' else 'B'}"


def _in_largest_unit(amount: int, units: Mapping[str, int]) -> str:
    """Return the exact form with the fewest digits; of equals the first in `units`."""
    exact = [f"{amount // factor}{unit}" for unit, factor in units.items() if amount % factor == 0]
    return min(exact, key=len)
