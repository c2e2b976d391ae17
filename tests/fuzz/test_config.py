"""Whatever the configuration says: it is Settings, or a list of plain problems with their lines, and it is quick."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

from hypothesis import example

from chamelaion_watch import settings
from chamelaion_watch.core.errors import ConfigError
from chamelaion_watch.core.ignore import why_ignored
from chamelaion_watch.service import folder_policy_of, policy_of
from chamelaion_watch.settings import FolderSettings, Settings
from chamelaion_watch.settings_model import ApiSettings, PauseSettings
from tests.fuzz import dice
from tests.fuzz.dice import Dice, briefly, campaign

ENV = {"HOME": "/home/editor"}
NAME = "config.yaml"
LONGEST_PROBLEM = 600

VALID = [
    b"folders:\n  - path: /srv/a\n",
    b"folders:\n  - path: /srv/a\n    output: '{dir}/{name}.lipsync.mp4'\n    settle: 10s\n    min_bytes: 1KiB\n",
    b"folders: [{path: /srv/a, languages: [no, de]}, {path: /srv/b, name: b, mode: \"0664\", ignore: ['*.x', '!y']}]\n",
    b"api:\n  poll: {first: 10s, max: 30s}\n  uploads: 2\n  base_url: https://a.example/api\nfolders:\n- path: /srv/a\n",
    b"state: /srv/state\nlog: {level: debug, format: json}\nmax_jobs_per_day: 5\nfolders:\n- {path: /srv/a}\n",
    b"api: {pause: {quota: &a {first: 1m, max: 1h}, unreachable: *a}}\nfolders:\n- path: /srv/a\n  preflight: {no_sound: warn}\n",
]
FRAGMENTS = [
    *(b"a", b"b:", b" ", b"\n", b"  - ", b"{", b"}", b"[", b"]", b",", b": ", b"? ", b"&a ", b"*a", b"!!python/object:os.x ", b"!!int "),
    *(b"!", b"|\n", b">-\n", b"'", b'"', b"\\", b'"\\UFFFFFFFF"', b"\\x", b"# ", b"%YAML 9.9\n", b"<<: ", b"~", b"1", b"0o9", b".inf", b".nan"),
    *(b"\n---\n", b"\n...\n", b"\t", b"\xef\xbb\xbf", b"\xc2\x85", b"\xe2\x80\xa8", b"\0", b"\xff", b"@", b"`", b"9" * 5_000, b"1e999", b"-0"),
    *(b"[" * 60, b"{a: " * 60, b"- " * 70, b"0x" + b"f" * 200, b"no", b"22:30", b"null", b"folders:", b"path:"),
    b"x: &b [*b]\n",
    b"a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c]\n",
]  # fmt: skip
SECTIONS = (Settings, FolderSettings, ApiSettings, PauseSettings)
OPTIONS = [*dict.fromkeys(name for section in SECTIONS for name in section.model_fields), "first", "max", "folder"]
API, FOLDER = [*ApiSettings.model_fields], [*FolderSettings.model_fields]
SECRETS = ["key", "api_key", "token", "Authorization"]
SECRET = "sk-live-42424242424242"
VALUES: list[Any] = [
    *(
        "/srv/a",
        "/srv/a/b",
        "10s",
        "500ms",
        "99999999999d",
        "1KiB",
        "9999999TiB",
        "{dir}/{name}.lipsync.mp4",
        "{dir}/{",
        "keep",
    ),
    *(
        "https://a.example",
        "http://a.example",
        "https://[::1",
        "https://u:p@a.example",
        "de",
        "nosuch",
        ".mp4",
        "0664",
        "0999",
    ),
    *(
        "[z-a]",
        "[",
        "*" * 40,
        "!",
        "(((((",
        "\ud800".encode("utf-8", "backslashreplace").decode(),
        "stop",
        "hold",
        "~",
        ".",
        "..",
    ),
    *(0, 1, -1, 10**30, 1.5, float("inf"), float("nan"), True, None, "", "a\nb", "x" * 300, "\x7f"),
]


# -- the text -----------------------------------------------------------------------------------------


def raw_text(chosen: Dice) -> bytes:
    """Fragments of YAML, valid configurations that were damaged, bytes."""
    kind = chosen.below(6)
    if kind == 0:
        return chosen.raw(chosen.below(200))
    if kind < 3:
        return b"".join(chosen.pick(FRAGMENTS) for _ in range(chosen.below(14)))
    text = chosen.pick(VALID)
    if kind == 3:
        return dice.damaged(chosen, text)
    tokens = re.split(rb"(\s+|[:,{}\[\]'\"&*-])", text)
    for _ in range(1 + chosen.below(4)):
        here, there = chosen.below(len(tokens)), chosen.below(len(tokens))
        if chosen.often(5):
            tokens[here], tokens[there] = tokens[there], tokens[here]
        else:
            tokens[here] = chosen.pick(FRAGMENTS)
    return b"".join(tokens)


# -- the document -------------------------------------------------------------------------------------


def document(chosen: Dice) -> Any:
    """A document of our own words in any place and of any type."""
    if chosen.often(1):
        return written(chosen, 2)
    folders = [folder(chosen) for _ in range(chosen.pick([1, 1, 1, 2, 0]))]
    top = {chosen.pick(OPTIONS): written(chosen, 2) for _ in range(chosen.below(2))}
    api = {chosen.pick(API): written(chosen, 2) for _ in range(chosen.below(2))}
    return top | {"folders": folders} | ({"api": api} if api else {})


def folder(chosen: Dice) -> Any:
    path = {"path": chosen.pick(["/srv/a", "/srv/\u202eb", "/srv/a/b"])}
    return path | {chosen.pick(FOLDER): written(chosen, 1) for _ in range(chosen.below(3))}


def written(chosen: Dice, depth: int) -> Any:
    kind = chosen.below(10 if depth else 7)
    if kind < 7:
        return chosen.pick(VALUES)
    if kind == 7:
        return chosen.some(3, lambda: written(chosen, depth - 1))
    found = {chosen.pick(OPTIONS): written(chosen, depth - 1) for _ in range(chosen.below(3))}
    return found | ({chosen.pick(SECRETS): SECRET} if chosen.often(2) else {})


@campaign(lambda chosen: raw_text(chosen) if chosen.often(5) else as_yaml(document(chosen)))
@example(thrown=b'"\\UFFFFFFFF"')
@example(thrown=b"\n" * 3000 + b"a: [")
@example(thrown=b"\xef\xbb\xbfa\xff")  # a byte order mark, and then no UTF-8: was a traceback
@example(thrown=b"[" * 3_000)
@example(thrown=b"folders: [{path: /srv/a, video: ['\x7f']}]")
@example(thrown=b'folders: [{path: /srv/a, video: ["\\x7f"]}]')  # was told with the control character in it
def test_whatever_the_file_says_it_is_settings_or_plain_problems(thrown: bytes, tmp_path: Path) -> None:
    (tmp_path / NAME).unlink(missing_ok=True)  # ext4 flushes what is written over
    (tmp_path / NAME).write_bytes(thrown)
    with contextlib.chdir(tmp_path), briefly():
        found = loaded_or_problems()
        if isinstance(found, Settings):
            assert_is_usable(found)
            return
    assert found
    for problem in found:
        assert_is_plain(problem, thrown)


def as_yaml(data: Any) -> bytes:
    """JSON is YAML, and written much faster."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    return text.replace("Infinity", ".inf").replace("NaN", ".nan").encode()


# -- what must hold -----------------------------------------------------------------------------------


def loaded_or_problems() -> Settings | list[str]:
    try:
        return settings.load(Path(NAME), ENV)
    except ConfigError as error:
        return error.problems


def assert_is_plain(problem: str, raw: bytes) -> None:
    found = re.match(rf"{re.escape(NAME)}:(\d+):(\d+): \S", problem)
    assert found, problem
    lines = re.split(r"\r\n|[\r\n\x85\u2028\u2029]", raw.decode("utf-8", "replace"))
    assert 1 <= int(found[1]) <= len(lines)
    assert int(found[2]) >= 1
    assert problem.isprintable(), problem
    assert len(problem) <= LONGEST_PROBLEM, problem
    assert SECRET not in problem


def assert_is_usable(loaded: Settings) -> None:
    """What the daemon makes of it at once must not fail any more."""
    policy_of(loaded)
    assert loaded.folders
    for each in map(folder_policy_of, loaded.folders):
        why_ignored("a.mp4", each.ignore)
    settings.effective(loaded)
    assert settings.state_folder(loaded, Path(NAME), ENV).is_absolute()
