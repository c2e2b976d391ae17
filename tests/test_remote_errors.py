from __future__ import annotations

import pytest

from chamelaion_watch.core.remote_errors import remote_code


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("No face detected in the video", "no_face"),
        ("Face not found", "no_face"),
        ("couldn't detect any face in the first frames", "no_face"),
        ("Could not\nlocate a face", "no_face"),
        ("The face is too small", "no_face"),
        ("no speaker visible", "no_face"),
        ("video URL is not accessible", "media_problem"),
        ("unsupported codec", "media_problem"),
        ("the video file could not be read as media", "media_problem"),
        ("the audio file holds no audio stream", "media_problem"),
        ("Invalid video file", "media_problem"),
        ("audio is too long", "too_long"),
        ("The provided audio exceeds the maximum allowed length.", "too_long"),
        ("video resolution exceeds the maximum", "too_large"),
        ("processing timed out", "remote_timed_out"),
        ("Request timeout", "remote_timed_out"),
        ("internal error", "remote_internal"),
        ("Something went wrong", "remote_internal"),
        ("insufficient credits", "quota_exhausted"),
        ("token limit reached", "quota_exhausted"),
        ("the service gives no reason", "remote_failed"),
        ("the surface is not flat", "remote_failed"),
        ("", "remote_failed"),
    ],
)
def test_the_services_words_are_classified(message: str, code: str) -> None:
    assert remote_code(message) == code


def test_threat_67_a_megabyte_of_words_is_classified_by_its_beginning() -> None:
    assert remote_code("no " * 500_000 + "face") == "remote_failed"
