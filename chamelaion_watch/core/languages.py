"""The dubbing languages, and which of them a file name carries.

An allow-list of our own: general libraries call "mix" (Mixtepec Mixtec) and "dub" (Dubli) languages, and would pay
for `scene01.mix.wav`. Codes are ISO 639-1, then 639-2/T or 639-3, then 639-2/B; regions are the dubs that are
ordered by region. Names are compared without regard to case.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Language:
    """One language: `codes[0]` is its canonical tag, `names` starts with the English and the native name."""

    codes: tuple[str, ...]
    names: tuple[str, ...]
    regions: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()


def _language(codes: str, names: str, regions: str = "", scripts: str = "") -> Language:
    return Language(tuple(codes.split()), tuple(names.split("/")), tuple(regions.split()), tuple(scripts.split()))


LANGUAGES: tuple[Language, ...] = (
    _language("ar ara arb", "Arabic/العربية", "AE DZ EG IQ JO LB MA SA SY TN"),
    _language("bg bul", "Bulgarian/Български", "BG"),
    _language("bn ben", "Bengali/বাংলা/Bangla", "BD IN"),
    _language("ca cat", "Catalan/Català", "ES"),
    _language("cs ces cze", "Czech/Čeština", "CZ"),
    _language("da dan", "Danish/Dansk", "DK"),
    _language("de deu ger", "German/Deutsch", "AT CH DE"),
    _language("el ell gre", "Greek/Ελληνικά", "CY GR"),
    _language("en eng", "English/English", "AU CA GB IE IN NZ US ZA"),
    _language("es spa", "Spanish/Español/Castellano", "419 AR CL CO ES MX PE US"),
    _language("et est", "Estonian/Eesti", "EE"),
    _language("eu eus baq", "Basque/Euskara", "ES"),
    _language("fa fas per", "Persian/فارسی/Farsi", "IR"),
    _language("fi fin", "Finnish/Suomi", "FI"),
    _language("fil tl tgl", "Filipino/Filipino/Tagalog", "PH"),
    _language("fr fra fre", "French/Français", "BE CA CH FR"),
    _language("gl glg", "Galician/Galego", "ES"),
    _language("gu guj", "Gujarati/ગુજરાતી", "IN"),
    _language("he heb iw", "Hebrew/עברית", "IL"),
    _language("hi hin", "Hindi/हिन्दी", "IN"),
    _language("hr hrv", "Croatian/Hrvatski", "HR"),
    _language("hu hun", "Hungarian/Magyar", "HU"),
    _language("id ind", "Indonesian/Bahasa Indonesia", "ID"),
    _language("is isl ice", "Icelandic/Íslenska", "IS"),
    _language("it ita", "Italian/Italiano", "CH IT"),
    _language("ja jpn", "Japanese/日本語", "JP"),
    _language("kn kan", "Kannada/ಕನ್ನಡ", "IN"),
    _language("ko kor", "Korean/한국어", "KR"),
    _language("lt lit", "Lithuanian/Lietuvių", "LT"),
    _language("lv lav lvs", "Latvian/Latviešu", "LV"),
    _language("ml mal", "Malayalam/മലയാളം", "IN"),
    _language("mr mar", "Marathi/मराठी", "IN"),
    _language("ms msa zsm", "Malay/Bahasa Melayu", "MY SG"),  # not its third code, `may`: that is a month in file names
    _language("nl nld dut", "Dutch/Nederlands/Flemish/Vlaams", "BE NL"),
    _language("no nor nb nob", "Norwegian/Norsk/Bokmål", "NO"),
    _language("pa pan", "Punjabi/ਪੰਜਾਬੀ", "IN PK"),
    _language("pl pol", "Polish/Polski", "PL"),
    _language("pt por", "Portuguese/Português", "BR PT"),
    _language("ro ron rum", "Romanian/Română", "MD RO"),
    _language("ru rus", "Russian/Русский", "RU"),
    _language("sk slk slo", "Slovak/Slovenčina", "SK"),
    _language("sl slv", "Slovenian/Slovenščina/Slovene", "SI"),
    _language("sr srp", "Serbian/Српски/Srpski", "RS", "Cyrl Latn"),
    _language("sv swe", "Swedish/Svenska", "FI SE"),
    _language("sw swa swh", "Swahili/Kiswahili", "KE TZ"),
    _language("ta tam", "Tamil/தமிழ்", "IN LK"),
    _language("te tel", "Telugu/తెలుగు", "IN"),
    _language("th tha", "Thai/ไทย", "TH"),
    _language("tr tur", "Turkish/Türkçe", "TR"),
    _language("uk ukr", "Ukrainian/Українська", "UA"),
    _language("ur urd", "Urdu/اردو", "IN PK"),
    _language("vi vie", "Vietnamese/Tiếng Việt", "VN"),
    _language("yue", "Cantonese/粵語", "HK"),
    _language("zh zho chi cmn", "Chinese/中文/Mandarin", "CN HK SG TW", "Hans Hant"),
)

_SEPARATOR = re.compile(r"[._\- ]")
_TAG = re.compile(r"([a-z]{2,3})(?:-([a-z]{4}))?(?:-([a-z]{2}|[0-9]{3}))?")  # language, script, region, folded
_MAX_SEPARATORS = 3  # that a suffix can hold, with the one before it: `.zh-Hans-CN`


def canonical(tag: str) -> str | None:
    """Return the canonical tag (`de`, `pt-BR`, `zh-Hans`) for a code, a tag or a name, or None if it is none of ours.

    `ger`, `deu`, `German` and `Deutsch` are `de`; `pt_br` is `pt-BR`.
    """
    return _canonical(_folded(tag))


def named_tag(tag: str) -> str | None:
    """Return the tag that a configuration may name: one of ours, or any other that is well formed (`gsw`, `cy-GB`)."""
    return canonical(tag) or _well_formed(_folded(tag))


def split_suffix(stem: str, *, languages: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Return all readings of a stem as (shorter stem, canonical language), the longest shorter stem first.

    After a dot every built-in language counts, and each of `languages`, the ones that the folder names; after `_`,
    `-` or a space only those named, with any of their regions.
    """
    named = _named(tuple(languages or ()))
    readings = ((shorter, _reading(separator, tag, named)) for shorter, separator, tag in suffixes(stem))
    return [(shorter, lang) for shorter, lang in readings if lang is not None]


