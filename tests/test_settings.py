"""The configuration: what is found, what is read, and every problem with its exact words and place."""

from __future__ import annotations

import contextlib
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from chamelaion_watch import settings, yaml12
from chamelaion_watch.core.errors import ConfigError
from chamelaion_watch.settings import Settings
from chamelaion_watch.settings_checks import path_forms

SECRET = "sk-live-4242424242424242"
PLACES = (
    "$CREDENTIALS_DIRECTORY/chamelaion-api-key, a file named by CHAMELAION_API_KEY_FILE, CHAMELAION_API_KEY, "
    "a file named by api.key_file"
)
NEVER_HERE = f"the key never stands in the configuration; put it into one of {PLACES}"
ENV = {"HOME": "/home/editor"}


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path: Path) -> Iterator[None]:
    with contextlib.chdir(tmp_path):
        yield


def load(text: str, **env: str) -> Settings:
    Path("config.yaml").write_text(dedent(text), encoding="utf-8")
    return settings.load(Path("config.yaml"), ENV | env)


def problems_of(text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(text, **env)
    return error.value.problems


def folder(lines: str = "", path: str = "/srv/a") -> str:
    """Return a configuration of one folder, its further options from line 3, column 5."""
    return f"folders:\n  - path: {path}\n" + "".join(f"    {line}\n" for line in lines.splitlines())


FOLDER = folder()


# -- defaults and values ------------------------------------------------------------------------------


def test_a_folder_is_enough_and_the_rest_has_defaults() -> None:
    loaded = load("folders: [{path: /srv/share/lipsync}]")
    assert settings.effective(loaded) == {
        "api": {
            "base_url": "https://api.chamelaion.com/api",
            "key_file": None,
            "ca_file": None,
            "requests_per_minute": 60,
            "max_in_flight": 8,
            "uploads": 2,
            "downloads": 2,
            "disable_active_speaker_detection": False,
            "model": None,
            "poll": {"first": "10s", "max": "30s"},
            "lookup_grace": "2m",
            "pause": {
                "rate_limited": {"first": "30s", "max": "5m"},
                "quota": {"first": "15m", "max": "1h"},
                "unauthorized": {"first": "1m", "max": "5m"},
                "unreachable": {"first": "5s", "max": "1m"},
            },
        },
        "max_jobs_per_day": None,
        "folders": [
            {
                "path": "/srv/share/lipsync",
                "name": "lipsync",
                "output": "{dir}/{name}.lipsync.mp4",
                "settle": None,
                "rescan": None,
                "recursive": True,
                "video": [".mp4"],
                "audio": [".wav", ".mp3"],
                "min_bytes": "1KiB",
                "languages": None,
                "ignore": [],
                "backlog": "hold",
                "preflight": {
                    "unreadable": "stop",
                    "no_picture": "stop",
                    "no_sound": "stop",
                    "duration_mismatch": "warn",
                },
                "on_success": "keep",
                "on_failure": "keep",
                "receipts": False,
                "status": True,
                "mode": "0664",
                "priority": 0,
            }
        ],
        "state": None,
        "spool_max": "50GiB",
        "server": {"listen": None},
        "log": {"level": "info", "format": "auto"},
    }


def test_values_are_held_as_seconds_bytes_bits_and_tuples() -> None:
    loaded = load(
        """
        api: {base_url: "https://proxy.example/api/", poll: {first: 500ms}, pause: {quota: {first: 1h}}, lookup_grace: 90s, model: lipsync-2}
        folders:
          - path: //srv/a//b/
            settle: 1.5s
            rescan: 1m
            min_bytes: 64MB
            mode: "0640"
            video: [.MP4, .mov, .mp4]
            languages: [no, pt-BR, german]
            ignore: ["*_proxy.*"]
            preflight: {no_sound: off}
        spool_max: 1024B
        """
    )
    (watched,) = loaded.folders
    assert loaded.api.base_url == "https://proxy.example/api"
    assert (loaded.api.poll.first, loaded.api.poll.max, loaded.api.lookup_grace) == (0.5, 30.0, 90.0)
    assert (watched.path, watched.name, watched.settle, watched.rescan) == ("/srv/a/b", "b", 1.5, 60.0)
    assert (watched.min_bytes, watched.mode, loaded.spool_max) == (64_000_000, 0o640, 1024)
    assert (watched.video, watched.languages, watched.ignore) == (
        (".mp4", ".mov"),
        ("no", "pt-BR", "german"),
        ("*_proxy.*",),
    )
    assert (watched.preflight.no_sound, watched.preflight.unreadable) == ("off", "stop")


def test_settings_are_frozen() -> None:
    loaded: Any = load(FOLDER)
    with pytest.raises(ValueError, match="frozen"):
        loaded.folders = ()


def test_a_section_whose_lines_are_all_commented_out_means_its_defaults() -> None:
    loaded = load("api:\n  # uploads: 3\nlog:\nserver:\n" + FOLDER)
    assert loaded == load(FOLDER)


def test_the_documented_value_of_a_later_option_is_accepted() -> None:
    load(folder("status: true\non_success: keep\non_failure: keep") + "server: {listen: null}\nstate: null\n")
    load(folder("status: false"))


def test_the_environment_wins_over_base_url() -> None:
    text = "api: {base_url: 'https://one.example/api'}\n" + FOLDER
    assert load(text).api.base_url == "https://one.example/api"
    assert load(text, CHAMELAION_BASE_URL=" https://two.example/api/ ").api.base_url == "https://two.example/api"
    assert load(text, CHAMELAION_BASE_URL="").api.base_url == "https://one.example/api"


def test_a_wrong_base_url_in_the_environment_names_the_variable() -> None:
    assert problems_of(FOLDER, CHAMELAION_BASE_URL="http://api.example/") == [
        "CHAMELAION_BASE_URL: must be https: the key would travel unencrypted to a public host"
    ]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.chamelaion.com/api",
        "https://api.example:8443",
        "http://127.0.0.1:8000/api",
        "http://localhost:8000/api",
        "http://sandbox.localhost/api",
        "http://[::1]:8000/api",
        "http://10.1.2.3/api",
        "http://192.168.1.5:8080/api",
        "http://[fd00::1]/api",
    ],
)
def test_https_anywhere_and_http_to_private_addresses(url: str) -> None:
    assert load(f"api: {{base_url: '{url}'}}\n{FOLDER}").api.base_url == url


