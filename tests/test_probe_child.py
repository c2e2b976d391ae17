from __future__ import annotations

import os
import wave
from pathlib import Path

import av
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


def mux(picture: Path, sound: Path, path: Path) -> Path:
    with av.open(str(picture)) as first, av.open(str(sound)) as second, av.open(str(path), "w") as out:
        streams = [out.add_stream_from_template(source.streams[0]) for source in (first, second)]
        for source, stream in zip((first, second), streams, strict=True):
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    return path


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos whose sound is clearly shorter, or longer, than the picture."""
    folder = tmp_path_factory.mktemp("uneven")
    make_video(folder / "picture.mp4", seconds=3, sound=False)
    for name, seconds in (("short", 1), ("long", 6)):
        make_audio(folder / f"{name}.mp3", seconds=seconds)
        mux(folder / "picture.mp4", folder / f"{name}.mp3", folder / f"{name}.mp4")
        mux(folder / "picture.mp4", folder / f"{name}.mp3", folder / f"{name}.mkv")
    return folder


@pytest.mark.parametrize("name", ["short.mp4", "short.mkv", "long.mp4", "long.mkv"])
def test_tracks_of_different_lengths_are_no_missing_end(uneven: Path, name: str) -> None:
    facts = examined(uneven / name)
    assert (facts["has_picture"], facts["has_sound"]) == (True, True)
    assert "error" not in facts


@pytest.mark.parametrize("name", ["short.mp4", "long.mp4"])
def test_the_duration_is_the_pictures(uneven: Path, name: str) -> None:
    assert examined(uneven / name)["duration_s"] == pytest.approx(3.0, abs=0.1)


def test_a_track_that_ended_before_is_not_missed_at_the_end(uneven: Path) -> None:
    nothing = probe_child._Tail({}, is_complete=True)
    with av.open(str(uneven / "short.mp4")) as container:
        assert not probe_child._lacks_end(container.streams.audio[0], nothing, 2.5)
        assert probe_child._lacks_end(container.streams.video[0], nothing, 2.5)


def test_a_decoders_name_is_not_the_formats(tmp_path: Path) -> None:
    make_audio(tmp_path / "dub.mp3", seconds=1)
    assert examined(tmp_path / "dub.mp3")["detail"] == "mp3 44100 Hz"


def test_the_samples_of_a_wav_are_not_looked_through_for_another_codec(tmp_path: Path) -> None:
    """As ffmpeg would for DTS in disguise, which is all that an ordinary WAV's check took its time for."""
    fields = ((1, 1), (5, 31), (1, 0), (7, 15), (14, 4095), (6, 2), (4, 13), (5, 15))  # of a DTS frame's head
    head = int(f"{0x7FFE8001:032b}" + "".join(f"{value:0{width}b}" for width, value in fields) + "00000", 2)
    frame = head.to_bytes(10, "big").ljust(4096, b"\0")
    with wave.open(str(tmp_path / "disguised.wav"), "wb") as file:
        file.setparams((2, 2, 48_000, 0, "NONE", "not compressed"))
        file.writeframes(frame * 60)
    assert examined(tmp_path / "disguised.wav") == {
        "duration_s": 1.28,
        "has_picture": False,
        "has_sound": True,
        "detail": "pcm_s16le 48000 Hz",
    }


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
