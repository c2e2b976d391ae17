"""What ends a life early."""

from __future__ import annotations


class Broken(AssertionError):
    """An invariant does not hold."""


class Crash(Exception):
    """The process dies here."""
