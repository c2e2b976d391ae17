from __future__ import annotations

import os
from pathlib import Path

import pytest

from chamelaion_watch.edges.outputs import Part
from chamelaion_watch.edges.spool import LEAVE_FREE_BYTES, Spool

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
def test_threat_45_an_odd_reference_never_becomes_a_path(tmp_path: Path, share: Path, odd: str) -> None:
    part = begun(share)
    assert not Spool(tmp_path / "spool").keep(odd, part, '"v1"', 5)
    part.discard()


@pytest.mark.parametrize("note", [b"", b"[]", b"{}", b"\xff", b"[" * 4000])
def test_threat_45_a_damaged_note_means_to_begin_anew(tmp_path: Path, share: Path, note: bytes) -> None:
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


def test_forgetting_a_run_takes_all_of_it_and_nothing_else(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    folder = Path(spool.folder())
    other = f"cw-other.{'0' * 64}.mp4"
    for name in (f"{REFERENCE}.{'0' * 64}.mp4", f"{REFERENCE}.json", f"{REFERENCE}.part", other):
        (folder / name).write_bytes(b"x")
    spool.forget(REFERENCE)
    assert [path.name for path in folder.iterdir()] == [other]
    assert list(spool.results()) == ["cw-other"]


def test_what_is_no_result_is_not_taken_for_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for name in ("x.mp4", f"cw-a.{'g' * 64}.mp4", f".cw-a.{'0' * 64}.mp4.lipsync-part", f"../cw.{'0' * 64}"):
        Path(spool.folder(), name.replace("/", "_")).write_bytes(b"x")
    assert spool.results() == {}
    with pytest.raises(ValueError, match="not the name"):
        spool.result("../a", "0" * 64)


def test_a_gigabyte_stays_free_for_the_ledger(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    space = os.statvfs(spool.folder())
    assert abs(spool.free_bytes() - max(0, space.f_bavail * space.f_frsize - LEAVE_FREE_BYTES)) < 2**30
