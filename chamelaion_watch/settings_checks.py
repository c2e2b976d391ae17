"""What one value of the configuration cannot know of another: folders that clash, results that would come back.

Of two values that clash the second is named. Paths are compared as written and as the disk resolves them, so that
two symlinks to one share are found; a share that does not answer is compared as written, for a start must not hang.
"""

from __future__ import annotations

import os.path
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from chamelaion_watch.settings_model import FolderSettings
from chamelaion_watch.templates import OWN_ENDING, has_field, landing

# A dead CIFS share answers after 10-12 s, a hard NFS mount never; a healthy one in milliseconds.
_RESOLVE_WITHIN_S: Final = 2.0

Forms = frozenset[str]  # one path as written and as resolved


class Problem(NamedTuple):
    """What is wrong, and at which path of the configuration."""

    path: tuple[str | int, ...]
    words: str
    of_key: bool = False


def clashes(folders: Mapping[int, FolderSettings], state: str | None, *, state_is_written: bool) -> Iterator[Problem]:
    """Yield what is wrong between valid folders, by their place in the list, and with the state folder."""
    landings = {landing(folder.output, folder.path).folder for folder in folders.values()}
    forms = path_forms({*([state] if state else []), *(f.path for f in folders.values()), *landings})
    for index, folder in folders.items():
        earlier = [(number, other) for number, other in folders.items() if number < index]
        yield from _twins(index, folder, earlier, forms)
        yield from _same_extensions(index, folder)
        yield from _output(index, folder, folders.values(), forms)
    if state:
        yield from _state(folders, state, state_is_written, forms)


def _twins(
    index: int, folder: FolderSettings, earlier: Iterable[tuple[int, FolderSettings]], forms: Mapping[str, Forms]
) -> Iterator[Problem]:
    for number, other in earlier:
        relation = _relation(forms[folder.path], forms[other.path])
        if relation:
            yield Problem(("folders", index, "path"), f"{relation} folders.{number} ({other.path})")
        elif folder.name == other.name:
            words = f"{folder.name!r} is the name of folders.{number} too: give one of them another `name`"
            yield Problem(("folders", index, "name"), words)


def _same_extensions(index: int, folder: FolderSettings) -> Iterator[Problem]:
    both = sorted({*folder.video} & {*folder.audio})
    if both:
        yield Problem(("folders", index, "audio"), f"{', '.join(both)} is in `video` as well")


def _output(
    index: int, folder: FolderSettings, watched: Iterable[FolderSettings], forms: Mapping[str, Forms]
) -> Iterator[Problem]:
    path = ("folders", index, "output")
    if folder.recursive and not has_field(folder.output, "dir"):
        yield Problem(path, "needs {dir}, for results of sub-folders must not mix; or set `recursive: false`")
    reached = [other.path for other in watched if _may_land_in(folder, forms[other.path], forms)]
    if reached and not folder.output.endswith(OWN_ENDING):
        words = (
            f"must end in {OWN_ENDING}: results land in {reached[0]}, which is watched, and would be taken for videos"
        )
        yield Problem(path, words)


def _may_land_in(folder: FolderSettings, watched: Forms, forms: Mapping[str, Forms]) -> bool:
    target, may_be_below = landing(folder.output, folder.path)
    return _is_within(forms[target], watched) or (may_be_below and _is_within(watched, forms[target]))


def _state(
    folders: Mapping[int, FolderSettings], state: str, is_written: bool, forms: Mapping[str, Forms]
) -> Iterator[Problem]:
    for index, folder in folders.items():
        relation = _relation(forms[state], forms[folder.path])
        if not relation:
            continue
        if is_written:
            yield Problem(
                ("state",), f"{relation} the watched folders.{index} ({folder.path}): it must be a local folder apart"
            )
        else:
            words = f"clashes with the state folder {state}: name another one with `state`"
            yield Problem(("folders", index, "path"), words)


def _relation(first: Forms, second: Forms) -> str | None:
    if first & second:
        return "is the same folder as"
    if _is_within(first, second):
        return "lies inside"
    return "contains" if _is_within(second, first) else None


def _is_within(inner: Forms, outer: Forms) -> bool:
    """Say whether one form of `inner` is a form of `outer` or lies below it."""
    return any(one == other or one.startswith(other.rstrip("/") + "/") for one in inner for other in outer)


def path_forms(
    paths: Collection[str], resolve: Callable[[str], str] = os.path.realpath, within_s: float = _RESOLVE_WITHIN_S
) -> dict[str, Forms]:
    """Return each path as written and as `resolve` gives it, all at once; what takes longer counts as written."""
    resolved: dict[str, str] = {}

    def _resolve(path: str) -> None:
        resolved[path] = resolve(path)

    threads = [threading.Thread(target=_resolve, args=(path,), daemon=True) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(within_s)
        if thread.is_alive():
            within_s = 0.0  # the others have had the same time
    return {path: frozenset({path, resolved.get(path, path)}) for path in paths}
