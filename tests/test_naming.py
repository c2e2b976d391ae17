"""The names that we create: where results, notes and temporary files lie, and that no two of them are one."""

from __future__ import annotations

from itertools import islice

import pytest

from chamelaion_watch.core.model import Options, Pair
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

DEFAULT = "{dir}/{name}.lipsync.mp4"


def pair(stem: str = "scene01", lang: str | None = None, folder: str = "ep01") -> Pair:
    return Pair("video.mp4", "audio.wav", folder, stem, lang, "same_stem")


def out(template: str, of: Pair) -> str:
    return output_path(template, of, date="2024-05-01")


# -- outputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "lang", "folder", "expected"),
    [
        (DEFAULT, None, "ep01", "ep01/scene01.lipsync.mp4"),
        (DEFAULT, "pt-BR", "ep01/sub", "ep01/sub/scene01.pt-BR.lipsync.mp4"),
        (DEFAULT, None, "", "scene01.lipsync.mp4"),
        ("./{dir}/{name}.lipsync.mp4", None, "ep01", "ep01/scene01.lipsync.mp4"),
        ("../results/{dir}/{name}.mp4", "de", "ep01", "../results/ep01/scene01.de.mp4"),
        ("out/{dir}/{name}.lipsync.mp4", None, "", "out/scene01.lipsync.mp4"),
        ("{dir}/{date}/{name}.lipsync.mp4", None, "ep01", "ep01/2024-05-01/scene01.lipsync.mp4"),
        ("{dir}/{lang}/{stem}.lipsync.mp4", "de", "ep01", "ep01/de/scene01.lipsync.mp4"),
        ("{dir}/{lang}/{stem}.lipsync.mp4", None, "ep01", "ep01/scene01.lipsync.mp4"),
        ("{dir}/{stem}.{lang}.lipsync.mp4", None, "ep01", "ep01/scene01.lipsync.mp4"),
        ("{dir}/{stem}_{lang}.lipsync.mp4", None, "ep01", "ep01/scene01.lipsync.mp4"),
        ("{dir}/{stem} ({lang}).lipsync.mp4", None, "ep01", "ep01/scene01.lipsync.mp4"),
        ("{dir}/{stem} ({lang}).lipsync.mp4", "de", "ep01", "ep01/scene01 (de).lipsync.mp4"),
        ("{dir}/{lang}-{stem}.lipsync.mp4", None, "ep01", "ep01/scene01.lipsync.mp4"),
        ("{dir}/lang_{lang}/{stem}.lipsync.mp4", None, "ep01", "ep01/lang/scene01.lipsync.mp4"),
    ],
)
def test_a_template_is_filled_in(template: str, lang: str | None, folder: str, expected: str) -> None:
    assert out(template, pair(lang=lang, folder=folder)) == expected


def test_an_existing_folder_is_kept_byte_for_byte() -> None:
    assert out(DEFAULT, pair(folder="Ep: 1?/caf\udce9. ")) == "Ep: 1?/caf\udce9. /scene01.lipsync.mp4"


def test_a_mirrored_folder_is_ours_to_make_and_so_made_safe() -> None:
    path = out("out/{dir}/{name}.lipsync.mp4", pair(folder="Ep: 1/b"))
    assert path.startswith("out/Ep_ 1~")
    assert path.endswith("/b/scene01.lipsync.mp4")


def test_a_stem_that_looks_like_a_template_is_only_a_stem() -> None:
    assert out(DEFAULT, pair("{lang}{dir}%s")) == "ep01/{lang}{dir}%s.lipsync.mp4"


@pytest.mark.parametrize("stem", ["scene 01", "Zoë", "日本語", "scene.v2", "-rf", "$(id)", "it's", "a b ", "a."])
def test_a_clean_stem_is_kept_exactly(stem: str) -> None:
    assert out(DEFAULT, pair(stem)) == f"ep01/{stem}.lipsync.mp4"


def test_threat_36_45_no_stem_can_leave_its_folder() -> None:
    for stem in ("..", "../x", "/etc/passwd", "a/b", "."):
        assert out("{dir}/{stem}/{name}.lipsync.mp4", pair(stem, folder="ep")).count("/") == 2
        assert "/../" not in out("{dir}/{stem}/{name}.lipsync.mp4", pair(stem, folder="ep"))


def test_threat_43_pairs_of_different_folders_never_share_an_output() -> None:
    pairs = [pair("b", folder="a"), pair("a_b", folder=""), pair("a-b", folder=""), pair("b", folder="a/a")]
    for template in (DEFAULT, "out/{dir}/{name}.lipsync.mp4", "out/{dir}-{name}.lipsync.mp4"):
        assert len({out(template, each) for each in pairs}) == len(pairs)


def test_versions_never_repeat() -> None:
    assert list(islice(versions("ep/a.lipsync.mp4"), 3)) == [
        "ep/a.lipsync.mp4",
        "ep/a_v2.lipsync.mp4",
        "ep/a_v3.lipsync.mp4",
    ]
    assert list(islice(versions("out/a.mp4"), 2)) == ["out/a.mp4", "out/a_v2.mp4"]


def test_an_overtaken_result_is_kept_aside() -> None:
    assert superseded("ep/a.lipsync.mp4") == "ep/a_superseded.lipsync.mp4"


# -- notes and temporary files ------------------------------------------------------------------------


def test_notes_lie_beside_the_output_under_the_name_of_the_pair() -> None:
    output = "ep/scene01.de.lipsync.mp4"
    assert note_path(output, "scene01.de", Ours.ERROR) == "ep/scene01.de.lipsync-error.txt"
    assert note_path(output, "scene01.de", Ours.ERROR_JSON) == "ep/scene01.de.lipsync-error.json"
    assert note_path(output, "scene01.de", Ours.ATTENTION) == "ep/scene01.de.lipsync-attention.txt"
    assert note_path("a.lipsync.mp4", "a", Ours.RECEIPT) == "a.lipsync.json"