def suffixes(stem: str) -> Iterator[tuple[str, str, str]]:
    """Yield (shorter stem, separator, what follows) for what may be a suffix, the longest shorter stem first."""
    ends = [match.start() for match in _SEPARATOR.finditer(stem)]
    for end in ends[: -_MAX_SEPARATORS - 1 : -1]:
        shorter, tag = stem[:end].rstrip(". "), stem[end + 1 :]
        if shorter and tag:
            yield shorter, stem[end], tag


def _reading(separator: str, tag: str, named: frozenset[str]) -> str | None:
    if separator == "." and (lang := canonical(tag)):
        return lang
    lang = named_tag(tag) if named else None
    return lang if lang and (lang in named or lang.partition("-")[0] in named) else None


@lru_cache(maxsize=256)
def _named(languages: tuple[str, ...]) -> frozenset[str]:
    return frozenset(lang for tag in languages if (lang := named_tag(tag)))


@lru_cache(maxsize=4096)
def _canonical(folded: str) -> str | None:
    if language := _BY_WORD.get(folded):
        return language.codes[0]
    match = _TAG.fullmatch(folded)
    language = _BY_CODE.get(match[1]) if match else None
    if match is None or language is None:
        return None
    script, region = (match[2] or "").title(), (match[3] or "").upper()
    if (script and script not in language.scripts) or (region and region not in language.regions):
        return None
    return "-".join(part for part in (language.codes[0], script, region) if part)


def _well_formed(folded: str) -> str | None:
    match = _TAG.fullmatch(folded)
    if match is None:
        return None
    return "-".join(part for part in (match[1], (match[2] or "").title(), (match[3] or "").upper()) if part)


def _folded(tag: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", tag).casefold()).replace("_", "-")


_BY_CODE = {code: language for language in LANGUAGES for code in language.codes}
_BY_WORD = _BY_CODE | {_folded(name): language for language in LANGUAGES for name in language.names}
