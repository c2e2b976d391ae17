"""What an open file's content tells of its wholeness: holes, a tail of zeros, MP4 boxes, RIFF chunks.

Reads a few headers at given offsets, never a whole file, never by its name, and believes no size it has not compared
with the file's. It finds files whose end is missing; whether they play is the probe's question.
Raises OSError as it comes: who opened the file translates.
"""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass

from chamelaion_watch.core.model import Structure

TAIL_BYTES = 64 * 1024

# A film in fragments of 2 s has about 10,000 boxes in 2.7 hours; beyond that we stop counting and say "unknown".
_MAX_BOXES = 20_000
_MP4_NAMES = (".mp4", ".m4v", ".mov", ".qt", ".m4a", ".3gp")
_WAV_NAMES = (".wav", ".wave", ".bwf")
# ISO 14496-12 and the QuickTime File Format: what a file may begin with.
_FIRST_BOXES = frozenset(
    {b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"moof", b"sidx", b"meta"}
)
_HEAD_BYTES = 8  # of a box and of a chunk: four of length, four of kind
_UNTOLD = 0xFFFFFFFF  # RF64: the true length stands in `ds64`
_STREAMED = (0, _UNTOLD)  # what writers leave in a RIFF size when they cannot seek back (EBU Tech 3285, ffmpeg)


def check(fd: int, name: str, size: int) -> tuple[Structure, str]:
    """Return whether the file of that name and size is whole, and in words what is missing."""
    lower = name.lower()
    if lower.endswith(_MP4_NAMES):
        return _check_mp4(fd, size)
    if lower.endswith(_WAV_NAMES):
        return _check_wav(fd, size)
    return Structure.UNKNOWN, ""


def has_hole(fd: int, size: int) -> bool:
    """Say whether blocks of the file were never written; False where the file system cannot tell."""
    if not size or not hasattr(os, "SEEK_HOLE"):
        return False
    with contextlib.suppress(OSError):
        return os.lseek(fd, 0, os.SEEK_HOLE) < size
    return False


def has_zero_tail(fd: int, size: int) -> bool:
    """Say whether the last 64 KiB (or all of a smaller file) are zeros: what a preallocated, unfinished copy has."""
    tail = read_at(fd, min(size, TAIL_BYTES), max(0, size - TAIL_BYTES))
    return bool(tail) and not tail.strip(b"\0")


def read_at(fd: int, length: int, offset: int) -> bytes:
    """Return up to `length` bytes from `offset`, fewer only at the end of the file: shares answer in short pieces."""
    pieces = []
    while length > 0 and (piece := os.pread(fd, length, offset)):
        pieces.append(piece)
        length -= len(piece)
        offset += len(piece)
    return b"".join(pieces)


# -- MP4 and QuickTime --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    end: int


def _check_mp4(fd: int, size: int) -> tuple[Structure, str]:
    if read_at(fd, _HEAD_BYTES, 0)[4:] not in _FIRST_BOXES:
        return Structure.UNKNOWN, "does not look like MP4"
    at, has_index = 0, False
    for _ in range(_MAX_BOXES):
        box = _box_at(fd, at, size)
        if isinstance(box, str):
            return Structure.TRUNCATED, box
        has_index = has_index or box.kind == b"moov"
        at = box.end
        if at == size:
            return (Structure.WHOLE, "") if has_index else (Structure.TRUNCATED, "the index (moov) is missing")
    return Structure.UNKNOWN, f"more than {_MAX_BOXES} boxes"


def _box_at(fd: int, at: int, size: int) -> _Box | str:
    """Return the box that begins at `at`, or why there is none."""
    head = read_at(fd, 16, at)
    kind = head[4:8]
    if len(head) < _HEAD_BYTES or not _is_kind(kind):
        return f"no box where one should begin, at byte {at} of {size}"
    length = int.from_bytes(head[:4], "big")
    least = _HEAD_BYTES
    if length == 1:
        length, least = int.from_bytes(head[8:16], "big"), 16
    elif length == 0:
        length = size - at
    if length < least or len(head) < least:
        return f"the {kind.decode('latin-1')} box at byte {at} has no possible size"
    if at + length > size:
        return f"the {kind.decode('latin-1')} box should reach byte {at + length}, the file has {size}"
    return _Box(kind, at + length)


def _is_kind(kind: bytes) -> bool:
    """Four printable characters; QuickTime has `©` (0xA9), too."""
    return len(kind) == 4 and all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind)  # noqa: PLR2004 - ASCII


# -- RIFF and RF64 ------------------------------------------------------------------------------------


def _check_wav(fd: int, size: int) -> tuple[Structure, str]:
    head = read_at(fd, 12, 0)
    if head[:4] not in {b"RIFF", b"RIFX", b"RF64", b"BW64"} or head[8:12] != b"WAVE":
        return Structure.UNKNOWN, "does not look like WAV"
    is_long = head[:4] in {b"RF64", b"BW64"}
    order = ">" if head[:4] == b"RIFX" else "<"
    (length,) = struct.unpack(order + "I", head[4:8])
    data_length = None
    if is_long:
        length, data_length = _long_sizes(fd)
    if length in _STREAMED:
        return Structure.UNKNOWN, "written as a stream: its length is not told"
    if 8 + length > size + 1:  # + 1: some writers count a padding byte that they leave out
        return Structure.TRUNCATED, f"should have {8 + length} bytes, has {size}"
    return _check_chunks(fd, size, order, data_length)


def _long_sizes(fd: int) -> tuple[int, int]:
    """Return the sizes of the whole and of the sound from the `ds64` chunk (EBU Tech 3306); 0 where there is none."""
    chunk = read_at(fd, 24, 12)
    if chunk[:4] != b"ds64" or len(chunk) < 24:  # noqa: PLR2004 - 8 of the header, two sizes of 8
        return 0, 0
    whole, data = struct.unpack("<QQ", chunk[8:24])
    return whole, data


def _check_chunks(fd: int, size: int, order: str, data_length: int | None) -> tuple[Structure, str]:
    at = 12
    for _ in range(_MAX_BOXES):
        head = read_at(fd, _HEAD_BYTES, at)
        if len(head) < _HEAD_BYTES or not _is_kind(head[:4]):
            return Structure.TRUNCATED, f"the sound (data) is missing, at byte {at} of {size}"
        (length,) = struct.unpack(order + "I", head[4:8])
        if head[:4] == b"data":
            if length == _UNTOLD and data_length is not None:
                length = data_length
            return _check_data(at + _HEAD_BYTES, length, size)
        at += _HEAD_BYTES + length + length % 2
    return Structure.UNKNOWN, f"more than {_MAX_BOXES} chunks"


def _check_data(begin: int, length: int, size: int) -> tuple[Structure, str]:
    if length in _STREAMED:
        return Structure.UNKNOWN, "written as a stream: its length is not told"
    if begin + length > size:
        return Structure.TRUNCATED, f"the sound should reach byte {begin + length}, the file has {size}"
    return Structure.WHOLE, ""
