"""Which video and which audio belong together, and why the others do not.

Computed on the whole listing of one scope, never on events, so that no order of arrival changes the outcome; the
first rule that applies to an audio wins. Where two readings are left it never guesses: a wrong pair costs money.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from chamelaion_watch.core.languages import split_suffix
from chamelaion_watch.core.model import Pair, Pairing, PairState, RelPath, Unpaired
from chamelaion_watch.core.nearmiss import Hint, differ_only_in_number, hints
from chamelaion_watch.core.text import printable

SAME_STEM = "same_stem"
LANGUAGE = "language"
SPLIT_FOLDERS = "split_folders"
JOB_FOLDER = "job_folder"

VIDEO_FOLDERS = frozenset({"video", "videos", "picture"})
AUDIO_FOLDERS = frozenset({"audio", "audios", "sound", "vo", "dub"})
MOST_RIVALS = 20  # named with each file of a group: of 3,000 audios beside one video, each named all the others


@dataclass(frozen=True, slots=True)
class PairingRules:
    """What a folder's configuration says; extensions with their dot, `languages` None for the built-in list only."""

    video: tuple[str, ...]
    audio: tuple[str, ...]
    languages: tuple[str, ...] | None = None


def scope_of(path: RelPath) -> RelPath:
    """Return the folder within which this file is paired: its own, or the parent of the split folders above it."""
    return _split_at(path.rpartition("/")[0])[0]


def pair_up(files: Collection[RelPath], rules: PairingRules, *, quiet_folders: Collection[RelPath]) -> Pairing:
    """Return the pairs among all media files of one scope, and every other file with the reason why it has none.

    `quiet_folders` are those in which nothing arrived for a while: only there a job folder is complete.
    """
    kinds = _kinds(rules.video, rules.audio)
    media = [file for path in sorted(set(files)) if (file := _file_of(path, kinds))]
    claims = _claims(media, rules)
    jobs = _JobFolders(media, claims, rules, frozenset(quiet_folders))
    pairs, disputes = _settled([*claims, *jobs.claims])
    pairs, clashes = _without_clashes(pairs)
    disputes = [*_twins(media), *disputes, *clashes]
    paired = {path for pair in pairs for path in (pair.video, pair.audio)}
    unpaired = {path: found for found in disputes if (path := found.path) not in paired}
    told = paired | unpaired.keys()
    unpaired |= {found.path: found for found in jobs.unpaired if found.path not in told}
    left = [file for file in media if file.path not in paired and file.path not in unpaired]
    unpaired |= {found.path: found for found in _waiting(left, media)}
    unpaired |= {path: _no_media(path) for path in set(files) - {file.path for file in media}}
    return Pairing(
        tuple(sorted(pairs, key=lambda pair: (pair.key, pair.audio))),
        tuple(sorted(unpaired.values(), key=lambda found: found.path)),
        is_by_quiet=jobs.is_any,
    )


# -- files --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _File:
    path: RelPath
    folder: RelPath
    name: str  # folded, whole
    stem: str  # as it is spelt
    key: str  # of the stem
    is_video: bool

    @property
    def shown(self) -> str:
        return printable(self.path.rpartition("/")[2])


def _file_of(path: RelPath, kinds: Mapping[str, bool]) -> _File | None:
    folder, _, name = path.rpartition("/")
    folded = _key(name)
    ending = folded[folded.rfind(".") :]
    is_video = kinds.get(ending)
    key = _key(folded.removesuffix(ending))
    if is_video is None or not key:
        return None
    # Compared folded, but cut from the name as it is spelt: `Scene.MP4 ` is `Scene`.
    return _File(path, folder, folded, name.rstrip(". ")[: -len(ending)], key, is_video)


@lru_cache(maxsize=64)
def _kinds(video: tuple[str, ...], audio: tuple[str, ...]) -> dict[str, bool]:
    """Return whether it is a video's, by the folded extension: a dot, and no other in it (checked in the settings)."""
    return {ending.casefold(): ending in video for ending in (*audio, *video)}


