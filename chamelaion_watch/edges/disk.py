"""Reads the drop folder: which names are there, what one file looks like, its hash, its bytes for an upload.

Opens, never blocks on a pipe, never follows a link beneath the root, never writes.
Errors of the root become RootProblem; those of one file its Observation's trouble, or InputProblem.

The disk edge is these files, the only ones that touch media: `disk` reads, `listing` sweeps, `structure` judges
content, `outputs` writes, by `writing` and `placing`, and all of them walk by `jail`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import signal
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from chamelaion_watch.core.errors import InputProblem
from chamelaion_watch.core.model import Look, Observation, RelPath, Signature, Trouble
from chamelaion_watch.edges import jail, structure
from chamelaion_watch.edges.jail import held, split
from chamelaion_watch.edges.listing import Listing, ScanRules, Seen, Sweep

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["OpenSource", "ScanRules", "Sweep", "Tree", "ignore_lease_signal"]

_CHUNK_BYTES = 1 << 20
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_TROUBLES = {
    errno.EBUSY: Trouble.BUSY,
    errno.ETXTBSY: Trouble.BUSY,
    errno.EAGAIN: Trouble.BUSY,
    errno.EMFILE: Trouble.BUSY,  # our own limits, and it passes
    errno.ENFILE: Trouble.BUSY,
    errno.ENOMEM: Trouble.BUSY,
    errno.EACCES: Trouble.DENIED,
    errno.EPERM: Trouble.DENIED,
    errno.ENOENT: Trouble.GONE,
    errno.ELOOP: Trouble.NOT_REGULAR,
    errno.ENOTDIR: Trouble.NOT_REGULAR,
    errno.ENXIO: Trouble.NOT_REGULAR,  # a socket, or a device without its driver
    errno.ENODEV: Trouble.NOT_REGULAR,
    errno.EXDEV: Trouble.NOT_REGULAR,  # a path that leads out
    errno.EINVAL: Trouble.NOT_REGULAR,
}


def ignore_lease_signal() -> None:
    """Ignore SIGIO, which the kernel sends to who holds a lease and which ends a process; call in the main thread."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)


