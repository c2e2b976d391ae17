"""What people ask for from the command line: retry, cancel, pause, resume. Applied by the daemon, answered in words."""

from __future__ import annotations

import re

from chamelaion_watch.core import backlog, gate, intake
from chamelaion_watch.core.folder import Folder
from chamelaion_watch.core.messages import Command
from chamelaion_watch.core.model import JobState
from chamelaion_watch.core.text import printable
from chamelaion_watch.core.world import Pause, World

NUMBER = re.compile(r"[0-9]{1,14}")  # ids and instants (to the year 5138): what every part that meets them can hold


def apply(world: World, command: Command) -> None:
    """Carry out one wish; its row in the ledger gets the answer."""
    answer = _answer(world, command)
    world.say("command", f"{command.verb}: {answer}", job=command.job)
    world.finished_commands.append((command.id, answer))


def _answer(world: World, command: Command) -> str:
    job = command.job and (world.book.get(command.job.id) or command.job)
    name = command.args.get("folder")
    if name is not None and name not in world.folders:
        return f"no folder {printable(name)!r} in the configuration"
    match command.verb:
        case "retry" if "failed" in command.args:
            failed = world.book.of(JobState.FAILED)
            return (
                "; ".join(intake.again(world, one, "asked for by `retry --failed`") for one in failed) or "none failed"
            )
        case "retry" if job:
            if world.book.get(job.id) is None:
                world.book.put(job)
            return intake.again(world, job, "asked for by `retry`")
        case "cancel" if job:
            if world.book.get(job.id) is None:
                return f"job {job.id}: already {job.state}"
            return intake.cancel(world, job, intake.BY_REQUEST, "cancelled by `cancel`")
        case "pause":
            return _pause(world, name, command)
        case "resume":
            return _resume(world, name)
        case _:
            return f"unknown command {printable(command.verb, 40)!r} or no such job"


def _pause(world: World, name: str | None, command: Command) -> str:
    written = command.args.get("until") or None
    if written is not None and not NUMBER.fullmatch(written):
        return f"{printable(written, 40)} is no time in milliseconds: nothing is paused"
    until = int(written) if written else None
    reason = command.args.get("reason", "")
    if name is None:
        world.pause = Pause(reason, until, world.now)
        return "paused: no new submissions; what is paid for is finished and delivered"
    folder = world.folders[name]
    folder.is_paused, folder.paused_until, folder.pause_reason = True, until, reason
    world.is_roots_changed = True
    return f"folder {name} is paused"


def _resume(world: World, name: str | None) -> str:
    if name is not None:
        return _resume_folder(world, world.folders[name])
    was_paused, world.pause = world.pause is not None, None
    before = world.gate
    world.gate = gate.urged(world.gate, world.now)
    if before.is_promised and not before.is_open:
        return "resumed; the service named a time before which nothing is sent, so that is waited for"
    if not before.is_open:
        return f"resumed; the account was {before.state}: one probe goes now"
    return "resumed" if was_paused else "nothing was paused"


def _resume_folder(world: World, folder: Folder) -> str:
    was_paused = folder.is_paused
    folder.is_paused, folder.paused_until, folder.pause_reason = False, None, ""
    keys = backlog.release(folder)
    world.is_roots_changed = True
    if keys:
        return f"folder {folder.policy.name}: {len(keys)} held pairs are taken"
    return f"folder {folder.policy.name} is resumed" if was_paused else f"folder {folder.policy.name} was not paused"
