"""A deterministic world for the daemon: simulated time, disk and service; the real tick and the real ledger.

`life` lives one seed, `script` and `faults` are what people and the world do to it, `odds` how likely each single fault
is, `invariants` what it is held to. A life is a function of its seed alone: `python -m tests.sim SEED` replays it with
a trace, `FIRST-LAST` lives many and counts. Real are `Daemon.tick`, the core, restore, the SQLite ledger (on a disk that
fails: `ledger`), the clock's logic, the reading of answers (`wire`) and the sandbox's core; simulated are time, threads,
shares, connections, downloads, crashes, people. Nothing here sleeps, reads a clock or opens a socket.

What holds, and where it is looked at (`invariants` unless another module is named):

| invariant | at every moment | at the end |
| --- | --- | --- |
| I1 paid once | a submission starts only as it stands in the ledger | `_check_money`: by reference, and by content against what people asked for |
| I2 output, note or reason | `ticked`, now and then: what waits says why in `status` | `_check_pairs` (from what lies there), `_check_job`, `_check_notes` |
| I3 sources unchanged | `disk.SimRoot._require_ours`: nothing of people's is written or removed | the sources' content is what the job was about |
| I4 whole and right content | `published`: each time that a name appears | `_check_outputs`, `_check_job` |
| I5 no temps | `stopped`: after a clean stop; `effects`: none that is being written is removed | no temp, nothing in the spool |
| I6 no secrets | `ticked`: not in what is shown | `_check_secrets`: not in the ledger's files, not in a note |
| I7 promises, rate, one probe | `_check_promise`, `_check_submission`, `_check_canary`, `_check_probes` | |
| I9 liveness | `life`: no busy loop | `life.run`: all is settled 8 h after the faults have ended |
| I10 restarts | each life crashes, stops, pauses, and loses its ledger in between | the ledger is sound |
| I11 nothing else is touched | `disk.SimRoot._require_ours` | |

Limits. I8 (memory) is not visible. I7 is judged when an action starts: what is under way when a refusal arrives is not
called back, and a Retry-After of a 412 binds submissions only. A promise and the pace are kept by the wall clock, so a
clock that is put forward before a restart makes them forgotten (`Invariants.forget_times`). A tick that fails before it
took in an answer has not heard it. Two daemons on one ledger exclude each other by flock, which has no counterpart here;
neither have bytes: ETags, ranges and gzip are `edges.download`'s, renames and fsync `tests/walk`'s.

Faults that came after the first simulation draw from streams of their own, so a narrow life (`--narrow`) of a seed is
what it was; seeds of wide lives change their meaning with each new fault, so what they found is pinned as a script.
"""