class OpenSource:
    """A source opened for reading and bound to a signature; `file` is unbuffered, its errors are InputProblem."""

    def __init__(self, fd: int, path: RelPath, signature: Signature, translate: Callable[[OSError], Exception]) -> None:
        self.path = path
        self.bytes = signature.size
        self.file = _SourceFile(fd, translate)
        self._signature = signature

    def verify(self) -> None:
        """Raise InputProblem if the open file has not the signature any more."""
        was, now = self._signature, self.file.signature()
        if now != was:
            what = f"{was.size} bytes then, {now.size} now" if now.size != was.size else f"still {was.size} bytes"
            raise InputProblem(f"{self.path}: changed since it was looked at ({what})")

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tree:
    """One root as it is read, with the memory of what was reported.

    `sweep` and `look` are for one thread at a time; `open` and `sha256` may be called from any. `clock` is
    monotonic, in seconds. `has_leases` is for local file systems only, and works only where SIGIO is ignored.
    `find_partial_copies(names)` says which names of a folder are partial copies of which files.
    """

    def __init__(
        self,
        root: str,
        rules: ScanRules,
        *,
        clock: Callable[[], float],
        find_partial_copies: Callable[[Collection[str]], Mapping[str, str]],
        has_leases: bool = False,
    ) -> None:
        self._root = root
        self._clock = clock
        self._find_partial_copies = find_partial_copies
        self._has_leases = has_leases
        self._listing = Listing(root, rules, clock)
        self._neighbours: dict[RelPath, _Neighbours] = {}

    def sweep(self) -> Sweep:
        """List the tree, names only, and say what changed; raises RootProblem, and then nothing was forgotten."""
        return self._listing.sweep()

    def look(self, looks: Sequence[Look]) -> tuple[Observation, ...]:
        """Return one observation for each look, in their order; raises RootProblem.

        The content is checked only where the signature is still the one of the look before.
        """
        by_folder: dict[RelPath, list[Look]] = {}
        for look in looks:
            by_folder.setdefault(split(look.path)[0], []).append(look)
        seen: dict[Look, Observation] = {}
        with jail.opened_root(self._root) as root:
            for folder, group in by_folder.items():
                seen.update(zip(group, self._look_in(root, folder, group), strict=True))
        self._neighbours = {folder: known for folder, known in self._neighbours.items() if folder in by_folder}
        return tuple(seen[look] for look in looks)

    def open(self, path: RelPath, signature: Signature) -> OpenSource:
        """Open a source to be read; raises InputProblem if it is not the file of that signature, RootProblem."""
        with jail.opened_root(self._root) as root:
            try:
                fd = _open_regular(root, path)
            except OSError as error:
                raise self._unreadable(path, error) from error
        source = OpenSource(fd, path, signature, lambda error: self._unreadable(path, error))
        try:
            source.verify()
        except BaseException:
            source.close()
            raise
        return source

    def sha256(self, path: RelPath, signature: Signature, *, on_progress: Callable[[int], None] | None = None) -> str:
        """Return the hash of the whole file, 64 hex digits.

        `on_progress` gets the bytes read so far, after each MiB; what it raises ends the reading.
        Raises InputProblem if the file changed, vanished, or did not give all its bytes; RootProblem.
        """
        digest, done = hashlib.sha256(), 0
        with self.open(path, signature) as source:
            for chunk in _chunks(source):
                digest.update(chunk)
                done += len(chunk)
                if on_progress:
                    on_progress(done)
            source.verify()
        if done != signature.size:
            raise InputProblem(f"{path}: {done} of {signature.size} bytes could be read", code="input_unreadable")
        return digest.hexdigest()

    # -- looking

    def _look_in(self, root: int, folder: RelPath, looks: Sequence[Look]) -> list[Observation]:
        try:
            with held(jail.open_folder_beneath(root, folder)) as fd:
                partials = {} if all(look.is_brief for look in looks) else self._partials_in(folder, fd)
                return [self._look_at(fd, look, partials) for look in looks]
        except OSError as error:
            return [self._troubled(look.path, error) for look in looks]

    def _partials_in(self, folder: RelPath, fd: int) -> Mapping[str, str]:
        """Return the partial copies in the folder, listed again only if its time does not hold."""
        status = os.fstat(fd)
        known = self._neighbours.get(folder)
        if not known or not known.seen.holds(status):
            seen = Seen.at(status, self._clock(), known.seen if known else None)
            known = self._neighbours[folder] = _Neighbours(seen, self._find_partial_copies(os.listdir(fd)))
        return known.partials

    def _look_at(self, folder: int, look: Look, partials: Mapping[str, str]) -> Observation:
        name = split(look.path)[1]
        try:
            jail.parts_of(name)
            if look.is_brief:
                return _observe_briefly(folder, name, look.path)
            with held(os.open(name, _OPEN, dir_fd=folder)) as fd:
                observation = self._observe(fd, look, name)
        except OSError as error:
            observation = self._troubled(look.path, error)
        return replace(observation, temp_sibling=partials.get(name)) if partials else observation

    def _observe(self, fd: int, look: Look, name: str) -> Observation:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return _not_regular(look.path)
        signature = _signature_of(status)
        if signature != look.last:
            return Observation(look.path, signature)
        verdict, detail = structure.check(fd, name, signature.size)
        deep = Observation(
            look.path,
            signature,
            deep=True,
            has_hole=structure.has_hole(fd, signature.size),
            has_zero_tail=structure.has_zero_tail(fd, signature.size),
            structure=verdict,
            structure_detail=detail,
            writer=self._writer(fd),  # last: a writer that left before is betrayed by the signature
        )
        after = _signature_of(os.fstat(fd))
        return deep if after == signature else Observation(look.path, after)

    def _writer(self, fd: int) -> bool | None:
        """Ask the kernel for a read lease, which it gives only if nobody has the file open for writing."""
        if not self._has_leases or signal.getsignal(signal.SIGIO) != signal.SIG_IGN:
            return None
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            return True if error.errno == errno.EAGAIN else None  # EACCES: not our file, and no CAP_LEASE
        with contextlib.suppress(OSError):  # closing gives it back as well
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False

    def _troubled(self, path: RelPath, error: OSError) -> Observation:
        jail.blame_root(error, self._root)
        trouble = _TROUBLES.get(error.errno or 0, Trouble.IO)
        return Observation(path, trouble=trouble, detail=error.strerror or str(error))

    def _unreadable(self, path: RelPath, error: OSError) -> InputProblem:
        jail.blame_root(error, self._root)
        code = "input_vanished" if error.errno == errno.ENOENT else "input_unreadable"
        return InputProblem(f"{path}: cannot be read: {error.strerror or error}", code=code)


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """The partial copies in a folder in which files are still being looked at."""

    seen: Seen
    partials: Mapping[str, str]


class _SourceFile(io.FileIO):
    """A file whose errors are already translated: read within an upload, an OSError would pass for the network's."""

    def __init__(self, fd: int, translate: Callable[[OSError], Exception]) -> None:
        super().__init__(fd, "rb")
        self._translate = translate
        os.set_blocking(fd, True)

    def read(self, size: int | None = -1, /) -> bytes:
        with self._translated():
            return super().read(size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        with self._translated():
            return super().readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with self._translated():
            return super().seek(offset, whence)

    def signature(self) -> Signature:
        with self._translated():
            return _signature_of(os.fstat(self.fileno()))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._translate(error) from error


def _chunks(source: OpenSource) -> Iterator[memoryview]:
    """Yield the content in pieces, and stop behind a file that grows for ever."""
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    left = source.bytes
    while left >= 0 and (length := source.file.readinto(buffer)):
        left -= length
        yield buffer[:length]


def _observe_briefly(folder: int, name: str, path: RelPath) -> Observation:
    """One call, a round trip on a share, where opening and closing are more."""
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        return _not_regular(path)
    return Observation(path, _signature_of(status))


def _not_regular(path: RelPath) -> Observation:
    return Observation(path, trouble=Trouble.NOT_REGULAR, detail="not a regular file")


def _open_regular(root: int, path: RelPath) -> int:
    fd = jail.open_beneath(root, path, _OPEN)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "not a regular file", path)


def _signature_of(status: os.stat_result) -> Signature:
    return Signature(status.st_size, status.st_mtime_ns)
