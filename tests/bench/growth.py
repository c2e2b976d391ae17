"""Does the cost of one more stay the same: pairs from 100 to 10,000, known files from 1,000 to 1,000,000; with a plot.

Pairs are tiny, lie there when the daemon starts, and go through the real daemon and a sandbox process without delay or
limit, in folders of 100 pairs and all in one. Linear is what has each pair more cost the same, from READY=1 to the last
result, whatever there is once for all (settling). Beside it stands what each costs of all, from the first submission to
the last result; few are read while they settle, though, and many not before others are sent. Files are the sources of
done pairs, in folders of 100; their memory is what the daemon has above one that knows two files. k of the n^k that fits best is told beside it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from chamelaion_watch.sandbox.media import make_audio, make_video
from tests.acceptance.rig import KEY, ROOT, Rig
from tests.bench import process, trees
from tests.bench.table import IS_SMALL, PLOT, Bench, Entry, Row, Run, ratio
from tests.support import eventually

PAIRS = (100, 300) if IS_SMALL else (100, 300, 1_000, 10_000)
FILES = (1_000, 10_000) if IS_SMALL else (1_000, 10_000, 100_000, 1_000_000)
FROM_PAIRS = 1_000  # below that what there is once for all makes each dearer
FROM_FILES = FILES[0] if IS_SMALL else 10_000  # below that a file is lost in the noise of what an empty daemon needs
PER_FOLDER = 100
PAIRS_THRICE_TO = 0 if IS_SMALL else 1_000  # sizes up to this are measured three times, and the median taken
FILES_THRICE_TO = 0 if IS_SMALL else FROM_FILES
EMPTY = 2  # files that an empty daemon knows
MOST = 1.1
DONE_WITHIN_S = 3_600.0
SETTLED_WITHIN_S = 3_600.0
MEDIA_S = 0.2
API: Mapping[str, Any] = {
    "requests_per_minute": 100_000,
    "max_in_flight": 64,
    "uploads": 8,
    "downloads": 8,
    "poll": {"first": "500ms", "max": "1s"},
}
SERIES = ("spread", "single")  # folders of 100 pairs; all in one folder
GROWING = [f"{series}_{name}" for series in SERIES for name in ("total", "cpu")]
STEPS = () if IS_SMALL else ((PAIRS[0], FROM_PAIRS), (FROM_PAIRS, PAIRS[-1]))


def run(place: Path) -> Run:
    found: dict[str, list[float]] = defaultdict(list)
    for size in in_turn(PAIRS, PAIRS_THRICE_TO):
        for series in SERIES:
            _add(found, _pairs(place / "pairs", series, size))
    for size in in_turn((EMPTY, *FILES), FILES_THRICE_TO):
        _add(found, _files(place / "files", size))
    medians = {name: statistics.median(values) for name, values in found.items()}
    medians |= {
        f"{name}_more_ms_{most}": more_ms(medians, name, (least, most)) for name in GROWING for least, most in STEPS
    }
    for size in FILES:
        for name in ("ready_s", "settled_s", "rss_mb"):
            medians[f"{name}_each_{size}"] = (medians[f"{name}_{size}"] - medians[f"{name}_{EMPTY}"]) / size
        medians[f"bytes_each_{size}"] = medians.pop(f"rss_mb_each_{size}") * 2**20
    return medians


def more_ms(found: Run, name: str, sizes: tuple[int, int]) -> float:
    """Return what each pair more takes from one size to the next: what there is once for all is in neither."""
    least, most = sizes
    return (found[f"{name}_ms_{most}"] * most - found[f"{name}_ms_{least}"] * least) / (most - least)


def in_turn(sizes: Sequence[int], thrice_to: int) -> list[int]:
    """Have the small sizes thrice, around the large ones: a shared machine's speed drifts by an eighth in minutes."""
    small, large = [size for size in sizes if size <= thrice_to], [size for size in sizes if size > thrice_to]
    return [*small, *large[:1], *small, *large[1:], *small]


