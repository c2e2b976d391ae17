"""Text from outside, made safe to show: names, error messages, anything a stranger may have written.

It changes only what is shown. Never use its result to open a file, to compare or to store a name.
"""

from __future__ import annotations

import unicodedata

_ELLIPSIS = "…"
_SHOWN_THOUGH_FORMAT = "\u200c\u200d"  # joiners: Persian, Indic scripts and emoji are misspelt without them
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e"}
# Control, format (RTL overrides, zero width), surrogates, unassigned and private use, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})
_UNDECODED = range(0xDC80, 0xDD00)  # `surrogateescape`: a byte of a name that is not valid UTF-8


def printable(text: str, limit: int = 300) -> str:
    r"""Return `text` on one line of at most `limit` characters, with all that cannot be seen as a visible escape.

    Control and format characters become `\n`, `\x07`, `\u202e`; a byte that was no UTF-8 (`os.fsdecode`) `\xff`.
    What does not fit is cut between characters and ends in `…`. A backslash stays as it is: names keep their look.
    """
    if len(text) <= limit and text.isprintable():  # most are; letter by letter is 20 times as slow
        return text
    pieces: list[str] = []
    room = limit
    for char in text:
        piece = _shown(char)
        room -= len(piece)
        if room < 0:
            return _shortened(pieces, limit)
        pieces.append(piece)
    return "".join(pieces)


def _shortened(pieces: list[str], limit: int) -> str:
    length = sum(map(len, pieces))
    while pieces and length > limit - len(_ELLIPSIS):
        length -= len(pieces.pop())
    return "".join(pieces) + _ELLIPSIS if limit > 0 else ""


def _shown(char: str) -> str:
    if " " <= char <= "~" or char in _SHOWN_THOUGH_FORMAT or unicodedata.category(char) not in _HIDDEN:
        return char
    if ord(char) in _UNDECODED:
        return f"\\x{ord(char) & 0xFF:02x}"
    return _SHORT.get(char) or char.encode("unicode_escape").decode("ascii")
