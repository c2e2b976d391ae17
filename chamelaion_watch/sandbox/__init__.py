"""A local stand-in of the Chamelaion API, for the demo, for tests and for trying things out; imports nothing of the daemon.

    core      the account as a pure state machine: requests, rate, cap, quota, links      limits   what can be changed
    faults    what can be ordered to go wrong, and whom it hits (the list of kinds)       journal  what was seen
    upload    a submission off the wire, to disk      studio   the work on it, in threads      media    dub, make, describe
    api       the endpoints and `/_sandbox`           outputs  the media origin                answers  faults, carried out
    exchange  one HTTP exchange: log, linger, reset   server   two ports, one thread: `Sandbox`, `run`

`GET /_sandbox` answers `now, seed, limits, faults, submissions, counters, media_requests_with_credentials,
refused_uploads, bugs, log`; `POST /_sandbox` takes the names of `limits.Limits`, `key` and `faults` (a list is appended, an
empty one clears). Its times (`queue_s`, `window_s`, …) are in its own seconds, `--speed` of which pass in one of the client's;
all that clients see, and the times of faults, are in the client's.
"""
