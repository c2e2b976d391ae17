"""What happens inside the container of `systemd_hardening.py`: both units live their lives under a real systemd.

`python -m tests.acceptance.systemd_inside FILE`, as root and only there. It judges nothing: it does what a person at the
keyboard would, and writes to FILE as JSON what was to be seen. Each part of `SCENES` adds its facts under its own name.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from chamelaion_watch.edges.ledger.sqlite import FILE
from chamelaion_watch.sandbox.media import describe, make_audio, make_video
from chamelaion_watch.sandbox.server import Sandbox, SandboxOptions
from tests.support import eventually

Facts: TypeAlias = dict[str, Any]

KEY = "booted-key-5c21"
USER = "chamelaion-watch"
PLAIN, SECOND = "chamelaion-watch.service", "chamelaion-watch@second.service"
CONFIGS, STATE = Path("/etc/chamelaion-watch"), Path("/var/lib/chamelaion-watch")
LOCAL, LATE, OUTSIDE, OTHER = Path("/srv/local"), Path("/srv/late"), Path("/opt/outside"), Path("/home/editor/lipsync")
AS_USER = ("setpriv", f"--reuid={USER}", "--clear-groups")
TRIED = ["/", "/etc", "/usr", "/boot", "/root", "/home", "/run", "/var", "/var/lib", "/var/log", "/tmp", "/opt"]
TRIED += ["/opt/outside", "/srv", "/srv/local", "/var/lib/chamelaion-watch"]
SECONDS = 60.0
SETTLE_S = 20  # of files that somebody may still have open; a lease makes it 2


def main(seen: Path) -> None:
    """Go through the scenes; what broke off one is written down, and the rest is left out."""
    found: Facts = {"took_s": (took_s := {})}
    with Sandbox(SandboxOptions(key=KEY, rpm=1000, queue_s=0.1, processing_s=0.3)) as sandbox:
        try:
            prepare(sandbox.base_url.replace("127.0.0.1", "localhost"))
            for scene in SCENES:
                began = time.monotonic()
                found[scene.__name__] = scene()
                took_s[scene.__name__] = round(time.monotonic() - began, 1)
        except Exception:
            journal = said("journalctl", "--no-pager", "-n", "200", "-o", "cat")
            found["broke_off"] = f"{traceback.format_exc()}\n{journal}"
        finally:
            seen.write_text(json.dumps(found, indent=1))


def prepare(base_url: str) -> None:
    LATE.mkdir()
    for folder in (LOCAL, OUTSIDE, OTHER):
        folder.mkdir(parents=True)
        own(folder)
    configure("config", base_url, [LOCAL, LATE / "drop", OUTSIDE])
    configure("second", base_url, [OTHER])
    (CONFIGS / "api-key").write_text(KEY)
    (CONFIGS / "api-key").chmod(0o600)
    (CONFIGS / "second.api-key").symlink_to("api-key")


def configure(name: str, base_url: str, folders: list[Path]) -> None:
    api = {"base_url": base_url, "requests_per_minute": 1000, "poll": {"first": "300ms", "max": "500ms"}}
    roots = [{"path": str(path), "name": path.parts[2], "rescan": "1s", "settle": f"{SETTLE_S}s"} for path in folders]
    (CONFIGS / f"{name}.yaml").write_text(json.dumps({"api": api, "folders": roots}))  # JSON is YAML


# -- scenes, in this order ----------------------------------------------------------------------------


def start() -> Facts:
    """READY=1 with one folder absent and one read-only; what the kernel says of the process."""
    began = time.monotonic()
    code = systemctl("start", PLAIN)
    pid = main_pid(PLAIN)
    status = dict(line.split(":\t", 1) for line in proc(pid, "status").splitlines() if ":\t" in line)
    kept = ("Uid", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    limits = [line.split()[4:6] for line in proc(pid, "limits").splitlines() if line.startswith("Max core")]
    return {
        "code": code,
        "seconds": round(time.monotonic() - began, 1),
        "roots": eventually(lambda: (now := roots())["local"] == "ok" and now, SECONDS, every=0.2),
        "core": [*limits, proc(pid, "coredump_filter").strip()],
        "key_in_environment": KEY in proc(pid, "environ") + proc(pid, "cmdline"),
        **show(PLAIN, "ActiveState", "SubState", "StatusText"),
        **{name: status[name].strip() for name in kept},
    }


def pair() -> Facts:
    """One pair of another user on a local folder: with a lease it is taken long before the settle time of 10 s."""
    output = done(LOCAL, "scene")
    dropped_at = (LOCAL / "scene.mp4").stat().st_mtime
    facts = describe(output)
    status = output.stat()
    return {
        "submitted_after_s": round(submitted_at("config") - dropped_at, 1),
        "is_playable": facts.has_video and facts.has_audio,
        "mode": f"{status.st_mode & 0o777:04o}",
        "owner": status.st_uid == user_id(),
        "jobs": jobs("config"),
        "capabilities_of_probes": probe_capabilities(),
    }


def probe_capabilities() -> list[str]:
    """What the processes that read media may do: the children of what the daemon started."""
    (launcher,) = children(main_pid(PLAIN))
    fields = [dict(line.split(":", 1) for line in proc(pid, "status").splitlines()) for pid in children(launcher)]
    return [status[name].strip() for status in fields for name in ("CapPrm", "CapEff", "CapAmb")]


def writes() -> Facts:
    """Where the service could write on each of its mounts, and where root could with the eyes of the service."""
    pid = main_pid(PLAIN)
    mounts = [line.split()[4] for line in proc(pid, "mountinfo").splitlines()]
    seen_by = ("nsenter", "-t", str(pid), "-m")
    probe = ("sh", "-c", 'for d; do touch "$d/.tried" 2>/dev/null && echo "$d" && rm "$d/.tried"; done; true', "sh")
    return {
        "as_itself": said(*seen_by, *AS_USER, *probe, *mounts, *TRIED).split(),
        "as_root": said(*seen_by, *probe, *TRIED).split(),
        "home": said(*seen_by, "ls", "-A", "/home", "/root"),
    }


def outside() -> Facts:
    """A pair in a folder that is not in ReadWritePaths."""
    make_pair(OUTSIDE, "outside")
    eventually(lambda: roots()["outside"] != "ok", SECONDS)
    return {
        "state": roots()["outside"],
        "jobs": jobs("config"),
        "names": sorted(path.name for path in OUTSIDE.iterdir()),
    }


def late_share() -> Facts:
    """A share that is mounted after the start is written; unmounted, it is let go."""
    run("mount", "-t", "tmpfs", "late", str(LATE))
    (LATE / "drop").mkdir()
    own(LATE / "drop")
    done(LATE / "drop", "late")
    sentinel = (LATE / "drop" / ".lipsync-root").exists()
    code = run("umount", str(LATE))
    eventually(lambda: roots()["late"] != "ok", SECONDS)
    mounts = proc(main_pid(PLAIN), "mountinfo")
    return {"umount": code, "sentinel": sentinel, "is_held": f" {LATE} " in mounts, "state": roots()["late"]}


def reload() -> Facts:
    pid = main_pid(PLAIN)
    code = systemctl("reload", PLAIN)
    eventually(lambda: show(PLAIN, "ActiveState")["ActiveState"] != "reloading", SECONDS)  # until READY=1 once more
    return {"code": code, "is_same": main_pid(PLAIN) == pid, **show(PLAIN, "ActiveState")}


def second() -> Facts:
    """The template beside the plain unit: the plain unit's key by a link, and a folder below /home."""
    with drop_in(SECOND, f"ProtectHome=tmpfs\nBindPaths=-{OTHER}"):
        code = systemctl("start", SECOND)
        done(OTHER, "other", "second")
        homes = said("nsenter", "-t", str(main_pid(SECOND)), "-m", "ls", "-A", "/home").split()
        ended = stop_of(SECOND)
    return {"code": code, "homes": homes, "jobs": jobs("second"), "stop": ended, **show(PLAIN, "ActiveState")}


