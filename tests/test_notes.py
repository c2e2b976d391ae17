from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chamelaion_watch.core import notes
from chamelaion_watch.core.advice import ADVICE
from chamelaion_watch.core.model import Attempt, Job, JobState, Options, PairState, Signature, Source, Unpaired
from chamelaion_watch.core.pairing import MOST_RIVALS

NOW = 1_795_375_985_000  # 2026-11-22 19:33:05 UTC
HOUR_S = 3600
HOSTILE = "a\r\nDelete\x1b[31m \u202egpj\x00 <script>\udcff\u2028" + "x" * 5000

JOB = Job(
    id=12,
    root="lipsync",
    key="show/scene01.de",
    name="scene01.de",
    folder="show",
    stem="scene01",
    lang="de",
    video=Source("show/scene01.mp4", Signature(1_048_576, 1), "a" * 64),
    audio=Source("show/scene01.de.wav", Signature(2048, 2), "b" * 64),
    options=Options(),
    run_no=1,
    reference_id="cw-abcdefghijklmnopqrstuvwxyz",
    state=JobState.FAILED,
    created_at=NOW - 60_000,
    changed_at=NOW,
    code="no_face",
    message="No face detected in the video",
)
ATTEMPTS = [
    Attempt(12, NOW - 30_000, "submit", "server_error", "the service answered: internal error", 500),
    Attempt(12, NOW, "render", "remote_failed", "No face detected in the video"),
]


def text_of(note: bytes) -> list[str]:
    """The lines of a note, after checking what holds for all of them."""
    assert note.startswith(b"\xef\xbb\xbf")
    assert note.endswith(b"\r\n")
    lines = note.decode("utf-8-sig").split("\r\n")[:-1]
    assert len(lines) <= 12
    for line in lines:
        assert len(line.splitlines()) <= 1
        assert line.isprintable() or any(mark in line for mark in "\u200c\u200d\u00a0"), line
    assert lines[-1].startswith("Technical: ")
    assert sum(line.startswith("Technical: ") for line in lines) == 1
    return lines


def error(job: Job = JOB, *, waits: bool = False, offset_s: int = 0) -> tuple[list[str], dict[str, Any]]:
    note = notes.error_note(job, ATTEMPTS, now=NOW, utc_offset_s=offset_s, waits=waits)
    return text_of(note.text), json.loads(note.data)


# -- error notes --------------------------------------------------------------------------------------


def test_an_error_note_reads_like_this() -> None:
    lines, _ = error(offset_s=HOUR_S)
    assert lines == [
        "No lip-synced video was made: scene01.mp4 with scene01.de.wav",
        "",
        "What happened: The lip-sync service found no face in the video that it could work with.",
        "In detail: No face detected in the video",
        f"What to do: {ADVICE['no_face'].what_to_do}",
        "",
        "It is not tried again by itself.",
        "Delete this note to try again.",
        "",
        (
            "Technical: 2026-11-22 20:33:05 +01:00; no_face; attempt 2; job 12 run 1; request none; reference"
            " cw-abcdefghijklmnopqrstuvwxyz; HTTP none; queued 2026-11-22 20:32:05 +01:00"
        ),
    ]


def test_a_note_of_an_accepted_job_says_that_a_new_try_may_cost_again() -> None:
    assert not any("money" in line for line in error()[0])
    lines, _ = error(replace(JOB, request_id="6f82a2d8", http_status=200))
    assert "The service had accepted it, so a new try may cost money again." in lines
    assert "request 6f82a2d8" in lines[-1]
    assert "HTTP 200" in lines[-1]


def test_a_note_of_a_job_that_waits_promises_no_delete() -> None:
    lines, data = error(replace(JOB, code="full", message="no space left"), waits=True)
    assert lines[0].startswith("Held up: scene01.mp4")
    assert "It is tried again by itself; this note then goes away." in lines
    assert notes.TRY_AGAIN not in lines
    assert data["will_retry"] is True


@pytest.mark.parametrize("code", [*ADVICE, None, "never_heard_of"])
@pytest.mark.parametrize("waits", [True, False])
def test_every_code_makes_a_note_of_at_most_12_lines(code: str | None, waits: bool) -> None:
    lines, data = error(replace(JOB, code=code, request_id="r", message="m"), waits=waits)
    assert (notes.TRY_AGAIN in lines) is not waits
    assert data["code"] == (code or "internal")


