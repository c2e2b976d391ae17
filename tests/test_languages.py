"""Which languages a name carries: codes, names, regions, and what must never be taken for a language."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chamelaion_watch.core.languages import LANGUAGES, canonical, named_tag, split_suffix, suffixes


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        *((tag, "de") for tag in ("de", "DE", "deu", "ger", "German", "german", "Deutsch", "DEUTSCH")),
        *((tag, "pt-BR") for tag in ("pt-br", "pt_BR", "PT-BR", "por-br")),
        ("zh-Hans", "zh-Hans"), ("zh_hant", "zh-Hant"), ("zho-hans-cn", "zh-Hans-CN"), ("cmn", "zh"),
        ("es-419", "es-419"), ("en-GB", "en-GB"), ("eng", "en"), ("sr-latn", "sr-Latn"),
        ("no", "no"), ("nb", "no"), ("norsk", "no"), ("tl", "fil"), ("iw", "he"),
        ("Français", "fr"), ("日本語", "ja"), ("Русский", "ru"), ("Tiếng Việt", "vi"),
    ],
)  # fmt: skip
def test_codes_names_and_regions_have_one_canonical_tag(tag: str, expected: str) -> None:
    assert canonical(tag) == expected


@pytest.mark.parametrize(
    "word",
    ["mix", "dub", "final", "v2", "stereo", "m-e", "vo", "hd", "uhd", "take", "may", "", "-", "de-", "de-XX", "en-BR",
     "zh-Latn", "de-DE-x", "deutsch-de", "x" * 500, "\udcff", "de\n"],
)  # fmt: skip
def test_other_words_are_no_languages(word: str) -> None:
    assert canonical(word) is None


def test_a_native_name_is_known_in_both_unicode_forms() -> None:
    assert canonical(unicodedata.normalize("NFD", "Français")) == "fr"


def test_every_code_and_name_belongs_to_one_language() -> None:
    words = [word.casefold() for language in LANGUAGES for word in {*language.codes, *language.names}]
    assert len(words) == len(set(words))
    assert len(LANGUAGES) >= 40


def test_every_canonical_tag_is_its_own_canonical_form() -> None:
    for language in LANGUAGES:
        for tag in (*language.codes, *language.names):
            assert canonical(canonical(tag) or "") == language.codes[0]


def test_after_a_dot_every_built_in_language_counts() -> None:
    assert split_suffix("scene01.de") == [("scene01", "de")]
    assert split_suffix("scene01.pt-BR") == [("scene01", "pt-BR")]
    assert split_suffix("scene01.Bahasa Indonesia") == [("scene01", "id")]


@pytest.mark.parametrize("stem", ["take it", "scene-de", "scene_de", "scene.mix", "scene", ".de", "de", "scene.", ""])
def test_nothing_else_counts_where_the_folder_names_no_language(stem: str) -> None:
    assert split_suffix(stem) == []


@pytest.mark.parametrize("stem", ["scene_de", "scene-de", "scene de", "scene_german", "scene.de"])
def test_after_other_separators_named_languages_count(stem: str) -> None:
    assert split_suffix(stem, languages=["de", "fr"]) == [("scene", "de")]


def test_a_region_of_a_named_language_counts_but_not_the_language_of_a_named_region() -> None:
    assert split_suffix("scene_de-AT", languages=["de"]) == [("scene", "de-AT")]
    assert split_suffix("scene_pt", languages=["pt-BR"]) == []
    assert split_suffix("scene_pt-BR", languages=["pt_br"]) == [("scene", "pt-BR")]


def test_naming_some_languages_takes_none_of_the_others_away_after_a_dot() -> None:
    assert split_suffix("scene.ja", languages=["de"]) == [("scene", "ja")]
    assert split_suffix("scene_ja", languages=["de"]) == []


def test_a_named_language_may_be_one_that_is_not_built_in() -> None:
    assert split_suffix("scene.gsw") == []
    assert split_suffix("scene.gsw", languages=["gsw"]) == [("scene", "gsw")]
    assert split_suffix("scene_GSW", languages=["gsw"]) == [("scene", "gsw")]
    assert named_tag("CY_gb") == "cy-GB"
    assert named_tag("not a tag") is None


def test_all_readings_are_given_the_longest_stem_first() -> None:
    assert split_suffix("scene-fr-CA", languages=["fr", "ca"]) == [("scene-fr", "ca"), ("scene", "fr-CA")]


def test_suffixes_are_the_last_words_whether_languages_or_not() -> None:
    assert list(suffixes("a.b_final mix")) == [
        ("a.b_final", " ", "mix"),
        ("a.b", "_", "final mix"),
        ("a", ".", "b_final mix"),
    ]


@given(st.text(alphabet="ab.-_ deDEß\u0301\udc80", max_size=30), st.sampled_from([None, ["de"], ["de", "ab", "aab"]]))
@settings(max_examples=300)
def test_a_reading_is_always_a_part_of_the_stem_and_a_canonical_tag(stem: str, languages: list[str] | None) -> None:
    for shorter, lang in split_suffix(stem, languages=languages):
        assert shorter
        assert stem.startswith(shorter)
        assert named_tag(lang) == lang
