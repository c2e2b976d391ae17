"""The README's two commands, read from the README, in a fresh clone with a fresh virtual environment and the real pip.

    python -m tests.acceptance.readme_walk [--skip-tests] [--worktree]

pip's own cache may be warm; how long a cold one takes is the network's business. `--worktree` takes the files that lie
here, committed or not, in place of a clone of HEAD.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from chamelaion_watch.sandbox.media import describe
from tests.acceptance.rig import ROOT, Facts

LIMIT_S = 60.0
TESTS_LIMIT_S = 300.0
LANGUAGES = ("de", "fr")
NOTE_LINES = 12


def main() -> None:
    wants = arguments()
    facts = Facts()
    with tempfile.TemporaryDirectory(prefix="lipsync-readme-") as home:
        clone = Path(home) / "chamelaion-watch"
        copy_worktree(clone) if wants.worktree else git("clone", "--quiet", str(ROOT), str(clone))
        readme = (clone / "README.md").read_text(encoding="utf-8")
        demo, tests = commands(readme)
        walk_demo(facts, demo, readme, clone)
        if not wants.skip_tests:
            walk_tests(facts, tests, clone)
    facts.end()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The README's two commands, as a stranger would run them.")
    parser.add_argument("--skip-tests", action="store_true", help="only the first command")
    parser.add_argument("--worktree", action="store_true", help="what lies here, in place of a clone of HEAD")
    return parser.parse_args()


def copy_worktree(target: Path) -> None:
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def commands(readme: str) -> tuple[str, str]:
    """The first lines of the README's first two shell blocks."""
    first, second = re.findall(r"^```sh\n(python3 -m venv .+)\n```$", readme, re.MULTILINE)
    return first, second


# -- the first command --------------------------------------------------------------------------------


def walk_demo(facts: Facts, command: str, readme: str, clone: Path) -> None:
    began = time.monotonic()
    done = shell(command, clone)
    took = time.monotonic() - began
    facts.check("command 1 ends well", done.returncode == 0, done.stdout.splitlines()[-1:] if done.returncode else "")
    facts.check(
        f"install and demo under {LIMIT_S:.0f} s (pip's cache may be warm)", took < LIMIT_S, f"{took:.1f} s, {load()}"
    )
    drop = clone / "lipsync-demo" / "drop"
    check_outputs(facts, drop)
    check_note(facts, drop)
    waited = re.search(r"429 answers waited out: (\d+)", done.stdout)
    facts.check("a 429 was waited out", waited and int(waited[1]) >= 1, waited[0] if waited else "")
    check_readme(facts, readme, done.stdout, drop)


def check_outputs(facts: Facts, drop: Path) -> None:
    outputs = {path.name: path for path in drop.glob("*.lipsync.mp4")}
    wanted = {f"scene01.{lang}.lipsync.mp4" for lang in LANGUAGES}
    facts.check("an output for each of two languages", set(outputs) == wanted, sorted(outputs))
    length = describe(drop / "scene01.mp4").duration_s
    for name, path in sorted(outputs.items()):
        played = describe(path)
        is_right = played.has_video and played.has_audio and abs(played.duration_s - length) < 0.3
        facts.check(
            f"{name} plays: picture, sound, as long as its video", is_right, f"{played.duration_s} of {length} s"
        )
    contents = {hashlib.sha256(path.read_bytes()).hexdigest() for path in outputs.values()}
    facts.check("the languages differ", len(contents) == len(LANGUAGES))


def check_note(facts: Facts, drop: Path) -> None:
    notes = list(drop.glob("*.lipsync-error.txt"))
    facts.check("one error note", len(notes) == 1, [note.name for note in notes])
    for note in notes:
        text = note.read_bytes().decode("utf-8-sig")
        words = ("What happened:", "What to do:", "Delete this note to try again.")
        is_readable = all(word in text for word in words) and "Traceback" not in text
        facts.check("it is readable: what happened, what to do, how to try again", is_readable)
        facts.check(f"in at most {NOTE_LINES} lines", len(text.splitlines()) <= NOTE_LINES, len(text.splitlines()))


def check_readme(facts: Facts, readme: str, output: str, drop: Path) -> None:
    """Whether the README shows what really comes: the lines of its sample in this order, and the folder afterwards."""
    (sample,) = re.findall(r"^```\n(1\. .*?)^```$", readme, re.MULTILINE | re.DOTALL)
    lines = iter(output.splitlines())
    missing = [line for line in sample.splitlines() if line != "…" and not any(fits(line, real) for real in lines)]
    facts.check("the README's sample output is real", not missing, missing[:1])
    shown = set(re.findall(r"── (\S+)", readme))
    there = {path.name for path in drop.iterdir() if not path.name.startswith(".")}
    facts.check("the README's folder is real", shown == there, sorted(shown ^ there) or f"{len(there)} files")


def load() -> str:
    """What else the machine was doing: the install is processor time, and others' work makes it longer."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"


def fits(line: str, real: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, line.split("…"))), real) is not None


# -- the second command -------------------------------------------------------------------------------


def walk_tests(facts: Facts, command: str, clone: Path) -> None:
    began = time.monotonic()
    done = shell(command, clone)
    took = time.monotonic() - began
    last = (done.stdout.strip().splitlines() or ["nothing was printed"])[-1]
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    facts.check("command 2 ends well", done.returncode == 0, "\n".join([last, *failed]))
    facts.check(f"under {TESTS_LIMIT_S:.0f} s, install included", took < TESTS_LIMIT_S, f"{took:.0f} s")


# -- the stranger's shell -----------------------------------------------------------------------------


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of the README; nothing of this checkout's environment reaches it."""
    ours = ("CHAMELAION_", "PYTHON", "VIRTUAL_ENV", "PYTEST_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env["PATH"] = os.pathsep.join(part for part in env["PATH"].split(os.pathsep) if not part.startswith(str(ROOT)))
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=env,
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
