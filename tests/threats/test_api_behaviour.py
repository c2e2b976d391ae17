"""Rows 55 to 69: a service that limits, refuses, changes its mind, lies about ids, or answers with bombs.

The first tests look at one life, of many pairs with a misfortune each, while the list of requests is a web page for
ever: so every request is asked for singly, and one that cannot be read must not keep the others waiting.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from chamelaion_watch.core.errors import Transient
from chamelaion_watch.core.messages import (
    AccountProbed,
    LookedUp,
    LookUp,
    Probe,
    ProbeAccount,
    Submit,
    SubmitFailed,
    WriteNote,
)
from chamelaion_watch.core.model import JobState, Options
from chamelaion_watch.core.naming import reference_id
from chamelaion_watch.core.submission import MAX_TRIES
from chamelaion_watch.sandbox.media import describe, make_audio, make_video
from tests.acceptance.early_refusal import Connection, Origin, Seen
from tests.acceptance.rig import KEY, Rig, outputs, posts, slow_line, submissions, temps
from tests.builders import NOW, job, probed, tick, world
from tests.lives import all_done, drop, life, settled, sha256
from tests.side_by_side import side_by_side, started
from tests.support import eventually

COMPLETED = {"status": "completed"}
HOSTILE = "\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>\u202e\r\n2026-01-01 00:00:00.000 ERROR    forged "
SURROGATES = '{"status":"failed","error_message":"half \\ud800 nul \\u0000 end"}'
pytestmark = pytest.mark.timeout(240)  # the life of the town, on a machine that others use as well

HOUR = 3_600_000
GROWTH_MAX_KB = 150 * 1024  # I8


def patched(count: int, *remove: str, **keys: Any) -> list[dict[str, Any]]:
    return [{"on": "get", "kind": "patch", "set": keys, "remove": list(remove), "count": count}]


def raw(text: str, count: int = 2) -> list[dict[str, Any]]:
    """The text itself as the answer, with 200: what JSON can hold and Python's own encoder would not write."""
    told = {"status": 200, "body": text, "content_type": "application/json"}
    return [{"on": "get", "kind": "status", "count": count, **told}]


def on(endpoint: str, kind: str, times: int = 1, **more: Any) -> list[dict[str, Any]]:
    return [{"on": endpoint, "kind": kind, "count": times, **more}]


