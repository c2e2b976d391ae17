"""Which files belong together, and what is said of the others."""

from __future__ import annotations

import random
import time
import unicodedata
from collections import Counter
from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chamelaion_watch.core.model import Pairing, PairState, Unpaired
from chamelaion_watch.core.pairing import MOST_RIVALS, PairingRules, pair_up, scope_of

RULES = PairingRules(video=(".mp4", ".mov"), audio=(".wav", ".mp3"))
NAMING = PairingRules(video=(".mp4", ".mov"), audio=(".wav", ".mp3"), languages=("de", "pt-BR", "fr", "ca"))


def pairing(*files: str, rules: PairingRules = RULES, quiet: Collection[str] = ()) -> Pairing:
    return pair_up(files, rules, quiet_folders=quiet)


def pairs(*files: str, rules: PairingRules = RULES, quiet: Collection[str] = ()) -> dict[str, tuple[str, str, str]]:
    found = pairing(*files, rules=rules, quiet=quiet).pairs
    return {pair.key: (pair.video, pair.audio, pair.rule) for pair in found}


def left(*files: str, rules: PairingRules = RULES, quiet: Collection[str] = ()) -> dict[str, Unpaired]:
    return {found.path: found for found in pairing(*files, rules=rules, quiet=quiet).unpaired}


def codes(*files: str, rules: PairingRules = RULES, quiet: Collection[str] = ()) -> dict[str, str]:
    return {path: found.code for path, found in left(*files, rules=rules, quiet=quiet).items()}


# -- rule 1: the same stem ----------------------------------------------------------------------------


def test_a_video_and_an_audio_of_one_stem_are_a_pair() -> None:
    assert pairs("ep/scene01.mp4", "ep/scene01.wav") == {
        "ep/scene01": ("ep/scene01.mp4", "ep/scene01.wav", "same_stem")
    }


def test_threat_33_case_does_not_matter_and_the_videos_spelling_names_the_pair() -> None:
    found = pairing("Scene01.MP4", "scene01.wav").pairs[0]
    assert (found.stem, found.lang, found.folder, found.key) == ("Scene01", None, "", "Scene01")


def test_threat_33_decomposed_and_composed_names_pair_and_keep_their_bytes() -> None:
    video, audio = unicodedata.normalize("NFD", "Café.mp4"), unicodedata.normalize("NFC", "café.wav")
    assert [(pair.video, pair.audio) for pair in pairing(video, audio).pairs] == [(video, audio)]


def test_threat_34_dots_and_spaces_at_the_end_do_not_matter() -> None:
    assert len(pairs("scene .mp4", "scene.wav. ")) == 1


def test_other_folders_do_not_matter() -> None:
    assert pairs("a/scene.mp4", "b/scene.wav") == {}


def test_threat_39_a_name_that_is_no_utf8_pairs_by_its_bytes() -> None:
    assert len(pairs("caf\udce9.mp4", "caf\udce9.wav")) == 1
    assert pairs("caf\udce9.mp4", "caf\udce8.wav") == {}


# -- rule 2: a language suffix ------------------------------------------------------------------------


def test_each_language_is_a_pair_of_its_own() -> None:
    assert pairs("scene.mp4", "scene.wav", "scene.de.wav", "scene.pt_BR.mp3") == {
        "scene": ("scene.mp4", "scene.wav", "same_stem"),
        "scene.de": ("scene.mp4", "scene.de.wav", "language"),
        "scene.pt-BR": ("scene.mp4", "scene.pt_BR.mp3", "language"),
    }


def test_the_longest_stem_wins() -> None:
    assert pairs("scene.mp4", "scene.de.mp4", "scene.de.wav") == {
        "scene.de": ("scene.de.mp4", "scene.de.wav", "same_stem")
    }
    found = pairs("scene-fr.mp4", "scene.mp4", "scene-fr-CA.wav", rules=NAMING)
    assert found == {"scene-fr.ca": ("scene-fr.mp4", "scene-fr-CA.wav", "language")}


def test_other_separators_count_only_for_languages_that_the_folder_names() -> None:
    assert pairs("scene.mp4", "scene_de.wav") == {}
    assert list(pairs("scene.mp4", "scene_de.wav", rules=NAMING)) == ["scene.de"]
    assert pairs("take.mp4", "take it.wav", rules=NAMING) == {}


def test_a_word_that_is_no_dubbing_language_is_none() -> None:
    assert pairs("scene.mp4", "scene.mix.wav", "scene.dub.wav", "scene.final.wav") == {}


# -- rule 3: split folders ----------------------------------------------------------------------------


