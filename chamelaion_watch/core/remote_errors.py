"""Sorts the reasons that the service gives when a request failed, so that people get advice that fits.

The vendor publishes one such text ("video URL is not accessible"); the patterns cover what services of this kind say.
A text that fits none stays `remote_failed` and is shown as it is. First match wins.
"""

from __future__ import annotations

import re

_CLASSIFIED_CHARACTERS = 2000  # the first words say it, and a stranger decides how many there are

_SENTENCES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "no_face",
        (
            r"\b(no|without|missing|zero)\b.{0,40}\b(face|speaker|person)",
            r"\b(not|cannot|unable|fail\w*)\b.{0,40}\b(detect|find|found|locate|track|see)\w*\b.{0,40}\bface",
            r"\bfaces?\b.{0,40}\b(not|too small|too far|missing|hidden|occluded|obscured|lost|undetect\w+)\b",
        ),
    ),
    ("quota_exhausted", (r"\b(insufficient|not enough|no)\b.{0,20}\b(credit|token|balance|quota)", r"token limit")),
    ("remote_timed_out", (r"\btimed?[\s-]?out\b", r"took too long", r"deadline")),
    (
        "too_long",
        (
            r"too long|longer than",
            r"\b(duration|length)\b.{0,40}\b(exceed|limit|max)",
            r"\bexceed.{0,40}\b(duration|length)",
        ),
    ),
    (
        "too_large",
        (
            r"too (large|big)",
            r"\b(size|resolution)\b.{0,40}\b(exceed|limit|max)",
            r"\bexceed.{0,40}\b(size|resolution)",
        ),
    ),
    (
        "media_problem",
        (
            r"not supported|unsupported|accessible|unreadable|corrupt|damaged|truncat|malformed",
            r"codec|decod|ffmpeg|moov",
            r"\b(invalid|bad|wrong|unknown|not a valid)\b.{0,20}\b(video|audio|media|file|format|input|stream)",
            r"\b(not|cannot|unable|fail\w*)\b.{0,20}\b(be )?(read|open|load|pars|process|download)\w*",
            r"\bno\b.{0,20}\b(video|audio|picture|sound|speech)\b",
        ),
    ),
    (
        "remote_internal",
        (r"internal|unexpected|server error|went wrong|unknown error|unavailable|try again|out of memory|gpu",),
    ),
)
_PATTERNS = tuple((code, re.compile("|".join(parts), re.IGNORECASE)) for code, parts in _SENTENCES)
_SHORT_NOT = re.compile(r"n['\u2019]t\b", re.IGNORECASE)


def remote_code(error_message: str) -> str:
    """Classify why the service says that it failed; `remote_failed` if its words fit nothing."""
    text = _SHORT_NOT.sub(" not", " ".join(error_message[:_CLASSIFIED_CHARACTERS].split()))
    return next((code for code, pattern in _PATTERNS if pattern.search(text)), "remote_failed")
