from __future__ import annotations

import os
from pathlib import Path

import pytest

from chamelaion_watch.edges import probe_child
from chamelaion_watch.edges.probe_child import examine
from chamelaion_watch.sandbox.media import make_audio, make_video


def examined(path: Path) -> probe_child.Answer:
    fd = os.open(path, os.O_RDONLY)
    try:
        return examine(fd)
    finally:
        os.close(fd)


def test_the_facts_are_plain_values(tmp_path: Path) -> None:
    make_video(tmp_path / "clip.mp4", seconds=1)
    facts = examined(tmp_path / "clip.mp4")
    assert set(facts) == {"duration_s", "has_picture", "has_sound", "detail"}
    assert facts["detail"] == "h264 320x180, aac 48000 Hz"


def test_the_duration_is_the_pictures_though_the_sound_is_longer(tmp_path: Path) -> None:
    make_video(tmp_path / "clip.mp4", seconds=2)
    assert examined(tmp_path / "clip.mp4")["duration_s"] == pytest.approx(2.0, abs=0.001)


def test_a_decoders_name_is_not_the_formats(tmp_path: Path) -> None:
    make_audio(tmp_path / "dub.mp3", seconds=1)
    assert examined(tmp_path / "dub.mp3")["detail"] == "mp3 44100 Hz"


def test_a_read_error_is_told_apart_from_a_broken_file(tmp_path: Path) -> None:
    assert examined(tmp_path) == {"read_error": "Is a directory"}


def test_the_limits_fit_the_largest_media(tmp_path: Path) -> None:
    assert probe_child.READ_BYTES >= 100 << 20
    assert probe_child.ADDRESS_SPACE_BYTES >= 1 << 30


def test_reading_stops_at_the_limit_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with (tmp_path / "file").open("rb") as file:
        source = probe_child._Source(file.fileno())
        source._left = 6
        assert source.read(6) == b"012345"
        assert not source.is_exhausted
        assert source.read(1) == b""
        assert source.is_exhausted


def test_seeking_is_our_own_and_leaves_the_descriptor_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with (tmp_path / "file").open("rb") as file:
        source = probe_child._Source(file.fileno())
        assert source.seek(-3, os.SEEK_END) == 7
        assert source.read(9) == b"789"
        assert source.seek(-5, os.SEEK_CUR) == source.tell() == 5
        assert source.seek(-5) == 0
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 0


def test_no_other_file_is_opened_for_a_file() -> None:
    with pytest.raises(PermissionError):
        probe_child._refuse("file:///etc/passwd")