def _key(name: str) -> str:
    """NFC, casefold, without dots and spaces at the end, which Windows does not keep."""
    if not name.isascii():
        name = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return name.casefold().rstrip(". ")


@lru_cache(maxsize=4096)
def _split_at(folder: RelPath) -> tuple[RelPath, str, str]:
    """Split a folder at its outermost split folder: (parent, `video` | `audio` | "", folded rest)."""
    parts = folder.split("/")
    for index, part in enumerate(map(_key, parts)):
        if part in VIDEO_FOLDERS or part in AUDIO_FOLDERS:
            side = "video" if part in VIDEO_FOLDERS else "audio"
            return "/".join(parts[:index]), side, "/".join(map(_key, parts[index + 1 :]))
    return folder, "", ""


# -- rules 1 to 3: what an audio's name claims --------------------------------------------------------
# Rule 0, a ticket that names its members, goes first of all: its claims are taken before those of names.

_Place = tuple[str, str]  # where a stem is looked for, and the stem's key


@dataclass(frozen=True, slots=True)
class _Claim:
    """An audio's claim to the videos that its name fits; more than one means that the name does not tell."""

    audio: _File
    videos: tuple[_File, ...]
    lang: str | None
    rule: str


def _claims(media: Sequence[_File], rules: PairingRules) -> list[_Claim]:
    beside, across = defaultdict(list), defaultdict(list)
    for file in media:
        if file.is_video:
            beside[file.folder, file.key].append(file)
            scope, side, rest = _split_at(file.folder)
            if side == "video":
                across[f"{scope}\0{rest}", file.key].append(file)
    audios = [file for file in media if not file.is_video] if beside else []
    return [claim for audio in audios if (claim := _claim(audio, beside, across, rules))]


def _claim(
    audio: _File, beside: dict[_Place, list[_File]], across: dict[_Place, list[_File]], rules: PairingRules
) -> _Claim | None:
    for stem, lang in ((audio.key, None), *split_suffix(audio.key, languages=rules.languages)):
        if videos := beside.get((audio.folder, stem)):
            return _Claim(audio, tuple(videos), lang, LANGUAGE if lang else SAME_STEM)
    scope, side, rest = _split_at(audio.folder)
    if side != "audio":
        return None
    for stem, lang in ((audio.key, None), *split_suffix(audio.key, languages=rules.languages)):
        if videos := across.get((f"{scope}\0{rest}", stem)):
            return _Claim(audio, tuple(videos), lang, SPLIT_FOLDERS)
    return None


# -- rule 4: a folder with one video ------------------------------------------------------------------


class _JobFolders:
    """What rule 4 says of the sub-folders with exactly one video: claims where it is clear, else why not."""

    def __init__(
        self, media: Sequence[_File], claims: Sequence[_Claim], rules: PairingRules, quiet: frozenset[RelPath]
    ) -> None:
        self.claims: list[_Claim] = []
        self.unpaired: list[Unpaired] = []
        self.is_any = False
        self._rules = rules
        claimed = {claim.audio.path for claim in claims}
        wanted = {video.path for claim in claims for video in claim.videos}
        sides = {_split_at(file.folder)[:2] for file in media}
        for folder, files in _by_folder(media).items():
            videos = [file for file in files if file.is_video]
            audios = [file for file in files if not file.is_video and file.path not in claimed]
            if not folder or len(videos) != 1 or not audios or _is_one_of_two_sides(folder, sides):
                continue
            self.is_any = True
            self._judge(videos[0], audios, has_match=videos[0].path in wanted, is_quiet=folder in quiet)

    def _judge(self, video: _File, audios: list[_File], *, has_match: bool, is_quiet: bool) -> None:
        if not is_quiet:
            self.unpaired += [_awaiting_quiet(file, video) for file in (video, *audios)]
            return
        langs = {audio.path: self._language(audio) for audio in audios}
        is_clear = not has_match and (len(audios) == 1 or all(langs.values()))
        if is_clear and not any(differ_only_in_number(video.key, self._bare_key(audio)) for audio in audios):
            self.claims += [_Claim(audio, (video,), langs[audio.path], JOB_FOLDER) for audio in audios]
        else:
            self.unpaired += _strays(video, audios)

    def _language(self, audio: _File) -> str | None:
        return next((lang for _, lang in split_suffix(audio.key, languages=self._rules.languages)), None)

    def _bare_key(self, audio: _File) -> str:
        return next((stem for stem, _ in split_suffix(audio.key, languages=self._rules.languages)), audio.key)


