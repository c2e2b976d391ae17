"""What `run` and `demo` show while they work: a table that lives on a terminal, nothing but log lines in a pipe."""

from __future__ import annotations

import io
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from chamelaion_watch.core.model import JobState
from chamelaion_watch.core.world import World
from chamelaion_watch.edges.clock import monotonic_s
from chamelaion_watch.status import account, counts, pairs

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

MOST_ROWS = 20
DRAW_EVERY_S = 0.25
_COLOURS = {
    "submitting": "cyan",
    "rendering": "blue",
    "rendered": "blue",
    "done": "green",
    "failed": "red",
    "doubtful": "red",
    "attention": "yellow",
}


class Display:
    """A view of the world, redrawn at most four times a second; log lines pass above it."""

    def __init__(self, stream: TextIO, *, is_live: bool) -> None:
        self.stream = self._terminal = stream
        self._live: Live | None = None
        self._world: World | None = None
        self._is_stale = False
        self._drawn_at_s = 0.0
        if is_live:
            self._start(stream)

    def _start(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=stream)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self.stream = _Above(console)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, world: World) -> None:
        """Take a look at the world."""
        self._world, self._is_stale = world, True
        self.refresh()

    def refresh(self) -> None:
        """Draw what is new, unless that was done a moment ago: to be called again, for the next look may be far off."""
        if self._live is None or self._world is None or not self._is_stale:
            return
        if (now_s := monotonic_s()) - self._drawn_at_s >= DRAW_EVERY_S:
            self._is_stale, self._drawn_at_s = False, now_s
            self._live.update(_table(self._world), refresh=True)

    def summary(self, reason: str) -> None:
        """Say at the end what became of everything, and what is left for people."""
        if self._world is None:
            return
        counts = {state: self._world.book.count(state) for state in JobState}
        jobs = {str(state): count for state, count in counts.items() if count}
        for line in (make() for make in pairs(self._world)):
            print(f"{line['state']:<11} {line['root']}/{line['name']}: {line['reason']}", file=self._terminal)
        told = ", ".join(f"{number} {state}" for state, number in sorted(jobs.items())) or "no jobs"
        print(f"{reason} ({told})", file=self._terminal)


class _Above(io.StringIO):
    """Where log lines go while a table lives below them."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def write(self, text: str, /) -> int:
        from rich.text import Text

        self._console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=True)
        return len(text)

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._console.file.fileno()


def _table(world: World) -> Table:
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, expand=False, caption_justify="left")
    for title in ("pair", "state", "", "why"):
        drawn.add_column(title, no_wrap=True, overflow="ellipsis")
    rows = [make() for make in pairs(world)]
    for row in rows[:MOST_ROWS]:
        progress = "" if row["progress"] is None else f"{row['progress']} %"
        state = Text(row["state"], style=_COLOURS.get(row["state"], ""))
        drawn.add_row(Text(f"{row['root']}/{row['name']}"), state, progress, Text(row["reason"]))
    told = account(world)
    more = f" and {len(rows) - MOST_ROWS} more: {dict(counts(rows))}" if len(rows) > MOST_ROWS else ""
    done = world.book.count(JobState.DONE)
    drawn.caption = f"account {told['state']}, {told['in_flight']} in flight, {done} done{more}"
    return drawn
