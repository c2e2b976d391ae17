"""Ways into a process of another user or of one's own: who gets at a secret that it holds.

Linux. Each way is tried in a child that has become the user; as root the process itself is started as one that owns
nothing, for root gets in everywhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.acceptance.rig import ROOT, Facts
from tests.support import eventually

OWNER, STRANGER = 65_534, 65_533  # users that own nothing here
PTRACE_ATTACH, PTRACE_DETACH, ANY_CHILD = 16, 17, 0x40000000
PLAIN = "import signal; print('watching', flush=True); signal.pause()"
WITH_CORES = ["/bin/sh", "-c", 'ulimit -c unlimited 2>/dev/null; exec "$@"', "sh"]


def nobody_gets_in(facts: Facts, key: str) -> bytes:
    """A user of no importance, and the daemon's own, try to get at its key; returns what the daemon said."""
    if (python := python_for_others()) is None:
        print("      not checked: there is no Python of this version that another user may run")
        return b""
    with tempfile.TemporaryDirectory(prefix="lipsync-others-") as folder:
        home = Path(folder)
        (home / "drop").mkdir()
        settings = {
            "api": {"base_url": "http://127.0.0.1:1/api"},
            "folders": [{"path": f"{home}/drop"}],
            "state": f"{home}/state",
        }
        (home / "config.yaml").write_text(yaml.safe_dump(settings))
        give(home)
        env = {"CHAMELAION_API_KEY": key, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [python, "-m", "chamelaion_watch", "--config", str(home / "config.yaml"), "-v", "run"]
        daemon = look_into(command, home, env, key)
        plain = look_into([python, "-c", PLAIN], home, env, key)
    for user, ways in daemon.shown.items():
        told = f"{len(ways)} of {daemon.tried}; into a process that does not mind: {plain.shown[user]}"
        facts.check(f"ways in which {user} sees the key in the daemon", not ways, told)
    same = plain.shown["the same user"]
    facts.check("ways in which the same user sees it in a plain process", same, len(same))
    facts.check("cores that the daemon leaves", not daemon.cores, f"{daemon.cores}; a plain process: {plain.cores}")
    return daemon.said


@dataclass
class Look:
    """What came out of looking into one process: the ways that showed the secret, by user; cores; what it said."""

    shown: dict[str, list[str]] = field(default_factory=dict)
    tried: int = 0
    cores: int = 0
    said: bytes = b""


def python_for_others() -> str | None:
    """A Python of this version that the owner may run; None if there is none."""
    if os.geteuid():
        return sys.executable
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        with contextlib.suppress(OSError):
            if not subprocess.run([python, "-c", ""], **become(OWNER), check=False, capture_output=True).returncode:
                return python
    return None


def give(home: Path) -> None:
    """Let the owner have a folder and what is in it."""
    for path in (home, *home.rglob("*")):
        path.chmod(0o755)
        if not os.geteuid():
            os.chown(path, OWNER, OWNER)


def look_into(command: list[str], home: Path, env: dict[str, str], secret: str) -> Look:
    """Start it in `home` with the secret among its environment, wait until it says `watching`, and try everything."""
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    whole = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": f"{ROOT}:{packages}"} | env
    owner = None if os.geteuid() else OWNER
    users = {"the same user": owner} | ({} if owner is None else {"another user": STRANGER})
    found = Look()
    with (home / "said").open("w+b") as stream:
        process = subprocess.Popen(
            [*WITH_CORES, *command],
            env=whole,
            cwd=home,
            stdout=stream,
            stderr=stream,
            **(become(owner) if owner else {}),
        )
        try:
            eventually(lambda: b"watching" in (home / "said").read_bytes(), 60)
            for name, user in users.items():
                found.shown[name] = [way for way, does in WAYS.items() if _is_shown(does, process.pid, user, secret)]
                found.tried = len(WAYS)
        finally:
            process.send_signal(signal.SIGABRT)
            process.wait(30)
    found.said = (home / "said").read_bytes()
    cores = [path for path in home.glob("core*") if path.is_file()]
    found.cores = len(cores)
    for path in cores:
        path.unlink()
    return found


def become(user: int) -> dict[str, Any]:
    return {"user": user, "group": user, "extra_groups": []}


def _is_shown(does: Callable[[int, bytes], bool], pid: int, user: int | None, secret: str) -> bool:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    code = 1
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        code = 0 if does(pid, secret.encode()) else 1
    os._exit(code)


def _environment(pid: int, secret: bytes) -> bool:
    return secret in Path(f"/proc/{pid}/environ").read_bytes()


def _memory(pid: int, secret: bytes) -> bool:
    """Read the stack, where the environment lies."""
    stack = next(line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if line.endswith("[stack]"))
    start, end = (int(number, 16) for number in stack.split()[0].split("-"))
    return secret in os.pread(os.open(f"/proc/{pid}/mem", os.O_RDONLY), end - start, start)


def _tracing(pid: int, _secret: bytes) -> bool:
    """Who may trace a process may read all of it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(PTRACE_ATTACH, pid, None, None):
        return False
    os.waitpid(pid, ANY_CHILD)
    libc.ptrace(PTRACE_DETACH, pid, None, None)
    return True


def _core(pid: int, secret: bytes) -> bool:
    """Ask gcore, where it is installed."""
    if not (gcore := shutil.which("gcore")):
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = [gcore, "-o", f"{folder}/core", str(pid)]
        subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
        return any(secret in path.read_bytes() for path in Path(folder).iterdir())


WAYS: dict[str, Callable[[int, bytes], bool]] = {
    "/proc/PID/environ": _environment,
    "/proc/PID/mem": _memory,
    "ptrace": _tracing,
    "gcore": _core,
}