def test_split_folders_are_matched_by_relative_stem() -> None:
    found = pairs("show/Video/ep1/a.mp4", "show/AUDIO/ep1/a.wav", "show/AUDIO/ep1/a.de.wav", "show/AUDIO/ep2/a.fr.wav")
    assert found == {
        "show/Video/ep1/a": ("show/Video/ep1/a.mp4", "show/AUDIO/ep1/a.wav", "split_folders"),
        "show/Video/ep1/a.de": ("show/Video/ep1/a.mp4", "show/AUDIO/ep1/a.de.wav", "split_folders"),
    }


@pytest.mark.parametrize(
    ("video", "audio"), [("videos", "vo"), ("picture", "dub"), ("video", "sound"), ("VIDEO", "Audios")]
)
def test_split_folders_have_many_names(video: str, audio: str) -> None:
    assert len(pairs(f"{video}/a.mp4", f"{audio}/a.wav")) == 1


def test_the_same_folder_comes_before_the_sibling_folder() -> None:
    files = ("video/a.mp4", "video/a.wav", "audio/a.wav", "audio/a.de.wav")
    assert {key: audio for key, (_, audio, _) in pairs(*files).items()} == {
        "video/a": "video/a.wav",
        "video/a.de": "audio/a.de.wav",
    }
    assert codes(*files) == {"audio/a.wav": "two_audios"}


def test_two_video_folders_with_one_name_are_never_guessed() -> None:
    assert set(codes("video/a.mp4", "videos/a.mp4", "audio/a.wav").values()) == {"two_videos"}


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("a.mp4", ""),
        ("ep/a.mp4", "ep"),
        ("video/a.mp4", ""),
        ("show/ep/Audio/x/y/a.wav", "show/ep"),
        ("show/video/audio/a.wav", "show"),
        ("show/videotape/a.mp4", "show/videotape"),
        ("show/audio", "show"),
    ],
)
def test_the_scope_is_the_folder_or_the_parent_of_the_outermost_split_folder(path: str, scope: str) -> None:
    assert scope_of(path) == scope


# -- rule 4: a job folder -----------------------------------------------------------------------------


def test_the_only_video_and_the_only_audio_of_a_quiet_folder_are_a_pair() -> None:
    found = pairs("job/clip.mp4", "job/voice.wav", quiet=["job"])
    assert found == {"job/clip": ("job/clip.mp4", "job/voice.wav", "job_folder")}


def test_audios_that_all_carry_a_language_are_pairs() -> None:
    found = pairs("job/clip.mp4", "job/voice.de.wav", "job/stimme.fr.wav", quiet=["job"])
    assert set(found) == {"job/clip.de", "job/clip.fr"}


def test_until_the_folder_is_quiet_they_wait_and_say_so() -> None:
    found = left("job/clip.mp4", "job/voice.wav")
    assert {each.state for each in found.values()} == {PairState.WAITING}
    assert {each.code for each in found.values()} == {"awaiting_quiet"}
    assert "until nothing more arrives" in found["job/clip.mp4"].reason


def test_the_root_itself_is_no_job_folder() -> None:
    assert pairs("clip.mp4", "voice.wav", quiet=[""]) == {}
    assert "folder of their own" in left("clip.mp4", "voice.wav", quiet=[""])["voice.wav"].reason


@pytest.mark.parametrize(
    "audios",
    [
        ("voice.wav", "music.wav"),
        ("voice.de.wav", "music.wav"),
        ("scene02.wav",),
        ("scene02.de.wav",),
        ("scene 3.wav",),
    ],
)
def test_nothing_is_paid_for_what_may_belong_to_another_video(audios: tuple[str, ...]) -> None:
    files = ["job/scene01.mp4", *(f"job/{audio}" for audio in audios)]
    found = left(*files, quiet=["job"])
    assert {each.state for each in found.values()} == {PairState.ATTENTION}
    assert set(found) == set(files)


def test_an_early_audio_beside_a_finished_pair_needs_attention_once_the_folder_is_quiet() -> None:
    files = ("job/scene01.mp4", "job/scene01.wav", "job/scene02.wav")
    assert len(pairs(*files, quiet=["job"])) == 1
    assert codes(*files) == {"job/scene02.wav": "awaiting_quiet"}
    assert codes(*files, quiet=["job"]) == {"job/scene02.wav": "stray"}


@pytest.mark.parametrize("extra", ["music.wav", "music.de.wav"])
def test_a_music_stem_beside_a_finished_pair_is_not_paid_for(extra: str) -> None:
    files = ("job/clip.mp4", "job/clip.wav", f"job/{extra}")
    assert list(pairs(*files, quiet=["job"])) == ["job/clip"]
    assert codes(*files, quiet=["job"]) == {f"job/{extra}": "stray"}