# -- problems -----------------------------------------------------------------------------------------

ADDRESS = "must be an address such as https://api.chamelaion.com/api"
UNENCRYPTED = "must be https: the key would travel unencrypted to a public host"
DURATION = "must be a number and a unit such as 10s (units: d, h, m, s, ms)"
WATCHED = "must end in .lipsync.mp4: results land in {}, which is watched, and would be taken for videos"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("api: {base_url: api.chamelaion.com}", f"1:17: api.base_url: {ADDRESS}"),
        ("api: {base_url: 'ftp://a.example'}", f"1:17: api.base_url: {ADDRESS}"),
        ("api: {base_url: 'https://'}", f"1:17: api.base_url: {ADDRESS}"),
        ("api: {base_url: 'https://a.example:99999'}", f"1:17: api.base_url: {ADDRESS}"),
        ("api: {base_url: 'https://[::1'}", f"1:17: api.base_url: {ADDRESS}"),
        ("api: {base_url: 'https://u:p@a.example'}", "1:17: api.base_url: must not contain a user name or password"),
        (
            "api: {base_url: 'https://a.example/?a=b'}",
            "1:17: api.base_url: must not contain a query or fragment (? or #)",
        ),
        ("api: {base_url: 'https://a.example/#'}", "1:17: api.base_url: must not contain a query or fragment (? or #)"),
        (
            'api: {base_url: "https://a.example/\\n"}',
            "1:17: api.base_url: must not contain white space, control characters or backslashes",
        ),
        ("api: {base_url: 'http://a.example/api'}", f"1:17: api.base_url: {UNENCRYPTED}"),
        ("api: {base_url: 'http://8.8.8.8/api'}", f"1:17: api.base_url: {UNENCRYPTED}"),
        ("api: {base_url: 'http://127.0.0.1.a.example'}", f"1:17: api.base_url: {UNENCRYPTED}"),
        ("api: {base_url: 'http://2130706433/'}", f"1:17: api.base_url: {UNENCRYPTED}"),
        ("api: {base_url: null}", "1:17: api.base_url: must be text, not null"),
        ("api: {key_file: secret.txt}", "1:17: api.key_file: must be an absolute path, one that begins with /"),
        ("api: {key_file: ~/key}", "1:17: api.key_file: ~ is not expanded here: write the full path"),
        ("api: {key_file: 5}", "1:17: api.key_file: must be text"),
        ("api: {ca_file: /etc/../ca.pem}", "1:16: api.ca_file: must not contain `..`: write the path it leads to"),
        ("api: {requests_per_minute: 0}", "1:28: api.requests_per_minute: must be at least 1, not the number 0"),
        (
            "api: {requests_per_minute: 100001}",
            "1:28: api.requests_per_minute: must be at most 100000, not the number 100001",
        ),
        ("api: {max_in_flight: 0}", "1:22: api.max_in_flight: must be at least 1, not the number 0"),
        ("api: {uploads: 33}", "1:16: api.uploads: must be at most 32, not the number 33"),
        ("api: {uploads: '3'}", "1:16: api.uploads: must be a whole number, not '3'"),
        ("api: {uploads: 2.0}", "1:16: api.uploads: must be a whole number, not the number 2.0"),
        ("api: {uploads: true}", "1:16: api.uploads: must be a whole number, not true"),
        ("api: {uploads: }", "1:15: api.uploads: must be a whole number, not null"),
        ("api: {downloads: [1]}", "1:18: api.downloads: must be a whole number, not a list"),
        (
            "api: {disable_active_speaker_detection: yes}",
            "1:41: api.disable_active_speaker_detection: must be true or false, not 'yes'; did you mean true?",
        ),
        ("api: {model: ' '}", "1:14: api.model: must be one line of text without control characters"),
        ("api: {poll: 10s}", "1:13: api.poll: must be a mapping of options, not text"),
        ("api: {poll: {first: 31s}}", "1:13: api.poll: first (31s) is longer than max (30s)"),
        ("api: {poll: {first: 0s}}", "1:21: api.poll.first: must be at least 10ms"),
        ("api: {poll: {frist: 5s}}", "1:14: api.poll.frist: unknown option; did you mean first?"),
        ("api: {lookup_grace: 120}", "1:21: api.lookup_grace: a number needs a unit: write 120s"),
        ("api: {lookup_grace: soon}", f"1:21: api.lookup_grace: {DURATION}"),
        ("api: {pause: {quota: {first: 2h}}}", "1:22: api.pause.quota: first (2h) is longer than max (1h)"),
        ("api: {max_inflight: 3}", "1:7: api.max_inflight: unknown option; did you mean max_in_flight?"),
        ("api: [uploads]", "1:6: api: must be a mapping of options, not a list"),
        ("requests_per_minute: 60", "1:1: requests_per_minute: unknown option; did you mean api.requests_per_minute?"),
        ("recursive: true", "1:1: recursive: unknown option; did you mean folders.recursive?"),
        ("colour: blue", "1:1: colour: unknown option"),
        ('"a\\nb c": 1', r"1:1: 'a\\nb c': unknown option"),
        ("max_jobs_per_day: 0", "1:19: max_jobs_per_day: must be at least 1, not the number 0"),
        (
            "state: postgresql://db/x",
            "1:8: state: PostgreSQL is not available in this version yet: write null or a local folder",
        ),
        ("state: var/lib", "1:8: state: must be an absolute path, one that begins with /"),
        ("state: /", "1:8: state: must be a folder of its own, not / which is the whole machine"),
        ("spool_max: 50", "1:12: spool_max: a number needs a unit: write 50B"),
        ("spool_max: 0B", "1:12: spool_max: must be larger than 0B"),
        (
            "server: {listen: '127.0.0.1:8642'}",
            "1:18: server.listen: the status server is not available in this version yet: write null",
        ),
        (
            "log: {level: warn}",
            "1:14: log.level: must be one of debug, info, warning, error, not 'warn'; did you mean warning?",
        ),
        ("log: {format: yaml}", "1:15: log.format: must be one of auto, text, json, not 'yaml'"),
    ],
)
def test_a_problem_outside_the_folders(line: str, problem: str) -> None:
    assert problems_of(f"{line}\n{FOLDER}") == [f"config.yaml:{problem}"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("settle: 10", "3:13: folders.0.settle: a number needs a unit: write 10s"),
        ("setle: 10s", "3:5: folders.0.setle: unknown option; did you mean settle?"),
        ("name: a/b", "3:11: folders.0.name: must be a plain name without /"),
        ("name: 5", "3:11: folders.0.name: must be text, not the number 5"),
        ('name: "a\\nb"', "3:11: folders.0.name: must be one line of text without control characters"),
        ("recursive: no", "3:16: folders.0.recursive: must be true or false, not 'no'; did you mean false?"),
        ("video: .mp4", "3:12: folders.0.video: must be a list, not '.mp4'; did you mean [.mp4]?"),
        ("video: []", "3:12: folders.0.video: must have at least one entry"),
        ("video: [MP4]", "3:13: folders.0.video.0: must be a dot and an extension: write .mp4"),
        ("video: [.]", "3:13: folders.0.video.0: must be a dot and an extension such as .mp4"),
        ("video: [.mp4, 5]", "3:19: folders.0.video.1: must be text, not the number 5"),
        ("audio: [.wav, .MP4]", "3:12: folders.0.audio: .mp4 is in `video` as well"),
        ("video: [.mp4, .wav]", "2:5: folders.0.audio: .wav is in `video` as well"),
        ("min_bytes: 1024", "3:16: folders.0.min_bytes: a number needs a unit: write 1024B"),
        ("min_bytes: 1kib", "3:16: folders.0.min_bytes: must be a number and a unit; did you mean 1KiB?"),
        ("languages: [de, jp]", "3:21: folders.0.languages.1: 'jp' is not a language; did you mean ja?"),
        ("languages: [xx]", "3:17: folders.0.languages.0: 'xx' is not a language; write a tag such as de or pt-BR"),
        ("languages: de", "3:16: folders.0.languages: must be a list, not 'de'; did you mean [de]?"),
        ("ignore: [/tmp/*]", "3:14: folders.0.ignore.0: a glob is matched against names: it cannot begin with /"),
        ("backlog: tkae", "3:14: folders.0.backlog: must be one of hold, take, not 'tkae'; did you mean take?"),
        (
            "preflight: {no_sound: stpo}",
            "3:27: folders.0.preflight.no_sound: must be one of stop, warn, off, not 'stpo'; did you mean stop?",
        ),
        ("preflight: {no_sond: stop}", "3:17: folders.0.preflight.no_sond: unknown option; did you mean no_sound?"),
        (
            "on_success: move",
            "3:17: folders.0.on_success: moving sources is not available in this version yet: write keep",
        ),
        (
            "on_failure: move",
            "3:17: folders.0.on_failure: moving sources is not available in this version yet: write keep",
        ),
        ("mode: 0664", '3:11: folders.0.mode: must be octal digits in quotes, such as "0664"'),
        ("mode: 0o664", '3:11: folders.0.mode: must be octal digits in quotes, such as "0664"'),
        ("mode: '0888'", '3:11: folders.0.mode: must be three octal digits after a 0, such as "0664"'),
        ("mode: '4755'", '3:11: folders.0.mode: must be three octal digits after a 0, such as "0664"'),
        ("mode: '0444'", '3:11: folders.0.mode: must let the owner read and write, such as "0664"'),
        ("priority: high", "3:15: folders.0.priority: must be a whole number, not 'high'"),
        ("priority: 1001", "3:15: folders.0.priority: must be at most 1000, not the number 1001"),
        ("output: '{dir}/{nam}.mp4'", "3:13: folders.0.output: unknown field {nam}; did you mean {name}?"),
        (
            "output: '{dir}/{title}.mp4'",
            "3:13: folders.0.output: unknown field {title}; known are {dir}, {stem}, {lang}, {name}, {date}",
        ),
        ("output: '{dir}/{name.lipsync.mp4'", "3:13: folders.0.output: a brace without its other half"),
        (
            "output: '/out/{name}.mp4'",
            "3:13: folders.0.output: must be relative to the folder's path: an output folder elsewhere is written ../results/…",
        ),
        ("output: '{dir}/../{name}.lipsync.mp4'", "3:13: folders.0.output: `..` may only stand before the first field"),
        (
            "output: '{dir}\\{name}.lipsync.mp4'",
            "3:13: folders.0.output: must not contain control characters or backslashes",
        ),
        ("output: '{dir}/{name}.mov'", "3:13: folders.0.output: must end in .mp4"),
        (
            "output: '{dir}/result.lipsync.mp4'",
            "3:13: folders.0.output: needs {name}, or {stem} and {lang}: without them two results would get one name",
        ),
        (
            "output: '{dir}/{stem}.lipsync.mp4'",
            "3:13: folders.0.output: needs {name}, or {stem} and {lang}: without them two results would get one name",
        ),
        (
            "output: '../out/{name}.mp4'",
            "3:13: folders.0.output: needs {dir}, for results of sub-folders must not mix; or set `recursive: false`",
        ),
        ("output: '{dir}/{name}.mp4'", f"3:13: folders.0.output: {WATCHED.format('/srv/a')}"),
        ("output: '../{dir}/{name}.mp4'", f"3:13: folders.0.output: {WATCHED.format('/srv/a')}"),
        ("output: '../a/{dir}/{name}.mp4'", f"3:13: folders.0.output: {WATCHED.format('/srv/a')}"),
        ("output: '{date}/{dir}/{name}.mp4'", f"3:13: folders.0.output: {WATCHED.format('/srv/a')}"),
    ],
)
def test_a_problem_in_a_folder(line: str, problem: str) -> None:
    assert problems_of(folder(line)) == [f"config.yaml:{problem}"]


