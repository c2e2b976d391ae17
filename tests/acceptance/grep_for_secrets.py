"""The key, and the queries that sign links, occur nowhere: every fault at debug level, bad surroundings, every command.

`python -m tests.acceptance.grep_for_secrets` prints for each place how much was searched and what was found. It runs the daemon
with a key that cannot be mistaken against a sandbox that carries out each of its faults on each endpoint, most of them
with the key and a signed link in the answer; then daemons in bad surroundings; then one that others try to look into.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from chamelaion_watch.sandbox.faults import KINDS
from chamelaion_watch.sandbox.server import Sandbox
from tests.acceptance import intruder
from tests.acceptance.needles import Needles, needles_seen
from tests.acceptance.rig import ROOT, Facts, Rig, children, eventually
from tests.lives import drop, life

SECRET = "sk/OURVERYOWNKEY+7Qm4Zt9=WvXb2Nc8Lr5Hs1&Kp"  # with letters that encodings change
SIGNATURE = "0f1e2d3c4b5a69788796a5b4c3d2e1f0-SIGNEDBYTHEHOST"
PASSWORD = "WORDFORTHEPROXY-9Jw3Td8Fh2"
LINK = f"https://storage.example/outputs/a.mp4?expires=2000000000&sig={SIGNATURE}"
ECHO = f"invalid token {SECRET} for {LINK}"
WITHIN_S = 400.0
PAIRS_AT_ONCE = 8
STATUSES = (400, 401, 403, 404, 412, 429, 500, 503)
COMMANDS = [
    *(
        ["status"],
        ["jobs"],
        ["show", "1"],
        ["report"],
        ["report", "--since", "1d"],
        ["doctor"],
        ["doctor", "--offline"],
    ),
    *(["check"], ["check", "--show"], ["retry", "1"], ["cancel", "2"], ["pause", "--reason", "lunch"], ["resume"]),
]


def main() -> None:
    facts, needles = Facts(), Needles({"the key": SECRET, "a signature": SIGNATURE, "the proxy's password": PASSWORD})
    planted, seen = needles_seen(SECRET)
    facts.check("every form of the key that is planted is found", planted == seen, f"{seen} of {planted}")
    pause = {
        kind: {"first": "200ms", "max": "400ms"} for kind in ("rate_limited", "quota", "unauthorized", "unreachable")
    }
    api = {"max_in_flight": 64, "uploads": 4, "downloads": 4, "pause": pause, "lookup_grace": "1s"}
    with life(api=api, folder={"backlog": "take", "receipts": True}) as (at, sandbox):
        sandbox.control(key=SECRET)
        key_file = write_key(at)
        live_with_every_fault(facts, needles, at, sandbox, key_file)
        live_in_bad_surroundings(facts, needles, at, sandbox, key_file)
        links = look_for_links(needles, sandbox)
        facts.check("the sandbox gave out signed links", links > PAIRS_AT_ONCE, f"{links} that were fetched")
        needles.search_files(
            "everything on disk: share, notes, outputs, ledger, WAL, spool, logs",
            at.home,
            but=[key_file, *at.home.glob("with-key*.yaml")],
        )
        state = sandbox.state()
        facts.check("requests to the media host with key or cookie", not state["media_requests_with_credentials"], 0)
        needles.search("what the media host was asked", asked_of_media(state))
        check_planted(facts, needles, at)
    needles.search("what a daemon says that others look into", intruder.nobody_gets_in(facts, SECRET))
    for place, size in needles.searched.items():
        print(
            f"      searched {place}: {size} bytes, {len([hit for hit in needles.hits if hit.startswith(place)])} hits"
        )
    facts.check("hits", not needles.hits, needles.hits[:20] or 0)
    facts.end()


def write_key(at: Rig) -> Path:
    path = at.home / "key"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


# -- every fault --------------------------------------------------------------------------------------


def orders() -> Iterator[dict[str, Any]]:
    """Each kind on each endpoint where it applies, quick, and with secrets in what it says."""
    told = {"error": ECHO, "message": ECHO, "status": ECHO, "error_message": ECHO, "id": SECRET}
    params: dict[str, dict[str, Any]] = {
        "json": {"body": told},
        "redirect": {"location": f"http://127.0.0.1:9/x?sig={SIGNATURE}&key={SECRET}"},
        "delay": {"seconds": 0.1},
        "stall": {"seconds": 0.5},
        "huge": {"megabytes": 2},
        "gzip_bomb": {"megabytes": 2},
        "drip": {"every_s": 0.001},
        "late": {"delay_s": 0.5},
        "lag": {"delay_s": 0.5},
        "fail": {"message": ECHO},
        "patch": {"set": {"error_message": ECHO, "status": "failed"}},
        "slow": {"bytes_per_s": 200_000},
    }
    for kind, endpoints in KINDS.items():
        for on in sorted(endpoints):
            if kind == "status":
                for status in STATUSES:
                    yield {
                        "on": on,
                        "kind": kind,
                        "status": status,
                        "body": {"error": LINK if on == "health" else ECHO},  # which is asked without the key
                        "headers": {"retry-after": "0"},
                    }
            else:
                yield {"on": on, "kind": kind} | params.get(kind, {})


def live_with_every_fault(facts: Facts, needles: Needles, at: Rig, sandbox: Sandbox, key_file: Path) -> None:
    wanted = list(orders())
    sandbox.control(faults=wanted)
    until, number = time.monotonic() + WITHIN_S, 0
    with at.daemon("-v", CHAMELAION_API_KEY=None, CHAMELAION_API_KEY_FILE=str(key_file), **TRACING) as process:
        while sandbox.state(log=0)["faults"] and time.monotonic() < until:
            for _ in range(PAIRS_AT_ONCE):
                drop(at.drop, f"scene{number:03}", seed=number)
                number += 1
            ask_for_probes(sandbox)
            if number == PAIRS_AT_ONCE:
                look_at_processes(needles, process.pid)
            wait_at_most(6, lambda: not sandbox.state(log=0)["faults"])
        left = sandbox.state(log=0)["faults"]
        look_at_processes(needles, process.pid)
        look_for_links(needles, sandbox)
        run_commands(facts, needles, at, key_file, "while the daemon runs")
    what = f"{len(wanted) - len(left)} of {len(wanted)} orders, {number} pairs; states {counted(at.states())}"
    facts.check(
        "every fault of the sandbox was met on every endpoint", not left, f"{what}; left {left[:3]}" if left else what
    )
    facts.check("the daemon stopped with exit 0", process.returncode == 0, process.returncode)
    run_commands(facts, needles, at, key_file, "while it does not run")
    lines = at.log().splitlines()
    debug = sum(" DEBUG " in line for line in lines)
    facts.check("the log is one of debug level", debug > 500, f"{debug} of {len(lines)} lines are debug")
    print(f"      tracebacks in the log: {at.log().count('Traceback')}")


TRACING = {"HTTPX_LOG_LEVEL": "trace", "HTTPCORE_LOG_LEVEL": "trace", "PYTHONDEVMODE": None, "LOGURU_LEVEL": "TRACE",
           "LOGURU_DIAGNOSE": "YES", "LOGURU_BACKTRACE": "YES", "PYTHONFAULTHANDLER": "1"}  # fmt: skip


def ask_for_probes(sandbox: Sandbox) -> None:
    """`me` is asked only by an account that was refused, `health` only when the service seems down."""
    left = {fault["on"] for fault in sandbox.state(log=0)["faults"]}
    extra: list[dict[str, Any]] = []
    if "me" in left and not left & {"submit", "get", "list"}:
        extra = [
            {"on": on, "kind": "status", "status": 401, "body": {"error": ECHO}} for on in ("get", "list", "submit")
        ]
    elif "health" in left and not left & {"submit", "get", "list"}:
        extra = [
            {"on": on, "kind": "status", "status": 503, "count": 6, "body": {"error": ECHO}} for on in ("get", "submit")
        ]
    if extra:  # an empty list would clear what is left
        sandbox.control(faults=extra)


def look_at_processes(needles: Needles, pid: int) -> None:
    """The command line and, as root or the same user may, the environment of the daemon and its children."""
    for each in {pid, *children(pid)}:
        for name in ("cmdline", "environ", "comm"):
            with contextlib.suppress(OSError):
                needles.search("command lines and environments", Path(f"/proc/{each}/{name}").read_bytes())


def look_for_links(needles: Needles, sandbox: Sandbox) -> int:
    """Look for the signatures of all links that were fetched so far; returns how many."""
    known = set(needles.secrets.values())
    for number, signature in enumerate(signed(sandbox)):
        if signature not in known:
            needles.add(f"link {number}", signature)
    return len(signed(sandbox))


def signed(sandbox: Sandbox) -> list[str]:
    queries = {entry["query"] for entry in sandbox.state()["log"] if entry["endpoint"] == "media"}
    return sorted({value for query in queries for value in re.findall(r"sig=([^&]{16,})", query)})


def asked_of_media(state: dict[str, Any]) -> bytes:
    """Everything that came to the media host but the link itself, which is where the signature belongs."""
    entries = [entry | {"query": ""} for entry in state["log"] if entry["endpoint"] == "media"]
    return json.dumps(entries).encode()


def counted(states: list[str]) -> dict[str, int]:
    return {state: states.count(state) for state in sorted(set(states))}


# -- commands -----------------------------------------------------------------------------------------


def run_commands(facts: Facts, needles: Needles, at: Rig, key_file: Path, when: str) -> None:
    first = next(iter(sorted(at.drop.glob("*.mp4"))), at.drop / "none.mp4")
    commands = [
        *COMMANDS,
        ["explain", str(first)],
        ["run", "--dry-run"],
        ["check", "--schema"],
        ["report", "--format", "csv"],
    ]
    commands += [[*command, "--json"] for command in COMMANDS]
    commands += [[command[0], "--help"] for command in COMMANDS] + [["--help"]]
    codes: list[int] = []
    for command in commands:
        done = at.run(*command, timeout=120, env={"CHAMELAION_API_KEY": None, "CHAMELAION_API_KEY_FILE": str(key_file)})
        codes.append(done.returncode)
        needles.search(f"what {len(commands)} commands said {when}", (done.stdout + done.stderr).encode())
    facts.check(
        f"commands that ran {when}",
        len(codes) == len(commands),
        f"{len(codes)}, exit codes {counted([str(c) for c in codes])}",
    )


# -- bad surroundings ---------------------------------------------------------------------------------


def live_in_bad_surroundings(facts: Facts, needles: Needles, at: Rig, sandbox: Sandbox, key_file: Path) -> None:
    """Daemons that cannot reach the service, have the key in the wrong place, or run out of memory and descriptors."""
    port = at.base_url.partition("//")[2].partition("/")[0].rpartition(":")[2]
    proxy = f"http://user:{PASSWORD}@127.0.0.1:1"
    keyed: dict[str, str | None] = {"CHAMELAION_API_KEY": None, "CHAMELAION_API_KEY_FILE": str(key_file)}
    cases: dict[str, tuple[str, dict[str, str | None]]] = {
        "refused": ("http://127.0.0.1:1/api", keyed),
        "no TLS": (f"https://127.0.0.1:{port}/api", keyed),
        "a proxy with a password": (
            "https://service.invalid/api",
            keyed | {"HTTPS_PROXY": proxy, "https_proxy": proxy},
        ),
        "a proxy of another kind": (
            "https://service.invalid/api",
            keyed | {"ALL_PROXY": proxy.replace("http", "socks5")},
        ),
        "the key in the environment": (at.base_url, {"CHAMELAION_API_KEY": SECRET}),
        "the key where its file should be": (at.base_url, keyed | {"CHAMELAION_API_KEY_FILE": SECRET}),
        "a key with a line break": (
            at.base_url,
            keyed | {"CHAMELAION_API_KEY_FILE": None, "CHAMELAION_API_KEY": f"{SECRET}\n{SECRET}"},
        ),
        "the key in the configuration": (at.base_url, keyed | {"CHAMELAION_API_KEY_FILE": None}),
    }
    for number, (name, (base_url, env)) in enumerate(cases.items()):
        is_written = "configuration" in name
        config = another_config(at, f"{'with-key' if is_written else 'bad'}{number}", base_url, with_key=is_written)
        for flags in (["-v", "run", "--once", "--patience", "1s"], ["check"], ["doctor"]):
            command = [sys.executable, "-m", "chamelaion_watch", "--config", str(config), *flags]
            done = subprocess.run(command, env=at.env(**env), cwd=ROOT, capture_output=True, check=False, timeout=120)
            needles.search(f"what daemons say of bad surroundings ({len(cases)})", done.stdout + done.stderr)
        print(f"      {name}: exit {done.returncode} of doctor")
    sandbox.control(faults="clear")
    config = another_config(at, "squeezed", at.base_url, pairs=6)
    squeeze(needles, at, config, key_file)
    config = another_config(at, "broken", at.base_url, pairs=2)
    tracebacks = break_a_library(needles, at, config, key_file)
    facts.check("a library complained with the whole request, in a traceback", tracebacks, f"{tracebacks} tracebacks")


def another_config(at: Rig, name: str, base_url: str, *, with_key: bool = False, pairs: int = 1) -> Path:
    """A drop folder, a state folder and a configuration of its own."""
    folder = at.home / name
    folder.mkdir()
    for number in range(pairs):
        drop(folder, f"{name}-{number}", seed=hash(name) % 1000 + number, padding=400_000)
    settings = yaml.safe_load(at.config.read_text())
    settings["api"] |= {"base_url": base_url} | ({"key": SECRET} if with_key else {})
    settings["folders"] = [{"path": str(folder), "settle": "1s", "backlog": "take"}]
    settings["state"] = str(at.home / f"{name}-state")
    settings["log"] = {"format": "json"}
    path = at.home / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def squeeze(needles: Needles, at: Rig, config: Path, key_file: Path) -> None:
    """Take the memory and the descriptors from a daemon at work, a little more each time."""
    for spare in (40 << 20, 8 << 20, 2 << 20, 0):
        limits = {resource.RLIMIT_AS: spare, resource.RLIMIT_NOFILE: 24}
        needles.search("what daemons without memory say", said_within(6, at, config, key_file, limits=limits))


def break_a_library(needles: Needles, at: Rig, config: Path, key_file: Path) -> int:
    """Let the library that writes requests complain about them, as h11 does of a header; count the tracebacks."""
    folder = at.home / "library"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BROKEN_LIBRARY)
    said = said_within(8, at, config, key_file, PYTHONPATH=str(folder))
    needles.search("what a daemon with a broken library says", said)
    return said.count(b"Traceback")


BROKEN_LIBRARY = """
import h11

