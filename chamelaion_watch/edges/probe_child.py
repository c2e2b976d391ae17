"""The child process that opens media: forked by `launcher_child.py`, alone with files that may be hostile.

It gets opened descriptors over its socket, answers each with one length-prefixed JSON object, and ends when the socket
does. It opens nothing by name, writes nothing, knows no secret and imports nothing of this package, so that a file that
breaks it has won nothing. It reads indexes, first packets and the end; it never decodes a whole file.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn, TypeAlias

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream

# Measured (VmPeak, av 18): 0.12 GiB when idle, 0.20 GiB with an 8K H.264 file, whose first frames are decoded.
ADDRESS_SPACE_BYTES = 1 << 30
CPU_S_PER_FILE = 30  # above the parent's wall deadline: only an orphan gets here
READ_BYTES = 128 << 20  # about 12 bytes a frame: the index of 24 hours of MP4 is below 100 MB
OPEN_FILES = 16

FIRST_PACKETS = 32
TAIL_S = 0.5
TAIL_PACKETS = 20_000
TAIL_TOLERANCE_S = 1.0

# What may be looked at. Playlists (HLS, concat) are formats to ffmpeg as well, and would name other files.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,wav,w64,mp3,matroska,webm,flac,ogg,aiff,caf,aac,avi,mxf,mpegts"
# Formats that announce where they end; in others the duration is a guess, and a missing end cannot be told.
FORMATS_WITH_END = frozenset({"mov", "matroska", "mp3", "flac"})

# ffmpeg looks through the samples of a WAV for DTS in disguise: 31 of the 32 ms that a long one took.
AS_PCM = {"max_probe_packets": "1"}

NOT_MEDIA = "it is not a video or sound file that can be read, or it is damaged"
EMPTY = "it is empty (0 bytes)"
NO_PACKETS = "it holds no picture or sound data"
ENDS_EARLY = "the file ends before its index says: the end is missing"
TOO_LARGE_INDEX = f"{READ_BYTES >> 20} MiB of it were read and it is still not clear what it is"
TOO_MUCH_MEMORY = "it needs more memory to open than any normal file: it is damaged"

Answer: TypeAlias = dict[str, Any]


def main(link: socket.socket) -> None:
    """Serve until the daemon closes the socket."""
    confine()
    av.logging.set_level(None)
    _send(link, {"ready": True})
    while (fd := _next_descriptor(link)) is not None:
        cpu_s = math.ceil(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s + CPU_S_PER_FILE, resource.RLIM_INFINITY))
        try:
            answer = examine(fd)
        finally:
            os.close(fd)
        _send(link, answer)


def confine() -> None:
    """Give up what a hostile file could use: memory, files, core dumps, privileges, being traced."""
    pr_set_dumpable, pr_set_no_new_privs, capabilities_3 = 4, 38, 0x20080522
    libc = ctypes.CDLL(None)
    libc.capset(struct.pack("Ii", capabilities_3, 0), bytes(24))  # the daemon may hold CAP_LEASE: reading needs none
    libc.prctl(pr_set_dumpable, 0, 0, 0, 0)
    libc.prctl(pr_set_no_new_privs, 1, 0, 0, 0)
    for limit, value in (
        (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
    ):
        resource.setrlimit(limit, (value, value))
    # The parent ends us; a signal to the whole group at a stop must not look like a file that crashed the probe.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def examine(fd: int) -> Answer:
    """Return the facts of `MediaInfo`, or `read_error` when it was the storage that failed, not the file."""
    source = _Source(fd)
    if source.size == 0:
        return {"error": EMPTY}
    try:
        answer = _facts(source)
    except MemoryError:
        answer = {"error": TOO_MUCH_MEMORY}
    except FFmpegError:
        answer = {"error": TOO_LARGE_INDEX if source.is_exhausted else NOT_MEDIA}
    return {"read_error": source.read_error} if source.read_error else answer


def _facts(source: _Source) -> Answer:
    options = {"format_whitelist": FORMATS} | (AS_PCM if source.is_wave() else {})
    # A tag in another encoding is no reason to refuse a file.
    with av.open(source, "r", container_options=options, io_open=_refuse, metadata_errors="replace") as container:
        streams = [stream for stream in container.streams if _is_picture(stream) or _is_sound(stream)]
        answer: Answer = {
            "duration_s": _duration_s(container, streams),
            "has_picture": any(map(_is_picture, streams)),
            "has_sound": any(map(_is_sound, streams)),
            "detail": ", ".join(map(_described, streams)),
        }
        if not any(packet.size for packet in islice(container.demux(), FIRST_PACKETS)):
            answer["error"] = NO_PACKETS
        elif _ends_early(container, streams) and not source.is_exhausted:
            answer["error"] = ENDS_EARLY
        return answer


def _refuse(*_: object) -> NoReturn:
    raise PermissionError("a media file may not open other files")


# -- streams ------------------------------------------------------------------------------------------


def _is_picture(stream: Stream) -> bool:
    return stream.type == "video" and not stream.disposition & Disposition.attached_pic  # cover art


def _is_sound(stream: Stream) -> bool:
    return stream.type == "audio"


def _described(stream: Stream) -> str:
    codec: Any = stream.codec_context
    if codec is None:
        return f"unknown {stream.type}"
    size = f"{codec.width}x{codec.height}" if stream.type == "video" else f"{codec.sample_rate} Hz"
    return f"{codec.name.removesuffix('float')} {size}"  # `mp3float`: which decoder, not which format


def _duration_s(container: InputContainer, streams: list[Stream]) -> float | None:
    """Of the picture, else of the sound: that is what is compared, and other tracks may be longer."""
    for stream in sorted(streams, key=_is_sound):
        if stream.duration and stream.duration > 0:
            return _seconds(stream, stream.duration)
    return container.duration / av.time_base if container.duration and container.duration > 0 else None


def _seconds(stream: Stream, ticks: int) -> float:
    return float(ticks * stream.time_base) if stream.time_base else 0.0


# -- the end ------------------------------------------------------------------------------------------


def _ends_early(container: InputContainer, streams: list[Stream]) -> bool:
    """Seek to just before the announced end and compare the last packets with it.

    A truncated MP4 whose index stands in front opens without complaint; only its packets tell.
    """
    if not container.duration or FORMATS_WITH_END.isdisjoint(container.format.name.split(",")):
        return False
    start_s = (container.start_time or 0) / av.time_base
    target_s = start_s + max(0.0, container.duration / av.time_base - TAIL_S)
    try:
        container.seek(int(target_s * av.time_base), any_frame=True)
        tail = _read_tail(container.demux())
    except FFmpegError:
        return True
    return tail.is_complete and (tail.is_corrupt or any(_lacks_end(stream, tail, target_s) for stream in streams))


@dataclass(slots=True)
class _Tail:
    ends: dict[int, int]  # by stream: where its last packet ends, in its own time base (seconds are slow fractions)
    is_corrupt: bool = False
    is_complete: bool = False  # everything up to the end of the file was read


def _read_tail(packets: Iterable[Any]) -> _Tail:
    tail = _Tail({})
    for count, packet in enumerate(packets):
        if count >= TAIL_PACKETS:
            return tail
        if packet.pts is not None:
            index, end = packet.stream.index, packet.pts + (packet.duration or 0)
            tail.ends[index] = max(end, tail.ends.get(index, end))
            tail.is_corrupt |= packet.is_corrupt
    tail.is_complete = True
    return tail


def _lacks_end(stream: Stream, tail: _Tail, target_s: float) -> bool:
    if not stream.duration:
        return False
    announced_s = _seconds(stream, (stream.start_time or 0) + stream.duration)
    if announced_s <= target_s:  # a track that ends earlier by design has nothing here
        return False
    return _seconds(stream, tail.ends.get(stream.index, 0)) + TAIL_TOLERANCE_S < announced_s


# -- reading and answering ----------------------------------------------------------------------------


class _Source:
    """The descriptor as a seekable file with its own position: the parent shares the descriptor's.

    Trouble is remembered and shown to ffmpeg as the end of the file; who asked looks here first.
    """

    def __init__(self, fd: int) -> None:
        self.size = os.fstat(fd).st_size
        self.read_error: str | None = None
        self.is_exhausted = False
        self._fd = fd
        self._position = 0
        self._left = READ_BYTES

    def is_wave(self) -> bool:
        try:
            head = os.pread(self._fd, 12, 0)
        except OSError:  # who reads on will meet it again
            return False
        return head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:] == b"WAVE"

    def read(self, size: int) -> bytes:
        if self._left <= 0:
            self.is_exhausted = True
            return b""
        try:
            data = os.pread(self._fd, size, self._position)
        except OSError as error:
            self.read_error = error.strerror or str(error)
            return b""
        self._position += len(data)
        self._left -= len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True


def _next_descriptor(link: socket.socket) -> int | None:
    request, descriptors, _, _ = socket.recv_fds(link, 1, 1)
    return descriptors[0] if request and descriptors else None


def _send(link: socket.socket, answer: Answer) -> None:
    body = json.dumps(answer).encode()
    link.sendall(struct.pack(">I", len(body)) + body)