@pytest.mark.parametrize(
    "output",
    [
        "{dir}/{stem}.{lang}.lipsync.mp4",
        "{lang}/{dir}/{stem}.lipsync.mp4",
        "{dir}/{date} {name}.lipsync.mp4",
        "../results/{dir}/{name}.mp4",
        "../results/{dir}/{lang}/{stem}.mp4",
    ],
)
def test_an_output_template_may_be(output: str) -> None:
    assert load(folder(f"output: '{output}'")).folders[0].output == output


def test_a_flat_folder_needs_no_dir_and_may_put_results_beside_itself() -> None:
    load(folder("recursive: false\noutput: '../{name}.mp4'"))


def test_a_folder_whose_name_is_blank_is_called_folder() -> None:
    assert load(folder(path="'/srv/ '", lines="priority: 1")).folders[0].name == "folder"
    assert problems_of(folder("setle: 1s", path="'/srv/ '")) == [
        "config.yaml:3:5: folders.0.setle: unknown option; did you mean settle?"
    ]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("srv/a", "must be an absolute path, one that begins with /"),
        ("./a", "must be an absolute path, one that begins with /"),
        ("~/a", "~ is not expanded here: write the full path"),
        ("/", "must be a folder of its own, not / which is the whole machine"),
        ("//", "must be a folder of its own, not / which is the whole machine"),
        ("/.", "must be a folder of its own, not / which is the whole machine"),
        ("/srv/..", "must not contain `..`: write the path it leads to"),
        ('"/srv/\\0"', "must not contain control characters such as NUL or a line break"),
        ("''", "must be an absolute path, one that begins with /"),
        ("5", "must be text, not the number 5"),
    ],
)
def test_threat_80_a_folder_path_that_is_refused(path: str, problem: str) -> None:
    assert problems_of(folder(path=path)) == [f"config.yaml:2:11: folders.0.path: {problem}"]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["1:1: the configuration is empty: `chamelaion-watch init` writes one"]),
        ("log: {}", ["1:1: folders: is missing: name a folder to watch"]),
        ("folders: []", ["1:10: folders: must have at least one entry"]),
        ("folders: /srv/a", ["1:10: folders: must be a list, not text"]),
        ("folders: {path: /srv/a}", ["1:10: folders: must be a list, not a mapping"]),
        ("folders: [/srv/a]", ["1:11: folders.0: must be a mapping of options, not text"]),
        ("folders:\n  - name: a\n", ["2:5: folders.0.path: is missing"]),
        ("folders:\n  -\n", ["2:4: folders.0.path: is missing"]),
        ("- a", ["1:1: must be a mapping of options, not a list"]),
        (SECRET, ["1:1: must be a mapping of options, not text"]),
        ("a: [", ["1:5: while parsing a flow node: expected the node content, but found '<stream end>'"]),
    ],
)
def test_a_configuration_that_is_none(text: str, problems: list[str]) -> None:
    assert problems_of(text) == [f"config.yaml:{problem}" for problem in problems]


