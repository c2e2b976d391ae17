"""Growth: pairs from 100 to 10,000, known files from 1,000 to 1,000,000, linear or better, shown as a plot.

    python -m tests.acceptance.growth

Reads what `python -m tests.bench growth` measured (an hour on two cores), and looks at the plot it made of it.
"""

from __future__ import annotations

from tests.acceptance.bench_table import judge
from tests.acceptance.rig import Facts
from tests.bench import growth, table

PNG = b"\x89PNG\r\n\x1a\n"


def main() -> None:
    facts = Facts()
    facts.check("pairs grow to 10,000", growth.PAIRS[0] == 100 and growth.PAIRS[-1] == 10_000, growth.PAIRS)
    facts.check(
        "known files grow to 1,000,000", (growth.FILES[0], growth.FILES[-1]) == (1_000, 1_000_000), growth.FILES
    )
    judge(facts, "growth", growth.BENCH, table.measured().get("growth"), least_runs=1)
    head = growth.PLOT.read_bytes()[: len(PNG)] if growth.PLOT.exists() else b""
    facts.check("there is a plot", head == PNG, growth.PLOT.name)
    facts.end()


if __name__ == "__main__":
    main()