def test_the_data_has_exactly_these_fields() -> None:
    _, data = error(replace(JOB, http_status=400, request_id="6f82a2d8"))
    assert data == {
        "schema_version": 1,
        "job": 12,
        "state": "failed",
        "code": "no_face",
        "message": "No face detected in the video",
        "what_to_do": ADVICE["no_face"].what_to_do,
        "will_retry": False,
        "http_status": 400,
        "request_id": "6f82a2d8",
        "reference_id": "cw-abcdefghijklmnopqrstuvwxyz",
        "attempts": [
            {"at": "2026-11-22T19:32:35Z", "step": "submit", "message": "the service answered: internal error"},
            {"at": "2026-11-22T19:33:05Z", "step": "render", "message": "No face detected in the video"},
        ],
        "video": {"name": "scene01.mp4", "bytes": 1_048_576, "sha256": "a" * 64},
        "audio": {"name": "scene01.de.wav", "bytes": 2048, "sha256": "b" * 64},
        "created_at": "2026-11-22T19:33:05Z",
    }


def test_the_data_is_plain_utf_8_without_a_mark() -> None:
    note = notes.error_note(replace(JOB, message="Größe"), [], now=NOW, utc_offset_s=0)
    assert note.data.startswith(b"{")
    assert "Größe".encode() in note.data


def test_the_data_keeps_the_newest_attempts_only() -> None:
    many = [Attempt(12, NOW + i, "submit", "timed_out", f"try {i}") for i in range(500)]
    data = json.loads(notes.error_note(JOB, many, now=NOW, utc_offset_s=0).data)
    assert len(data["attempts"]) == notes.MAX_ATTEMPTS
    assert data["attempts"][-1]["message"] == "try 499"


def test_threat_38_hostile_names_and_messages_stay_on_their_line() -> None:
    video = replace(JOB.video, path=f"show/{HOSTILE}.mp4")
    audio = replace(JOB.audio, path=os.fsdecode(b"show/caf\xe9.wav"))
    hostile = replace(JOB, video=video, audio=audio, message=HOSTILE, request_id=HOSTILE, code="remote_failed")
    lines, data = error(hostile)
    assert "caf\\xe9.wav" in lines[0]
    assert "\\r\\n" in lines[0]
    assert "\\u202e" in lines[3]
    assert lines.count(notes.TRY_AGAIN) == 1
    assert max(map(len, lines)) < 600
    assert len(data["message"]) <= 300
    assert len(json.dumps(data)) < 5000


@given(st.text(alphabet=st.characters()), st.text(alphabet=st.characters()), st.text(), st.booleans())
def test_no_name_or_message_breaks_a_note(name: str, message: str, code: str, waits: bool) -> None:
    job = replace(JOB, video=replace(JOB.video, path=name), message=message, code=code)
    text = notes.error_note(job, ATTEMPTS, now=NOW, utc_offset_s=0, waits=waits)
    assert len(text.text.decode("utf-8-sig").splitlines()) <= 12
    json.loads(text.data)


def test_nothing_technical_stands_before_the_technical_line() -> None:
    lines, _ = error(replace(JOB, http_status=500, request_id="6f82a2d8"))
    for word in ("HTTP", "job ", "6f82a2d8", "cw-", "no_face"):
        assert not any(word in line for line in lines[:-1])


# -- attention notes ----------------------------------------------------------------------------------


def attention(*items: Unpaired, name: str = "scene01") -> list[str]:
    return text_of(notes.attention_note(name, items, now=NOW, utc_offset_s=-5 * HOUR_S))


def unpaired(path: str, code: str, reason: str, *candidates: str) -> Unpaired:
    return Unpaired(path, PairState.ATTENTION, code, reason, candidates)


def test_of_a_group_that_is_not_named_whole_no_number_is_told() -> None:
    named = [f"take{number:02}.wav" for number in range(MOST_RIVALS)]
    some = attention(unpaired("scene01.mp4", "stray", "not clear", *named[:-1]))
    most = attention(unpaired("scene01.mp4", "stray", "not clear", *named))
    told = next(line for line in some if "see also" in line)
    assert told.endswith(" more)")
    assert [line for line in most if line.endswith(", others)")]