def stop() -> Facts:
    return stop_of(PLAIN)


def watchdog() -> Facts:
    """SIGSTOP of the main process: systemd kills it and starts another one, which serves."""
    systemctl("start", PLAIN)
    pid = main_pid(PLAIN)
    began = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    result = eventually(lambda: show(PLAIN, "Result")["Result"].replace("success", ""), SECONDS, every=0.1)
    after_s = time.monotonic() - began
    eventually(lambda: main_pid(PLAIN) not in {0, pid} and show(PLAIN, "SubState")["SubState"] == "running", SECONDS)
    done(LOCAL, "again")
    return {"result": result, "after_s": round(after_s, 1), **show(PLAIN, "NRestarts"), "stop": stop_of(PLAIN)}


def wrong_config() -> Facts:
    path = CONFIGS / "config.yaml"
    right = path.read_text()
    path.write_text(right.replace("folders", "folder"))
    try:
        return refused(PLAIN)
    finally:
        path.write_text(right)


def no_key() -> Facts:
    (CONFIGS / "second.api-key").unlink()
    return refused(SECOND)


def exit_codes() -> Facts:
    """What systemd does after each exit code that the daemon has."""
    found = {}
    asked = Path("/run/exit-code")
    with drop_in(PLAIN, f"ExecStart=\nExecStart=/bin/sh -c 'exit $(cat {asked})'"):
        for code in (1, 2, 69, 73, 75, 77, 78):
            asked.write_text(str(code))
            found[str(code)] = refused(PLAIN)["end"]
            systemctl("stop", PLAIN)
            systemctl("reset-failed", PLAIN)
    return found