def test_a_folder_with_several_videos_only_waits() -> None:
    found = left("ep/a1.mp4", "ep/b2.mp4", "ep/voice.wav", quiet=["ep"])
    assert {each.state for each in found.values()} == {PairState.WAITING}


def test_a_music_stem_on_one_side_of_split_folders_is_not_paid_for() -> None:
    files = ("video/clip.mp4", "video/music.wav", "audio/other.wav")
    assert pairs(*files, quiet=["video", "audio"]) == {}
    assert len(pairs("video/job1/clip.mp4", "video/job1/voice.wav", quiet=["video/job1"])) == 1


def test_one_language_twice_in_a_job_folder_is_ambiguous_and_the_other_language_goes_on() -> None:
    files = ("job/clip.mp4", "job/a.de.wav", "job/b.deu.wav", "job/c.fr.wav")
    assert set(pairs(*files, quiet=["job"])) == {"job/clip.fr"}
    assert codes(*files, quiet=["job"]) == {"job/a.de.wav": "two_audios", "job/b.deu.wav": "two_audios"}


# -- ambiguous: never guessed -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "code"),
    [
        (("a.mp4", "a.mov", "a.wav"), "two_videos"),
        (("a.mp4", "a.wav", "a.mp3"), "two_audios"),
        (("a.mp4", "A.MP4", "a.wav"), "twins"),
        (("a.mp4", "a.wav", "A.wav"), "twins"),
        ((unicodedata.normalize("NFC", "é.mp4"), unicodedata.normalize("NFD", "é.mp4"), "é.wav"), "twins"),
        (("a.mp4", "a.mov"), "two_videos"),
    ],
)
def test_threat_33_rivals_are_all_shown_and_none_is_taken(files: tuple[str, ...], code: str) -> None:
    found = pairing(*files)
    assert found.pairs == ()
    assert {each.path: (each.state, each.code) for each in found.unpaired} == dict.fromkeys(
        files, (PairState.ATTENTION, code)
    )
    for each in found.unpaired:
        assert set(each.candidates) == set(files) - {each.path}
        assert "keep one" in each.reason


def test_a_language_named_twice_is_ambiguous_and_blocks_no_other() -> None:
    files = ("a.mp4", "a.wav", "a.de.wav", "a.ger.wav", "a.fr.wav")
    assert set(pairs(*files)) == {"a", "a.fr"}
    assert codes(*files) == {"a.de.wav": "two_audios", "a.ger.wav": "two_audios"}


def test_two_pairs_never_share_a_name() -> None:
    files = ("scene.mp4", "scene.de.mp4", "scene.de.wav", "scene.ger.wav", "scene.wav")
    assert set(pairs(*files)) == {"scene"}
    assert codes(*files) == {"scene.de.mp4": "same_name", "scene.de.wav": "same_name", "scene.ger.wav": "same_name"}


def test_threat_38_a_hostile_name_is_escaped_in_a_reason() -> None:
    found = left("a\n\x1b[31m.mp4", "a\n\x1b[31m.mov")
    assert all(each.reason.isprintable() for each in found.values())


# -- waiting, and near misses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("video", "audio", "meant"),
    [
        ("scene01.mp4", "scene1.wav", "scene01.wav"),
        ("scene01.mp4", "scene_01.wav", "scene01.wav"),
        ("scene01.mp4", "sceen01.wav", "scene01.wav"),
        ("scene01.mp4", "szene01.wav", "scene01.wav"),
        ("scene01.mp4", "Scen01.wav", "scene01.wav"),
        ("Scene01.mp4", "scene1.de.wav", "Scene01.de.wav"),
        ("scene01.mp4", "scene01_de.wav", "scene01.de.wav"),
    ],
)
def test_a_near_miss_is_named_with_the_name_that_would_do(video: str, audio: str, meant: str) -> None:
    found = left(video, audio, "unrelated.wav", "another9.mp4")
    assert found[video].reason.startswith(f"no audio yet; found {audio}: did you mean {meant}?")
    assert found[audio].reason.startswith(f"no video yet; found {video}: did you mean {meant}?")
    assert (found[video].candidates, found[audio].candidates) == ((audio,), (video,))
    assert found[video].state is PairState.WAITING


def test_a_suffix_that_is_no_language_is_named() -> None:
    found = left("scene01.mp4", "scene01.klingon.wav", "scene01.wav")
    assert "klingon is no language that is known here" in found["scene01.klingon.wav"].reason


def test_neighbours_in_a_row_are_no_near_misses() -> None:
    found = left("scene01.mp4", "scene02.wav", "scene03.wav")
    assert {each.reason for each in found.values()} == {"no audio yet", "no video yet"}
    assert left("scene01.mp4", "scene02.wav")["scene01.mp4"].reason == "no audio yet"