def test_threat_79_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    found = problems_of(
        """\
        api: {uploads: 0, base_url: "http://a.example"}
        folders:
          - path: /srv/a
            setle: 5s
          - path: /srv/a/b
            mode: 0664
            output: "{dir}/{name}.mp4"
        log: {level: loud}
        """,
        CHAMELAION_BASE_URL="nowhere",
    )
    assert [" ".join(problem.split(": ")[:2]) for problem in found] == [
        "config.yaml:1:16 api.uploads",
        "config.yaml:1:29 api.base_url",
        "config.yaml:4:5 folders.0.setle",
        "config.yaml:5:11 folders.1.path",
        "config.yaml:6:11 folders.1.mode",
        "config.yaml:7:13 folders.1.output",
        "config.yaml:8:14 log.level",
        "CHAMELAION_BASE_URL must be an address such as https://api.chamelaion.com/api",
    ]


# -- clashes ------------------------------------------------------------------------------------------


def pair(first: str, second: str, extra: str = "") -> str:
    return f"folders:\n  - {{path: {first}}}\n  - {{path: {second}{extra}}}\n"


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ("/srv/a", "/srv/a", "is the same folder as folders.0 (/srv/a)"),
        ("/srv/a", "/srv//a/", "is the same folder as folders.0 (/srv/a)"),
        ("/srv/a", "/srv/a/b", "lies inside folders.0 (/srv/a)"),
        ("/srv/a/b", "/srv/a", "contains folders.0 (/srv/a/b)"),
    ],
)
def test_threat_80_two_folders_that_clash_point_at_the_second(first: str, second: str, problem: str) -> None:
    assert problems_of(pair(first, second)) == [f"config.yaml:3:12: folders.1.path: {problem}"]


