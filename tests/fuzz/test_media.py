"""Media of any bytes: a verdict on its structure from a few reads, and an upload whose bytes are exactly its parts."""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example
from python_multipart import MultipartParser

from chamelaion_watch.core.errors import InputProblem
from chamelaion_watch.core.model import Options, Structure
from chamelaion_watch.core.naming import reference_id
from chamelaion_watch.edges import structure
from chamelaion_watch.edges.multipart import Body, Upload
from chamelaion_watch.edges.stream import PIECE_BYTES
from tests.fuzz import dice
from tests.fuzz.dice import Dice, briefly, campaign
from tests.test_structure import DATA, FMT, FTYP, MDAT, MOOV, box, chunk, long_box, wav

# -- structure ----------------------------------------------------------------------------------------

NAMES = ["x.mp4", "X.MOV", "x.wav", "x.bwf", "x.m4a", "x.mp3", "x"]
SIZES = [0, 1, 7, 8, 9, 16, 100, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]
LONG_SIZES = [0, 1, 15, 16, 100, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
KINDS = [b"moov", b"mdat", b"free", b"ftyp", b"uuid", b"\xa9xyz", b"\0\0\0\0", b"data", b"fmt ", b"ds64", b"LIST"]
MOST_READS = 20_000 + 40  # as many boxes as it counts, the first bytes, the tail
MOST_BYTES = 16 * MOST_READS + structure.TAIL_BYTES


@dataclass(frozen=True)
class Media:
    """A name, what the file begins with, and how long it is made by a hole."""

    name: str
    content: bytes
    size: int


def media(chosen: Dice) -> Media:
    kind = chosen.below(8)
    valid = chosen.pick([FTYP + MOOV + MDAT, FTYP + long_box(b"mdat", b"d" * 50) + MOOV, wav(FMT, DATA), MDAT + MOOV])
    if kind == 0:
        content = chosen.raw(chosen.below(300))
    elif kind < 3:
        content = FTYP + b"".join(piece(chosen) for _ in range(chosen.below(6)))
    elif kind < 5:
        head = chosen.pick([b"RIFF", b"RIFX", b"RF64", b"BW64"])
        chunks = [chunk_of(chosen) for _ in range(chosen.below(5))]
        content = wav(*chunks, kind=head, length=chosen.pick([*SIZES, None, None]), order=chosen.pick("<>"))
    elif kind < 7:
        content = dice.damaged(chosen, valid)
    else:
        content = valid[: chosen.below(len(valid) + 1)]
    grown = chosen.pick([0, 0, 0, 1, 500, 2**20, 2**33, 2**62 - len(content)])
    return Media(chosen.pick(NAMES), content, len(content) + grown)


def piece(chosen: Dice) -> bytes:
    content = chosen.raw(chosen.below(40))
    if chosen.often(3):
        return long_box(chosen.pick(KINDS), content, length=chosen.pick([*LONG_SIZES, None]))
    return box(chosen.pick(KINDS), content, length=chosen.pick([*SIZES, None, None, None]))


def chunk_of(chosen: Dice) -> bytes:
    if chosen.often(2):
        return chunk(b"ds64", struct.pack("<QQQI", chosen.pick(LONG_SIZES), chosen.pick(LONG_SIZES), 5, 0))
    content = chosen.raw(chosen.below(40))
    return chunk(
        chosen.pick(KINDS[7:]), content, length=chosen.pick([*SIZES, None, None, None]), order=chosen.pick("<>")
    )


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[int]:
    fd = (
        os.memfd_create("media") if hasattr(os, "memfd_create") else os.open(tmp_path / "media", os.O_RDWR | os.O_CREAT)
    )
    yield fd
    os.close(fd)


@campaign(media)
@example(thrown=Media("x.mp4", FTYP + box(b"free") * 30_000, 2**33))
@example(thrown=Media("x.wav", wav(*[chunk(b"LIST", b"")] * 30_000), 2**33))
def test_a_verdict_on_any_bytes_takes_few_reads(thrown: Media, empty: int) -> None:
    os.ftruncate(empty, 0)
    os.pwrite(empty, thrown.content, 0)
    os.ftruncate(empty, thrown.size)
    calls, count = reads()
    with briefly():
        verdict, detail = structure.check(empty, thrown.name, thrown.size)
        structure.has_hole(empty, thrown.size)
        has_zero_tail = structure.has_zero_tail(empty, thrown.size)
    calls, count = reads()[0] - calls, reads()[1] - count
    assert calls <= MOST_READS
    assert count <= MOST_BYTES
    assert verdict in Structure
    assert detail.isprintable() or "\xa9" in detail
    assert (verdict is Structure.WHOLE) <= (detail == "")
    assert verdict is not Structure.TRUNCATED or detail
    if 0 < thrown.size <= len(thrown.content):
        assert has_zero_tail == (not thrown.content[-structure.TAIL_BYTES :].strip(b"\0"))
    if verdict is Structure.WHOLE and thrown.name.lower().endswith((".mp4", ".mov", ".m4a")):
        assert b"moov" in thrown.content


def reads() -> tuple[int, int]:
    """System calls that read, and what they gave, by this process so far; always 0 where Linux does not count."""
    try:
        told = Path("/proc/thread-self/io").read_text()
    except OSError:
        return 0, 0
    return int(re.findall(r"syscr: (\d+)", told)[0]), int(re.findall(r"rchar: (\d+)", told)[0])


# -- uploads ------------------------------------------------------------------------------------------


class Dripping(io.BytesIO):
    """A file that gives less than it is asked for, as shares do."""

    def __init__(self, content: bytes, at_once: int) -> None:
        super().__init__(content)
        self._at_once = at_once

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._at_once if size is None or size < 0 else min(size, self._at_once))