def test_a_name_that_fits_in_another_folder_is_a_near_miss() -> None:
    found = left("show/a.mp4", "show/audio/a.wav")
    assert found["show/a.mp4"].reason == "no audio yet; found show/audio/a.wav: put the two into one folder"


def test_a_paired_file_is_no_near_miss() -> None:
    assert left("scene01.mp4", "scene01.wav", "scene1.wav", "other.mp4", "more.mp4")["scene1.wav"].candidates == ()


def test_what_is_no_media_is_told_and_not_lost() -> None:
    assert codes("a.txt", ".mp4") == {"a.txt": "no_media", ".mp4": "no_media"}


# -- for any listing ----------------------------------------------------------------------------------

STEMS = st.sampled_from(
    [
        "a",
        "A",
        "a.de",
        "a.ger",
        "a_de",
        "a-fr-CA",
        "a-fr",
        "b01",
        "b1",
        "b02",
        "é",
        "e\u0301",
        "a ",
        "x\udcff",
        "clip.fr",
    ]
)
FOLDERS = st.sampled_from(
    ["", "job/", "job/vo/", "job/video/", "video/", "audio/", "Videos/sub/", "vo/sub/", "audio/job/"]
)
LISTINGS = st.lists(
    st.builds(
        lambda *parts: "".join(parts), FOLDERS, STEMS, st.sampled_from([".mp4", ".MP4", ".mov", ".wav", ".mp3", ".txt"])
    ),
    max_size=14,
)
QUIET = st.sets(st.sampled_from(["", "job", "video", "audio", "Videos/sub", "vo/sub", "audio/job"]))


@given(LISTINGS, QUIET, st.sampled_from([RULES, NAMING]), st.integers())
@settings(max_examples=200)
def test_the_order_of_the_listing_does_not_matter(
    files: list[str], quiet: set[str], rules: PairingRules, seed: int
) -> None:
    shuffled = random.Random(seed).sample(files, len(files))
    assert pairing(*files, rules=rules, quiet=quiet) == pairing(*shuffled, rules=rules, quiet=quiet)


@given(LISTINGS, QUIET, st.sampled_from([RULES, NAMING]))
@settings(max_examples=200)
def test_every_file_is_in_a_pair_or_told_of_exactly_once(
    files: list[str], quiet: set[str], rules: PairingRules
) -> None:
    found = pairing(*files, rules=rules, quiet=quiet)
    paired = {path for pair in found.pairs for path in (pair.video, pair.audio)}
    told = [each.path for each in found.unpaired]
    assert paired | set(told) == set(files)
    assert not paired & set(told)
    assert len(told) == len(set(told))
    assert all(each.reason and each.path not in each.candidates for each in found.unpaired)
    assert {path for each in found.unpaired for path in each.candidates} <= set(files)


@given(LISTINGS, QUIET, st.sampled_from([RULES, NAMING]))
@settings(max_examples=200)
def test_no_two_pairs_share_a_key_or_an_audio(files: list[str], quiet: set[str], rules: PairingRules) -> None:
    found = pairing(*files, rules=rules, quiet=quiet).pairs
    assert all(count == 1 for count in Counter(pair.key.casefold() for pair in found).values())
    assert all(count == 1 for count in Counter(pair.audio for pair in found).values())
    for pair in found:
        assert pair.folder == pair.video.rpartition("/")[0]
        assert scope_of(pair.video) == scope_of(pair.audio)


def test_ten_thousand_files_of_one_scope_pair_in_less_than_two_seconds() -> None:
    fitting = [f"ep/scene{number:05}.{kind}" for number in range(5_000) for kind in ("mp4", "wav")]
    missing = [f"ep/scene{number:05}.mp4" for number in range(5_000)] + [
        f"ep/szene-{number}.wav" for number in range(5_000)
    ]
    for files in (fitting, missing):
        start = time.process_time()
        pairing(*files)
        assert time.process_time() - start < 2


def test_thousands_that_are_not_clear_do_not_each_name_all_the_others() -> None:
    """3,000 audios beside one video, each naming all, took 9 million names and half a second in each tick."""
    files = ["job/a.mp4", *(f"job/clip{number:04}.wav" for number in range(3_000))]
    found = pair_up(files, RULES, quiet_folders=["job"]).unpaired
    assert {item.code for item in found} == {"stray"}
    assert max(len(item.candidates) for item in found) == MOST_RIVALS
    assert {min(item.path, *item.candidates) for item in found} == {"job/a.mp4"}  # one group, one note