ODD = {
    "unknown status": patched(4, status="upscaling"),
    "missing status": patched(2, "status"),
    "null": patched(2, status=None, output_url=None, error_message=None, reference_id=None),
    "wrong types": patched(2, status=7, output_url={"a": 1}, error_message=[1], created_at=True),
    "extra fields": patched(2, status="queued", more={"deep": [1, {"x": None}]}),
    "duplicate keys": raw('{"status":"completed","status":"failed","error_message":"a","error_message":"b"}'),
    "not a number": on("get", "json", 2, body={"status": float("nan"), "progress": float("inf")}),
    "huge number": raw('{"status":"queued","progress":%s}' % ("9" * 5000)),
}
BACK = {
    "backwards": [*patched(2, status="processing", output_url=None), *patched(2, status="queued", output_url=None)],
    # without a link first, or it is fetched at once and nobody asks again
    "completed then failed": [
        *patched(1, "output_url", **COMPLETED),
        *patched(2, "output_url", status="failed", error_message="oh"),
    ],
}
HEALED = {
    "unknown for a while": on("get", "forget", 2),
    "no link": patched(2, "output_url", **COMPLETED),
    "empty link": patched(2, **COMPLETED, output_url=""),
    "list of links": patched(2, **COMPLETED, output_url=["https://media.example/x"]),
    "500 for a while": on("get", "status", 6, status=500),
}
IDS = {
    "path as id": raw('{"id":"../../users/me","status":"completed","output_url":"file:///etc/passwd"}'),
    "encoded path as id": raw('{"id":"%2e%2e%2fusers","status":"failed"}'),
    "long id": raw('{"id":"%s","status":"failed"}' % ("x" * 10_000)),
    "controls as id": raw('{"id":"a\\u0000\\u001b[2J\\ud800","status":"failed"}'),
    "digits of another script as id": raw('{"id":"\\u0663\\u0664","status":"failed"}'),
    "submitted as a path": on("submit", "patch", set={"request_id": "../../users/me"}),
    "submitted as 10 kB": on("submit", "patch", set={"request_id": "x" * 10_000}),
    "submitted as controls": on("submit", "patch", set={"request_id": "a\x00\x1b[2J"}),
    "submitted as nothing": on("submit", "patch", remove=["request_id"]),
    "submitted as another": [],  # the id of "first", known only when that is submitted
}
BOMBS = {
    "giant": on("get", "huge", megabytes=20),
    "zipped bomb": on("get", "gzip_bomb", megabytes=40),
    "deep": on("get", "deep_json"),
    "cut": on("get", "broken_json"),
    "submitted giant": on("submit", "huge", create=True, megabytes=20),
    "submitted zipped bomb": on("submit", "gzip_bomb", create=True, megabytes=40),
    "submitted deep": on("submit", "deep_json", create=True),
    "media giant": on("media", "huge", megabytes=20),
    "media zipped bomb": on("media", "gzip_bomb", megabytes=40),
}
FAILED = {
    "failed then completed": patched(1, status="failed", error_message="changed its mind later"),
    "hostile message": on("submit", "fail", message=HOSTILE + "A" * 1_000_000),
    "half a character": raw(SURROGATES, 1),
    "bad request": on("submit", "status", status=400),
    "file link": patched(-1, **COMPLETED, output_url="file:///etc/passwd"),
    "ftp link": patched(-1, **COMPLETED, output_url="ftp://127.0.0.1/out.mp4"),
    "named link": patched(-1, **COMPLETED, output_url="http://user:hidden@127.0.0.1/out.mp4"),
    "redirected to a file": on("media", "redirect", location="file:///etc/passwd"),
}
LOST = {"forgotten": on("get", "forget", -1)}
REDIRECTED = ("redirected", "redirected submission")
DONE = ("first", *ODD, *BACK, *HEALED, *IDS, *BOMBS, *REDIRECTED)


@dataclass
class Town:
    """What is left of the life that the first tests look at."""

    at: Rig
    service: dict[str, Any]
    references: dict[str, str]
    growth_kb: int
    elsewhere: list[Seen] = field(default_factory=list)  # what came to the host that redirects name

    @property
    def log(self) -> str:
        return self.at.log()

    def row(self, name: str, *columns: str) -> tuple[Any, ...]:
        sql = f"SELECT {', '.join(columns)} FROM jobs WHERE reference_id = '{self.references[name]}'"
        (row,) = self.at.rows(sql)
        return row

    def sent(self, name: str) -> int:
        return sum(one["reference_id"] == self.references[name] for one in self.service["submissions"])

    def output(self, name: str) -> Path:
        state, output = self.row(name, "state", "output")
        assert state == "done", (name, state)
        return self.at.drop / os.fsdecode(output)

    def note(self, name: str) -> tuple[str, dict[str, Any]]:
        """The error note of a failed pair, as text and as data."""
        text = (self.at.drop / f"{name}.lipsync-error.txt").read_text(encoding="utf-8-sig")
        return text, json.loads((self.at.drop / f"{name}.lipsync-error.json").read_text())


