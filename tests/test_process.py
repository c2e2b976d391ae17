from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
from chamelaion_watch.edges import process
import resource
print(process.may_be_dumped())
process.forbid_dumps()
print(process.may_be_dumped(), resource.getrlimit(resource.RLIMIT_CORE))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_threat_81_82_a_process_that_holds_the_key_leaves_no_core() -> None:
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["True", "False (0, 0)"]


def test_garbage_is_looked_for_seldom() -> None:
    script = (
        "import gc; from chamelaion_watch.edges import process; process.collect_seldom(); print(gc.get_threshold())"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "(50000, 20, 20)"


FREED = """
from chamelaion_watch.edges import process
def resident_kb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
kept = [bytes(4_000) for _ in range(5_000)]
del kept[:-1]  # what lies at the end of the heap keeps all before it
before = resident_kb()
process.give_back_memory()
print(before - resident_kb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has malloc_trim")
def test_what_is_free_goes_back_to_the_system() -> None:
    said = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True).stdout
    assert int(said) > 10_000