def test_a_temporary_file_is_hidden_and_lies_where_the_output_will() -> None:
    assert temp_path("ep/a_v2.lipsync.mp4") == "ep/.a_v2.lipsync-part"
    assert temp_path("a.mp4") == ".a.mp4.lipsync-part"


def test_two_outputs_of_one_folder_have_two_temporary_files() -> None:
    outputs = ["a.lipsync.mp4", "a_v2.lipsync.mp4", "a.mp4", "a.lipsync-part.lipsync.mp4", "b/a.lipsync.mp4"]
    assert len({temp_path(output) for output in outputs}) == len(outputs)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.lipsync.mp4", Ours.OUTPUT),
        ("A.LIPSYNC.MP4", Ours.OUTPUT),
        ("a_v2.lipsync.mp4", Ours.OUTPUT),
        ("a.lipsync-error.txt", Ours.ERROR),
        ("a.lipsync-error.json", Ours.ERROR_JSON),
        ("a.lipsync-attention.txt", Ours.ATTENTION),
        ("a.lipsync.json", Ours.RECEIPT),
        (".a.lipsync-part", Ours.TEMP),
        ("_lipsync-status.html", Ours.STATUS),
        (".lipsync-root", Ours.ROOT),
        ("a.mp4", None),
        ("a.lipsync.yaml", None),
        (".lipsync.mp4", None),
        ("lipsync.mp4", None),
    ],
)
def test_our_files_are_known_by_name(name: str, kind: Ours | None) -> None:
    assert is_ours(name) is kind


def test_only_hidden_parts_are_temporary_files() -> None:
    assert is_temp(".a.lipsync-part")
    assert not is_temp("a.lipsync-part")
    assert not is_temp(".a.mp4")


# -- safe names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["a<b", "a:b", 'a"b', "a\\b", "a|b", "a?b", "a*b", "a\nb", "a\x1b[31mb", "a.", "a ", "CON", "nul.txt", "com1", "LPT9.x",
     "aux .mp4", "\udcff", "x" * 241, "é" * 121, "", ".", "..", "..."],
)  # fmt: skip
def test_threat_34_what_windows_does_not_take_is_changed_and_marked(text: str) -> None:
    safe = safe_component(text)
    assert safe != text
    assert is_safe_for_windows(safe)


@pytest.mark.parametrize("text", ["a", "scene 01.mp4", "CONSOLE", "com10", "a.con", "é" * 120, ".hidden", "日本語"])
def test_what_is_safe_stays_as_it_is(text: str) -> None:
    assert safe_component(text) == text


def test_threat_40_43_names_that_differ_stay_different() -> None:
    texts = [
        "a:b",
        "a?b",
        "a_b",
        "a\udc80b",
        "a\udc81b",
        "x" * 300,
        "x" * 299 + "y",
        "x" * 301,
        "CON",
        "con",
        "a.",
        "a",
    ]
    assert len({safe_component(text) for text in texts}) == len(texts)


def test_a_reserved_name_is_changed_though_an_ending_follows() -> None:
    assert out(DEFAULT, pair("CON")) != "ep01/CON.lipsync.mp4"
    assert out(DEFAULT, pair("aux.take")).startswith("ep01/_aux.take~")


def test_threat_40_the_names_of_long_pairs_are_stable() -> None:
    assert out(DEFAULT, pair("x" * 255)) == out(DEFAULT, pair("x" * 255))
    head = out(DEFAULT, pair("x" * 255)).removesuffix(".lipsync.mp4")
    assert note_path("ep01/any.lipsync.mp4", "x" * 255, Ours.ERROR) == f"{head}.lipsync-error.txt"


RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))}


def is_safe_for_windows(name: str) -> bool:
    return (
        0 < len(name.encode()) <= 240
        and not set(name) & set('<>:"/\\|?*')
        and all(ord(char) >= 32 and not 127 <= ord(char) < 160 for char in name)
        and not name.endswith((".", " "))
        and name.partition(".")[0].rstrip(" ").casefold() not in RESERVED
    )


# -- reference ids ------------------------------------------------------------------------------------

VIDEO, AUDIO = "a1" * 32, "b2" * 32
PINNED = "cw-33ntjue2vjx2dqjcvpv6bj6h36"


def test_a_reference_id_is_the_same_for_ever() -> None:
    """Pinned: another value would pay again for everything that an older version has sent."""
    assert reference_id(VIDEO, AUDIO, Options(), 1) == PINNED
    assert reference_id(VIDEO.upper(), AUDIO, Options(), 1) == PINNED


def test_a_reference_id_is_cw_and_26_of_a_to_z_and_2_to_7() -> None:
    found = reference_id(VIDEO, AUDIO, Options(), 1)
    assert len(found) == 29
    assert found.startswith("cw-")
    assert set(found[3:]) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_whatever_changes_the_result_changes_the_reference_id() -> None:
    ids = [
        reference_id(VIDEO, AUDIO, Options(), 1),
        reference_id(AUDIO, VIDEO, Options(), 1),
        reference_id(VIDEO, AUDIO, Options(), 2),
        reference_id(VIDEO, AUDIO, Options(disable_active_speaker_detection=True), 1),
        reference_id(VIDEO, AUDIO, Options(model="lipsync-2"), 1),
        reference_id(VIDEO, VIDEO, Options(), 1),
    ]
    assert len(set(ids)) == len(ids)
