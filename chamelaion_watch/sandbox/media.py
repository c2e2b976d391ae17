"""Media for the stand-in service: make small clips, put a new sound under a picture, look at what came out.

All of it is PyAV, in process, and blocking: the server calls it from worker threads. Nothing here knows of
requests, time or the network.
"""

from __future__ import annotations

import itertools
import math
import random
import wave
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

NO_FACE = "No face detected in the video"
AAC_RATE = 48_000
AAC_FRAME = 1024  # samples that one AAC packet holds
AAC = {"aac_coder": "fast"}  # a dub of one second: 31 ms of processor, 87 with the usual search for the best coding
SOURCE_RATE = 44_100  # of generated sound: unlike AAC_RATE, so that every dub resamples
WHOLE = 0.9  # of the promised duration: a truncated faststart MP4 opens and demuxes without complaint
UNIFORM_SPREAD = 8  # between the darkest and the brightest pixel; an encoded uniform picture has 0 to 2


class MediaError(Exception):
    """The media cannot be used; the text is what the service tells its client."""


@dataclass(frozen=True, slots=True)
class MediaFacts:
    duration_s: float
    has_video: bool
    has_audio: bool


def dub(video: Path, audio: Path, output: Path) -> None:
    """Write `video`'s picture, not re-encoded, with `audio`'s sound as a faststart MP4.

    The sound is cut to the picture's length, or continued with silence. Raises MediaError.
    """
    with (
        _translated(),
        _opened(video, "video") as picture,
        _opened(audio, "audio") as sound,
        av.open(str(output), "w", format="mp4", options={"movflags": "faststart"}) as out,
    ):
        _require_face(video)
        _mux(_first(picture.streams.video, "video"), _first(sound.streams.audio, "audio"), out)


def describe(path: Path) -> MediaFacts:
    """Decode all of `path` and say what it holds: what cannot be played raises MediaError."""
    with _translated(), _opened(path, path.name) as container:
        has_video, has_audio = bool(container.streams.video), bool(container.streams.audio)
        end_s = 0.0
        for frame in container.decode(*container.streams.video[:1], *container.streams.audio[:1]):
            if not isinstance(frame, av.VideoFrame | av.AudioFrame):
                continue
            end_s = max(end_s, (frame.time or 0.0) + _length_s(frame))
        if not end_s:
            raise MediaError(f"{path.name} holds no picture and no sound")
        return MediaFacts(duration_s=round(end_s, 3), has_video=has_video, has_audio=has_audio)


def make_video(
    path: Path,
    *,
    seconds: float,
    width: int = 320,
    height: int = 180,
    fps: int = 25,
    seed: int = 0,
    blank: bool = False,
    sound: bool = True,
) -> None:
    """Write an MP4 of a moving pattern, or of one colour if `blank`; width and height are even."""
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as out:
        stream = out.add_stream(codec, rate=fps, options={"preset": "ultrafast"} if codec == "libx264" else {})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        track = out.add_stream("aac", rate=AAC_RATE, layout="stereo", options=AAC) if sound else None
        for number, picture in enumerate(_pictures(round(seconds * fps), width, height, seed, blank=blank)):
            picture.pts, picture.time_base = number, Fraction(1, fps)
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
        if track is not None:
            _encode(_tone_frames(seconds, 330, seed), track, out)


def make_audio(path: Path, *, seconds: float, hz: int = 440, seed: int = 0) -> None:
    """Write a tone, as 16-bit mono PCM for `.wav`, as MP3 for `.mp3`."""
    if path.suffix.lower() == ".wav":
        with wave.open(str(path), "wb") as out:
            out.setparams((1, 2, SOURCE_RATE, 0, "NONE", "not compressed"))
            out.writeframes(_tone(seconds, hz, seed).tobytes())
        return
    with av.open(str(path), "w", format="mp3") as out:
        _encode(_tone_frames(seconds, hz, seed), out.add_stream("mp3", rate=SOURCE_RATE, layout="mono"), out)


# -- dubbing ------------------------------------------------------------------------------------------


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"the media could not be processed: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def _opened(path: Path, role: str) -> Iterator[InputContainer]:
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"the {role} file could not be read as media") from error
    with container:
        yield container


def _first(streams: tuple[VideoStream, ...] | tuple[AudioStream, ...], role: str) -> VideoStream | AudioStream:
    if not streams:
        raise MediaError(f"the {role} file holds no {role} stream")
    return streams[0]


def _require_face(video: Path) -> None:
    """A picture of one colour has no face: how tests and the demo make a job fail because of its content."""
    with _opened(video, "video") as container:
        if not container.streams.video:
            return
        picture = next(container.decode(video=0), None)
        if picture is None:
            raise MediaError("the video file holds no picture")
        luma = _luma(picture)
        if max(luma) - min(luma) <= UNIFORM_SPREAD:
            raise MediaError(NO_FACE)


def _luma(picture: av.VideoFrame) -> bytes:
    plane = picture.reformat(format="gray8").planes[0]
    data, step = bytes(plane), plane.line_size  # lines are padded, and the padding is not picture
    return b"".join(data[start : start + plane.width] for start in range(0, plane.height * step, step))


