"""The daemon as a real process in bad company: a service that breaks, a disk without room.

The first tests look at one life, of many pairs with a misfortune each; the others have lives of their own.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from chamelaion_watch.core.model import Options
from chamelaion_watch.core.naming import reference_id
from chamelaion_watch.edges.watcher import Watcher
from chamelaion_watch.sandbox.media import describe
from tests.acceptance.rig import KEY, Rig, children, fingerprints, outputs, submissions, temps
from tests.lives import all_done, drop, is_watching, life, settled, sha256
from tests.side_by_side import side_by_side, started
from tests.support import eventually

ON_SUBMIT: dict[str, list[dict[str, Any]]] = {
    "lost": [{"kind": "lost"}],
    "late": [{"kind": "late", "delay_s": 1}],
    "lag": [{"kind": "lag", "delay_s": 1}],
    "lost and lag": [{"kind": "lost"}, {"kind": "lag", "delay_s": 1}],
    "lost before": [{"kind": "lost_before"}],
    "refused once": [{"kind": "status", "status": 500}],
    "created and 500": [{"kind": "created_500"}],
    "reset": [{"kind": "reset_late"}],
    "silence": [{"kind": "stall", "create": True, "seconds": 2}],
    "bad gateway": [{"kind": "created_500", "status": 504}],
    "cut answer": [{"kind": "broken_json", "create": True}],
    "a page for an answer": [{"kind": "html", "create": True}],
}
ON_MEDIA = {
    "expired": [{"kind": "expired"}],
    "truncated": [{"kind": "truncate"}],
    "a page": [{"kind": "html"}],
    "short": [{"kind": "short"}],
    "cut": [{"kind": "cut_close"}],
    "empty": [{"kind": "empty"}],
}


@dataclass
class Town:
    """What is left of the life that the first tests look at."""

    at: Rig
    service: dict[str, Any]
    before: dict[str, tuple[object, ...]]
    references: dict[str, str]
    said: list[bytes] = field(default_factory=list)  # command lines and environments of the daemon and its children

    @property
    def log(self) -> str:
        return self.at.log()

    def output(self, name: str) -> Path:
        """The file that the ledger names as this pair's output."""
        row = self.at.rows(
            f"SELECT state, output, output_sha256 FROM jobs WHERE reference_id = '{self.references[name]}'"
        )
        ((state, output, sha),) = row
        assert state == "done", (name, state)
        path = self.at.drop / os.fsdecode(output)
        assert sha256(path) == sha
        return path


@pytest.fixture(scope="module")
def town(request: pytest.FixtureRequest) -> Iterator[Town]:
    started(request)  # in the meantime
    api = {"max_in_flight": 64, "uploads": 4, "downloads": 4}
    with life(api=api, folder={"backlog": "take"}) as (at, sandbox):
        names = ("plain", *ON_SUBMIT, *ON_MEDIA)
        references = {name: drop_known(at, name, seed) for seed, name in enumerate(names, start=1)}
        for on, faults in (("submit", ON_SUBMIT), ("media", ON_MEDIA)):
            orders = [
                {"on": on, "reference_id": references[name]} | one for name, many in faults.items() for one in many
            ]
            sandbox.control(faults=orders)
        with at.daemon("-v") as process:
            said: list[bytes] = []
            eventually(lambda: children(process.pid), 30)
            for pid in {process.pid, *children(process.pid)}:
                with contextlib.suppress(OSError):
                    said.append(Path(f"/proc/{pid}/cmdline").read_bytes())
            before = fingerprints(at.drop)
            eventually(all_done(at, len(names)), 90, every=0.1)
        yield Town(at, sandbox.state(), before, references, said)


def drop_known(at: Rig, stem: str, seed: int) -> str:
    """Put a pair there; return the reference of its first run."""
    drop(at.drop, stem, seed=seed)
    return reference_id(sha256(at.drop / f"{stem}.mp4"), sha256(at.drop / f"{stem}.wav"), Options(), 1)


# -- the service --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", *ON_SUBMIT])
def test_threat_47_48_whatever_happens_to_an_answer_the_pair_is_submitted_once(town: Town, name: str) -> None:
    assert [one["reference_id"] for one in town.service["submissions"]].count(town.references[name]) == 1
    assert describe(town.output(name)).has_audio


@pytest.mark.parametrize("name", ON_MEDIA)
def test_threat_72_73_74_whatever_happens_to_a_link_the_output_is_whole(town: Town, name: str) -> None:
    assert describe(town.output(name)).duration_s > 0.9
    assert [one["reference_id"] for one in town.service["submissions"]].count(town.references[name]) == 1


def test_every_order_of_trouble_was_carried_out(town: Town) -> None:
    assert town.service["faults"] == []
    assert town.service["bugs"] == []


def test_sources_are_untouched_and_nothing_is_left_over(town: Town) -> None:
    assert fingerprints(town.at.drop) == town.before
    assert not temps(town.at.drop)
    assert not list(town.at.drop.rglob("*.lipsync-error.*"))
    assert len(outputs(town.at.drop)) == len(town.references)
    assert town.at.rows("PRAGMA integrity_check") == [("ok",)]


# -- secrets ------------------------------------------------------------------------------------------