def test_folders_that_only_look_alike_do_not_clash() -> None:
    load(pair("/srv/a", "/srv/ab"))


def test_two_folders_of_one_name() -> None:
    words = "'in' is the name of folders.0 too: give one of them another `name`"
    assert problems_of(pair("/srv/a/in", "/srv/b/in")) == [f"config.yaml:3:5: folders.1.name: {words}"]
    assert problems_of(pair("/srv/a/in", "/srv/b/x", ", name: in")) == [f"config.yaml:3:28: folders.1.name: {words}"]
    load(pair("/srv/a/in", "/srv/b/in", ", name: other"))


def test_threat_80_a_symlink_to_a_watched_folder_is_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    real, link = tmp_path / "real", tmp_path / "link"
    assert problems_of(pair(str(real), str(link))) == [
        f"config.yaml:3:12: folders.1.path: is the same folder as folders.0 ({real})"
    ]
    assert problems_of(pair(str(real), str(link / "sub"))) == [
        f"config.yaml:3:12: folders.1.path: lies inside folders.0 ({real})"
    ]


def test_threat_80_results_must_not_land_in_another_watched_folder(tmp_path: Path) -> None:
    extra = ", output: '../a/{dir}/{name}.mp4'"
    found = problems_of(pair("/srv/a", "/srv/b", extra))
    assert found == [f"config.yaml:3:28: folders.1.output: {WATCHED.format('/srv/a')}"]
    load(pair("/srv/a", "/srv/b", extra.replace(".mp4", ".lipsync.mp4")))
    (tmp_path / "in").mkdir()
    (tmp_path / "out").symlink_to("in")
    through_link = f"folders: [{{path: {tmp_path}/in, recursive: false, output: '../out/{{name}}.mp4'}}]"
    assert problems_of(through_link)[0].endswith(WATCHED.format(f"{tmp_path}/in"))


