"""The grep for secrets: every form in which a secret may have got somewhere, and a search through files and bytes."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

PIECE = 12  # so many characters of a secret in a row are a leak


def forms(secret: str) -> dict[bytes, str]:
    """What to look for, each at least a piece long: pieces of the secret as it is, and the whole as encodings make it."""
    found = {secret[at : at + PIECE].encode(): "a piece" for at in range(max(1, len(secret) - PIECE + 1))}
    raw = secret.encode()
    found |= {raw.hex().encode(): "hex", raw.hex().upper().encode(): "hex"}
    found |= {form.encode(): "percent" for form in (quote(secret, safe=""), quote(secret), quote_plus(secret))}
    found |= {quote(secret, safe="").lower().encode(): "percent"}
    found |= {json.dumps(secret)[1:-1].encode(): "JSON", secret.encode("utf-16-le"): "UTF-16", raw[::-1]: "reversed"}
    found[raw] = "as it is"
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):  # wherever in a text it begins
            whole = encode(b"\0" * before + raw)
            found[whole[4 if before else 0 : len(whole) - 4]] = "base64"
    return found


@dataclass
class Needles:
    """Secrets by name, and what was found of them."""

    secrets: dict[str, str]
    searched: dict[str, int] = field(default_factory=dict)  # bytes by place
    hits: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._starts: dict[bytes, list[tuple[bytes, str]]] = {}
        for name, secret in list(self.secrets.items()):
            self.add(name, secret)

    def add(self, name: str, secret: str) -> None:
        """Look for this from now on, too."""
        self.secrets[name] = secret
        for form, kind in forms(secret).items():
            self._starts.setdefault(form[:PIECE], []).append((form, f"{name} ({kind})"))

    def of(self, data: bytes) -> list[str]:
        """Which of the secrets are in there, and in which form; in one pass, however many they are."""
        found, starts = dict[str, int](), self._starts
        for at in range(len(data) - PIECE + 1):
            for form, what in starts.get(data[at : at + PIECE], ()):
                if data.startswith(form, at):
                    found.setdefault(what, at)
        return [f"{what} behind {data[max(0, at - 30) : at]!r}" for what, at in sorted(found.items())]

    def search(self, place: str, data: bytes) -> None:
        """Look through bytes."""
        self.searched[place] = self.searched.get(place, 0) + len(data)
        self.hits += [f"{place}: {what}" for what in self.of(data)]

    def search_files(self, place: str, folder: Path, *, but: Iterable[Path] = ()) -> None:
        """Look through all that lies in a folder: names, contents, extended attributes and where links lead."""
        self.searched.setdefault(place, 0)
        for path in sorted(folder.rglob("*")):
            if path in but:
                continue
            told = [os.fsencode(path.relative_to(folder))]
            if path.is_symlink():
                told.append(os.fsencode(path.readlink()))
            elif path.is_file():
                told.append(path.read_bytes())
                told += [os.getxattr(path, name) for name in os.listxattr(path)]
            for data in told:
                self.searched[place] += len(data)
                self.hits += [f"{place}/{path.relative_to(folder)}: {what}" for what in self.of(data)]


def needles_seen(secret: str) -> tuple[int, int]:
    """Plant a secret in every form, among other bytes, and say how many were planted and how many found.

    A search that finds nothing proves nothing until it has found what was put there.
    """
    raw = secret.encode()
    planted = [raw, raw[5 : 5 + PIECE], raw[-PIECE:], raw.hex().encode(), quote(secret, safe="").encode()]
    planted += [secret.encode("utf-16-le"), raw[::-1], *(base64.b64encode(b"x" * number + raw) for number in range(4))]
    needles = Needles({"it": secret})
    assert not needles.of(raw[: PIECE - 1] + b" and " + raw[1:PIECE])
    return len(planted), sum(bool(needles.of(b"before " + form + b" behind")) for form in planted)
