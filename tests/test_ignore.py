"""Which names are left alone, and which partial copy lies beside a file."""

from __future__ import annotations

import fnmatch
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chamelaion_watch.core.ignore import (
    FILE_GLOBS,
    FOLDER_GLOBS,
    OUR_GLOBS,
    glob_problem,
    partial_copies,
    rules_for,
    why_folder_ignored,
    why_ignored,
)

IGNORED = {
    ".hidden.mp4": ".*",
    "._scene01.mp4": ".*",
    ".DS_Store": ".*",
    "Icon\r": "Icon\r",
    "THUMBS.DB": "Thumbs.db*",
    "Thumbs.db:encryptable": "Thumbs.db*",
    "ehthumbs_vista.db": "ehthumbs*.db",
    "Desktop.ini": "desktop.ini",
    "~$script.docx": "~$*",
    "scene.mp4~": "*~",
    "~wrd0001.tmp": "~*.tmp",
    "scene.mp4.part": "*.part",
    "scene.MP4.FilePart": "*.filepart",
    "Unconfirmed 1234.crdownload": "*.crdownload",
    "scene.mp4.!ut": "*.!ut",
    "scene.mp4.aria2": "*.aria2",
    "~syncthing~scene.mp4.tmp": "~*.tmp",
    "scene.sync-conflict-20240101-120000-ABCDEFG.mp4": "*.sync-conflict-*",
    "scene_conflict-20240101-120000.mp4": "*_conflict-*",
    "scene (Anna's conflicted copy 2024-01-01).mp4": "*conflicted copy*",
    "scene.mp4.icloud": "*.icloud",
    "scene.mp4.sb-1a2b3c4d-Xy12Zz": "*.sb-????????-??????",
    "notes.swp": "*.swp",
    "notes.swo": "*.sw?",
    "scene.mp4.camelLock": "*.camellock",
    "scene.lipsync.mp4": "*.lipsync.*",
    "scene_v2.LIPSYNC.MP4": "*.lipsync.*",
    "scene.lipsync-error.txt": "*.lipsync-*",
    "_lipsync-status.html": "_lipsync-*",
}
TAKEN = ["scene01.mp4", "scene 01.wav", "partial.mp4", "lipsync.mp4", "Zoë.mp3", "-rf.mp4", "a.part.mp4", "thumbs.mp4"]


@pytest.mark.parametrize(("name", "glob"), IGNORED.items())
def test_threat_35_litter_is_ignored_and_the_glob_is_named(name: str, glob: str) -> None:
    assert why_ignored(name) == glob


@pytest.mark.parametrize("name", TAKEN)
def test_media_is_not_ignored(name: str) -> None:
    assert why_ignored(name) is None


def test_threat_80_our_files_are_ignored_but_not_the_tickets_of_people() -> None:
    assert why_ignored("scene.lipsync.mp4")
    assert why_ignored(".scene.lipsync-part")
    assert why_ignored(".lipsync-root")
    assert why_ignored("scene.lipsync.yaml") is None
    assert why_ignored("_defaults.LIPSYNC.yaml") is None
    assert why_ignored("scene.lipsync.yaml.mp4")
    assert why_ignored("._scene.lipsync.yaml")


def test_names_are_compared_in_nfc_and_without_case() -> None:
    decomposed = unicodedata.normalize("NFD", "Entwürfe é.mov")
    assert why_ignored(decomposed, ["entwürfe *"]) == "entwürfe *"
    assert why_ignored("ENTWÜRFE X.mp4", [unicodedata.normalize("NFD", "entwürfe *")])


def test_a_users_globs_are_added() -> None:
    assert why_ignored("scene_draft.mp4") is None
    assert why_ignored("scene_DRAFT.mp4", ["*_draft.*"]) == "*_draft.*"


def test_an_exclamation_mark_takes_a_name_back_in() -> None:
    assert why_ignored("take.bak") == "*.bak"
    assert why_ignored("take.bak", ["!*.bak"]) is None


def test_the_last_of_the_users_globs_decides() -> None:
    assert why_ignored("a.mp4", ["*.mp4", "!a.*"]) is None
    assert why_ignored("a.mp4", ["!a.*", "*.mp4"]) == "*.mp4"


def test_threat_80_our_own_results_can_never_be_taken_back_in() -> None:
    assert why_ignored("scene.lipsync.mp4", ["!*"]) == "*.lipsync.*"
    assert why_ignored("scene.lipsync.mp4.part", ["!*"]) == "*.lipsync.*"
    assert why_folder_ignored(".hidden", ["!*"]) is None