SCENES = (start, pair, writes, outside, late_share, reload, second, stop, watchdog, wrong_config, no_key, exit_codes)


# -- systemd ------------------------------------------------------------------------------------------


def systemctl(*arguments: str) -> int:
    return run("systemctl", *arguments)


def show(unit: str, *names: str) -> dict[str, str]:
    lines = said("systemctl", "show", unit, *(f"-p{name}" for name in names)).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def main_pid(unit: str) -> int:
    return int(show(unit, "MainPID")["MainPID"])


def stop_of(unit: str) -> Facts:
    began = time.monotonic()
    code = systemctl("stop", unit)
    seconds = round(time.monotonic() - began, 1)
    return {"code": code, "seconds": seconds, **show(unit, "Result", "ExecMainStatus", "NRestarts")}


def refused(unit: str) -> Facts:
    """Start what cannot start, and see what becomes of it."""
    run("systemctl", "start", "--no-block", unit)
    return {"end": settled(unit), **show(unit, "ExecMainStatus", "NRestarts")}


def settled(unit: str) -> str:
    """The end of a start that fails: `failed`, or `auto-restart` if systemd will try again."""
    ends = ("failed", "auto-restart")
    return (
        eventually(lambda: (state := show(unit, "SubState")["SubState"]) in ends and state, SECONDS, every=0.05) or ""
    )


@contextmanager
def drop_in(unit: str, text: str) -> Iterator[None]:
    path = Path(f"/run/systemd/system/{unit}.d/zz-scene.conf")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[Service]\n{text}\n")
    systemctl("daemon-reload")
    try:
        yield
    finally:
        path.unlink()
        systemctl("daemon-reload")


# -- the daemon ---------------------------------------------------------------------------------------


def done(folder: Path, stem: str, name: str = "config") -> Path:
    """Drop a pair as another user, and wait for its output, and until the ledger has it: that comes after the name."""
    before = (STATE / name / FILE).exists() and jobs(name).count("done")
    make_pair(folder, stem)
    output = folder / f"{stem}.lipsync.mp4"
    eventually(output.exists, SECONDS, every=0.1)
    eventually(lambda: jobs(name).count("done") > before, SECONDS, every=0.1)
    return output


def make_pair(folder: Path, stem: str) -> None:
    make_audio(folder / f"{stem}.wav", seconds=1.0, seed=1)
    make_video(folder / f"{stem}.mp4", seconds=1.0, seed=len(stem))


def ledger(name: str, sql: str) -> list[tuple[Any, ...]]:
    folder = STATE / name
    with closing(sqlite3.connect(f"file:{folder / FILE}?mode=ro", uri=True, timeout=10)) as db:
        return db.execute(sql).fetchall()


def jobs(name: str) -> list[str]:
    return [state for (state,) in ledger(name, "SELECT state FROM jobs")]


def submitted_at(name: str) -> float:
    ((sent_at,),) = ledger(name, "SELECT sent_at FROM jobs ORDER BY id LIMIT 1")
    return float(sent_at) / 1000


def roots() -> dict[str, str]:
    command = ["/opt/chamelaion-watch/bin/chamelaion-watch", "--config", str(CONFIGS / "config.yaml")]
    data = json.loads(said(*AS_USER, *command, "status", "--json"))["data"]
    return {root["name"]: root["state"] for root in data["roots"]}


# -- the machine --------------------------------------------------------------------------------------


def run(*command: str) -> int:
    return subprocess.run(command, check=False, timeout=SECONDS).returncode


def said(*command: str) -> str:
    return subprocess.run(command, check=False, timeout=SECONDS, stdout=subprocess.PIPE, text=True).stdout


def proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def user_id() -> int:
    return int(said("id", "-u", USER))


def own(folder: Path) -> None:
    os.chown(folder, user_id(), -1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
