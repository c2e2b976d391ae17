"""Which names are none of our business: other programs' temporary files, system litter and our own files.

Globs, never regular expressions (a user's regular expression can hang a scan); matched without regard to case on
the NFC name. It judges names only: whether something is a regular file is the disk's to say. A partial copy also
says something about the file beside it: `partial_copies`.
"""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache

# Every entry is a program that was seen to leave it: systems, editors, copy and sync tools, browsers, our own files.
FILE_GLOBS = (
    *(".*", "._*", ".DS_Store", "Icon\r", "Thumbs.db*", "ehthumbs*.db", "desktop.ini", "~$*", ".~lock.*", ".~*", "*~"),
    *("~*.tmp", "*.tmp", "*.temp", "*.part", "*.partial", "*.filepart", "*.crdownload", "*.download", "*.opdownload"),
    *("*.!ut", "*.!sync", "*.bts", "*.aria2", "*.aspx", "*.aspera-ckpt", "*.aspera-env", "*.syncpart", "*.synctemp"),
    *(".syncthing.*.tmp", "~syncthing~*", ".stignore", "*.sync-conflict-*", "*_conflict-*", "*conflicted copy*"),
    *("*.icloud", ".goutputstream-*", ".nfs*", ".fuse_hidden*", ".smbdelete*", "*.sb-????????-??????"),
    *("*.swp", "*.sw?", "*.bak", "*.lck", "*.lock", "*.lnk", "*.alias", "*.url"),
    *(".owncloudsync*", ".sync_*.db*", "*.camellock", ".apdisk"),
)
# Never un-ignored, not even by `!*`: a result taken for a source would be paid for again and again.
OUR_GLOBS = ("*.lipsync.*", "*.lipsync-*", "_lipsync-*", ".lipsync-*")
TICKET_ENDING = ".lipsync.yaml"  # a person's wish, not our file

FOLDER_GLOBS = (
    *(".*", "@eaDir", "#recycle", "@Recycle", "@Recently-Snapshot", "#snapshot", "~snapshot", ".snapshot"),
    *("$RECYCLE.BIN", "System Volume Information", "lost+found", ".Trash*", ".TemporaryItems", "Temporary Items"),
    *("Network Trash Folder", ".AppleDouble", ".Spotlight-V100", ".fseventsd", "__MACOSX", ".stfolder", ".stversions"),
    *(".dropbox.cache", "*.fcpbundle", "*.fcpcache", "*.imovielibrary", "CacheClip", ".gallery", "ProxyMedia"),
    *("Adobe Premiere Pro *Preview*", "Adobe Premiere Pro Auto-Save", "Media Cache*", "Peak Files", "_UNPACK_*"),
)


class IgnoreRules:
    """The built-in globs and a folder's own, compiled once.

    The user's globs come after the built-in ones and the last that matches decides: `!GLOB` takes a name back in.
    `GLOB/` means folders only.
    """

    def __init__(self, extra: Sequence[str] = ()) -> None:
        self._files = _GlobSet(FILE_GLOBS)
        self._ours = _GlobSet(OUR_GLOBS)
        self._folders = _GlobSet(FOLDER_GLOBS)
        self._built_in = _GlobSet((*FILE_GLOBS, *OUR_GLOBS))
        self._extra_files = _user_globs(glob for glob in extra if not glob.endswith("/"))
        self._extra_folders = _user_globs(glob.removesuffix("/") for glob in extra)

    def why_ignored(self, name: str) -> str | None:
        """Return the glob for which a file of this name is left alone, or None if it is looked at."""
        folded = _folded(name)
        if not self._extra_files and not self._built_in.matches(folded):
            return None
        ours = None if folded.endswith(TICKET_ENDING) else self._ours.first(folded)
        return ours or _decide(folded, self._files, self._extra_files)

    def why_folder_ignored(self, name: str) -> str | None:
        """Return the glob for which a folder of this name is not entered, or None if it is."""
        return _decide(_folded(name), self._folders, self._extra_folders)


def why_ignored(name: str, extra: Sequence[str] = ()) -> str | None:
    """Return the glob for which a file of this name is left alone, or None if it is looked at."""
    return rules_for(tuple(extra)).why_ignored(name)


def why_folder_ignored(name: str, extra: Sequence[str] = ()) -> str | None:
    """Return the glob for which a folder of this name is not entered, or None if it is."""
    return rules_for(tuple(extra)).why_folder_ignored(name)


@lru_cache(maxsize=64)
def rules_for(extra: tuple[str, ...] = ()) -> IgnoreRules:
    """Return the compiled rules of a folder with these globs of its own."""
    return IgnoreRules(extra)


def glob_problem(glob: str) -> str | None:
    """Return why a user's glob could never match, for the configuration's checks, or None if it is fine."""
    bare = glob.removeprefix("!").removesuffix("/")
    if not bare:
        return "an empty glob matches nothing"
    if "/" in bare:
        return f"{glob}: a glob is compared with one file or folder name, so it cannot contain /"
    return None


# -- partial copies -----------------------------------------------------------------------------------