def _by_folder(media: Iterable[_File]) -> dict[RelPath, list[_File]]:
    folders: dict[RelPath, list[_File]] = defaultdict(list)
    for file in media:
        folders[file.folder].append(file)
    return folders


def _is_one_of_two_sides(folder: RelPath, sides: set[tuple[RelPath, str]]) -> bool:
    """Whether the folder lies on one side of split folders whose other side holds media: then only names count."""
    scope, side, _ = _split_at(folder)
    return bool(side) and {(scope, "video"), (scope, "audio")} <= sides


# -- from claims to pairs -----------------------------------------------------------------------------


def _settled(claims: Iterable[_Claim]) -> tuple[list[Pair], list[Unpaired]]:
    pairs: list[Pair] = []
    disputes: list[Unpaired] = []
    rivals: dict[tuple[RelPath, str | None], list[_Claim]] = defaultdict(list)
    for claim in claims:
        if len(claim.videos) == 1:
            rivals[claim.videos[0].path, claim.lang].append(claim)
        else:
            disputes += _disputed_videos(claim)
    for group in rivals.values():
        # What lies beside the video comes before what lies in the sibling folder.
        first = [claim for claim in group if claim.rule != SPLIT_FOLDERS] or group
        if len(first) == 1:
            pairs.append(_pair(first[0]))
            disputes += [_late(claim, first[0]) for claim in group if claim is not first[0]]
        else:
            disputes += _disputed_audios(group)
    return pairs, disputes


def _pair(claim: _Claim) -> Pair:
    video = claim.videos[0]
    return Pair(video.path, claim.audio.path, video.folder, video.stem, claim.lang, claim.rule)


def _without_clashes(pairs: list[Pair]) -> tuple[list[Pair], list[Unpaired]]:
    """Set pairs aside that would write one output: `scene.de.mp4` with its `.wav`, `scene.mp4` with `scene.ger.wav`."""
    by_key: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_key[f"{pair.folder}/{_key(pair.name)}"].append(pair)
    groups = by_key.values()
    clashes = [_clash(path, group) for group in groups if len(group) > 1 for path in _paths(group)]
    return [group[0] for group in groups if len(group) == 1], clashes


def _paths(pairs: Iterable[Pair]) -> list[RelPath]:
    return sorted({path for pair in pairs for path in (pair.video, pair.audio)})


def _twins(media: Iterable[_File]) -> Iterator[Unpaired]:
    """Yield the files of one kind that share a folder and a stem: no name can tell them apart."""
    same: dict[tuple[RelPath, str, bool], list[_File]] = defaultdict(list)
    for file in media:
        same[file.folder, file.key, file.is_video].append(file)
    for group in same.values():
        if len(group) > 1:
            yield from _rivals(group, group)


# -- why not ------------------------------------------------------------------------------------------


def _disputed_videos(claim: _Claim) -> Iterator[Unpaired]:
    return _rivals(claim.videos, [claim.audio, *claim.videos])


def _disputed_audios(group: Sequence[_Claim]) -> Iterator[Unpaired]:
    audios = [claim.audio for claim in group]
    return _rivals(audios, [group[0].videos[0], *audios])


