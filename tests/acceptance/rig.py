"""What the acceptance scripts share: a sandbox and the daemon as real processes, a drop folder, and the checks.

Every script prints a line per fact with its figure, and exits 1 if one does not hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from chamelaion_watch.edges.ledger.sqlite import FILE
from chamelaion_watch.sandbox.server import Sandbox, SandboxOptions
from tests.support import eventually

KEY = "acceptance-key-1b7f"
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Facts:
    """What was found, printed as it comes."""

    failures: list[str] = field(default_factory=list)

    def check(self, name: str, holds: object, figure: object = "") -> None:
        print(f"{'ok  ' if holds else 'FAIL'}  {name}{f': {figure}' if figure != '' else ''}", flush=True)
        if not holds:
            self.failures.append(name)

    def end(self) -> None:
        print(f"{'all facts hold' if not self.failures else f'{len(self.failures)} facts do not hold'}")
        sys.exit(1 if self.failures else 0)


@dataclass
class Rig:
    """A drop folder, a state folder and a config that names a sandbox."""

    home: Path
    base_url: str

    @property
    def drop(self) -> Path:
        return self.home / "drop"

    @property
    def config(self) -> Path:
        return self.home / "config.yaml"

    def configure(self, *, api: dict[str, Any] | None = None, folder: dict[str, Any] | None = None) -> None:
        self.drop.mkdir(exist_ok=True)
        settings = {
            "api": {"base_url": self.base_url, "poll": {"first": "500ms", "max": "1s"}} | (api or {}),
            "folders": [{"path": str(self.drop), "settle": "2s"} | (folder or {})],
            "state": str(self.home / "state"),
        }
        self.config.write_text(yaml.safe_dump(settings))

    def env(self, **extra: str | None) -> dict[str, str]:
        """The environment of what is run; None takes a variable away."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        wanted = kept | {"CHAMELAION_API_KEY": KEY, "PYTHONUNBUFFERED": "1"} | extra
        return {name: value for name, value in wanted.items() if value is not None}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "chamelaion_watch", "--config", str(self.config), *arguments]

    def run(
        self, *arguments: str, timeout: float = 600, env: dict[str, str | None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments),
            check=False,
            env=self.env(**(env or {})),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, *flags: str, **env: str | None) -> subprocess.Popen[bytes]:
        """Start the daemon; what it says is appended to `daemon.log`."""
        with (self.home / "daemon.log").open("ab") as stream:
            return subprocess.Popen(
                [*self.command()[:5], *flags, "run"], env=self.env(**env), cwd=ROOT, stdout=stream, stderr=stream
            )

    @contextlib.contextmanager
    def daemon(self, *flags: str, **env: str | None) -> Iterator[subprocess.Popen[bytes]]:
        """The daemon as a process, ended by SIGTERM; its log is in `daemon.log`."""
        process = self.start(*flags, **env)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise

    def status(self) -> dict[str, Any]:
        found = self.run("status", "--json")
        data: dict[str, Any] = json.loads(found.stdout)["data"]
        return data

    def log(self) -> str:
        path = self.home / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the ledger; nothing if there is none yet."""
        path = self.home / "state" / FILE
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
            try:
                return db.execute(sql).fetchall()
            except sqlite3.OperationalError:  # its schema is being made
                return []

    def states(self) -> list[str]:
        """The states of all jobs, oldest first."""
        return [state for (state,) in self.rows("SELECT state FROM jobs ORDER BY id")]


@contextlib.contextmanager
def rig(**options: Any) -> Iterator[tuple[Rig, Sandbox]]:
    """A fresh home with a sandbox beside it."""
    with (
        tempfile.TemporaryDirectory(prefix="lipsync-acceptance-") as home,
        Sandbox(SandboxOptions(key=KEY, **options)) as sandbox,
    ):
        made = Rig(Path(home), sandbox.base_url)
        made.configure()
        try:
            yield made, sandbox
        except BaseException:
            print("\n".join(made.log().splitlines()[-60:]))
            raise


@contextlib.contextmanager
def slow_line(base_url: str, bytes_per_s: int) -> Iterator[str]:
    """A way to the sandbox that lets only so much through, so that an upload takes time; gives its base URL."""
    port = int(base_url.partition("//")[2].partition("/")[0].rpartition(":")[2])
    over = threading.Event()
    opened = [listener := socket.create_server(("127.0.0.1", 0))]
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # else the kernel takes it all at once
    threads: list[threading.Thread] = []

    def pump(source: socket.socket, target: socket.socket, pause_s: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16_384):
                target.sendall(data)
                over.wait(len(data) * pause_s)
        _shut_down([source, target])

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                opened.append(client)
                server = socket.create_connection(("127.0.0.1", port))
                opened.append(server)
                for ends in ((client, server, 1 / bytes_per_s), (server, client, 0.0)):
                    threads.append(threading.Thread(target=pump, args=ends, daemon=True))
                    threads[-1].start()

    threads.append(threading.Thread(target=accept, daemon=True))
    threads[0].start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api"
    finally:
        over.set()
        _shut_down(opened)
        for thread in threads:
            thread.join(5)
        for sock in opened:
            sock.close()


def _shut_down(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def fingerprints(folder: Path) -> dict[str, tuple[object, ...]]:
    """Name, content, size, mtime, mode and inode of every source: what must never change."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and "lipsync" not in path.name:
            status = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[os.fsencode(path.relative_to(folder)).hex()] = (
                digest,
                status.st_size,
                status.st_mtime_ns,
                status.st_mode,
                status.st_ino,
            )
    return found


def outputs(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.lipsync.mp4"))


def children(pid: int) -> set[int]:
    """The children of all threads of a process, and theirs (Linux)."""
    found = set[int]()
    with contextlib.suppress(OSError):  # it is over, or that thread is
        for task in Path(f"/proc/{pid}/task").iterdir():
            found |= {int(child) for child in (task / "children").read_text().split()}
    return found.union(*map(children, found))


def temps(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob(".*lipsync-part"))


def submissions(sandbox: Sandbox) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sandbox.state()["submissions"]
    return found


def posts(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The generation requests that the sandbox logged, in order."""
    return [entry for entry in sandbox.state()["log"] if entry["method"] == "POST" and "generate" in entry["path"]]


__all__ = [
    "KEY",
    "ROOT",
    "Facts",
    "Rig",
    "children",
    "eventually",
    "fingerprints",
    "outputs",
    "posts",
    "rig",
    "slow_line",
    "submissions",
    "temps",
]
