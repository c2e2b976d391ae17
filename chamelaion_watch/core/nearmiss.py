"""Near misses: a file of the other kind that a person may have meant, when a name fits none.

Only hints, never pairs. Bounded: names are looked up by what is left of them without separators and leading zeros,
and by what is left after dropping any one letter, so no name is ever compared with every other.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chamelaion_watch.core.languages import canonical, suffixes
from chamelaion_watch.core.model import RelPath
from chamelaion_watch.core.text import printable

MAX_CANDIDATES = 3
SLIP_LETTERS = range(4, 41)  # shorter names are a slip away from anything; longer ones cost their length squared

Named = tuple[RelPath, str]  # a file, and its stem as pairing compares it


@dataclass(frozen=True, slots=True)
class Hint:
    """What to tell a person after what is missing, and the files meant."""

    text: str = ""
    candidates: tuple[RelPath, ...] = ()


def hints(*, videos: Sequence[Named], audios: Sequence[Named], all_videos: Sequence[Named]) -> dict[RelPath, Hint]:
    """Return a hint for each of the waiting `videos` and `audios` that has one; `all_videos` may be paired already."""
    misses: dict[RelPath, list[_Miss]] = defaultdict(list)
    for miss in (*_suffix_misses(audios, all_videos), *_slips(videos, audios), *_lonely(videos, audios)):
        misses[miss.video].append(miss)
        misses[miss.audio].append(miss)
    return {path: _hint(path, found) for path, found in misses.items()}


def differ_only_in_number(first: str, second: str) -> bool:
    """Say whether two stems are like `scene01` and `scene02`: neighbours in a row, so surely not one pair."""
    letters, numbers = _shape(first)
    other_letters, other_numbers = _shape(second)
    return letters == other_letters and numbers != other_numbers


@dataclass(frozen=True, slots=True)
class _Miss:
    video: RelPath
    audio: RelPath
    advice: str


def _hint(path: RelPath, misses: Sequence[_Miss]) -> Hint:
    others = list(dict.fromkeys(miss.audio if path == miss.video else miss.video for miss in misses))
    is_near = _folder(others[0]) == _folder(path)
    best = printable(_name(others[0]) if is_near else others[0])
    return Hint(f"found {best}: {misses[0].advice}", tuple(sorted(others[:MAX_CANDIDATES])))


def _lonely(videos: Sequence[Named], audios: Sequence[Named]) -> Iterator[_Miss]:
    """Yield the only two files that wait, whatever their names: most likely they are meant for each other."""
    if len(videos) == len(audios) == 1 and not differ_only_in_number(videos[0][1], audios[0][1]):
        advice = "if the two belong together, give them one name or put them into a folder of their own"
        yield _Miss(videos[0][0], audios[0][0], advice)


# -- a suffix that is no language here ----------------------------------------------------------------


def _suffix_misses(audios: Sequence[Named], videos: Sequence[Named]) -> Iterator[_Miss]:
    """Yield audios that are called like a video and a word more: `scene01_de`, `scene01.klingon`, `scene01 final`."""
    by_place = {(_folder(path), key): path for path, key in videos}
    for path, key in audios if videos else ():
        for shorter, separator, word in suffixes(key):
            if video := by_place.get((_folder(path), shorter)):
                yield _Miss(video, path, _suffix_advice(path, video, separator, word))
                break


def _suffix_advice(audio: RelPath, video: RelPath, separator: str, word: str) -> str:
    if lang := canonical(word):
        meant = f"{_stem(video)}.{lang}{_extension(audio)}"
        rule = f"`{word}` after `{separator}` counts only where the folder's `languages` name {lang}"
        return f"did you mean {printable(meant)}? ({rule})"
    return f"{printable(word, 40)} is no language that is known here"


# -- names that are nearly the same -------------------------------------------------------------------

_Shape = tuple[str, tuple[str, ...]]  # letters, and numbers without leading zeros


def _slips(videos: Sequence[Named], audios: Sequence[Named]) -> Iterator[_Miss]:
    """Yield waiting files of both kinds whose names are one and the same but for a slip."""
    if not videos or not audios:
        return
    index: dict[_Shape, list[Named]] = defaultdict(list)
    for video in videos:
        for shape in _shapes_near(video[1]):
            index[shape].append(video)
    for audio, key in audios:
        for stem, lang in _readings(key):
            for path, video_key in _found(index, stem):
                yield _Miss(path, audio, _slip_advice(path, audio, lang, is_same=video_key == stem))


def _found(index: dict[_Shape, list[Named]], stem: str) -> list[Named]:
    few = {video for shape in _shapes_near(stem) for video in index.get(shape, [])[:MAX_CANDIDATES]}
    return sorted(few, key=lambda video: (_shape(video[1]) != _shape(stem), video))[:MAX_CANDIDATES]


def _readings(key: str) -> Iterator[tuple[str, str]]:
    yield key, ""
    for shorter, _, word in suffixes(key):
        if lang := canonical(word):
            yield shorter, f".{lang}"


def _slip_advice(video: RelPath, audio: RelPath, lang: str, *, is_same: bool) -> str:
    if is_same:
        return "put the two into one folder"
    return f"did you mean {printable(_stem(video) + lang + _extension(audio))}?"


def _shapes_near(key: str) -> Iterator[_Shape]:
    """Yield a name's shape, and that shape with any one letter dropped: two names that share one are a slip apart."""
    letters, numbers = _shape(key)
    yield letters, numbers
    if len(letters) in SLIP_LETTERS:
        for shorter in sorted({letters[:at] + letters[at + 1 :] for at in range(len(letters))}):
            yield shorter, numbers


_WORD = re.compile(r"[0-9]+|[^\W\d_]+")


def _shape(key: str) -> _Shape:
    words = _WORD.findall(key)
    letters = "".join(word for word in words if not word.isdecimal())
    return letters, tuple(word.lstrip("0") for word in words if word.isdecimal())


# -- paths --------------------------------------------------------------------------------------------


def _folder(path: RelPath) -> RelPath:
    return path.rpartition("/")[0]


def _name(path: RelPath) -> str:
    return path.rpartition("/")[2]


def _stem(path: RelPath) -> str:
    return _name(path).rpartition(".")[0]


def _extension(path: RelPath) -> str:
    return f".{path.rpartition('.')[2]}"