def test_an_attention_note_names_the_candidates_and_the_way_out() -> None:
    lines = attention(
        unpaired("show/scene01.wav", "two_audios", "there is more than one audio for it", "show/scene01.mp3"),
        unpaired("show/scene01.mp3", "two_audios", "there is more than one audio for it", "show/scene01.wav"),
    )
    assert lines == [
        "Please decide: it is not clear which files belong together for scene01.",
        "Nothing was sent and nothing was paid.",
        "",
        "- scene01.wav: there is more than one audio for it (see also: scene01.mp3)",
        "- scene01.mp3: there is more than one audio for it (see also: scene01.wav)",
        "",
        f"What to do: {ADVICE['two_audios'].what_to_do}",
        "This note goes away by itself when it is clear.",
        "Technical: 2026-11-22 14:33:05 -05:00; two_audios",
    ]


def test_a_candidate_that_the_reason_names_is_not_named_twice() -> None:
    lines = attention(unpaired("a.mp4", "two_videos", "a.mov has the same name", "a.mov", "a.mp4"))
    assert "- a.mp4: a.mov has the same name" in lines


def test_many_files_still_fit_on_12_lines() -> None:
    codes = ["two_videos", "two_audios", "twins", "stray"]
    items = [unpaired(f"f{i}.mp4", codes[i % 4], "why", *(f"c{j}.wav" for j in range(50))) for i in range(40)]
    lines = attention(*items)
    assert "- and 37 more files" in lines
    assert any("46 more" in line for line in lines)


def test_threat_38_hostile_names_do_not_break_an_attention_note() -> None:
    lines = attention(unpaired(HOSTILE, "twins", HOSTILE, HOSTILE + "2"), name=HOSTILE)
    assert max(map(len, lines)) < 900


# -- doubtful notes -----------------------------------------------------------------------------------

DOUBTFUL = replace(JOB, state=JobState.DOUBTFUL, code="doubtful", sent_at=NOW - 30_000, message="no answer")


def doubtful(job: Job) -> list[str]:
    return text_of(notes.doubtful_note(job, now=NOW, utc_offset_s=0))


def test_a_doubtful_note_says_what_is_known_and_what_it_may_cost() -> None:
    lines = doubtful(DOUBTFUL)
    assert lines[0] == "Please decide: scene01.mp4 with scene01.de.wav may have been ordered already."
    assert "were sent on 2026-11-22 at 19:32, but whether they arrived could not be found out." in lines[2]
    assert any(line.startswith("Money may have been spent") for line in lines)
    assert notes.TRY_AGAIN in lines
    assert any("chamelaion-watch retry 12" in line for line in lines)
    assert "reference cw-abcdefghijklmnopqrstuvwxyz" in lines[-1]


def test_a_doubtful_note_of_an_accepted_job_says_that_the_service_lost_it() -> None:
    lines = doubtful(replace(DOUBTFUL, request_id="6f82a2d8", accepted_at=NOW - 10_000, http_status=404))
    assert "took it on 2026-11-22 at 19:32, but now it does not know it any more." in lines[2]
    assert "request 6f82a2d8" in lines[-1]


# -- receipts -----------------------------------------------------------------------------------------


def test_a_receipt_names_what_was_made_from_what() -> None:
    job = replace(
        JOB,
        state=JobState.DONE,
        output="show/scene01.de.lipsync.mp4",
        output_bytes=77,
        output_sha256="c" * 64,
        request_id="6f82a2d8",
        accepted_at=NOW - 20_000,
        rendered_at=NOW - 10_000,
    )
    data = json.loads(notes.receipt(job, now=NOW))
    assert data["schema_version"] == 1
    assert data["output"] == {"name": "scene01.de.lipsync.mp4", "bytes": 77, "sha256": "c" * 64}
    assert data["video"]["name"] == "scene01.mp4"
    assert (data["queued_at"], data["rendered_at"], data["created_at"]) == (
        "2026-11-22T19:32:05Z",
        "2026-11-22T19:32:55Z",
        "2026-11-22T19:33:05Z",
    )
