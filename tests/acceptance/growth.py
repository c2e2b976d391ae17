"""Growth: pairs from 100 to 10,000, known files from 1,000 to 1,000,000, linear or better, shown as a plot.

    python -m tests.acceptance.growth

Reads what `python -m tests.bench growth` measured (an hour on two cores), and checks that the plot is of just that.
"""

from __future__ import annotations

import struct

from tests.acceptance.bench_table import check_asked, judge
from tests.acceptance.rig import Facts
from tests.bench import growth, table

PNG = b"\x89PNG\r\n\x1a\n"


def main() -> None:
    facts = Facts()
    facts.check("pairs grow to 10,000", growth.PAIRS[0] == 100 and growth.PAIRS[-1] == 10_000, growth.PAIRS)
    facts.check(
        "known files grow to 1,000,000", (growth.FILES[0], growth.FILES[-1]) == (1_000, 1_000_000), growth.FILES
    )
    entry = table.entry_of("growth", growth.BENCH)
    check_asked(facts, "growth", growth.BENCH)
    judge(facts, "growth", growth.BENCH, entry, least_runs=1)
    data = table.PLOT.read_bytes() if table.PLOT.exists() else b""
    facts.check("there is a plot", data.startswith(PNG), table.PLOT.name)
    if entry:
        origin = growth.origin(entry)
        facts.check("the plot is of these runs", text_chunk("Description", origin) in data, origin)
    facts.end()


def text_chunk(keyword: str, text: str) -> bytes:
    """Return what a PNG has of such a text: its length, its kind, and both words."""
    body = f"{keyword}\0{text}".encode("latin-1")
    return struct.pack(">I", len(body)) + b"tEXt" + body


if __name__ == "__main__":
    main()