@dataclass(frozen=True)
class Sent:
    """Two files, what their names end in, how much a read gives, fields, and how far the announced sizes are off."""

    video: bytes
    audio: bytes
    suffixes: tuple[str, str]
    at_once: int
    fields: dict[str, Any]
    off: tuple[int, int] = (0, 0)


BODIES = [
    b"",
    b"\r\n",
    b"\r\n--",
    b"--",
    b"\r\n\r\n--\r\n",
    b'Content-Disposition: form-data; name="x"\r\n\r\n',
    b"\0\n" * 20,
    b"\r",
]
SUFFIXES = [".mp4", ".WAV", ".mp3", "", ".", '.x"\r\nX: 1', ".\udcff", "." + "a" * 300, ".m4v;", ".é", "./../x", "mp4"]
LARGE = [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1]


def sent(chosen: Dice) -> Sent:
    reference = reference_id(chosen.raw(32).hex(), chosen.raw(32).hex(), Options(), 1)
    fields = {"reference_id": reference, "disable_active_speaker_detection": chosen.pick([True, False, None, "true"])}
    model = chosen.pick([None, "lipsync-2", dice.text(chosen)[:500]])
    off = (chosen.pick([0, 1, -1]), chosen.pick([0, 1, -1])) if chosen.often(2) else (0, 0)
    suffixes = chosen.pick(SUFFIXES), chosen.pick(SUFFIXES)
    bodies = content(chosen), content(chosen)
    return Sent(*bodies, suffixes, chosen.pick([1 << 30, 1 << 30, 7, 64]), fields | {"model": model}, off)


def content(chosen: Dice) -> bytes:
    if chosen.below(64) == 1:
        return bytes(chosen.pick(LARGE))
    return b"".join(chosen.pick(BODIES) for _ in range(chosen.below(4))) + chosen.raw(chosen.below(60))


@campaign(sent)
@example(thrown=Sent(bytes(PIECE_BYTES), bytes(PIECE_BYTES + 1), (".mp4", ".wav"), 1 << 30, {}))
def test_an_upload_is_exactly_its_parts_and_as_long_as_announced(thrown: Sent) -> None:
    at_once = thrown.at_once if len(thrown.video + thrown.audio) < PIECE_BYTES - 1 else 1 << 30
    upload = Upload(
        video=Dripping(thrown.video, at_once),
        video_bytes=max(0, len(thrown.video) + thrown.off[0]),
        video_suffix=thrown.suffixes[0],
        audio=Dripping(thrown.audio, at_once),
        audio_bytes=max(0, len(thrown.audio) + thrown.off[1]),
        audio_suffix=thrown.suffixes[1],
        fields=thrown.fields,
    )
    is_right = (upload.video_bytes, upload.audio_bytes) == (len(thrown.video), len(thrown.audio))
    body = Body(upload)
    try:
        with briefly():
            raw = b"".join(body)
    except InputProblem:
        assert not is_right
        assert not upload.is_finished
        return
    assert is_right
    assert upload.is_finished
    assert len(raw) == body.size
    wanted = [*fields_of(thrown), ("video", thrown.video), ("audio", thrown.audio)]
    parts = parsed(raw, body.content_type)
    assert [(name, data) for name, _, data in parts] == wanted
    for _, headers, _ in parts:
        assert set(headers) <= {"content-disposition", "content-type"}
        assert re.fullmatch(
            r'form-data; name="\w+"(; filename="(video|audio)(\.[a-z0-9]{1,8})?")?', headers["content-disposition"]
        )
    if len(raw) % 4 == 0 and len(raw) < 2_000:  # it is slow
        assert names_by_email(raw, body.content_type) == [name for name, _ in wanted]


def fields_of(thrown: Sent) -> list[tuple[str, bytes]]:
    words = {True: "true", False: "false"}
    return [
        (name, (words[value] if isinstance(value, bool) else value).encode("utf-8", "replace"))
        for name, value in thrown.fields.items()
        if value is not None
    ]


def parsed(raw: bytes, content_type: str) -> list[tuple[str, dict[str, str], bytes]]:
    """The parts by a parser that is not ours: name, headers, content."""
    parts: list[tuple[dict[str, str], bytearray]] = []
    header = [bytearray(), bytearray()]

    def on_header_end() -> None:
        parts[-1][0][header[0].decode().lower()] = header[1].decode()
        header[0], header[1] = bytearray(), bytearray()

    MultipartParser(
        content_type.partition("boundary=")[2],
        {
            "on_part_begin": lambda: parts.append(({}, bytearray())),
            "on_header_field": lambda data, start, end: header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: header[1].extend(data[start:end]),
            "on_header_end": on_header_end,
            "on_part_data": lambda data, start, end: parts[-1][1].extend(data[start:end]),
        },
    ).write(raw)
    return [
        (re.findall(r' name="(\w+)"', headers["content-disposition"])[0], headers, bytes(data))
        for headers, data in parts
    ]


def names_by_email(raw: bytes, content_type: str) -> list[str]:
    """The names of the parts by the standard library."""
    found = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw).get_payload()
    assert isinstance(found, list)
    return [str(part.get_param("name", header="content-disposition")) for part in found if isinstance(part, Message)]
