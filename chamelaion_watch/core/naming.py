"""The names of what we create: outputs, their versions, notes and temporary files, and each run's reference id.

Names are made safe for Windows and SMB, and short enough for everything that is put around them, without two of them
ever becoming one: what had to be changed carries a hash of what it was. Folders that exist are kept byte for byte.
Nothing here looks at a disk: whether a name is taken is the caller's to find out.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import hashlib
import itertools
import json
import re
from collections.abc import Iterator

from chamelaion_watch.core.model import Options, Pair, RelPath

MAX_COMPONENT_BYTES = 240  # of the 255 that file systems allow; some SMB servers and sync tools add to names
MAX_NAME_BYTES = 200  # leaves 40 for `.`, `_superseded`, `_v9999`, `.lipsync-attention.txt` and an extension


class Ours(enum.StrEnum):
    """The kinds of files that we create, by the ending that marks them."""

    OUTPUT = ".lipsync.mp4"
    ERROR = ".lipsync-error.txt"
    ERROR_JSON = ".lipsync-error.json"
    ATTENTION = ".lipsync-attention.txt"
    WAITING = ".lipsync-waiting.txt"
    RECEIPT = ".lipsync.json"
    TEMP = ".lipsync-part"
    STATUS = "_lipsync-status"
    ROOT = ".lipsync-root"


def output_path(template: str, pair: Pair, *, date: str) -> RelPath:
    """Return where the result of a pair goes: `template` with {dir} {stem} {lang} {name} {date} filled in.

    Empty parts collapse; a missing {lang} takes its separator with it. The last part is ≤ 240 bytes with everything
    that `versions`, `note_path` and `temp_path` add to it. `date` is used as it is given.
    """
    fields = {"stem": pair.stem, "lang": pair.lang or "", "name": pair.name, "date": date}
    *folders, last = template.split("/")
    parts = [*_folder_parts(folders, pair.folder, fields), _file_name(_filled(last, pair.folder, fields))]
    return "/".join(part for part in parts if part)


def versions(rel: RelPath) -> Iterator[RelPath]:
    """Yield the names that a result may take, in order: `NAME.lipsync.mp4`, `NAME_v2.lipsync.mp4`, …, for ever."""
    head, ending = _split_ending(rel)
    return itertools.chain([rel], (f"{head}_v{number}{ending}" for number in itertools.count(2)))


def superseded(rel: RelPath) -> RelPath:
    """Return the name for a result that newer content overtook: `NAME_superseded.lipsync.mp4`."""
    head, ending = _split_ending(rel)
    return f"{head}_superseded{ending}"


def note_path(output_rel: RelPath, pair_name: str, kind: Ours) -> RelPath:
    """Return the path of a note about the pair NAME, in the folder of its output."""
    return _beside(output_rel, safe_component(pair_name, max_bytes=MAX_NAME_BYTES + len(kind), ending=kind))


def temp_path(output_rel: RelPath) -> RelPath:
    """Return the hidden name under which an output grows, in the folder where it will lie: `.NAME.lipsync-part`."""
    name = output_rel.rpartition("/")[2]
    return _beside(output_rel, f".{name.removesuffix(Ours.OUTPUT)}{Ours.TEMP}")


def is_ours(name: str) -> Ours | None:
    """Return which kind of our own files this name is, or None if it is nobody's we know."""
    folded = name.casefold()
    if folded == Ours.ROOT:
        return Ours.ROOT
    if folded.startswith(Ours.STATUS):
        return Ours.STATUS
    return next((kind for kind in _ENDINGS if folded.endswith(kind) and len(folded) > len(kind)), None)


def is_temp(name: str) -> bool:
    """Whether this is the name of an output that is (or was) being written."""
    return name.startswith(".") and is_ours(name) is Ours.TEMP


def reference_id(video_sha256: str, audio_sha256: str, options: Options, run_no: int) -> str:
    """Return the id of one paid run of one content: `cw-` and 26 of a-z, 2-7; the same on every host, for ever.

    Options count only where they differ from their default, so that a new option changes no id.
    """
    changed = {
        option.name: value
        for option in dataclasses.fields(Options)
        if (value := getattr(options, option.name)) != option.default
    }
    facts = {"video": video_sha256.lower(), "audio": audio_sha256.lower(), "options": changed, "run_no": run_no}
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return f"cw-{_base32(text.encode(), 26)}"


