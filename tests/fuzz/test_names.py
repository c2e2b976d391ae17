"""File names of any bytes: what we make of them is valid, short, stays in its folder, and is nobody else's."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from dataclasses import dataclass

from hypothesis import example

from chamelaion_watch.core.ignore import why_ignored
from chamelaion_watch.core.model import Options, Pair, Pairing
from chamelaion_watch.core.naming import (
    Ours,
    is_ours,
    is_temp,
    note_path,
    output_path,
    reference_id,
    safe_component,
    superseded,
    temp_path,
    versions,
)
from chamelaion_watch.core.pairing import PairingRules, pair_up
from chamelaion_watch.core.text import printable
from chamelaion_watch.edges.jail import parts_of
from chamelaion_watch.edges.outputs import part_name
from tests.fuzz import dice
from tests.fuzz.dice import Dice, briefly, campaign

DEFAULT = "{dir}/{name}.lipsync.mp4"
TEMPLATES = [
    DEFAULT,
    "{dir}/{stem}_{lang}.lipsync.mp4",
    "{dir}/{lang}/{stem}.lipsync.mp4",
    "{dir}/{date}/{name}.lipsync.mp4",
    "out/{dir}/{name}.lipsync.mp4",
    "{dir}/x {stem} ({lang}).lipsync.mp4",
]
LANGS = [None, None, "de", "pt-BR", "zh-Hans-CN"]
RULES = [PairingRules((".mp4",), (".wav", ".mp3")), PairingRules((".mp4", ".mov"), (".wav",), ("de", "pt-BR", "it"))]
NOTES = (Ours.ERROR, Ours.ERROR_JSON, Ours.ATTENTION, Ours.WAITING, Ours.RECEIPT)
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')


def folded(path: str) -> str:
    """What a server that knows neither case nor forms of accents makes of a path."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def made_of(pair: Pair, template: str) -> list[str]:
    """Every path that we may create for a pair, what is certainly its own first."""
    output = output_path(template, pair, date="2026-11-22")
    results = [output, superseded(output), *itertools.islice(versions(output), 1, 3)]
    notes = [note_path(output, pair.name, kind) for kind in NOTES]
    growing = [f"{note.rpartition('/')[0]}/{part_name(note.rpartition('/')[2])}".lstrip("/") for note in notes]
    return [output, temp_path(output), *notes, *growing, *results[1:], *map(temp_path, results[1:])]


OWN = 2 + 2 * len(NOTES)  # later versions take whatever name is free when the time comes

# -- names and runs -----------------------------------------------------------------------------------------


Run = tuple[str, str, Options, int]


@dataclass(frozen=True)
class Two:
    """Two stems of one folder, the second often made to be taken for the first, a template, and two runs."""

    first: str
    second: str
    lang: str | None
    template: str
    folder: str
    runs: tuple[Run, Run] = (("a", "b", Options(), 1), ("a", "c", Options(), 1))


def run(chosen: Dice) -> Run:
    shas = [chosen.raw(32).hex(), chosen.raw(32).hex()]
    options = Options(chosen.often(5), chosen.pick([None, "lipsync-2", dice.text(chosen)]))
    return chosen.pick(shas), chosen.pick(shas), options, 1 + chosen.below(4)


def two(chosen: Dice) -> Two:
    first = dice.stem(chosen)
    second = dice.twin(chosen, first) if chosen.often(7) else dice.stem(chosen)
    folder = chosen.pick(["", "ep01", "ep01/a b"]) if chosen.often(6) else dice.stem(chosen)
    return Two(first, second, chosen.pick(LANGS), chosen.pick(TEMPLATES), folder, (run(chosen), run(chosen)))


@campaign(two)
@example(
    thrown=Two("a\n", safe_component("a\n"), None, DEFAULT, "")
)  # was one name before changed names were told apart
def test_what_we_create_for_a_name_is_valid_short_in_its_folder_and_no_others(thrown: Two) -> None:
    first, second = (
        Pair("v.mp4", "a.wav", thrown.folder, stem, thrown.lang, "") for stem in (thrown.first, thrown.second)
    )
    with briefly():
        paths = made_of(first, thrown.template)
    assert paths[0] == output_path(thrown.template, first, date="2026-11-22")
    own = thrown.folder.split("/") if thrown.folder else []
    for path in paths:
        assert_is_fit(path, own, is_beside=thrown.template.startswith("{dir}"))
    if thrown.first != thrown.second:
        others = made_of(second, thrown.template)
        assert not [one for one, other in zip(paths, others, strict=True) if one == other]
    assert_is_one_visible_line(thrown.first, len(thrown.second))
    assert_are_told_apart(*thrown.runs)


