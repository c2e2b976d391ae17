"""YAML as people write it: the 1.2 core schema with the place of every key and value, and limits on hostile files.

PyYAML follows YAML 1.1, where `no` is false, `22:30` is 1350 and the last of two equal keys silently wins. Here `no`
and `22:30` are text and equal keys are an error. Nothing but plain data is ever built: an unknown tag such as
`!!python/object` is an error. Whatever is wrong with the text becomes one ConfigError with line and column.
"""

from __future__ import annotations

import codecs
import copy
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, cast

import yaml
from yaml.reader import ReaderError

from chamelaion_watch.core.errors import ConfigError
from chamelaion_watch.core.text import printable

KeyPath = tuple[str | int, ...]

MAX_BYTES: Final = 2**20
MAX_DEPTH: Final = 50
MAX_NODES: Final = 10_000  # counted with aliases written out, as a billion laughs is small until then
MAX_ALIASES: Final = 100
_MAX_DIGITS: Final = 100  # int() of more than 4300 raises, and costs quadratic time before

_TAG = "tag:yaml.org,2002:"
_CORE_SCHEMA = {  # https://yaml.org/spec/1.2.2/#103-core-schema: tag, pattern, possible first characters
    "null": (r"(?:~|null|Null|NULL|)\Z", "~nN"),
    "bool": (r"(?:true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
    "int": (r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z", "-+0123456789"),
    "float": (
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z",
        "-+.0123456789",
    ),
}
_RESOLVERS = [
    (_TAG + kind, re.compile(pattern, re.ASCII), [*firsts, *([""] if kind == "null" else [])])
    for kind, (pattern, firsts) in _CORE_SCHEMA.items()
]


class Place(NamedTuple):
    """Where something stands in the file; both count from 1, as editors do."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data, and for each path in it the place of the value and of the key before it."""

    name: str
    data: Any
    values: Mapping[KeyPath, Place] = field(default_factory=dict)
    keys: Mapping[KeyPath, Place] = field(default_factory=dict)

    def place(self, path: KeyPath, *, of_key: bool = False) -> Place:
        """Return where `path` stands; of what is not in the file, where its nearest parent stands."""
        if of_key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, Place(1, 1))


def read(path: Path) -> Document:
    """Return the document in the file; raises ConfigError if it cannot be read or is not YAML."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError([f"{path}: cannot be read: {reason}"]) from error
    return parse(raw, str(path))


def parse(raw: bytes, name: str) -> Document:
    """Return the document in `raw`, an empty one as None; raises ConfigError, its place led by `name`."""
    if len(raw) > MAX_BYTES:
        raise ConfigError([f"{name}: larger than {MAX_BYTES // 2**20} MiB: this is not a configuration"])
    try:
        loader = _Loader(_decoded(raw))
        node = loader.compose_alone()
        return Document(name, None) if node is None else _Builder(name).document(node)
    except _ProblemError as problem:
        where, words = problem.place, problem.words
    except yaml.MarkedYAMLError as error:
        where, words = _place(error.problem_mark or error.context_mark), _plain_words(error)
    raise ConfigError([f"{name}:{where.line}:{where.column}: {words}"])


def dump(data: Any) -> str:
    """Return plain data as YAML that reads the same under 1.1 and 1.2 rules, its keys in their own order."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text.removesuffix("...\n")


def dump_inline(data: Any) -> str:
    """Return plain data as YAML on one line."""
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf, default_flow_style=True
    )
    return text.removesuffix("...\n").rstrip("\n")


# -- text to nodes ------------------------------------------------------------------------------------