# -- safe names ---------------------------------------------------------------------------------------

_MARK = "_"  # stands for a character that Windows, SMB or a terminal would not take
_HASH_CHARS = 10  # 50 bits: two of a million changed names agree with a chance of 1 in 2,000
_HASHED = re.compile(r"~[a-z2-7]{10}\Z", re.IGNORECASE)  # a clean name that ends so is changed too: it may be a trap
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$|clock\$) *(\..*)?", re.IGNORECASE)


def safe_component(text: str, *, max_bytes: int = MAX_COMPONENT_BYTES, ending: str = "") -> str:
    """Return `text` + `ending` as one file name that Windows and SMB take, ≤ `max_bytes` of UTF-8 in all.

    A clean text stays as it is. One that had to be changed or shortened ends in a short hash of what it was, so that
    `a:b` and `a?b` stay two names, and neither is one that somebody may choose. `ending` is ours and taken as safe.
    """
    room = max_bytes - len(ending.encode())
    if _is_safe(text, has_ending=bool(ending)) and len(text.encode()) <= room:
        return text + ending
    mark = f"~{_base32(_bytes_of(text), _HASH_CHARS)}"
    kept = _UNSAFE.sub(_MARK, text).encode()[: room - len(mark) - len(_MARK)].decode(errors="ignore").rstrip(". ")
    if not kept or _RESERVED.fullmatch(kept):
        kept = f"{_MARK}{kept}"
    return f"{kept}{mark}{ending}"


def _is_safe(text: str, *, has_ending: bool) -> bool:
    if not text or _UNSAFE.search(text) or _RESERVED.fullmatch(text) or _HASHED.search(text):
        return False
    return has_ending or not text.endswith((".", " "))


def _bytes_of(text: str) -> bytes:
    """Return what the text was on disk; a lone surrogate that never was a byte still counts."""
    return text.encode("utf-8", "surrogatepass")


def _base32(content: bytes, chars: int) -> str:
    return base64.b32encode(hashlib.sha256(content).digest())[:chars].decode().lower()


# -- templates ----------------------------------------------------------------------------------------

_FIELD = re.compile(r"\{(dir|stem|lang|name|date)\}")
_LANG = r"(?:\{lang\}|\(\{lang\}\)|\[\{lang\}\])"
_EMPTY_LANG = re.compile(rf"[._\- ]{_LANG}|{_LANG}[._\- ]?")


def _folder_parts(parts: list[str], folder: RelPath, fields: dict[str, str]) -> Iterator[str]:
    """Yield the folders of a template.

    A leading {dir} exists and stays as it is; below another folder it is a mirror that we make. Parts without a field
    are the administrator's own words.
    """
    for index, part in enumerate(parts):
        if part == "{dir}" and all(before in ("", ".") for before in parts[:index]):
            yield folder
        elif part == "{dir}":
            yield from (safe_component(name) for name in folder.split("/") if name)
        elif _FIELD.search(part):
            filled = _filled(part, folder, fields)
            yield safe_component(filled) if filled else ""
        elif part != ".":
            yield part


def _filled(part: str, folder: RelPath, fields: dict[str, str]) -> str:
    """Fill in one part, in one go: a stem that contains `{lang}` is only a stem."""
    if not fields["lang"]:
        part = _EMPTY_LANG.sub("", part)
    values = fields | {"dir": folder}
    return _FIELD.sub(lambda match: values[match[1]], part)


def _file_name(filled: str) -> str:
    head, ending = _split_ending(filled)
    return safe_component(head, max_bytes=MAX_NAME_BYTES + len(ending), ending=ending)


def _split_ending(rel: RelPath) -> tuple[str, str]:
    """Split `NAME.lipsync.mp4`, or what an output folder of its own may use: `NAME.mp4`."""
    for ending in (Ours.OUTPUT, ".mp4"):
        if rel.endswith(ending):
            return rel.removesuffix(ending), str(ending)
    return rel, ""


def _beside(rel: RelPath, name: str) -> RelPath:
    folder, slash, _ = rel.rpartition("/")
    return f"{folder}{slash}{name}"


_ENDINGS = tuple(kind for kind in Ours if kind not in (Ours.STATUS, Ours.ROOT))
