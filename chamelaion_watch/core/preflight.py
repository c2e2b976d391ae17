"""Says, before money is spent, whether two probed files are worth sending.

A pure judgement of what the probe found, by the folder's `preflight` rules; the words are for the person at the share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chamelaion_watch.core.model import MediaInfo

STOP, WARN, OFF = "stop", "warn", "off"
DEFAULT_RULES: Mapping[str, str] = {
    "unreadable": STOP,
    "no_picture": STOP,
    "no_sound": STOP,
    "duration_mismatch": WARN,
}

# Both must be passed: a fade is seconds long in an hour, and a tenth of a short clip is nothing.
MISMATCH_S = 2.0
MISMATCH_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: a stable slug, and a sentence with the numbers."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    stop: tuple[Finding, ...] = ()
    warn: tuple[Finding, ...] = ()


def preflight(video: MediaInfo, audio: MediaInfo, rules: Mapping[str, str]) -> Verdict:
    """Judge a pair; a rule that `rules` does not name counts as in `DEFAULT_RULES`."""
    rules = {**DEFAULT_RULES, **rules}
    findings = list(_findings(video, audio))
    return Verdict(
        stop=tuple(finding for finding in findings if rules[finding.code] == STOP),
        warn=tuple(finding for finding in findings if rules[finding.code] == WARN),
    )


def _findings(video: MediaInfo, audio: MediaInfo) -> Iterator[Finding]:
    if video.error:
        yield Finding("unreadable", f"the video cannot be used: {video.error}")
    elif not video.has_picture:
        yield Finding("no_picture", f"the video file has no picture{_found(video)}")
    if audio.error:
        yield Finding("unreadable", f"the audio cannot be used: {audio.error}")
    elif not audio.has_sound:
        yield Finding("no_sound", f"the audio file has no sound{_found(audio)}")
    if not video.error and not audio.error:
        yield from _mismatch(video.duration_s, audio.duration_s)


def _mismatch(video_s: float | None, audio_s: float | None) -> Iterator[Finding]:
    if video_s is None or audio_s is None:
        return
    apart_s = abs(video_s - audio_s)
    if apart_s > MISMATCH_S and apart_s > MISMATCH_SHARE * max(video_s, audio_s):
        longer = "video" if video_s > audio_s else "audio"
        yield Finding(
            "duration_mismatch",
            f"the video is {_length(video_s)} long and the audio {_length(audio_s)}: "
            f"the {longer} is {_length(apart_s)} longer",
        )


def _found(info: MediaInfo) -> str:
    return f" (found: {info.detail})" if info.detail else ""


def _length(seconds: float) -> str:
    """`7.5 s` below a minute, then `1:05`, `1:02:05`."""
    if seconds < 59.95:  # noqa: PLR2004 - from here on it would be shown as 60.0
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
