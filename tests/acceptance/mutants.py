"""Known mistakes, planted one at a time: the seeds that the simulation needs for each, and the control that survives.

`python tests/acceptance/mutants.py` prints the table and exits with 1 if one survives, or the unmutated code does not.
"""

from __future__ import annotations

from tests.acceptance.rig import Facts
from tests.sim.mutants import LAST_SEED, MUTANTS, run_all


def main() -> None:
    facts = Facts()
    for mutant, caught in zip((*MUTANTS, None), run_all((*MUTANTS, None)), strict=True):
        if mutant is None:
            facts.check(f"the code as it is survives {LAST_SEED} seeds", caught.seed is None, caught.how)
        else:
            figure = "survived" if caught.seed is None else f"seed {caught.seed}: {caught.how}"
            facts.check(f"{mutant.name} ({mutant.breaks})", caught.seed is not None, figure)
    facts.check("mutants planted", len(MUTANTS) >= 8, len(MUTANTS))
    facts.end()


if __name__ == "__main__":
    main()