def test_threat_80_the_state_folder_and_a_watched_folder_must_lie_apart() -> None:
    inside = problems_of(FOLDER + "state: /srv/a/state\n")
    assert inside == [
        "config.yaml:3:8: state: lies inside the watched folders.0 (/srv/a): it must be a local folder apart"
    ]
    around = problems_of(FOLDER + "state: /srv\n")
    assert around == [
        "config.yaml:3:8: state: contains the watched folders.0 (/srv/a): it must be a local folder apart"
    ]
    load(FOLDER + "state: /srv/state\n")


def test_the_usual_state_folder_must_not_be_watched_either() -> None:
    assert problems_of(folder(path="/home/editor")) == [
        "config.yaml:2:11: folders.0.path: clashes with the state folder /home/editor/.local/state/chamelaion-watch: name another one with `state`"
    ]


def test_clashes_are_found_beside_other_problems_of_the_same_folder() -> None:
    found = problems_of(pair("/srv/a", "/srv/a/b", ", settle: 5"))
    assert [problem.split(": ")[1] for problem in found] == ["folders.1.path", "folders.1.settle"]


# -- secrets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"api: {{key: {SECRET}}}\n", f"1:7: api.key: {NEVER_HERE}"),
        (f"api_key: {SECRET}\n", f"1:1: api_key: {NEVER_HERE}"),
        (f"api: {{token: [{SECRET}]}}\n", f"1:7: api.token: {NEVER_HERE}"),
        (f"CHAMELAION_API_KEY: {SECRET}\n", f"1:1: CHAMELAION_API_KEY: {NEVER_HERE}"),
        (f'"CHAMELAION_API_KEY={SECRET}":\n', f"1:1: CHAMELAION_API_KEY…: {NEVER_HERE}"),
        (f"api: {{keyfile: {SECRET}}}\n", "1:7: api.keyfile: unknown option; did you mean key_file?"),
        (f"api: {{key_file: {SECRET}}}\n", "1:17: api.key_file: must be an absolute path, one that begins with /"),
        (f"api: {SECRET}\n", "1:6: api: must be a mapping of options, not text"),
        (f"state: {SECRET}\n", "1:8: state: must be an absolute path, one that begins with /"),
        (
            f"api: {{base_url: 'https://{SECRET}@a.example'}}\n",
            "1:17: api.base_url: must not contain a user name or password",
        ),
    ],
)
def test_threat_81_a_key_in_the_configuration_is_refused_and_never_repeated(text: str, problem: str) -> None:
    found = problems_of(text + FOLDER)
    assert found == [f"config.yaml:{problem}"]
    assert SECRET not in "\n".join(found)


def key_of(configured: Settings | None = None, **env: str) -> str:
    return settings.read_key(configured or load(FOLDER), env)


def key_problem(configured: Settings | None = None, **env: str) -> str:
    with pytest.raises(ConfigError) as error:
        key_of(configured, **env)
    (problem,) = error.value.problems
    assert SECRET not in problem
    return problem


