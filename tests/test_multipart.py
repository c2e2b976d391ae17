"""The body of a submission: its parts, its length, its last piece, and files that are not as announced."""

from __future__ import annotations

import io
from collections.abc import Callable
from email.message import Message
from email.parser import BytesParser
from typing import Any, BinaryIO, cast

import pytest

from chamelaion_watch.core.errors import InputProblem, Transient
from chamelaion_watch.edges.multipart import Body, Upload
from chamelaion_watch.edges.stream import PIECE_BYTES

VIDEO = b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 2600  # 2.5 pieces
AUDIO = b"RIFF" + bytes(range(255, -1, -1)) * 1100  # just more than one piece


def upload_of(video: bytes = VIDEO, audio: bytes = AUDIO, **changes: Any) -> Upload:
    given: dict[str, Any] = {
        "video": io.BytesIO(video),
        "video_bytes": len(video),
        "video_suffix": ".mp4",
        "audio": io.BytesIO(audio),
        "audio_bytes": len(audio),
        "audio_suffix": ".wav",
        "fields": {"reference_id": "cw-abc", "disable_active_speaker_detection": "true"},
    }
    return Upload(**(given | changes))


def parsed(body: Body) -> dict[str, Message]:
    raw = b"Content-Type: " + body.content_type.encode() + b"\r\n\r\n" + b"".join(body)
    parts = BytesParser().parsebytes(raw).get_payload()
    assert isinstance(parts, list)
    return {
        str(part.get_param("name", header="content-disposition")): part for part in parts if isinstance(part, Message)
    }


def test_the_parts_are_what_the_service_documents() -> None:
    parts = parsed(Body(upload_of()))
    assert list(parts) == ["reference_id", "disable_active_speaker_detection", "video", "audio"]
    assert parts["reference_id"].get_payload() == "cw-abc"
    assert parts["disable_active_speaker_detection"].get_payload() == "true"
    assert parts["video"].get_payload(decode=True) == VIDEO
    assert parts["audio"].get_payload(decode=True) == AUDIO


@pytest.mark.parametrize(
    ("suffix", "name", "content_type"),
    [
        (".wav", "audio.wav", "audio/wav"),
        (".MP3", "audio.mp3", "audio/mpeg"),
        ('.x"\r\nX: 1', "audio", "application/octet-stream"),
    ],
)
def test_threat_39_41_file_names_are_neutral_types_follow_the_suffix(suffix: str, name: str, content_type: str) -> None:
    part = parsed(Body(upload_of(audio_suffix=suffix)))["audio"]
    assert part.get_filename() == name
    assert part.get_content_type() == content_type


def test_the_announced_length_is_the_real_one() -> None:
    body = Body(upload_of())
    assert body.size == len(b"".join(body))


def test_booleans_are_words_and_none_is_left_out() -> None:
    parts = parsed(Body(upload_of(fields={"disable_active_speaker_detection": False, "model": None})))
    assert parts["disable_active_speaker_detection"].get_payload() == "false"
    assert "model" not in parts


def test_threat_41_line_breaks_in_a_value_make_no_part() -> None:
    hostile = 'x\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nevil'
    assert set(parsed(Body(upload_of(fields={"reference_id": hostile})))) == {"reference_id", "video", "audio"}


def test_threat_41_a_field_name_that_could_break_the_header_is_a_bug() -> None:
    with pytest.raises(ValueError, match="form field"):
        Body(upload_of(fields={'a"\r\nb': "1"}))


def test_two_bodies_never_share_a_boundary() -> None:
    assert Body(upload_of()).content_type != Body(upload_of()).content_type


def test_pieces_are_bounded() -> None:
    assert max(len(piece) for piece in Body(upload_of())) <= PIECE_BYTES + 64


@pytest.mark.parametrize("audio", [AUDIO, b"RIFF", b"", bytes(PIECE_BYTES), bytes(PIECE_BYTES + 1)])
def test_leave_is_asked_once_right_before_the_last_piece(audio: bytes) -> None:
    events: list[str] = []
    upload = upload_of(audio=audio, may_finish=lambda: events.append("leave"))
    body = Body(upload)
    for piece in body:
        assert upload.is_finished == ("leave" in events)
        events.append("piece")
        last = piece
    assert events[-2:] == ["leave", "piece"]
    assert events.count("leave") == 1
    assert last.endswith(audio[-1:] + f"\r\n--{body.content_type.partition('=')[2]}--\r\n".encode())


def test_a_refused_leave_withdraws_and_the_last_piece_stays() -> None:
    refusal = Transient("no longer ours")

    def refuse() -> None:
        raise refusal

    upload = upload_of(may_finish=refuse)
    sent: list[bytes] = []
    body = Body(upload)
    with pytest.raises(Transient) as caught:
        sent.extend(body)
    assert caught.value is refusal
    assert not upload.is_finished
    assert 0 < sum(map(len, sent)) < body.size


def test_progress_counts_up_to_the_whole_body() -> None:
    seen: list[tuple[int, int]] = []
    body = Body(upload_of(on_progress=lambda sent, total: seen.append((sent, total))))
    assert len(b"".join(body)) == body.size
    assert [sent for sent, _ in seen] == sorted({sent for sent, _ in seen})
    assert seen[-1] == (body.size, body.size)


@pytest.mark.parametrize("which", ["video", "audio"])
@pytest.mark.parametrize("difference", [-1, +1])
def test_a_file_of_another_size_never_finishes(which: str, difference: int) -> None:
    size = len({"video": VIDEO, "audio": AUDIO}[which])
    upload = upload_of()
    setattr(upload, f"{which}_bytes", size + difference)
    with pytest.raises(InputProblem, match=which):
        list(Body(upload))
    assert not upload.is_finished


class Failing(io.RawIOBase):
    """A file on a disk that dies after the first piece."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, size: int = -1, /) -> bytes:
        self.reads += 1
        if self.reads > 1:
            raise OSError(5, "Input/output error")
        return bytes(size)


@pytest.mark.parametrize("which", ["video", "audio"])
def test_a_file_that_cannot_be_read_is_an_input_problem(which: str) -> None:
    upload = upload_of()
    setattr(upload, f"{which}_bytes", 3 * PIECE_BYTES)
    setattr(upload, which, Failing())
    with pytest.raises(InputProblem, match="Input/output error") as caught:
        list(Body(upload))
    assert caught.value.code == "input_unreadable"
    assert not upload.is_finished


def test_what_the_file_itself_raises_passes_unchanged() -> None:
    class Gone(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            raise InputProblem("moved away")

    upload = upload_of()
    upload.audio = cast("BinaryIO", Gone())
    with pytest.raises(InputProblem, match="moved away"):
        list(Body(upload))


def test_the_end_of_sending_is_told() -> None:
    told: list[Callable[[], None] | str] = []
    for _ in Body(upload_of(), on_sent=lambda: told.append("sent")):
        assert not told
    assert told == ["sent"]