def _rivals(rivals: Sequence[_File], involved: Sequence[_File]) -> Iterator[Unpaired]:
    """Yield a word for each that is involved: the rivals, and what they would be paired with."""
    kind = "videos" if rivals[0].is_video else "audios"
    are_twins = len({(rival.folder, rival.name) for rival in rivals}) == 1
    names = _listed(rivals)
    if are_twins:
        code, reason = "twins", f"{names} differ only in upper and lower case or in how an accent is stored"
    else:
        code, reason = f"two_{kind}", f"{names} would be one and the same {kind[:-1]} of a pair"
    reason += ": keep one of them, or give the others a different name"
    if kind == "audios" and not are_twins:
        reason += " (another language: NAME.de.wav)"
    paths = _sorted_paths(involved)
    return (_attention(file, code, reason, paths) for file in involved)


def _late(claim: _Claim, first: _Claim) -> Unpaired:
    video = claim.videos[0]
    reason = (
        f"{video.shown} is paired with the {first.audio.shown} beside it: remove one of the two, or name a language"
    )
    return _attention(claim.audio, "two_audios", reason, _sorted_paths([video, first.audio]))


def _clash(path: RelPath, group: Sequence[Pair]) -> Unpaired:
    reason = f"two pairs here would both be called {printable(group[0].name)}: rename one of the videos"
    rivals = tuple(rival for rival in _paths(group) if rival != path)
    return Unpaired(path, PairState.ATTENTION, "same_name", reason, rivals)


def _strays(video: _File, audios: Sequence[_File]) -> Iterator[Unpaired]:
    belong = "belongs" if len(audios) == 1 else "belong"
    stem = printable(video.stem)
    reason = (
        f"it is not clear that {_listed(audios)} {belong} to {video.shown}: call its audio {stem} (or {stem}.de for a"
        " language), and move the others away or add their videos"
    )
    involved = _sorted_paths([video, *audios])
    return (_attention(file, "stray", reason, involved) for file in (video, *audios))


def _awaiting_quiet(file: _File, video: _File) -> Unpaired:
    reason = f"{video.shown} is the only video in this folder: waiting until nothing more arrives here"
    return Unpaired(file.path, PairState.WAITING, "awaiting_quiet", reason)


def _attention(file: _File, code: str, reason: str, involved: Iterable[RelPath]) -> Unpaired:
    """`involved` are sorted, and the same for all of a group: so each names the first, and few enough others."""
    rivals = [path for path in islice(involved, MOST_RIVALS + 1) if path != file.path]
    return Unpaired(file.path, PairState.ATTENTION, code, reason, tuple(rivals[:MOST_RIVALS]))


def _sorted_paths(files: Iterable[_File]) -> list[RelPath]:
    return sorted({file.path for file in files})


def _waiting(left: Sequence[_File], media: Sequence[_File]) -> Iterator[Unpaired]:
    found = hints(
        videos=[(file.path, file.key) for file in left if file.is_video],
        audios=[(file.path, file.key) for file in left if not file.is_video],
        all_videos=[(file.path, file.key) for file in media if file.is_video],
    )
    for file in left:
        code, missing = ("no_audio", "audio") if file.is_video else ("no_video", "video")
        hint = found.get(file.path, Hint())
        reason = f"no {missing} yet" + (f"; {hint.text}" if hint.text else "")
        yield Unpaired(file.path, PairState.WAITING, code, reason, hint.candidates)


def _no_media(path: RelPath) -> Unpaired:
    return Unpaired(path, PairState.WAITING, "no_media", "neither a video nor an audio by its extension")


def _listed(files: Iterable[_File]) -> str:
    names = sorted(file.shown for file in files)
    shown = names[:4] + ([f"{len(names) - 4} more"] if len(names) > 4 else [])  # noqa: PLR2004
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