def test_a_regular_expression_is_only_a_glob() -> None:
    assert why_ignored("aaaa.mp4", ["(a+)+$"]) is None
    assert why_ignored("scene[1].mp4", ["scene[[]1].mp4"])


@pytest.mark.parametrize(
    "folder",
    ["@eaDir", "#Recycle", "$recycle.bin", "System Volume Information", ".Trash-1000", "Show.fcpbundle", "__MACOSX",
     "Adobe Premiere Pro Video Previews", "Media Cache Files", "_UNPACK_Show", ".anything", "lost+found", "ProxyMedia"],
)  # fmt: skip
def test_threat_35_folders_of_systems_and_editors_are_not_entered(folder: str) -> None:
    assert why_folder_ignored(folder)


@pytest.mark.parametrize("folder", ["ep01", "audio", "Adobe Premiere Pro", "Recycle", "_rush"])
def test_other_folders_are_entered(folder: str) -> None:
    assert why_folder_ignored(folder) is None


def test_a_slash_at_the_end_means_folders_only() -> None:
    assert why_folder_ignored("Archive", ["archive/"]) == "archive"
    assert why_ignored("archive", ["archive/"]) is None
    assert why_folder_ignored("Archive", ["archive"])
    assert why_ignored("archive", ["archive"])


def test_a_glob_that_can_never_match_is_a_problem_for_the_configuration() -> None:
    assert "cannot contain /" in (glob_problem("shows/old/*") or "")
    assert glob_problem("!")
    assert glob_problem("")
    assert glob_problem("!*.bak") is None
    assert glob_problem("old/") is None


@given(st.text(st.sampled_from("aB.~_-$*tmpéß\r\n\udc80"), max_size=12), st.sampled_from([*FILE_GLOBS, *OUR_GLOBS]))
@settings(max_examples=300)
def test_the_quick_answer_is_that_of_fnmatch(middle: str, glob: str) -> None:
    name = glob.replace("*", middle).replace("?", "x")
    expected = [g for g in (*FILE_GLOBS, *OUR_GLOBS) if fnmatch.fnmatchcase(_fold(name), _fold(g))]
    if not _fold(name).endswith(".lipsync.yaml"):
        assert bool(expected) == (why_ignored(name) is not None)
        assert why_ignored(name) in [*expected, None]


@given(st.text(max_size=20))
@settings(max_examples=200)
def test_the_quick_answer_for_folders_is_that_of_fnmatch(name: str) -> None:
    expected = [g for g in FOLDER_GLOBS if fnmatch.fnmatchcase(_fold(name), _fold(g))]
    assert (why_folder_ignored(name) is not None) == bool(expected)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def test_a_hundred_thousand_names_are_checked_in_less_than_half_a_second() -> None:
    names = [f"scene_{number:06d}_take2.mp4" for number in range(100_000)]
    rules = rules_for()

    def seconds() -> float:
        start = time.process_time()
        assert not any(map(rules.why_ignored, names))
        return time.process_time() - start

    assert min(seconds() for _ in range(2)) < 0.5


@pytest.mark.parametrize(
    "sibling",
    ["scene.mp4.part", "scene.mp4.filepart", "scene.mp4.crdownload", "scene.mp4.tmp", "scene.mp4.partial",
     "scene.mp4.!sync", "scene.mp4.aria2", "scene.mp4.aspx", ".scene.mp4.icloud", ".scene.mp4.Ab12Cd",
     ".syncthing.scene.mp4.tmp", "~syncthing~scene.mp4.tmp", ".scene.mp4.~1a2b3c", "scene.mp4.sb-1a2b3c4d-Xy12Zz",
     "scene.mp4.ocTransferId123456.part"],
)  # fmt: skip
def test_threat_35_a_partial_copy_beside_a_file_is_found(sibling: str) -> None:
    assert partial_copies({"scene.mp4", "other.mp4", sibling})["scene.mp4"] == sibling


@pytest.mark.parametrize(
    "other",
    ["._scene.mp4", "scene.mp4", "scene2.mp4.part", "scene.wav", ".scene.mp4.lipsync-part", "scene.part",
     ".scene.mp4.longer-than-six", "scene.mp4.wav", ".scene.mp4.Ab12C"],
)  # fmt: skip
def test_what_only_looks_like_a_partial_copy_is_none(other: str) -> None:
    assert "scene.mp4" not in partial_copies({"scene.mp4", other})


def test_a_name_full_of_format_characters_is_only_a_name() -> None:
    name = "{0}{x}%s.mp4"
    assert partial_copies({name, name + ".part"}) == {name: name + ".part"}