@pytest.fixture(scope="module")
def town(request: pytest.FixtureRequest) -> Iterator[Town]:
    started(request)  # in the meantime
    elsewhere: list[Seen] = []

    def seen(connection: Connection) -> None:
        elsewhere.append(connection.head())

    api = {"max_in_flight": 64, "uploads": 4, "downloads": 4}
    with (
        life(api=api, folder={"backlog": "take"}) as (at, sandbox),
        Origin(seen) as origin,
        contextlib.ExitStack() as stack,
    ):
        sandbox.control(faults=on("list", "html", -1))
        names = ("first", *ODD, *BACK, *HEALED, *IDS, *BOMBS, *FAILED, *LOST, *REDIRECTED)
        references = {name: staged(at, name, seed) for seed, name in enumerate(names)}
        placed(at, "first")
        process = stack.enter_context(at.daemon("-v"))
        eventually(lambda: submissions(sandbox), 30)
        idle_kb = memory_kb(process.pid, "VmRSS")
        away: Any = {"location": f"{origin.url}/stolen?sig=1"}
        orders = ODD | BACK | HEALED | IDS | BOMBS | FAILED | LOST
        orders |= {
            "submitted as another": on("submit", "patch", set={"request_id": submissions(sandbox)[0]["id"]}),
            "redirected": on("get", "redirect", 2, **away),
            "redirected submission": on("submit", "redirect", create=True, **away),
        }
        for name, faults in orders.items():
            # the first question comes before the pair is submitted: an older ledger might have paid for it
            after = [{"after": 1} if one["on"] == "get" else {} for one in faults]
            named = {"reference_id": references[name]}
            sandbox.control(faults=[one | later | named for one, later in zip(faults, after, strict=True)])
        placed(at)
        expected = ["done"] * len(DONE) + ["failed"] * len(FAILED) + ["doubtful"] * len(LOST)
        eventually(lambda: sorted(at.states()) == sorted(expected), 150, every=0.2)
        eventually(lambda: len(list(at.drop.glob("*.lipsync-error.txt"))) == len(FAILED), 10)
        growth_kb = memory_kb(process.pid, "VmHWM") - idle_kb
        yield Town(at, sandbox.state(), references, growth_kb, elsewhere)


def staged(at: Rig, name: str, seed: int) -> str:
    """Make a pair aside; return the reference of its first run."""
    stage = at.home / "stage"
    stage.mkdir(exist_ok=True)
    video, audio = stage / f"{name}.mp4", stage / f"{name}.wav"
    make_video(video, seconds=1, width=160, height=90, seed=seed)
    make_audio(audio, seconds=1, seed=seed)
    return reference_id(sha256(video), sha256(audio), Options(), 1)


def placed(at: Rig, stem: str = "*") -> None:
    """Drop what was staged under that name, or everything."""
    for path in sorted((at.home / "stage").glob(f"{stem}.*")):
        path.rename(at.drop / path.name)


