"""A deterministic world for the daemon: simulated time, disk and service; the real tick and the real ledger.

`life` lives one seed and checks the invariants, `script` is what the world and its people do to it. A life is a
function of its seed alone: `python -m tests.sim SEED` replays it with a trace. To widen it, add a chance to `Odds`,
a fault to `service` or `disk`, a wish to `script`; nothing here sleeps, reads a clock or opens a socket.
"""
