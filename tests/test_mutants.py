"""The simulation finds what is planted: each mutant breaks a life within 200 seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.mutants import LAST_SEED, MUTANTS, PACKAGE, Mutant, plant, run_all
from tests.support import SEED_VARIABLE, commit_seed


@pytest.mark.timeout(600)
@pytest.mark.skipif(commit_seed() is None, reason=f"half a minute of computing: in CI, or with {SEED_VARIABLE}=1")
def test_every_mutant_is_caught() -> None:
    survivors = [caught.line() for caught in run_all(MUTANTS) if caught.seed is None]
    assert not survivors, f"within {LAST_SEED} seeds"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code_as_it_is(mutant: Mutant) -> None:
    for file, old in ((mutant.file, mutant.old), *((file, old) for file, old, _ in mutant.also)):
        assert (PACKAGE / file).read_text(encoding="utf-8").count(old) == 1


def test_a_mutant_that_fits_nowhere_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "daemon.py").write_text("nothing")
    with pytest.raises(ValueError, match="stands 0 times"):
        plant(Mutant("x", "nothing", "daemon.py", "old", "new"), tmp_path)
