"""A local stand-in of the Chamelaion API for the demo, for tests and for trying things out.

Imports nothing of the daemon: it is a second opinion, written from the vendor's documentation and the official SDK.

    core      the account as a pure state machine: requests, rate, cap, quota, signed links
    limits    what can be changed about it while it runs       faults    what can be ordered to go wrong: the kinds
    upload    a submission off the wire, streamed to disk      studio    the work on it, in threads
    media     dub, make and describe clips                     journal   what was seen, for tests to judge by
    api       the endpoints and `/_sandbox`                    outputs   the media origin
    exchange  one HTTP exchange: log, linger, reset            answers   faults carried out
    server    two ports and one thread: `Sandbox`, `run`

`GET /_sandbox` answers `now, seed, limits, faults, submissions, counters, media_requests_with_credentials,
refused_uploads, bugs, log`. `POST /_sandbox` takes the names of `limits.Limits`, `key`, and `faults`: a list is
appended, an empty one clears. Settings are in the sandbox's seconds, `--speed` of which pass in one of the client's;
what a client sees, and the times of faults, are in the client's.
"""