def _mux(picture: VideoStream | AudioStream, sound: VideoStream | AudioStream, out: OutputContainer) -> None:
    """Write both streams in step: the muxer would hold gigabytes in memory while it waits for the slower one."""
    assert isinstance(picture, VideoStream)
    assert isinstance(sound, AudioStream)
    copy = out.add_stream_from_template(picture)
    track = out.add_stream("aac", rate=AAC_RATE, layout="stereo", options=AAC)
    frames = _numbered(itertools.chain(_decoded(sound), _silence()))
    sound_s = end_s = 0.0
    for packet in _input(picture).demux(picture):
        if packet.dts is None:  # the demuxer's last word, empty
            continue
        end_s = max(end_s, float(((packet.pts or packet.dts) + (packet.duration or 0)) * packet.time_base))
        while sound_s + AAC_FRAME / AAC_RATE <= end_s:
            out.mux(track.encode(next(frames)))
            sound_s += AAC_FRAME / AAC_RATE
        packet.stream = copy
        out.mux(packet)
    promised_s = float((picture.duration or 0) * (picture.time_base or 0))
    if end_s < promised_s * WHOLE:
        raise MediaError(f"the video file ends after {end_s:.2f} of {promised_s:.2f} s")
    out.mux(track.encode(None))


def _input(stream: VideoStream | AudioStream) -> InputContainer:
    assert isinstance(stream.container, InputContainer)
    return stream.container


def _decoded(sound: AudioStream) -> Iterator[av.AudioFrame]:
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=AAC_RATE, frame_size=AAC_FRAME)
    for frame in _input(sound).decode(sound):
        assert isinstance(frame, av.AudioFrame)
        frame.pts = None  # a gap in the source's times is not worth a failure
        yield from resampler.resample(frame)
    yield from (frame for frame in resampler.resample(None) if frame.samples == AAC_FRAME)


def _silence() -> Iterator[av.AudioFrame]:
    while True:
        frame = av.AudioFrame(format="fltp", layout="stereo", samples=AAC_FRAME)
        frame.sample_rate = AAC_RATE
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        yield frame


def _numbered(frames: Iterable[av.AudioFrame]) -> Iterator[av.AudioFrame]:
    samples = 0
    for frame in frames:
        frame.pts, frame.time_base = samples, Fraction(1, frame.sample_rate)
        samples += frame.samples
        yield frame


def _length_s(frame: av.VideoFrame | av.AudioFrame) -> float:
    if isinstance(frame, av.AudioFrame):
        return frame.samples / frame.sample_rate
    return float((frame.duration or 0) * (frame.time_base or 0))


# -- generating ---------------------------------------------------------------------------------------


def _pictures(count: int, width: int, height: int, seed: int, *, blank: bool) -> Iterator[av.VideoFrame]:
    colours = random.Random(seed)  # noqa: S311 -- a pattern, not a secret
    slope, blue, red = colours.randrange(1, 9), colours.randrange(64, 192), colours.randrange(64, 192)
    for number in range(count):
        picture = av.VideoFrame(width, height, "yuv420p")
        luma, *chroma = picture.planes
        shift = 0 if blank else number * slope + seed
        luma.update(_gradient(luma.line_size, height, shift, blank=blank))
        for plane, colour in zip(chroma, (blue, red), strict=True):
            plane.update(bytes([colour]) * plane.buffer_size)
        yield picture


def _gradient(line_size: int, height: int, shift: int, *, blank: bool) -> bytes:
    if blank:
        return b"\x60" * (line_size * height)
    ramp = bytes((value * 2) % 220 + 16 for value in range(line_size + 256))
    return b"".join(ramp[(y + shift) % 256 :][:line_size] for y in range(height))


def _tone(seconds: float, hz: int, seed: int) -> array[int]:
    """One second of a tone with a little noise of the seed, repeated."""
    length = min(SOURCE_RATE, math.ceil(seconds * SOURCE_RATE))
    noise = random.Random(seed).randbytes(length)  # noqa: S311 -- a sound, not a secret
    second = array("h", (sample + (byte - 128) // 2 for sample, byte in zip(_pure_tone(hz), noise, strict=False)))
    return (second * math.ceil(seconds))[: round(seconds * SOURCE_RATE)]


@cache
def _pure_tone(hz: int) -> array[int]:
    return array("h", (round(9000 * math.sin(2 * math.pi * hz * n / SOURCE_RATE)) for n in range(SOURCE_RATE)))


def _tone_frames(seconds: float, hz: int, seed: int) -> Iterator[av.AudioFrame]:
    samples = _tone(seconds, hz, seed)
    for start in range(0, len(samples), SOURCE_RATE):
        piece = samples[start : start + SOURCE_RATE]
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(piece))
        frame.sample_rate = SOURCE_RATE
        frame.planes[0].update(piece.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
        yield frame


def _encode(frames: Iterable[av.AudioFrame], track: AudioStream, out: OutputContainer) -> None:
    for frame in _numbered(frames):
        out.mux(track.encode(frame))
    out.mux(track.encode(None))