class _ProblemError(Exception):
    def __init__(self, place: Place, words: str) -> None:
        super().__init__(words)
        self.place = place
        self.words = words


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner and parser, with the core schema in place of its own and limits while it composes."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own name, filled below

    def __init__(self, text: str) -> None:
        self._depth = self._nodes = self._aliases = 0
        try:
            super().__init__(text)
        except ReaderError as error:
            # A control character; the reader tells where in the whole text, but has no mark yet.
            code = f"character U+{error.character:04X} is not allowed"
            raise _ProblemError(_place_at(text, error.position), code) from error

    def compose_alone(self) -> yaml.Node | None:
        """Return the only document's root, None if there is none."""
        try:
            return self.get_single_node()
        except (ValueError, OverflowError) as error:
            # "\UFFFFFFFF" and the like: PyYAML passes the number to chr() unchecked.
            raise _ProblemError(_place(self.get_mark()), "not a Unicode character") from error

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        place = _place(event.start_mark)
        self._count(isinstance(event, yaml.AliasEvent), place)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _ProblemError(place, f"nested more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return _moved(node, event) if isinstance(event, yaml.AliasEvent) and node else node

    def _count(self, is_alias: bool, place: Place) -> None:
        self._nodes += 1
        self._aliases += is_alias
        if self._nodes > MAX_NODES:
            raise _ProblemError(place, f"more than {MAX_NODES} values")
        if self._aliases > MAX_ALIASES:
            raise _ProblemError(place, f"more than {MAX_ALIASES} aliases")


for _tag, _pattern, _firsts in _RESOLVERS:
    _Loader.add_implicit_resolver(_tag, _pattern, _firsts)


def _decoded(raw: bytes) -> str:
    raw = raw.removeprefix(codecs.BOM_UTF8)  # not by `utf-8-sig`: its errors do not count the mark
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        words = f"not UTF-8: byte 0x{raw[error.start]:02x}; save the file as UTF-8"
        raise _ProblemError(_place_at(before, len(before)), words) from error


def _moved(node: Any, alias: Any) -> yaml.Node:
    """Return the node as if it stood where its alias stands; the children are shared, so loops stay loops."""
    moved = copy.copy(node)
    moved.start_mark = alias.start_mark
    return cast("yaml.Node", moved)


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


def _place_at(text: str, index: int) -> Place:
    before = text[:index]
    return Place(before.count("\n") + 1, index - before.rfind("\n"))


def _plain_words(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "not valid YAML"
    if r"'\t'" in problem:
        return "a tab stands where only spaces may: use spaces"
    if "found another document" in problem:
        return "a second document begins here (---): a configuration is one document"
    words = f"{error.context}: {problem}" if error.context and error.problem else problem
    return printable(words, 200)


# -- nodes to plain data ------------------------------------------------------------------------------


class _Builder:
    """Turns nodes into data and notes where each stands."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values: dict[KeyPath, Place] = {}
        self._keys: dict[KeyPath, Place] = {}
        self._open: set[int] = set()  # the collections we are inside of
        self._built = 0

    def document(self, node: yaml.Node) -> Document:
        return Document(self._name, self._value(node, ()), self._values, self._keys)

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        place = self._values[path] = _place(node.start_mark)
        self._built += 1
        if self._built > MAX_NODES:
            raise _ProblemError(place, f"more than {MAX_NODES} values with the aliases written out")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        return self._collection(node, path)

    def _collection(self, node: yaml.Node, path: KeyPath) -> Any:
        if id(node.value) in self._open:
            raise _ProblemError(_place(node.start_mark), "an alias to what it stands in")
        if len(path) >= MAX_DEPTH:
            raise _ProblemError(_place(node.start_mark), f"nested more than {MAX_DEPTH} deep")
        self._open.add(id(node.value))
        built = self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._sequence(node, path)
        self._open.discard(id(node.value))
        return built

    def _sequence(self, node: yaml.Node, path: KeyPath) -> list[Any]:
        _expect_tag(node, "seq")
        return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        _expect_tag(node, "map")
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, place = _key(key_node), _place(key_node.start_mark)
            if key in built:
                first = self._keys[(*path, key)]
                raise _ProblemError(place, f"{printable(key, 60)} is already set at line {first.line}")
            self._keys[(*path, key)] = place
            built[key] = self._value(value_node, (*path, key))
        return built


def _key(node: yaml.Node) -> str:
    place = _place(node.start_mark)
    if not isinstance(node, yaml.ScalarNode):
        raise _ProblemError(place, "a key must be text, not a list or a mapping")
    key = _scalar(node)
    if not isinstance(key, str):
        raise _ProblemError(
            place, f'the key {printable(node.value, 60)} is not text: write "{printable(node.value, 60)}"'
        )
    if key == "<<" and node.style is None:
        raise _ProblemError(place, "merge keys (<<) are not part of YAML 1.2: write the values out")
    return key


def _scalar(node: yaml.ScalarNode) -> Any:
    kind = node.tag.removeprefix(_TAG)
    text: str = node.value
    if kind == "str" and not any("\ud800" <= char <= "\udfff" for char in text):
        return text
    pattern = _CORE_SCHEMA.get(kind)
    if pattern is None or not re.match(pattern[0], text, re.ASCII):
        _refuse_scalar(node, kind)
    return _PARSERS[kind](text) if len(text) <= _MAX_DIGITS else _too_long(node)


def _refuse_scalar(node: yaml.ScalarNode, kind: str) -> NoReturn:
    if kind == "str":
        raise _ProblemError(_place(node.start_mark), "not a Unicode character")
    if kind not in _CORE_SCHEMA:
        _refuse_tag(node)
    raise _ProblemError(_place(node.start_mark), f"the text is not of its type !!{kind}")


def _too_long(node: yaml.ScalarNode) -> NoReturn:
    raise _ProblemError(_place(node.start_mark), f"a number of more than {_MAX_DIGITS} digits")


def _expect_tag(node: yaml.Node, kind: str) -> None:
    if node.tag != _TAG + kind:
        _refuse_tag(node)


def _refuse_tag(node: yaml.Node) -> NoReturn:
    tag = node.tag.replace(_TAG, "!!")
    raise _ProblemError(_place(node.start_mark), f"unknown tag {printable(tag, 60)}: only plain values are read")


def _int(text: str) -> int:
    bases = {"0o": 8, "0x": 16}
    return int(text[2:], bases[text[:2]]) if text[:2] in bases else int(text)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_PARSERS = {"null": lambda _: None, "bool": lambda text: text.lower() == "true", "int": _int, "float": _float}


# -- plain data to text -------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as anything but text: `no`, `22:30`, `0o17`, `1e3`."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


for _tag, _pattern, _firsts in _RESOLVERS:
    _Dumper.add_implicit_resolver(_tag, _pattern, _firsts)


def _null(dumper: yaml.SafeDumper, _: None) -> yaml.ScalarNode:
    return dumper.represent_scalar(_TAG + "null", "null")


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML folds U+0085 and its like at line breaks that 1.2 does not know; double quotes escape them.
    return dumper.represent_scalar(_TAG + "str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(type(None), _null)
_Dumper.add_representer(str, _text)