def memory_kb(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def signatures(service: dict[str, Any]) -> set[str]:
    return {
        sig
        for entry in service["log"]
        if entry["endpoint"] == "media"
        for sig in re.findall("sig=([^&]+)", entry["query"])
    }


# -- one life of many misfortunes -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD)
def test_threat_61_an_odd_answer_is_still_running_and_stops_nobody(town: Town, name: str) -> None:
    assert describe(town.output(name)).has_audio
    assert town.sent(name) == 1


def test_threat_61_an_unknown_status_is_logged_once(town: Town) -> None:
    lines = [line for line in town.log.splitlines() if "unknown status 'upscaling'" in line]
    assert len(lines) == 1
    assert "Traceback" not in town.log


@pytest.mark.parametrize("name", BACK)
def test_threat_62_what_goes_backwards_is_fetched_once_it_is_there(town: Town, name: str) -> None:
    assert describe(town.output(name)).has_audio
    assert town.sent(name) == 1


def test_threat_62_going_back_is_logged(town: Town) -> None:
    (job_id,) = town.row("backwards", "id")
    assert f"job {job_id}: went back from processing to queued" in town.log
    said = [message for (message,) in town.at.rows("SELECT message FROM attempts WHERE code = 'no_output'")]
    assert any("now failed" in message for message in said)


def test_threat_62_failed_stays_failed_though_the_service_completes_it_later(town: Town) -> None:
    text, data = town.note("failed then completed")
    assert "changed its mind later" in text
    assert (data["state"], data["will_retry"]) == ("failed", False)
    assert town.sent("failed then completed") == 1
    assert not (town.at.drop / "failed then completed.lipsync.mp4").exists()


@pytest.mark.parametrize("name", HEALED)
def test_threat_63_65_what_is_missing_for_a_while_is_asked_for_again(town: Town, name: str) -> None:
    assert describe(town.output(name)).has_audio
    assert town.sent(name) == 1


def test_threat_63_a_job_that_stays_unknown_becomes_doubtful_and_is_never_sent_again(town: Town) -> None:
    assert town.row("forgotten", "state") == ("doubtful",)
    assert town.sent("forgotten") == 1
    assert (town.at.drop / "forgotten.lipsync-attention.txt").exists()


@pytest.mark.parametrize("name", IDS)
def test_threat_66_no_hostile_id_is_believed_used_or_stored(town: Town, name: str) -> None:
    truth = {one["reference_id"]: one for one in town.service["submissions"]}[town.references[name]]
    assert town.row(name, "request_id") == (truth["id"],)
    assert sha256(town.output(name)) == truth["output_sha256"]
    assert town.sent(name) == 1


def test_threat_66_no_id_of_theirs_got_into_a_path(town: Town) -> None:
    asked = {entry["path"].rpartition("/requests/")[2] for entry in town.service["log"] if entry["endpoint"] == "get"}
    known = {one["id"] for one in town.service["submissions"]} | set(town.references.values())
    assert asked <= known
    assert not [entry for entry in town.service["log"] if entry["endpoint"] == "other"]


@pytest.mark.parametrize("name", ["hostile message", "half a character"])
def test_threat_67_a_hostile_message_is_short_and_escaped_wherever_it_goes(town: Town, name: str) -> None:
    text, data = town.note(name)
    (message,) = town.row(name, "message")
    shown = town.at.run("show", str(town.row(name, "id")[0])).stdout
    for one in (data["message"], message, *text.splitlines(), *shown.replace("\t", " ").splitlines()):
        assert one.isprintable(), one
        assert len(one) < 600
    assert len(message) <= 300
    assert len(text.splitlines()) <= 12
    start = "\\e[2J\\e]0;owned\\x07<script>" if name == "hostile message" else "half \\ud800 nul \\x00 end"
    assert message.startswith(start)


def test_threat_67_the_log_stays_one_plain_line_per_event(town: Town) -> None:
    for line in town.log.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (DEBUG   |INFO    |WARNING ) \S", line), line
        assert line.isprintable()
        assert len(line) < 1000


@pytest.mark.parametrize("name", BOMBS)
def test_threat_68_76_a_bomb_is_put_out_and_the_pair_is_done(town: Town, name: str) -> None:
    assert describe(town.output(name)).has_audio
    assert town.sent(name) == 1


def test_threat_68_76_bombs_cost_no_memory(town: Town) -> None:
    assert town.growth_kb < GROWTH_MAX_KB


@pytest.mark.parametrize("name", REDIRECTED)
def test_threat_69_a_redirect_is_not_followed_and_tells_nobody_anything(town: Town, name: str) -> None:
    assert describe(town.output(name)).has_audio
    assert town.sent(name) == 1
    assert not town.elsewhere


def test_threat_59_a_refused_pair_is_noted_and_not_tried_again_while_others_go_on(town: Town) -> None:
    text, data = town.note("bad request")
    assert (data["state"], data["http_status"], data["will_retry"]) == ("failed", 400, False)
    assert "invalid request body" in text
    assert len([one for one in posts_of(town) if one["status"] == 400]) == 1
    assert town.sent("bad request") == 0


def posts_of(town: Town) -> list[dict[str, Any]]:
    return [entry for entry in town.service["log"] if entry["endpoint"] == "submit"]


@pytest.mark.parametrize("name", ["file link", "ftp link", "named link", "redirected to a file"])
def test_threat_70_a_refused_link_is_noted_and_paid_for_once(town: Town, name: str) -> None:
    text, data = town.note(name)
    assert data["code"] == "output_url_refused"
    assert "root:" not in text
    assert "hidden" not in text + json.dumps(data) + town.log
    assert town.sent(name) == 1


def test_threat_71_the_key_and_signed_links_are_told_to_nobody(town: Town) -> None:
    secrets = [KEY.encode(), *(one.encode() for one in signatures(town.service))]
    assert len(secrets) > len(DONE)
    state = [path.read_bytes() for path in (town.at.home / "state").rglob("*") if path.is_file()]
    notes = [path.read_bytes() for path in town.at.drop.glob("*.lipsync-*") if path.is_file()]
    for text in (*state, *notes, town.log.encode()):
        assert not [one for one in secrets if one in text]
    assert town.service["media_requests_with_credentials"] == 0


def test_threats_of_the_town_were_carried_out_and_left_nothing_behind(town: Town) -> None:
    names = {reference: name for name, reference in town.references.items()}
    left = [names.get(one["reference_id"], one["on"]) for one in town.service["faults"]]
    assert sorted(set(left)) == ["file link", "forgotten", "ftp link", "list", "named link"]  # those have no end
    assert town.service["bugs"] == []
    assert not temps(town.at.drop)
    assert len(outputs(town.at.drop)) == len(DONE)
    assert town.at.rows("PRAGMA integrity_check") == [("ok",)]


# -- limits and refusals of the account -----------------------------------------------------------------


@side_by_side
def test_threat_55_a_named_time_is_kept_by_everybody_to_the_second() -> None:
    """Seconds, then a date: no request of any kind within it, and everything is done afterwards."""
    with life(processing_s=8.0) as (at, sandbox):
        drop(at.drop, "rendering", seed=1)
        with at.daemon():
            eventually(lambda: at.states() == ["rendering"], 30)
            sandbox.control(faults=on("get", "status", status=429, headers={"Retry-After": "3"}))
            eventually(lambda: limited(sandbox) == 1, 20)
            drop(at.drop, "next", seed=2)
            until = int(time.time() + 9)  # the second refusal can come only when the first one's time is over
            date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(until))
            sandbox.control(faults=on("get", "status", status=429, headers={"Retry-After": date}))
            eventually(all_done(at, 2), 60)
        log = [entry for entry in sandbox.state()["log"] if "/v1/" in entry["path"]]
        by_seconds, by_date = [entry["at"] for entry in log if entry["status"] == 429]
        for refused_at, until_at in ((by_seconds, by_seconds + 3), (by_date, until)):
            # what left together with the refused one may arrive just after it
            assert not [entry["path"] for entry in log if refused_at + 0.3 < entry["at"] < until_at]
        settled(at, sandbox, sent=2)


