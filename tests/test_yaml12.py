"""YAML 1.2 core rules, places, and hostile files."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chamelaion_watch import yaml12
from chamelaion_watch.core.errors import ConfigError


def parsed(text: Any) -> Any:
    return yaml12.parse(text.encode() if isinstance(text, str) else text, "c.yaml").data


def problem_of(text: Any) -> Any:
    with pytest.raises(ConfigError) as error:
        parsed(text)
    (problem,) = error.value.problems
    return problem


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("22:30", "22:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("=", "="),
        ("0b11", "0b11"),
        ("tRUE", "tRUE"),
        ("0o17", 15),
        ("017", 17),
        ("0x1F", 31),
        ("+12", 12),
        ("-0", 0),
        ("true", True),
        ("True", True),
        ("TRUE", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("Null", None),
        ("", None),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5E-2", -0.015),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ('"1"', "1"),
        ("'no'", "no"),
        ("!!str 12", "12"),
        ("!!int 12", 12),
        ("!!float 12", 12.0),
        ("[no, 0664]", ["no", 664]),
        ("{de: a.wav}", {"de": "a.wav"}),
    ],
)
def test_core_schema(written: str, value: Any) -> None:
    data = parsed(f"a: {written}")["a"]
    assert data == value
    assert type(data) is type(value)


def test_not_a_number() -> None:
    assert math.isnan(parsed("a: .NaN")["a"])


def test_an_empty_file_is_none() -> None:
    assert parsed("") is None
    assert parsed("# only a comment\n") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "c.yaml:3:1: a is already set at line 1"),
        ("a: {b: 1, b: 2}", "c.yaml:1:11: b is already set at line 1"),
        ("a:\n\tb: 1", "c.yaml:2:1: a tab stands where only spaces may: use spaces"),
        ("a:\tb", "c.yaml:1:3: a tab stands where only spaces may: use spaces"),
        (
            "a: !!python/object:os.system x",
            "c.yaml:1:4: unknown tag !!python/object:os.system: only plain values are read",
        ),
        ("a: !!python/name:os.system", "c.yaml:1:4: unknown tag !!python/name:os.system: only plain values are read"),
        (
            "!!python/object/apply:os.system [id]",
            "c.yaml:1:1: unknown tag !!python/object/apply:os.system: only plain values are read",
        ),
        ("a: !!binary aGk=", "c.yaml:1:4: unknown tag !!binary: only plain values are read"),
        ("a: !!timestamp 2024-01-01", "c.yaml:1:4: unknown tag !!timestamp: only plain values are read"),
        ("!!set {a}", "c.yaml:1:1: unknown tag !!set: only plain values are read"),
        ("a: !!str [b]", "c.yaml:1:4: unknown tag !!str: only plain values are read"),
        ("a: !!int b", "c.yaml:1:4: the text is not of its type !!int"),
        ("a: !%0a b", r"c.yaml:1:4: unknown tag !\n: only plain values are read"),
        ("b: &b {c: 1}\na:\n  <<: *b", "c.yaml:3:3: merge keys (<<) are not part of YAML 1.2: write the values out"),
        ("1: a", 'c.yaml:1:1: the key 1 is not text: write "1"'),
        ("[a]: b", "c.yaml:1:1: a key must be text, not a list or a mapping"),
        ("a: *b", "c.yaml:1:4: found undefined alias 'b'"),
        ("&a [*a]", "c.yaml:1:5: an alias to what it stands in"),
        ("a: &a {b: *a}", "c.yaml:1:11: an alias to what it stands in"),
        ("a: 1\n---\nb: 1", "c.yaml:2:1: a second document begins here (---): a configuration is one document"),
        ("a: b: c", "c.yaml:1:5: mapping values are not allowed here"),
        (b"a: 1\nb: \xc3\xbc\xff", "c.yaml:2:5: not UTF-8: byte 0xff; save the file as UTF-8"),
        (b"\xef\xbb\xbfa: 1\nb: \xff", "c.yaml:2:4: not UTF-8: byte 0xff; save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "c.yaml:1:1: not UTF-8: byte 0xff; save the file as UTF-8"),
        ("a: 1\nb: \x07", "c.yaml:2:4: character U+0007 is not allowed"),
        ('a: "\\UFFFFFFFF"', "c.yaml:1:7: not a Unicode character"),
        ('a: "\\uD800"', "c.yaml:1:4: not a Unicode character"),
        ("a: " + "9" * 5000, "c.yaml:1:4: a number of more than 100 digits"),
        ("[" * 60 + "]" * 60, "c.yaml:1:51: nested more than 50 deep"),
        ("x" * 2**20 + "x", "c.yaml: larger than 1 MiB: this is not a configuration"),
        ("- a\n" * 10_001, "c.yaml:10000:3: more than 10000 values"),
        ("- &a b\n" + "- *a\n" * 101, "c.yaml:102:3: more than 100 aliases"),
    ],
)
def test_threat_79_what_is_wrong_is_one_line_with_its_place(text: Any, problem: str) -> None:
    assert problem_of(text) == problem


def test_a_quoted_merge_sign_is_a_plain_key() -> None:
    assert parsed("'<<': 1") == {"<<": 1}


def test_a_byte_order_mark_changes_neither_data_nor_places() -> None:
    assert parsed(b"\xef\xbb\xbfa: 1") == {"a": 1}
    assert yaml12.parse(b"\xef\xbb\xbfa: 1", "c.yaml").place(("a",)) == (1, 4)


def test_aliases_are_read_and_stand_where_they_are_used() -> None:
    document = yaml12.parse(b"a: &x [1, 2]\nb: *x\n", "c.yaml")
    assert document.data == {"a": [1, 2], "b": [1, 2]}
    assert document.place(("b",)) == (2, 4)


def test_threat_79_a_billion_laughs_end_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    started = time.process_time()
    assert problem_of("\n".join(lines)).endswith("values with the aliases written out")
    assert time.process_time() - started < 2


def test_threat_79_a_mebibyte_of_brackets_ends_at_once() -> None:
    started = time.process_time()
    assert "nested more than 50 deep" in problem_of("[" * 2**20)
    assert time.process_time() - started < 5


def test_places_of_keys_and_values() -> None:
    document = yaml12.parse(b"api:\n  uploads: 3\nfolders:\n  - path: /a\n    video: [.mp4, .mov]\n", "c.yaml")
    assert document.place(("api", "uploads")) == (2, 12)
    assert document.place(("api", "uploads"), of_key=True) == (2, 3)
    assert document.place(("folders", 0, "video", 1)) == (5, 19)
    assert document.place(("folders", 0)) == (4, 5)


def test_what_is_not_in_the_file_stands_at_its_parent() -> None:
    document = yaml12.parse(b"# c\nfolders:\n  - path: /a\n", "c.yaml")
    assert document.place(("folders", 0, "settle", "x")) == (3, 5)
    assert document.place(("api",), of_key=True) == (2, 1)
    assert yaml12.parse(b"", "c.yaml").place(("api",)) == (1, 1)


def test_reading_names_the_path_and_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for target, reason in ((path, "no such file or directory"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigError) as error:
            yaml12.read(target)
        assert error.value.problems == [f"{target}: cannot be read: {reason}"]
    path.write_text("a: [")
    with pytest.raises(ConfigError) as error:
        yaml12.read(path)
    assert error.value.problems[0].startswith(f"{path}:1:5: ")


def test_threat_79_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        yaml12.read(path)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=300)
@given(plain)
@example({"a": "no", "b": "22:30", "c": "0o17", "d": "1e3", "e": "<<", "f": "~", "g": "", "h": "0664"})
def test_what_is_dumped_reads_the_same(data: Any) -> None:
    assert parsed(yaml12.dump(data)) == data
    assert parsed(yaml12.dump_inline(data)) == data


def test_what_is_dumped_reads_the_same_under_yaml_1_1() -> None:
    data = {"lang": "no", "at": "22:30", "mode": "0664", "size": "1e3", "none": None}
    assert yaml.safe_load(yaml12.dump(data)) == data