def assert_is_fit(path: str, own: list[str], *, is_beside: bool) -> None:
    parts = parts_of(path)  # raises where a path leads out
    name = parts[-1]
    assert is_ours(name), name
    assert why_ignored(name), "a result must never be taken for a source"
    assert is_temp(name) == name.endswith(Ours.TEMP)
    assert len(os.fsencode(name)) <= 255
    assert parts[: len(own)] == own or not is_beside
    for part in parts:
        assert part in own or (not FORBIDDEN.search(part) and not part.endswith((" ", "."))), part


def assert_is_one_visible_line(name: str, limit: int) -> None:
    shown = printable(name, limit)
    assert len(shown) <= limit
    assert dice.is_visible(shown), shown
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")


def assert_are_told_apart(first: Run, second: Run) -> None:
    assert re.fullmatch(r"cw-[a-z2-7]{26}", reference_id(*first))
    assert reference_id(*first) == reference_id(*first)
    for place in range(4):  # one fact differs
        mixed = (*first[:place], second[place], *first[place + 1 :])
        assert (reference_id(*mixed) == reference_id(*first)) == (mixed == first)  # type: ignore[arg-type]


# -- a folder of names --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    files: tuple[str, ...]
    rules: PairingRules
    quiet: frozenset[str]


FOLDERS = ["", "", "", "job/", "video/", "audio/", "Videos/sub/", "vo/sub/"]
ENDINGS = [".mp4", ".wav", ".mp4", ".wav", ".mp3", ".MP4", ".mov", ".de.wav", ".WAV ", ".txt", ""]


SAME_NAME = [".mp4", ".ger.wav", ".de.mp4", ".de.wav"]  # all of them make two pairs that would share an output


def listing(chosen: Dice) -> Listing:
    stems = [dice.stem(chosen, 245)]
    stems += [dice.twin(chosen, stems[0], 245) for _ in range(chosen.below(3))]
    files = [chosen.pick(FOLDERS) + chosen.pick(stems) + ending(chosen) for _ in range(1 + chosen.below(8))]
    if chosen.often(2):
        files += [f"{stems[0][:240]}{ending}" for ending in SAME_NAME if chosen.often(9)]
    wanted = [path for path in files if why_ignored(path.rpartition("/")[2]) is None]
    return Listing(tuple(dict.fromkeys(wanted)), chosen.pick(RULES), frozenset({"job"} if chosen.often(5) else ()))


def ending(chosen: Dice) -> str:
    return chosen.pick(ENDINGS[:2] if chosen.often(6) else ENDINGS)


@campaign(listing)
def test_every_file_of_a_folder_is_paired_or_told_of_and_no_two_pairs_share_a_name(thrown: Listing) -> None:
    with briefly():
        found = pair_up(thrown.files, thrown.rules, quiet_folders=thrown.quiet)
    assert found == pair_up(thrown.files[::-1], thrown.rules, quiet_folders=thrown.quiet)
    assert_all_told(found, thrown)
    sources = {folded(path) for path in thrown.files}
    taken: dict[str, Pair] = {}
    for pair in found.pairs:
        for path in dict.fromkeys(map(folded, made_of(pair, DEFAULT)[:OWN])):
            assert taken.setdefault(path, pair) is pair, path
            assert path not in sources


def assert_all_told(found: Pairing, thrown: Listing) -> None:
    paired = {path for pair in found.pairs for path in (pair.video, pair.audio)}
    told = [each.path for each in found.unpaired]
    assert sorted([*paired, *told]) == sorted(thrown.files)
    for each in found.unpaired:
        assert dice.is_visible(each.reason), each.reason
        assert set(each.candidates) <= set(thrown.files) - {each.path}