def limited(sandbox: Any) -> int:
    return sum(entry["status"] == 429 for entry in sandbox.state()["log"])


def refused(headers: dict[str, str], check: Callable[[Rig, dict[str, Any]], None]) -> None:
    """A life in which every submission gets a 429; `check` sees the account once it is closed."""
    with life() as (at, sandbox):
        sandbox.control(faults=on("submit", "status", -1, status=429, headers=headers))
        drop(at.drop)
        with at.daemon():
            eventually(lambda: "the account is rate_limited" in at.log(), 30)
            check(at, eventually(lambda: closed(at), 10, every=0.2))
        assert not list(at.drop.glob("*.lipsync-error.*"))
        assert len(posts(sandbox)) == 1


def closed(at: Rig) -> Any:
    account = at.status()["account"]
    return account if account["state"] == "rate_limited" else None


def left_s(account: dict[str, Any]) -> float:
    return datetime.fromisoformat(account["until"]).timestamp() - time.time()


@side_by_side
def test_threat_55_a_time_above_an_hour_counts_as_one_and_is_logged() -> None:
    def check(at: Rig, account: dict[str, Any]) -> None:
        assert 3500 < left_s(account) <= 3600
        assert "counts as 3600 s" in at.log()

    refused({"Retry-After": "99999"}, check)


@side_by_side
def test_threat_55_without_a_time_everybody_waits_for_30_to_60_seconds() -> None:
    def check(_: Rig, account: dict[str, Any]) -> None:
        assert 15 < left_s(account) <= 60

    refused({}, check)