class Connection(h11.Connection):
    def send(self, event):
        if type(event) is h11.Request and event.method == b"POST":
            key = dict(event.headers).get(b"authorization", b"nothing").split()[-1].decode()
            raise RuntimeError(f"{key} stands in {event!r}: {list(event.headers)!r}")
        return super().send(event)

h11.Connection = Connection
"""


def said_within(
    seconds: float, at: Rig, config: Path, key_file: Path, *, limits: dict[int, int] | None = None, **env: str | None
) -> bytes:
    """Return what a daemon says until it is killed; once it watches, a pair arrives and limits are set.

    A limit of memory is what it may have more than it has.
    """
    env = {"CHAMELAION_API_KEY": None, "CHAMELAION_API_KEY_FILE": str(key_file)} | env
    command = [sys.executable, "-m", "chamelaion_watch", "--config", str(config), "-v", "run"]
    with tempfile.TemporaryFile() as stream:
        process = subprocess.Popen(command, env=at.env(**env), cwd=ROOT, stdout=stream, stderr=stream)

        def said() -> bytes:
            return os.pread(stream.fileno(), 50_000_000, 0)

        try:
            eventually(lambda: b"watching" in said(), 30)
            has = {resource.RLIMIT_AS: memory_of(process.pid)}
            for limit, more in (limits or {}).items():
                resource.prlimit(process.pid, limit, (has.get(limit, 0) + more,) * 2)
            drop(config.with_suffix(""), f"late{time.monotonic_ns()}", seed=time.monotonic_ns() % 977)
            wait_at_most(seconds, lambda: process.poll() is not None)
        finally:
            process.kill()
            process.wait()
        return said()


def wait_at_most(seconds: float, is_over: Callable[[], bool]) -> None:
    """Wait until it is over, or the time is."""
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > end or is_over(), seconds + 60, every=0.2)


def memory_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def check_planted(facts: Facts, needles: Needles, at: Rig) -> None:
    """In a copy of what was searched, one leak is seen."""
    with tempfile.TemporaryDirectory() as copy:
        state = Path(copy) / "state"
        shutil.copytree(at.home / "state", state)
        ledger = state / "ledger.sqlite3"
        data = ledger.read_bytes()
        ledger.write_bytes(data[:-20] + SECRET.encode()[:20])
        seen = Needles(needles.secrets)
        seen.search_files("copy", Path(copy))
        facts.check("20 characters of the key planted in a copy of the ledger are seen", len(seen.hits) == 1, seen.hits)


if __name__ == "__main__":
    main()
