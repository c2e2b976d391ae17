"""Benchmarks: each does the same work as a named peer, in turn with it, and prints the ratio.

    python -m tests.bench                  all of them, five interleaved runs each; hours on two cores
    python -m tests.bench herd idle        some of them
    python -m tests.bench --runs 9 idle    more runs
    python -m tests.bench --table          only write `results.md` anew from what was measured

Needs `pip install -e '.[dev,bench]'`, curl and find, and a machine that does nothing else meanwhile: machines are
shared and noisy, so every figure is a ratio of two measurements within one run, and the table has the medians.
With BENCH_SMALL set all is tried at about a twentieth of its size: figures are printed, and nothing is kept.
A benchmark is a module of this package with a `BENCH`; `results.json` keeps every run of it, `results.md` is the
table, `profiles/` what shows where the time of a missed target goes.
"""
