"""`run --once` against a quota of 7 and against a limit of 5 per minute, in a fixed and in a sliding window."""

from __future__ import annotations

from chamelaion_watch.sandbox.media import make_audio, make_video
from tests.acceptance.rig import Facts, Rig, outputs, posts, rig, submissions

PAIRS = 10
OWN_PAUSE_S = 30.0  # `api.pause.rate_limited.first`


def drop_pairs(at: Rig) -> None:
    for number in range(PAIRS):
        make_video(at.drop / f"scene{number:02}.mp4", seconds=1, seed=number)
        make_audio(at.drop / f"scene{number:02}.wav", seconds=1, seed=number)


def sent_once(facts: Facts, name: str, found: list[dict[str, object]]) -> None:
    distinct = {(one["video_sha256"], one["audio_sha256"]) for one in found}
    facts.check(f"{name}: no pair sent twice", len(found) == len(distinct), f"{len(found)} submissions")


def quota(facts: Facts) -> None:
    with rig(rpm=1000, quota=7, queue_s=0.2, processing_s=1.0) as (at, sandbox):
        at.configure(api={"requests_per_minute": 1000})
        drop_pairs(at)
        first = at.run("run", "--once")
        facts.check("quota of 7: exit 75", first.returncode == 75, first.stderr.strip().splitlines()[-1:])
        facts.check("quota of 7: seven outputs", len(outputs(at.drop)) == 7, len(outputs(at.drop)))
        facts.check("quota of 7: no error notes", not list(at.drop.rglob("*.lipsync-error.*")))
        sandbox.control(quota=None)
        second = at.run("run", "--once")
        facts.check("quota raised: exit 0", second.returncode == 0, second.stderr.strip().splitlines()[-1:])
        facts.check("quota raised: ten outputs", len(outputs(at.drop)) == PAIRS, len(outputs(at.drop)))
        sent_once(facts, "quota", submissions(sandbox))


def rate(facts: Facts, window: str, retry_after: str) -> None:
    name = f"5 per minute, {window} window, Retry-After {retry_after}"
    with rig(rpm=5, queue_s=0.2, processing_s=1.0) as (at, sandbox):
        sandbox.control(window=window, retry_after=retry_after)
        drop_pairs(at)
        found = at.run("run", "--once")
        facts.check(f"{name}: exit 0 in one run", found.returncode == 0, found.stderr.strip().splitlines()[-1:])
        facts.check(f"{name}: ten outputs", len(outputs(at.drop)) == PAIRS, len(outputs(at.drop)))
        refusals = [entry for entry in posts(sandbox) if entry["status"] == 429]
        facts.check(f"{name}: at most two 429s", len(refusals) <= 2, len(refusals))
        inside = [
            entry["path"]
            for refusal in refusals
            for entry in sandbox.state()["log"]
            # the upload beside the refused one may have begun before its answer arrived
            if "/v1/" in entry["path"] and refusal["at"] + 0.2 < entry["at"] < refusal["at"] + promised_s(refusal)
        ]
        inside += [  # where no time is named: after the second refusal in a row, no submission for our own first pause
            entry["path"]
            for refusal in refusals[1:]
            for entry in posts(sandbox)
            if not refusal["retry_after"] and refusal["at"] + 0.2 < entry["at"] < refusal["at"] + OWN_PAUSE_S
        ]
        facts.check(f"{name}: no request inside a pause", not inside, len(inside))
        sent_once(facts, name, submissions(sandbox))


def promised_s(refusal: dict[str, object]) -> float:
    """How long the server asked to be left alone; where it named no time, the daemon's own pause has no promise."""
    return float(str(refusal["retry_after"])) if refusal["retry_after"] else 0.0


def main() -> None:
    facts = Facts()
    quota(facts)
    for window in ("fixed", "sliding"):
        for retry_after in ("seconds", "none"):
            rate(facts, window, retry_after)
    facts.end()


if __name__ == "__main__":
    main()
