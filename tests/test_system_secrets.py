"""The key and signed links after a life in which the service, and a library, repeat them: nowhere (I6).

The whole, with every fault and every command, is `tests/acceptance/grep_for_secrets.py`.
"""

from __future__ import annotations

from typing import Any

from tests.acceptance.grep_for_secrets import (
    ECHO,
    SECRET,
    SIGNATURE,
    another_config,
    break_a_library,
    look_at_processes,
    look_for_links,
    write_key,
)
from tests.acceptance.needles import Needles, needles_seen
from tests.lives import drop, life
from tests.side_by_side import side_by_side
from tests.support import eventually

ECHOES: list[dict[str, Any]] = [
    {"on": "submit", "kind": "status", "status": 400, "body": {"error": ECHO}},
    {"on": "submit", "kind": "status", "status": 401, "body": {"error": ECHO}},
    {"on": "submit", "kind": "fail", "message": ECHO},
    {"on": "me", "kind": "status", "status": 500, "body": {"error": {"message": ECHO}}},
    {"on": "get", "kind": "redirect", "location": f"http://127.0.0.1:9/x?sig={SIGNATURE}&key={SECRET}"},
    {"on": "media", "kind": "redirect", "location": f"ftp://127.0.0.1:9/x?sig={SIGNATURE}&key={SECRET}"},
    {"on": "media", "kind": "expired"},
]
COMMANDS = [
    ["status", "--json"],
    ["jobs"],
    ["show", "1"],
    ["show", "2", "--json"],
    ["report"],
    ["check", "--show"],
    ["doctor"],
]


def test_threat_82_the_grep_finds_every_form_that_is_planted() -> None:
    planted, seen = needles_seen(SECRET)
    assert planted == seen


@side_by_side
def test_threat_82_what_the_service_repeats_of_the_key_and_of_links_is_kept_nowhere() -> None:
    pause = {kind: {"first": "200ms", "max": "400ms"} for kind in ("unauthorized", "unreachable")}
    with life(api={"pause": pause}) as (at, sandbox):
        sandbox.control(key=SECRET, faults=ECHOES)
        key_file = write_key(at)
        env: dict[str, str | None] = {"CHAMELAION_API_KEY": None, "CHAMELAION_API_KEY_FILE": str(key_file)}
        for seed in range(1, 6):
            drop(at.drop, f"scene{seed}", seed=seed)
        needles = Needles({"the key": SECRET, "a signature": SIGNATURE})
        with at.daemon("-v", **env) as process:
            eventually(lambda: not sandbox.state(log=0)["faults"], 60, every=0.2)
            eventually(lambda: len(at.states()) == 5 and set(at.states()) <= {"done", "failed"}, 40, every=0.2)
            look_at_processes(needles, process.pid)
        assert at.states().count("failed") == 3
        assert look_for_links(needles, sandbox) >= 3
        said = [at.run(*command, env=env) for command in COMMANDS]
        needles.search("commands", "".join(done.stdout + done.stderr for done in said).encode())
        needles.search_files("disk", at.home, but=[key_file])
        assert not needles.hits


@side_by_side
def test_threat_82_a_library_that_complains_with_the_whole_request_tells_nobody_the_key() -> None:
    with life() as (at, sandbox):
        sandbox.control(key=SECRET)
        key_file = write_key(at)
        needles = Needles({"the key": SECRET})
        assert break_a_library(needles, at, another_config(at, "broken", at.base_url, pairs=1), key_file)
        needles.search_files("disk", at.home, but=[key_file])
        assert not needles.hits