def test_the_places_of_the_key_in_their_order(tmp_path: Path) -> None:
    for name in ("chamelaion-api-key", "named", "configured"):
        (tmp_path / name).write_text(f"  {name}-key \r\n")
    configured = load(f"api: {{key_file: {tmp_path}/configured}}\n{FOLDER}")
    env: dict[str, str] = {}
    assert key_of(configured, **env) == "configured-key"
    env["CHAMELAION_API_KEY"] = " from-env\n"
    assert key_of(configured, **env) == "from-env"
    env["CHAMELAION_API_KEY_FILE"] = str(tmp_path / "named")
    assert key_of(configured, **env) == "named-key"
    env["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    assert key_of(configured, **env) == "chamelaion-api-key-key"


def test_a_credentials_directory_without_our_credential_is_passed_over(tmp_path: Path) -> None:
    assert key_of(CREDENTIALS_DIRECTORY=str(tmp_path), CHAMELAION_API_KEY="abc") == "abc"
    assert key_of(CREDENTIALS_DIRECTORY=str(tmp_path / "gone"), CHAMELAION_API_KEY="abc") == "abc"


def test_a_missing_key_lists_the_places() -> None:
    assert key_problem() == f"there is no API key; it is looked for in {PLACES}"


def test_a_named_file_that_is_absent_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert key_problem(CHAMELAION_API_KEY_FILE=str(gone), CHAMELAION_API_KEY=SECRET) == (
        f"CHAMELAION_API_KEY_FILE: {gone} cannot be read: no such file or directory"
    )
    configured = load(f"api: {{key_file: {gone}}}\n{FOLDER}")
    assert key_problem(configured) == f"api.key_file: {gone} cannot be read: no such file or directory"


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "is empty: the key is missing"),
        (" \n", "is empty: the key is missing"),
        (f"{SECRET}\n{SECRET}", "has white space inside: it must be the key alone, on one line"),
        (f"Bearer {SECRET}", "has white space inside: it must be the key alone, on one line"),
        (f"{SECRET}\x07", "has characters that no key has: control characters, or letters beyond ASCII"),
        (f"{SECRET}\x7f", "has characters that no key has: control characters, or letters beyond ASCII"),
        (f"{SECRET}é", "has characters that no key has: control characters, or letters beyond ASCII"),
    ],
)
def test_threat_81_what_is_no_key_names_the_place_not_the_value(key: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(key)
    assert key_problem(CHAMELAION_API_KEY=key) == f"CHAMELAION_API_KEY: {problem}"
    assert key_problem(CHAMELAION_API_KEY_FILE=str(file)) == f"CHAMELAION_API_KEY_FILE: {file}: {problem}"


def test_threat_81_the_key_itself_where_a_file_is_expected_is_not_repeated() -> None:
    words = "names a file that does not exist; it must be a path, not the key itself"
    for key in (SECRET, "sk/live+42/4242424242==", "x" * 5_000):
        assert key_problem(CHAMELAION_API_KEY_FILE=key) == f"CHAMELAION_API_KEY_FILE: {words}"
    assert key_problem(CHAMELAION_API_KEY_FILE="") == "CHAMELAION_API_KEY_FILE: is empty: the key is missing"


def test_odd_key_files(tmp_path: Path) -> None:
    with_mark, huge = tmp_path / "bom", tmp_path / "huge"
    with_mark.write_bytes(b"\xef\xbb\xbfabc\r\n")
    huge.write_bytes(b"a" * 10_000)
    assert key_of(CHAMELAION_API_KEY_FILE=str(with_mark)) == "abc"
    assert key_problem(CHAMELAION_API_KEY_FILE=str(huge)).endswith("is larger than 8192 bytes: this is not a key")
    assert key_problem(CHAMELAION_API_KEY_FILE=str(tmp_path)).endswith("cannot be read: is a directory")


def test_threat_81_a_key_file_that_everybody_can_read_is_a_warning(tmp_path: Path) -> None:
    file, configured = tmp_path / "my key", load(FOLDER)
    file.write_text("abc")
    env = {"CHAMELAION_API_KEY_FILE": str(file)}
    file.chmod(0o644)
    assert settings.key_problems(configured, env) == [
        f"{file}: everybody on this machine can read the key (mode 0644): chmod 600 '{file}'"
    ]
    for mode in (0o600, 0o640):
        file.chmod(mode)
        assert settings.key_problems(configured, env) == []
    assert settings.key_problems(configured, {"CHAMELAION_API_KEY": "abc"}) == []
    assert settings.key_problems(configured, {"CHAMELAION_API_KEY_FILE": str(tmp_path / "gone")}) == []
    assert settings.key_problems(configured, {}) == []


# -- finding ------------------------------------------------------------------------------------------


def test_the_search_order_of_the_configuration(tmp_path: Path) -> None:
    for name in ("explicit.yaml", "env.yaml", "config.yaml"):
        (tmp_path / name).touch()
    env = {"CHAMELAION_WATCH_CONFIG": str(tmp_path / "env.yaml")}
    assert settings.find_config("explicit.yaml", env, Path()) == Path("explicit.yaml")
    assert settings.find_config(None, env, tmp_path) == tmp_path / "env.yaml"
    assert settings.find_config(None, {}, Path()) == Path("config.yaml")
    assert settings.find_config(None, {"CHAMELAION_WATCH_CONFIG": ""}, tmp_path) == tmp_path / "config.yaml"


def test_a_configuration_that_is_named_but_absent_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    for origin, explicit, env in (
        ("--config", "gone.yaml", {}),
        ("CHAMELAION_WATCH_CONFIG", None, {"CHAMELAION_WATCH_CONFIG": "gone.yaml"}),
    ):
        with pytest.raises(ConfigError) as error:
            settings.find_config(explicit, env, tmp_path)
        assert error.value.problems == [f"{tmp_path}/gone.yaml: there is no such configuration (named by {origin})"]


@pytest.mark.skipif(Path("/etc/chamelaion-watch/config.yaml").exists(), reason="the service is installed here")
def test_without_a_configuration_it_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        settings.find_config(None, {}, tmp_path)
    assert error.value.problems == [
        f"there is no configuration; looked at --config, $CHAMELAION_WATCH_CONFIG, {tmp_path}/config.yaml, /etc/chamelaion-watch/config.yaml: `chamelaion-watch init` writes one"
    ]


@pytest.mark.parametrize(
    ("config", "env", "folder_"),
    [
        ("/etc/chamelaion-watch/config.yaml", {"HOME": "/h"}, "/var/lib/chamelaion-watch/config"),
        ("/etc/chamelaion-watch/studio-b.yaml", {"XDG_STATE_HOME": "/x"}, "/var/lib/chamelaion-watch/studio-b"),
        ("/etc/chamelaion-watch/a.yaml", {"STATE_DIRECTORY": "/var/lib/other"}, "/var/lib/chamelaion-watch/a"),
        ("/etc/chamelaion-watch/../x/a.yaml", {"HOME": "/h"}, "/h/.local/state/chamelaion-watch"),
        ("config.yaml", {"HOME": "/h"}, "/h/.local/state/chamelaion-watch"),
        ("config.yaml", {"HOME": "/h", "XDG_STATE_HOME": "/x"}, "/x/chamelaion-watch"),
        ("config.yaml", {"HOME": "/h", "XDG_STATE_HOME": "relative"}, "/h/.local/state/chamelaion-watch"),
    ],
)
def test_the_usual_state_folder(config: str, env: dict[str, str], folder_: str) -> None:
    assert settings.state_folder(load(FOLDER), Path(config), env) == Path(folder_)


def test_a_configured_state_folder() -> None:
    configured = load(FOLDER + "state: /srv/state/\n")
    assert settings.state_folder(configured, Path("/etc/chamelaion-watch/a.yaml"), {}) == Path("/srv/state")


# -- text ---------------------------------------------------------------------------------------------


def test_what_is_shown_as_effective_loads_to_the_same() -> None:
    configured = load(
        "api: {poll: {first: 500ms, max: 90m}}\n"
        + folder('languages: [no]\nmode: "0644"\nmin_bytes: 1025B\nsettle: 1d')
    )
    assert load(settings.to_yaml(settings.effective(configured))) == configured


@pytest.mark.parametrize("path", [None, "/srv/my share: №1", "/srv/#a", "/srv/'a\"", "/srv/no"])
def test_what_init_writes_loads_to_the_defaults(path: str | None) -> None:
    text = settings.init_text(path)
    loaded = load(text)
    assert loaded.folders[0].path == (path or "/srv/share/lipsync")
    assert loaded == load(yaml12.dump({"folders": [{"path": path or "/srv/share/lipsync"}]}))
    assert text.startswith("#")


def test_init_shows_ten_options_each_with_a_comment() -> None:
    lines = settings.init_text().splitlines()
    shown = [i for i, line in enumerate(lines) if ":" in line and not line.lstrip().startswith("#")]
    assert len([i for i in shown if not lines[i].endswith(":")]) == 10
    assert all(lines[i - 1].lstrip().startswith("# ") for i in shown)


@pytest.mark.parametrize("path", ["relative", "/", "/a\nb", "/\udcff"])
def test_init_refuses_a_folder_that_cannot_be_watched(path: str) -> None:
    with pytest.raises(ConfigError, match=": "):
        settings.init_text(path)


def test_the_json_schema_describes_every_option_in_its_written_form() -> None:
    schema = settings.json_schema()
    section = schema["$defs"]["FolderSettings"]
    assert schema["additionalProperties"] is False
    assert section["additionalProperties"] is False
    assert schema["required"] == ["folders"]
    assert section["required"] == ["path"]
    assert section["properties"]["min_bytes"]["default"] == "1KiB"
    assert section["properties"]["mode"]["default"] == "0664"
    assert "default" not in section["properties"]["name"]
    assert schema["$defs"]["ApiSettings"]["properties"]["lookup_grace"]["default"] == "2m"
    assert schema["$defs"]["ApiSettings"]["properties"]["uploads"]["maximum"] == 32
    assert all(option["description"] for option in section["properties"].values())


# -- robustness ---------------------------------------------------------------------------------------


def test_a_share_that_does_not_answer_is_compared_as_written_and_holds_up_nobody() -> None:
    answer = threading.Event()

    def resolve(path: str) -> str:
        if path == "/mnt/hung":
            answer.wait()
        return f"/real{path}"

    forms = path_forms(["/mnt/hung", "/mnt/well"], resolve, within_s=0.3)
    answer.set()
    assert forms == {"/mnt/hung": {"/mnt/hung"}, "/mnt/well": {"/mnt/well", "/real/mnt/well"}}


def test_many_shares_that_do_not_answer_cost_the_time_of_one() -> None:
    answer = threading.Event()
    started = time.monotonic()
    path_forms([f"/mnt/{number}" for number in range(30)], lambda path: str(answer.wait()) + path, within_s=0.2)
    answer.set()
    assert time.monotonic() - started < 3  # 30 times 0.2 s would be 6


def test_a_loop_of_symlinks_is_compared_as_written(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert load(folder(path=f"{tmp_path}/loop")).folders[0].path == f"{tmp_path}/loop"


def test_loading_changes_nothing_on_the_disk(tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    before = watched.stat()
    load(folder(path=str(watched)) + f"state: {tmp_path}/state\n")
    assert watched.stat().st_mtime_ns == before.st_mtime_ns
    assert stat.S_ISDIR(before.st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yaml", "watched"]


def test_importing_settings_imports_nothing_heavy() -> None:
    heavy = ["langcodes", "av", "httpx", "rich", "starlette", "watchdog", "loguru", "click"]
    code = f"import sys, chamelaion_watch.settings; sys.exit(' '.join(m for m in {heavy} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