# AppleDouble `._NAME` is not here: it stays for good and says nothing about the copy.
_ENDS = (
    *(".part", ".partial", ".filepart", ".crdownload", ".download", ".opdownload", ".tmp", ".temp", ".!ut", ".!sync"),
    *(".bts", ".aria2", ".aspx", ".aspera-ckpt", ".aspera-env", ".syncpart", ".synctemp"),
)
_FRAMES = (
    *((".", ".part"), (".", ".partial"), (".", ".filepart"), (".", ".tmp"), (".", ".icloud")),
    *((".syncthing.", ".tmp"), ("~syncthing~", ".tmp")),
)
_RANDOM = (
    re.compile(r"\.(.+)\.[A-Za-z0-9]{6}", re.DOTALL),  # rsync, by mkstemp: .NAME.XXXXXX
    re.compile(r"\.(.+)\.~[0-9a-f]+", re.DOTALL),  # Nextcloud's desktop client: .NAME.~1a2b3c4d
    re.compile(r"([^.].*)\.sb-[0-9A-Za-z]{8}-[0-9A-Za-z]{6}", re.DOTALL),  # saved by a Mac
    re.compile(r"([^.].*)\.ocTransferId\d+\.part", re.DOTALL),  # ownCloud
)
_LIKE_ONE = (*_ENDS, ".icloud")
_MAYBE = (".", "~syncthing~")


def partial_copies(names: Collection[str]) -> dict[str, str]:
    """Return, of all names in one folder, the partial copy that lies beside a file: file name → its partial copy.

    Asked once for a whole folder: asked for each file, 4,000 that arrived together took a quarter of the processor.
    """
    found: dict[str, tuple[int, str]] = {}
    for other in names:
        if other.endswith(_LIKE_ONE) or other.startswith(_MAYBE) or ".sb-" in other:
            for name, rank in _copied(other):
                found[name] = min(found.get(name, (rank, other)), (rank, other))
    return {name: other for name, (_, other) in found.items()}


def _copied(other: str) -> Iterator[tuple[str, int]]:
    """Yield the names of which `other` may be a partial copy, with a rank: the lower says more."""
    for rank, end in enumerate(_ENDS):
        if other.endswith(end):
            yield other.removesuffix(end), rank
    for rank, (start, end) in enumerate(_FRAMES, len(_ENDS)):
        if other.startswith(start) and other.endswith(end):
            yield other.removeprefix(start).removesuffix(end), rank
    for form in _RANDOM:
        if match := form.fullmatch(other):
            yield match[1], len(_ENDS) + len(_FRAMES)


# -- globs --------------------------------------------------------------------------------------------


class _GlobSet:
    """Globs behind one quick question: of 100,000 names in 0.2 s, where one regular expression takes up to 2.4 s.

    Most globs are a fixed start, end or middle, which `str` compares at once; only the rest needs `re`.
    """

    def __init__(self, globs: Sequence[str]) -> None:
        self._globs = [_Glob(glob) for glob in globs]
        shapes: dict[str, list[str]] = {}
        for glob in self._globs:
            shapes.setdefault(glob.shape, []).append(glob.fixed)
        self._starts = tuple(shapes.get("x*", ()))
        self._ends = tuple(shapes.get("*x", ()))
        self._middles = tuple(shapes.get("*x*", ()))
        self._whole = frozenset(shapes.get("x", ()))
        self._others = [(glob.literal, glob.match) for glob in self._globs if glob.shape == "other"]

    def first(self, folded: str) -> str | None:
        """Return the first glob, as it was written, that matches the folded name."""
        if not self.matches(folded):
            return None
        return next(glob.text for glob in self._globs if glob.match(folded))

    def matches(self, folded: str) -> bool:
        return (
            folded.startswith(self._starts)
            or folded.endswith(self._ends)
            or folded in self._whole
            or True in [middle in folded for middle in self._middles]
            or True in [literal in folded and match(folded) is not None for literal, match in self._others]
        )


class _Glob:
    """One glob: its text, whether it ignores (`!` takes back), its matcher, and its shape around a fixed part."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.ignores = not text.startswith("!")
        folded = _folded(text.removeprefix("!"))
        self.match = re.compile(fnmatch.translate(folded)).match
        self.fixed = folded.strip("*")
        has_magic = any(char in self.fixed for char in "*?[")
        self.literal = "" if "[" in folded else max(re.split(r"[*?]", folded), key=len)  # every match contains it
        self.shape = "other" if has_magic or not self.fixed else folded.replace(self.fixed, "x")


def _user_globs(globs: Iterable[str]) -> list[_Glob]:
    """Return the user's globs, the last first."""
    return [_Glob(glob) for glob in globs][::-1]


def _decide(folded: str, built_in: _GlobSet, extra: Sequence[_Glob]) -> str | None:
    for glob in extra:
        if glob.match(folded):
            return glob.text if glob.ignores else None
    return built_in.first(folded)


def _folded(name: str) -> str:
    return (name if name.isascii() else unicodedata.normalize("NFC", name)).casefold()