@side_by_side
def test_threat_55_garbage_names_no_time() -> None:
    def check(_: Rig, account: dict[str, Any]) -> None:
        assert 15 < left_s(account) <= 60

    refused({"Retry-After": "soon, perhaps"}, check)


@side_by_side
def test_threat_55_a_time_of_zero_for_ever_is_no_leave_to_ask_for_ever() -> None:
    """As fast as it answers would be hundreds of times in these seconds."""
    with life() as (at, sandbox):
        at_once = {"headers": {"Retry-After": "0"}}
        faults = [*on("submit", "status", -1, status=401, **at_once), *on("me", "status", -1, status=401, **at_once)]
        sandbox.control(faults=faults)
        drop(at.drop)
        with at.daemon():
            first = eventually(lambda: [entry for entry in sandbox.state()["log"] if entry["status"] == 401], 30)[0]
            eventually(lambda: time.time() > first["at"] + 6, 10)
        asked = [entry["at"] for entry in sandbox.state()["log"] if entry["status"] == 401]
        assert 3 <= len(asked) <= 5
        gaps = [after - before for before, after in itertools.pairwise(asked[1:])]
        assert gaps == sorted(gaps)


@side_by_side
def test_threat_56_after_429s_for_eight_uploads_one_goes_first_and_the_rest_at_the_allowed_pace() -> None:
    pace_s = 60 / 240
    api = {"requests_per_minute": 240, "uploads": 8, "max_in_flight": 8}
    with life(api=api, folder={"backlog": "take"}) as (at, sandbox), slow_line(sandbox.base_url, 250_000) as slow:
        references = [padded(at, f"scene{number}", number) for number in range(1, 9)]
        told: Any = {"status": 429, "headers": {"Retry-After": "2"}}
        sandbox.control(
            faults=[one | {"reference_id": ref} for ref in references for one in on("submit", "status", **told)]
        )
        placed(at)
        with at.daemon(CHAMELAION_BASE_URL=slow):
            eventually(all_done(at, 8), 80)
        sent = posts(sandbox)
        refusals, taken = sent[:8], sent[8:]
        assert [entry["status"] for entry in sent] == [429] * 8 + [200] * 8
        assert refusals[-1]["at"] - refusals[0]["at"] < 4.5  # all eight were under way together
        canary, second = taken[0], taken[1]
        ends = [one["accepted_at"] for one in sandbox.state()["submissions"]]
        assert second["at"] > min(ends) - 0.2  # when the canary was accepted
        for one, fourth in zip(sent, sent[4:], strict=False):  # single ones jitter on their way through the line
            assert fourth["at"] - one["at"] > 4 * pace_s * 0.8
        assert canary["at"] - refusals[-1]["at"] > 2
        settled(at, sandbox, sent=8)


def padded(at: Rig, name: str, seed: int) -> str:
    """A staged pair whose video is a megabyte bigger."""
    staged(at, name, seed)
    with (at.home / "stage" / f"{name}.mp4").open("ab") as file:
        file.write(struct.pack(">I4s", 1_000_000, b"free") + os.urandom(999_992))
    video, audio = (sha256(at.home / "stage" / f"{name}{ending}") for ending in (".mp4", ".wav"))
    return reference_id(video, audio, Options(), 1)


