from __future__ import annotations

import pytest

from chamelaion_watch.core.model import MediaInfo
from chamelaion_watch.core.preflight import DEFAULT_RULES, Verdict, preflight

VIDEO = MediaInfo(duration_s=60.0, has_picture=True, has_sound=True, detail="h264 1920x1080, aac 48000 Hz")
AUDIO = MediaInfo(duration_s=60.0, has_sound=True, detail="pcm_s16le 48000 Hz")


def codes(verdict: Verdict) -> tuple[list[str], list[str]]:
    return [finding.code for finding in verdict.stop], [finding.code for finding in verdict.warn]


def test_a_good_pair_passes() -> None:
    assert preflight(VIDEO, AUDIO, DEFAULT_RULES) == Verdict()


def test_a_video_without_sound_passes() -> None:
    silent = MediaInfo(duration_s=60.0, has_picture=True)
    assert preflight(silent, AUDIO, {}) == Verdict()


def test_the_sound_is_asked_of_the_audio_file_only() -> None:
    mute = MediaInfo(duration_s=60.0, has_picture=True, detail="h264 320x180")
    verdict = preflight(VIDEO, mute, {})
    assert codes(verdict) == (["no_sound"], [])
    assert verdict.stop[0].message == "the audio file has no sound (found: h264 320x180)"


def test_a_video_file_with_sound_only_has_no_picture() -> None:
    assert codes(preflight(AUDIO, AUDIO, {})) == (["no_picture"], [])


def test_an_unreadable_file_says_only_that() -> None:
    verdict = preflight(MediaInfo(error="it is empty (0 bytes)"), MediaInfo(duration_s=1, has_sound=True), {})
    assert codes(verdict) == (["unreadable"], [])
    assert verdict.stop[0].message == "the video cannot be used: it is empty (0 bytes)"


def test_two_unreadable_files_are_two_findings() -> None:
    broken = MediaInfo(error="it is damaged")
    assert [f.message.split()[1] for f in preflight(broken, broken, {}).stop] == ["video", "audio"]


@pytest.mark.parametrize(
    ("video_s", "audio_s", "is_apart"),
    [
        (60, 60, False),
        (60, 54.1, False),  # 5.9 s, less than 10 %
        (60, 53.9, True),
        (53.9, 60, True),
        (4, 2, False),  # 50 %, not more than 2 s
        (4, 1.9, True),
        (3600, 3241, False),
        (None, 5, False),
        (5, None, False),
    ],
)
def test_durations_differ_when_more_than_two_seconds_and_a_tenth_apart(
    video_s: float | None, audio_s: float | None, is_apart: bool
) -> None:
    video = MediaInfo(duration_s=video_s, has_picture=True)
    audio = MediaInfo(duration_s=audio_s, has_sound=True)
    assert codes(preflight(video, audio, {})) == ([], ["duration_mismatch"] if is_apart else [])


def test_the_mismatch_names_the_lengths_and_the_longer_file() -> None:
    video = MediaInfo(duration_s=3725.2, has_picture=True)
    audio = MediaInfo(duration_s=7.5, has_sound=True)
    (finding,) = preflight(video, audio, {}).warn
    assert finding.message == "the video is 1:02:05 long and the audio 7.5 s: the video is 1:01:58 longer"


@pytest.mark.parametrize(("rule", "expected"), [("stop", (["x"], [])), ("warn", ([], ["x"])), ("off", ([], []))])
def test_each_rule_stops_warns_or_is_off(rule: str, expected: tuple[list[str], list[str]]) -> None:
    bad = {
        "unreadable": (MediaInfo(error="broken"), AUDIO),
        "no_picture": (AUDIO, AUDIO),
        "no_sound": (VIDEO, MediaInfo(duration_s=60.0, has_picture=True)),
        "duration_mismatch": (VIDEO, MediaInfo(duration_s=5, has_sound=True)),
    }
    for code, (video, audio) in bad.items():
        stop, warn = codes(preflight(video, audio, {code: rule}))
        assert (["x" for _ in stop], ["x" for _ in warn]) == expected
        assert set(stop + warn) <= {code}
