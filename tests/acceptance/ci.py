"""`.ci/run` in a fresh clone of HEAD, as CI runs it: how long it takes, and which seed each sampled part says.

python -m tests.acceptance.ci
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from tests.acceptance.rig import ROOT, Facts

LIMIT_S = 900.0
KEPT = ("PATH", "HOME", "LANG", "PIP_INDEX_URL", "PIP_CACHE_DIR", "PIP_CONFIG_FILE", "SSL_CERT_FILE")


def main() -> None:
    facts = Facts()
    with tempfile.TemporaryDirectory(prefix="lipsync-ci-") as home:
        clone = Path(home) / "chamelaion-watch"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=clone, check=True, capture_output=True, text=True
        ).stdout.strip()
        began = time.monotonic()
        done = subprocess.run(
            [str(clone / ".ci" / "run")],
            cwd=clone,
            env={name: os.environ[name] for name in KEPT if name in os.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        took_s = time.monotonic() - began
    load = f"load {os.getloadavg()[2]:.1f} on {os.cpu_count()} processors"
    facts.check(f".ci/run passes at {commit[:7]}", done.returncode == 0, done.stdout[-3000:] if done.returncode else "")
    facts.check(f"it takes less than {LIMIT_S / 60:.0f} min", took_s < LIMIT_S, f"{took_s / 60:.1f} min, {load}")
    seed = str(int(commit[:7], 16))
    told = re.findall(r"^.*sampled with seed (\d+).*$", done.stdout, re.MULTILINE)
    facts.check("what is sampled is seeded by the commit, and says so", told and set(told) == {seed}, told)
    for line in re.findall(r"^.*(?: passed| skipped| lives| points| mutants).* in .*$", done.stdout, re.MULTILINE):
        print(f"      {line}")
    facts.end()


if __name__ == "__main__":
    main()