@side_by_side
def test_threat_57_a_used_up_quota_is_one_message_rare_probes_and_a_queue_that_goes_on_by_itself() -> None:
    api = {"pause": {"quota": {"first": "1s", "max": "2s"}}, "uploads": 1}
    with life(api=api, folder={"backlog": "take"}, quota=1) as (at, sandbox):
        for number in range(1, 5):
            drop(at.drop, f"scene{number}", seed=number)
        with at.daemon():
            eventually(lambda: refusals(sandbox, 412) >= 3, 40)
            assert at.status()["account"]["state"] == "quota_exhausted"
            assert at.states().count("queued") == 3
            eventually(lambda: at.states().count("done") == 1, 20)  # what is paid for is fetched meanwhile
            probes = [entry["at"] for entry in posts(sandbox) if entry["status"] == 412]
            assert all(after - before >= 0.95 for before, after in itertools.pairwise(probes))
            sandbox.control(quota=None)
            eventually(all_done(at, 4), 40)
        loud = [line for line in at.log().splitlines() if "the account is quota_exhausted" in line]
        assert len(loud) == 1
        assert "WARNING" in loud[0]
        ids = dict(at.rows("SELECT reference_id, id FROM jobs"))
        order = [ids[one["reference_id"]] for one in submissions(sandbox)]
        assert order[2:] == sorted(order[2:])  # the canary is the smallest pair; the others keep their places
        settled(at, sandbox, sent=4)


def refusals(sandbox: Any, status: int) -> int:
    return sum(entry["status"] == status for entry in posts(sandbox))


@side_by_side
def test_threat_58_a_key_that_is_revoked_while_a_job_renders_loses_nothing() -> None:
    pause = {"unauthorized": {"first": "500ms", "max": "1s"}}
    with life(processing_s=2.0) as (at, sandbox):
        key_file = at.home / "key"
        key_file.touch(0o600)
        key_file.write_text(KEY)
        config = yaml.safe_load(at.config.read_text())
        config["api"] |= {"key_file": str(key_file), "pause": pause}
        at.config.write_text(yaml.safe_dump(config))
        drop(at.drop, "rendering", seed=1)
        with at.daemon(CHAMELAION_API_KEY=None):
            eventually(lambda: at.states() == ["rendering"], 30)
            sandbox.control(key="rotated-key-58c1")
            drop(at.drop, "queued", seed=2)
            eventually(lambda: "the account is unauthorized" in at.log(), 20)
            eventually(lambda: at.states() == ["rendering", "queued"], 20)
            assert len(submissions(sandbox)) == 1
            key_file.write_text("rotated-key-58c1")
            eventually(all_done(at, 2), 30)
        (loud,) = [line for line in at.log().splitlines() if "the account is unauthorized" in line]
        assert "API key" in loud
        assert "rotated-key-58c1" not in at.log()
        settled(at, sandbox, sent=2)


@side_by_side
def test_threat_66_an_answer_that_names_no_request_is_no_evidence_that_a_pair_was_paid_for() -> None:
    """A catch-all that says 200 and JSON to everything: the pair counted as submitted, and was doubtful for ever."""
    with life() as (at, sandbox):
        sandbox.control(faults=on("get", "json", body={"status": "completed"}))
        drop(at.drop)
        with at.daemon():
            eventually(all_done(at), 60)
        settled(at, sandbox, sent=1)


# -- what takes too long for a life: the same decisions, with the clock as a number ----------------------


def test_threat_60_a_500_after_the_whole_upload_is_looked_up_before_each_of_six_tries_and_then_noted() -> None:
    made = world(job())
    tick(made)
    sent = looked = 0
    error = Transient("the service has a problem (500)", code="server_error", http_status=500)
    while made.book.jobs[1].state is not JobState.FAILED:
        for action in list(made.running):
            match action:
                case Submit():
                    sent += 1
                    tick(made, SubmitFailed(action, error, may_be_taken=True))
                    assert (
                        made.book.jobs[1].state is JobState.SUBMITTING
                    )  # unclear: not sent again before it is asked for
                case LookUp():
                    looked += 1
                    tick(made, LookedUp(action, None))
                case ProbeAccount():
                    tick(made, AccountProbed(action))
                case Probe():
                    tick(made, probed(action))
                case _:
                    del made.running[action]
        tick(made, at=made.now + 500)
        assert made.now - NOW < HOUR
    assert sent == MAX_TRIES
    assert looked >= 5 * sent
    assert [one.key for one in made.book.of(JobState.FAILED)] == ["s1"]
    (note,) = [action for action in [*made.running, *tick(made)] if isinstance(action, WriteNote)][:1]
    assert note.kind == "error"