def _add(found: dict[str, list[float]], figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        found[name].append(value)


# -- pairs --------------------------------------------------------------------------------------------


def _pairs(home: Path, series: str, size: int) -> dict[str, float]:
    """Have so many pairs done; returns milliseconds per pair, by what they are of."""
    with _emptied(home), _sandbox() as (service, base_url):
        trees.configure(at := Rig(home, base_url), **API)
        _take_backlog(at)
        _drop_pairs(at.drop, size, PER_FOLDER if series == "spread" else size)
        with trees.serving(at) as daemon:
            began, ours_s, theirs_s = time.perf_counter(), daemon.cpu_s(), process.cpu_s(service.pid)
            eventually(lambda: _is_done(at, size), DONE_WITHIN_S, every=0.2)
            total_s = time.perf_counter() - began
            ours_s, theirs_s = daemon.cpu_s() - ours_s, process.cpu_s(service.pid) - theirs_s
        ((first_at, last_at),) = at.rows("SELECT min(sent_at), max(changed_at) FROM jobs")
    taken = {"wall": last_at - first_at, "total": 1000 * total_s, "cpu": 1000 * ours_s, "sandbox_cpu": 1000 * theirs_s}
    return {f"{series}_{name}_ms_{size}": value / size for name, value in taken.items()}


def _drop_pairs(drop: Path, size: int, per_folder: int) -> None:
    """Write pairs that differ in the number at the end of their videos, in a box that players skip."""
    video, audio = _template(drop.parent)
    for number in range(size):
        folder = drop / f"batch{number // per_folder:05d}"
        folder.mkdir(exist_ok=True)
        (folder / f"clip{number:06d}.mp4").write_bytes(video + b"\0\0\0\x10free" + number.to_bytes(8, "big"))
        (folder / f"clip{number:06d}.wav").write_bytes(audio)


def _template(folder: Path) -> tuple[bytes, bytes]:
    video, audio = folder / "one.mp4", folder / "one.wav"
    make_video(video, seconds=MEDIA_S, width=64, height=64, fps=10, sound=False)
    make_audio(audio, seconds=MEDIA_S)
    return video.read_bytes(), audio.read_bytes()


def _take_backlog(at: Rig) -> None:
    settings = yaml.safe_load(at.config.read_text())
    settings["folders"][0]["backlog"] = "take"
    at.config.write_text(yaml.safe_dump(settings))


def _is_done(at: Rig, size: int) -> bool:
    states = dict(at.rows("SELECT state, count(*) FROM jobs GROUP BY state"))
    assert not {"failed", "doubtful", "cancelled"} & states.keys(), states
    return bool(states.get("done") == size)


@contextlib.contextmanager
def _sandbox() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the stand-in service as a process; gives it and its base URL."""
    no_limits = ["--rpm", "10000000", "--queue-s", "0", "--processing-s", "0"]
    command = [sys.executable, "-m", "chamelaion_watch.sandbox", "--key", KEY, *no_limits]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        try:
            yield service, service.stdout.readline().removeprefix("READY").strip()
        finally:
            service.terminate()


# -- files --------------------------------------------------------------------------------------------


def _files(home: Path, size: int) -> dict[str, float]:
    """Start a daemon that knows so many files; its memory is taken when it has recognised all of them."""
    stock = trees.Stock(size // 2, folders=max(1, size // PER_FOLDER))
    with _emptied(home):
        at = trees.make(home, stock)
        with trees.serving(at) as daemon:
            settled_s = trees.settled_s(at, stock, daemon, SETTLED_WITHIN_S)
            figures = {"ready_s": daemon.ready_s, "settled_s": settled_s, "rss_mb": daemon.rss_mb()}
    return {f"{name}_{size}": value for name, value in figures.items()}


@contextlib.contextmanager
def _emptied(home: Path) -> Iterator[None]:
    """A new folder, gone at the end: of a million files it should not wait for the others."""
    home.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(home)


# -- the plot -----------------------------------------------------------------------------------------


def draw(entry: Entry) -> None:
    """Write the plot of what is kept: both panels logarithmic both ways, what grows linearly dotted."""
    from matplotlib.figure import Figure

    runs: Sequence[Run] = entry["runs"]
    found = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_pairs(left, found)
    _draw_files(right, found)
    figure.savefig(PLOT, dpi=80, metadata={"Software": None, "Description": origin(entry)})


def origin(entry: Entry) -> str:
    """Return what the plot carries, to be known as the one of this entry."""
    return f"{entry['commit']}, {entry['at']}"


def _draw_pairs(axes: Any, found: Run) -> None:
    for series, marker in zip(SERIES, "os", strict=True):
        told = f"folders of {PER_FOLDER}" if series == "spread" else "one folder"
        for name, colour in (("wall", "C0"), ("cpu", "C1")):
            values = [found[f"{series}_{name}_ms_{size}"] for size in PAIRS]
            axes.loglog(PAIRS, values, marker=marker, color=colour, label=f"{name}, {told}")
            axes.loglog(PAIRS, [values[0]] * len(PAIRS), ":", color=colour)
    axes.set(title="Time per pair (dotted: linear growth)", xlabel="pairs", ylabel="ms per pair", ylim=(1, 1_000))
    axes.legend()


def _draw_files(axes: Any, found: Run) -> None:
    sizes = [size for size in FILES if size >= FROM_FILES]
    each = [found[f"bytes_each_{size}"] for size in FILES]
    axes.loglog(FILES, each, "o-", color="C2", label="bytes per file (left)")
    axes.loglog(sizes, [found[f"bytes_each_{FROM_FILES}"]] * len(sizes), ":", color="C2")
    beside = axes.twinx()
    for name, colour in (("ready", "C3"), ("settled", "C4")):
        values = {size: found[f"{name}_s_{size}"] for size in FILES}
        beside.loglog(FILES, list(values.values()), "s-", color=colour, label=f"{name} after, s (right)")
        beside.loglog(sizes, [values[FROM_FILES] * size / FROM_FILES for size in sizes], ":", color=colour)
    axes.set(
        title="Known files (dotted: linear growth)", xlabel="files", ylabel="bytes per file", ylim=(100, 1_000_000)
    )
    beside.set_ylabel("seconds")
    lines = [*axes.get_lines(), *beside.get_lines()]
    axes.legend(handles=[line for line in lines if not str(line.get_label()).startswith("_")], loc="upper left")


# -- the rows -----------------------------------------------------------------------------------------


def power(name: str, sizes: Sequence[int]) -> Callable[[Run], float]:
    """Return k of the n^k that fits what all n take together best; `name` is what each takes."""

    def fitted(run: Run) -> float:
        totals = [run[f"{name}_{size}"] * size for size in sizes]
        return statistics.linear_regression([*map(math.log, sizes)], [*map(math.log, totals)]).slope

    return fitted


def _rows(
    what: str, each: str, sizes: Sequence[int], shown: str = "", unit: str = "ms", why: str = ""
) -> tuple[Row, Row]:
    """Compare what each costs among most with among least; `shown` is of all of them where that says more."""
    return (
        _compared(what, each, (sizes[0], sizes[-1]), shown, unit, MOST, why),
        Row(f"{what}: k of the n^k that fits best", power(each, sizes), ""),
    )


def _compared(
    what: str, each: str, sizes: tuple[int, int], shown: str, unit: str, at_most: float | None, why: str = ""
) -> Row:
    least, most = sizes
    return Row(
        f"{what}: for each at {most:,} ÷ at {least:,}",
        ratio(f"{each}_{most}", f"{each}_{least}"),
        "×",
        at_most=at_most,
        ours=f"{shown or each}_{most}",
        peer=f"{shown or each}_{least}",
        shown=unit,
        why=why,
    )


DRIFT = (
    "10,000 pairs are measured once, in minutes in which a shared machine may be slower or faster: what the sandbox took "
    "for each, which is the same work however many there are, has a row below (profiles/growth.txt)."
)
PAUSES = (
    "500 files are looked at each 250 ms, on purpose: none can have less than 0.5 ms. An empty daemon's time is taken off, "
    "which goes on beside the looks where there are files, and so each of 10,000 seems to have less than that. Between "
    "100,000 and 1,000,000 files it is linear (profiles/growth.txt)."
)


def _pair_rows(what: str, each: str, total: str) -> tuple[Row, ...]:
    """Compare what each pair more takes, and with 1,000 as well: among 100 what there is once for all is dear."""
    rows = _rows(what, each, PAIRS, why=DRIFT)
    if not STEPS:
        return rows
    late, early = (f"{total}_more_ms_{most}" for _, most in reversed(STEPS))
    more = Row(
        f"{what}: each more up to {PAIRS[-1]:,} ÷ each more up to {FROM_PAIRS:,}",
        ratio(late, early),
        "×",
        at_most=MOST,
        ours=late,
        peer=early,
        shown="ms",
        why=DRIFT,
    )
    return (more, _compared(what, each, (FROM_PAIRS, PAIRS[-1]), "", "ms", MOST, DRIFT), *rows)


_SANDBOX = [f"spread_sandbox_cpu_ms_{size}" for size in (PAIRS[-1], PAIRS[0])]
NOISE = (
    f"only reported: a process that has 1 MB more or less than the last time has {10**6 // FILES[0]:,} bytes more or less "
    f"for each of {FILES[0]:,} files."
)
_LOOKED_AT = "start, until each was looked at", "settled_s_each"
_LARGE = [size for size in FILES if size >= FROM_FILES]


def _peers() -> list[str]:
    importlib.metadata.version("matplotlib")  # raises if it is missing: the plot would be found out in hours
    return ["itself with less to do"]


BENCH = Bench(
    title="Growth",
    run=run,
    peers=_peers,
    runs=1,  # each of the smaller sizes thrice within it
    plot=draw,
    rows=(
        *_pair_rows("time, folders of 100 pairs", "spread_wall_ms", "spread_total"),
        *_pair_rows("CPU, folders of 100 pairs", "spread_cpu_ms", "spread_cpu"),
        *_pair_rows("time, all pairs in one folder", "single_wall_ms", "single_total"),
        *_pair_rows("CPU, all pairs in one folder", "single_cpu_ms", "single_cpu"),
        Row(
            f"CPU of the sandbox: for each at {PAIRS[-1]:,} ÷ at {PAIRS[0]:,}",
            ratio(*_SANDBOX),
            "×",
            ours=_SANDBOX[0],
            peer=_SANDBOX[1],
            shown="ms",
        ),
        *_rows("memory of known files", "bytes_each", _LARGE, unit="bytes"),
        _compared("memory of known files", "bytes_each", (FILES[0], FILES[-1]), "", "bytes", None, NOISE),
        *_rows("start, until ready", "ready_s_each", _LARGE, "ready_s", "s"),
        *_rows(*_LOOKED_AT, _LARGE, "settled_s", "s", PAUSES),
        *([] if IS_SMALL else [_compared(*_LOOKED_AT, (100_000, FILES[-1]), "settled_s", "s", MOST)]),
    ),
)
