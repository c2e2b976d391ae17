from __future__ import annotations

from pathlib import Path

import pytest

from chamelaion_watch.edges.outputs import Part
from chamelaion_watch.edges.spool import Spool

TEMP = ".a.lipsync-part"
REFERENCE = "cw-abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def share(tmp_path: Path) -> Path:
    (tmp_path / "share").mkdir()
    return tmp_path / "share"


def begun(share: Path, data: bytes = b"half a video") -> Part:
    part = Part.create(str(share), TEMP, mode=0o664)
    part.write(data)
    return part


def test_what_is_kept_leaves_the_share_and_comes_back_whole(tmp_path: Path, share: Path) -> None:
    spool = Spool(tmp_path / "state" / "spool")
    assert spool.keep(REFERENCE, begun(share), '"v1"', 100)
    assert list(share.iterdir()) == []
    taken = spool.take(REFERENCE, str(share), TEMP, mode=0o664)
    assert taken is not None
    part, etag, total = taken
    assert (part.size, etag, total) == (12, '"v1"', 100)
    assert (share / TEMP).read_bytes() == b"half a video"
    part.write(b", the rest")
    part.discard()
    assert list((tmp_path / "state" / "spool").iterdir()) == []


def test_without_a_validator_nothing_is_kept(tmp_path: Path, share: Path) -> None:
    part = begun(share)
    assert not Spool(tmp_path / "spool").keep(REFERENCE, part, None, None)
    part.discard()
    assert list(share.iterdir()) == []


def test_an_empty_part_is_not_worth_keeping(tmp_path: Path, share: Path) -> None:
    part = begun(share, b"")
    assert not Spool(tmp_path / "spool").keep(REFERENCE, part, '"v1"', 5)
    part.discard()


@pytest.mark.parametrize("odd", ["../../etc/passwd", "", "a/b", "x" * 200])
def test_an_odd_reference_never_becomes_a_path(tmp_path: Path, share: Path, odd: str) -> None:
    part = begun(share)
    assert not Spool(tmp_path / "spool").keep(odd, part, '"v1"', 5)
    part.discard()


@pytest.mark.parametrize("note", [b"", b"[]", b"{}", b"\xff", b"[" * 4000])
def test_a_damaged_note_means_to_begin_anew_and_leaves_nothing(tmp_path: Path, share: Path, note: bytes) -> None:
    spool = Spool(tmp_path / "spool")
    assert spool.keep(REFERENCE, begun(share), '"v1"', 100)
    (tmp_path / "spool" / f"{REFERENCE}.json").write_bytes(note)
    assert spool.take(REFERENCE, str(share), TEMP, mode=0o664) is None
    assert not (tmp_path / "spool" / f"{REFERENCE}.part").exists()


def test_what_nobody_awaits_is_removed(tmp_path: Path, share: Path) -> None:
    spool = Spool(tmp_path / "spool")
    assert spool.keep(REFERENCE, begun(share), '"v1"', 100)
    spool.prune({REFERENCE})
    assert len(list((tmp_path / "spool").iterdir())) == 2
    spool.prune(set())
    assert list((tmp_path / "spool").iterdir()) == []


def test_pruning_a_spool_that_was_never_used_is_fine(tmp_path: Path) -> None:
    Spool(tmp_path / "spool").prune(set())
    assert not (tmp_path / "spool").exists()