def test_threat_81_82_the_key_and_signed_links_are_told_to_nobody(town: Town) -> None:
    queries = {entry["query"] for entry in town.service["log"] if entry["endpoint"] == "media"}
    signatures = {value for query in queries for value in re.findall(r"sig=([^&]+)", query)}
    assert len(signatures) >= len(town.references)
    secrets = [KEY.encode(), *(signature.encode() for signature in signatures)]
    state = [path.read_bytes() for path in (town.at.home / "state").rglob("*") if path.is_file()]
    notes = [path.read_bytes() for path in town.at.drop.rglob("*.lipsync-*") if path.is_file()]
    assert state
    assert town.said
    for text in (*state, *notes, *town.said, town.log.encode()):
        assert not [secret for secret in secrets if secret in text]
    assert town.service["media_requests_with_credentials"] == 0


# -- disks --------------------------------------------------------------------------------------------


@side_by_side
def test_threat_14_a_full_disk_keeps_the_paid_result_and_takes_it_later() -> None:
    with out_folder() as (at, sandbox, out):
        with (out / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 8 * 2**20)
        undelivered(at, out, "full")
        (out / "filler").unlink()
        delivered_later(at, sandbox, out)


@side_by_side
def test_threat_18_a_read_only_output_folder_keeps_the_paid_result_and_takes_it_later() -> None:
    with out_folder() as (at, sandbox, out):
        subprocess.run(["mount", "-o", "remount,ro", out], check=True)
        undelivered(at, out, "read_only")
        subprocess.run(["mount", "-o", "remount,rw", out], check=True)
        delivered_later(at, sandbox, out)


@contextlib.contextmanager
def out_folder() -> Iterator[tuple[Rig, Any, Path]]:
    """Outputs go to a small file system of their own, in which a delivery has just enough room."""
    outside = {"output": "../out/{dir}/{name}.lipsync.mp4"}
    with life(folder=outside) as (at, sandbox), mounted(at.home / "out", "10m") as out:
        drop(at.drop)
        yield at, sandbox, out


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def undelivered(at: Rig, out: Path, state: str) -> None:
    with at.daemon():
        eventually(lambda: f"drop: {state}: " in at.log(), 30)
        eventually(lambda: at.status()["roots"][0]["state"] == state, 10, every=0.1)
    assert at.states() == ["rendered"]
    assert not outputs(out)


def delivered_later(at: Rig, sandbox: Any, out: Path) -> None:
    with at.daemon():
        eventually(all_done(at), 60)
    assert [path.name for path in outputs(out)] == ["scene.lipsync.mp4"]
    assert not temps(out)
    settled(at, sandbox, sent=1)


@side_by_side
def test_threat_14_room_that_is_made_while_it_runs_is_noticed() -> None:
    with out_folder() as (at, sandbox, out):
        with (out / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 8 * 2**20)
        with at.daemon():
            eventually(lambda: "drop: full: " in at.log(), 30)
            (out / "filler").unlink()
            eventually(all_done(at), 60)
        assert len([line for line in at.log().splitlines() if "drop: full: " in line]) == 1
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_15_without_room_for_the_ledger_nothing_is_submitted() -> None:
    with life() as (at, sandbox), mounted(at.home / "state", "1m") as state:
        with at.daemon():
            eventually(is_watching(at), 20)
            with contextlib.suppress(OSError), (state / "filler").open("wb") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()
            drop(at.drop)
            eventually(lambda: "nothing is submitted" in at.log(), 30)
            assert not submissions(sandbox)
            (state / "filler").unlink()
            eventually(all_done(at), 40)
        settled(at, sandbox, sent=1)


@side_by_side
def test_threat_12_a_lost_ledger_pays_for_nothing_again() -> None:
    with life() as (at, sandbox):
        for seed in (1, 2, 3):
            drop(at.drop, f"scene{seed}", seed=seed)
        with at.daemon():
            eventually(all_done(at, 3), 40)
        before = [(path.name, sha256(path)) for path in outputs(at.drop)]
        shutil.rmtree(at.home / "state")
        with at.daemon():
            eventually(lambda: "drop: foreign: " in at.log(), 20)
            assert at.states() == []
        assert at.run("adopt", "--yes", str(at.drop)).returncode == 0
        with at.daemon():
            eventually(all_done(at, 3), 40)
        assert [(path.name, sha256(path)) for path in outputs(at.drop)] == before
        settled(at, sandbox, sent=3)


# -- many folders -------------------------------------------------------------------------------------


def test_folders_are_watched_from_many_threads_at_once(tmp_path: Path) -> None:
    """As at the start: each root is scanned in a thread of its own. A race here made a root `stale`."""
    for _ in range(20):
        watcher = Watcher(lambda _: None)
        gate = threading.Barrier(8)
        seen: list[bool] = []

        def watch(
            name: str, watcher: Watcher = watcher, gate: threading.Barrier = gate, seen: list[bool] = seen
        ) -> None:
            (tmp_path / name).mkdir(exist_ok=True)
            gate.wait(10)
            seen.append(not watcher.watch(name, str(tmp_path / name), recursive=True) and watcher.is_alive(name))

        threads = [threading.Thread(target=watch, args=(f"root{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        watcher.close()
        assert seen == [True] * 8


@side_by_side
def test_many_folders_are_served_from_the_start() -> None:
    with life() as (at, sandbox):
        config = yaml.safe_load(at.config.read_text())
        for number in range(6):
            (at.home / f"show{number}").mkdir()
            config["folders"].append({"path": str(at.home / f"show{number}")})
        at.config.write_text(yaml.safe_dump(config))
        drop(at.home / "show5")
        with at.daemon():
            eventually(is_watching(at), 20)
            eventually(all_done(at), 30)
        assert "WARNING" not in at.log()
        assert len(submissions(sandbox)) == 1
        settled(at, sandbox, sent=1)
