"""Wholeness told by content: boxes, chunks, holes and tails of zeros, on real files."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from chamelaion_watch.core.model import Structure
from chamelaion_watch.edges import structure
from chamelaion_watch.edges.jail import held

UNKNOWN, WHOLE, TRUNCATED = Structure.UNKNOWN, Structure.WHOLE, Structure.TRUNCATED


def box(kind: bytes, content: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack(">I4s", 8 + len(content) if length is None else length, kind) + content


def long_box(kind: bytes, content: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack(">I4sQ", 1, kind, 16 + len(content) if length is None else length) + content


def chunk(kind: bytes, content: bytes, *, length: int | None = None, order: str = "<") -> bytes:
    size = len(content) if length is None else length
    return kind + struct.pack(order + "I", size) + content + b"\0" * (len(content) % 2)


def wav(*chunks: bytes, kind: bytes = b"RIFF", length: int | None = None, order: str = "<") -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return kind + struct.pack(order + "I", len(content) if length is None else length) + content


FTYP, MOOV, MDAT = box(b"ftyp", b"isom0000"), box(b"moov", b"m" * 100), box(b"mdat", b"d" * 1000)
FMT, DATA = chunk(b"fmt ", b"f" * 16), chunk(b"data", b"s" * 1001)


def check(path: Path, content: bytes, name: str = "x.mp4") -> tuple[Structure, str]:
    path.write_bytes(content)
    with held(os.open(path, os.O_RDONLY)) as fd:
        return structure.check(fd, name, len(content))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize(
    "content",
    [
        FTYP + MOOV + MDAT,
        FTYP + MDAT + MOOV,
        MDAT + MOOV,  # old QuickTime
        FTYP + long_box(b"mdat", b"d" * 50) + MOOV,
        FTYP + MOOV + box(b"mdat", b"d" * 50, length=0),
        FTYP + MOOV + box(b"moof", b"f") + MDAT + box(b"moof", b"f") + MDAT,
        FTYP + MOOV + MDAT + box(b"\xa9xyz", b"?"),
    ],
)
def test_boxes_that_tile_the_file_and_hold_the_index_are_whole(file: Path, content: bytes) -> None:
    assert check(file, content) == (WHOLE, "")
    assert check(file, content, "CLIP.MOV") == (WHOLE, "")


@pytest.mark.parametrize("missing", [1, 4, 999, 1000, 1004, 1007])
def test_a_cut_faststart_file_is_truncated(file: Path, missing: int) -> None:
    assert check(file, (FTYP + MOOV + MDAT)[:-missing])[0] is TRUNCATED


def test_a_file_without_an_index_is_truncated_and_says_so(file: Path) -> None:
    assert check(file, FTYP + MDAT) == (TRUNCATED, "the index (moov) is missing")


def test_zeros_where_a_box_should_begin_are_truncated(file: Path) -> None:
    verdict, detail = check(file, FTYP + MOOV + MDAT + bytes(4096))
    assert verdict is TRUNCATED
    assert "no box" in detail


def test_threat_29_a_preallocated_copy_that_ends_within_its_media_is_not_found_here_but_by_its_tail(file: Path) -> None:
    content = FTYP + MOOV + box(b"mdat", b"d" * 5000 + bytes(structure.TAIL_BYTES))
    assert check(file, content)[0] is WHOLE
    with held(os.open(file, os.O_RDONLY)) as fd:
        assert structure.has_zero_tail(fd, len(content))


@pytest.mark.parametrize(
    "bad",
    [
        box(b"mdat", b"d" * 20, length=7),
        box(b"mdat", b"d" * 20, length=2),
        box(b"mdat", b"d" * 20, length=0xFFFFFFFF),
        long_box(b"mdat", b"d" * 20, length=15),
        long_box(b"mdat", b"d" * 20, length=0),
        long_box(b"mdat", b"d" * 20, length=2**64 - 1),
        long_box(b"mdat", b"d" * 20, length=2**63),
        struct.pack(">I4s", 1, b"mdat"),
    ],
)
def test_threat_42_hostile_box_sizes_end_the_walk(file: Path, bad: bytes) -> None:
    assert check(file, FTYP + MOOV + bad)[0] is TRUNCATED


@pytest.mark.parametrize("content", [b"", b"short", b"this is a text that somebody renamed", bytes(100)])
def test_threat_42_what_is_no_mp4_is_unknown(file: Path, content: bytes) -> None:
    assert check(file, content) == (UNKNOWN, "does not look like MP4")


def test_threat_42_endless_boxes_are_given_up(file: Path) -> None:
    assert check(file, FTYP + box(b"free") * 30_000 + MOOV)[0] is UNKNOWN


@pytest.mark.parametrize(
    "content",
    [
        wav(FMT, DATA),
        wav(FMT, DATA)[:-1],  # the padding byte that some writers count and leave out
        wav(FMT, DATA) + b"ID3 and other things behind",
        wav(chunk(b"bext", b"b" * 603), FMT, chunk(b"data", b"s" * 10), chunk(b"LIST", b"l" * 7)),
        wav(chunk(b"fmt ", b"f" * 16, order=">"), chunk(b"data", b"s" * 10, order=">"), kind=b"RIFX", order=">"),
        wav(chunk(b"ds64", struct.pack("<QQQI", 78, 10, 5, 0)), FMT, chunk(b"data", b"s" * 10, length=0xFFFFFFFF), kind=b"RF64", length=0xFFFFFFFF),
    ],
)  # fmt: skip
def test_a_wav_whose_sizes_fit_is_whole(file: Path, content: bytes) -> None:
    assert check(file, content, "x.WAV") == (WHOLE, "")


@pytest.mark.parametrize(
    "content",
    [
        wav(FMT, DATA)[:-2],
        wav(FMT, DATA)[:30],
        wav(FMT, DATA)[:12],
        wav(FMT),  # no sound
        wav(FMT, bytes(400)),  # preallocated
        wav(FMT, chunk(b"data", b"s" * 10, length=5000)),
        wav(chunk(b"ds64", struct.pack("<QQQI", 7800, 7000, 5, 0)), FMT, chunk(b"data", b"s" * 10, length=0xFFFFFFFF), kind=b"RF64", length=0xFFFFFFFF),
    ],
)  # fmt: skip
def test_a_wav_whose_sizes_do_not_fit_is_truncated(file: Path, content: bytes) -> None:
    assert check(file, content, "x.wav")[0] is TRUNCATED


@pytest.mark.parametrize(
    "content",
    [
        wav(FMT, DATA, length=0xFFFFFFFF),
        wav(FMT, DATA, length=0),
        wav(FMT, chunk(b"data", b"s" * 10, length=0xFFFFFFFF)),
        wav(FMT, chunk(b"data", b"s" * 10, length=0)),
        wav(FMT, DATA, kind=b"RF64", length=0xFFFFFFFF),
        b"OggS and so on" * 10,
        b"RIFF",
    ],
)
def test_a_wav_that_does_not_tell_its_length_is_unknown(file: Path, content: bytes) -> None:
    assert check(file, content, "x.wav")[0] is UNKNOWN


def test_formats_without_a_length_are_unknown(file: Path) -> None:
    assert check(file, b"\xff\xfb" + b"m" * 500, "x.mp3") == (UNKNOWN, "")


def test_a_hole_is_seen_and_a_full_file_has_none(file: Path) -> None:
    file.write_bytes(b"x" * 100_000)
    with held(os.open(file, os.O_RDWR)) as fd:
        os.fsync(fd)
        assert not structure.has_hole(fd, 100_000)
        os.ftruncate(fd, 10_000_000)
        assert structure.has_hole(fd, 10_000_000)


def test_an_empty_file_has_neither_hole_nor_tail(file: Path) -> None:
    file.write_bytes(b"")
    with held(os.open(file, os.O_RDONLY)) as fd:
        assert not structure.has_hole(fd, 0)
        assert not structure.has_zero_tail(fd, 0)


@pytest.mark.parametrize(
    ("content", "is_zero"),
    [
        (b"x" + bytes(structure.TAIL_BYTES), True),
        (b"x" * 10 + bytes(structure.TAIL_BYTES - 1), False),
        (bytes(structure.TAIL_BYTES) + b"x", False),
        (bytes(500), True),
        (bytes(500) + b"x", False),
    ],
)
def test_the_tail_is_the_last_64_kib_or_the_whole_of_a_small_file(file: Path, content: bytes, is_zero: bool) -> None:
    file.write_bytes(content)
    with held(os.open(file, os.O_RDONLY)) as fd:
        assert structure.has_zero_tail(fd, len(content)) is is_zero
