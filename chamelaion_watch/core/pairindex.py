"""Which pairs the files of a root make, kept up to date scope by scope as names come, go and settle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from chamelaion_watch.core.model import FileState, Millis, Pair, Pairing, PairState, RelPath, Unpaired
from chamelaion_watch.core.pairing import pair_up, scope_of
from chamelaion_watch.core.policy import FolderPolicy

AWAITING_QUIET = "awaiting_quiet"  # code of `pairing`
RESTLESS = (FileState.ARRIVING, FileState.BUSY)


@dataclass(slots=True)
class PairIndex:
    """The pairs of one root by key and by file; `ready` and `gone` collect keys until somebody drains them."""

    policy: FolderPolicy
    pairs: dict[RelPath, Pair] = field(default_factory=dict)
    unpaired: dict[RelPath, Unpaired] = field(default_factory=dict)
    disputed: dict[RelPath, Unpaired] = field(default_factory=dict)  # those of them that only a person can sort out
    unpaired_since: dict[RelPath, Millis] = field(default_factory=dict)
    ready: dict[RelPath, None] = field(default_factory=dict)  # pairs to evaluate
    gone: dict[RelPath, None] = field(default_factory=dict)  # pairs that are no more
    _keys_of: dict[RelPath, list[RelPath]] = field(default_factory=dict)
    _pairings: dict[RelPath, Pairing] = field(default_factory=dict)
    _scopes: dict[RelPath, set[RelPath]] = field(default_factory=dict)
    _dirty: set[RelPath] = field(default_factory=set)
    _awaiting: set[RelPath] = field(default_factory=set)  # scopes with a folder that must be quiet before it pairs
    _by_quiet: set[RelPath] = field(default_factory=set)  # scopes whose pairs change with a folder's quiet
    _arrived_at: dict[RelPath, Millis] = field(default_factory=dict)  # by folder

    def add(self, scope: RelPath, paths: Iterable[RelPath], now: Millis) -> None:
        """Take in names that came to a scope."""
        self._scopes.setdefault(scope, set()).update(paths)
        self._dirty.add(scope)
        self._arrived_at.update(dict.fromkeys((path.rpartition("/")[0] for path in paths), now))

    def remove(self, path: RelPath) -> None:
        scope = scope_of(path)
        self._scopes[scope].discard(path)
        self._dirty.add(scope)

    def touch(self, path: RelPath) -> None:
        """The state of a file changed: its pairs are to be looked at, and its folder may have become quiet."""
        if (scope := scope_of(path)) in self._by_quiet:
            self._dirty.add(scope)
        self.ready.update(dict.fromkeys(self._keys_of.get(path, ())))

    def names(self, scope: RelPath) -> set[RelPath]:
        return self._scopes.get(scope, set())

    def scopes(self) -> Iterable[RelPath]:
        return self._scopes.keys()

    def pairs_at_rest(self, scope: RelPath) -> tuple[Pair, ...]:
        """Return a scope's pairs if every file of it is in one and nothing is to be told of them; else none."""
        pairing = self._pairings.get(scope, Pairing())
        is_open = scope in self._dirty or scope in self._awaiting or pairing.unpaired
        is_told = any(pair.key in self.ready or pair.key in self.gone for pair in pairing.pairs)
        return () if is_open or is_told else pairing.pairs

    def sleep(self, scope: RelPath) -> None:
        """Forget a scope, without a word to anyone."""
        for pair in self._pairings.pop(scope, Pairing()).pairs:
            self.pairs.pop(pair.key, None)
            self._keys_of.pop(pair.video, None)
            self._keys_of.pop(pair.audio, None)
        self._scopes.pop(scope, None)
        self._by_quiet.discard(scope)

    def wake(self, scope: RelPath, paths: Iterable[RelPath]) -> None:
        """Know a scope again, that has long been quiet."""
        for path in paths:
            self._scopes.setdefault(scope, set()).add(path)
            self._arrived_at.setdefault(path.rpartition("/")[0], 0)
        self._dirty.add(scope)

    def keys_at_rest(self) -> set[RelPath]:
        """Return the pairs that there are if nothing more arrives: a job folder makes none before it is quiet."""
        rules = self.policy.pairing
        folders = {scope: {path.rpartition("/")[0] for path in names} for scope, names in self._scopes.items()}
        pairings = (pair_up(names, rules, quiet_folders=folders[scope]) for scope, names in self._scopes.items())
        return {pair.key for pairing in pairings for pair in pairing.pairs}

    def quiet_at(self, settle_ms: int, now: Millis) -> Millis | None:
        """When the next folder that is awaited to be quiet may be so; one that is restless tells by its files."""
        folders = {path.rpartition("/")[0] for scope in self._awaiting for path in self._scopes.get(scope, ())}
        times = (self._arrived_at[folder] + settle_ms for folder in folders)
        return min((at for at in times if at > now), default=None)

    def update(self, state_of: Callable[[RelPath], FileState], now: Millis, settle_ms: int) -> None:
        """Pair up what changed, and what has become quiet."""
        for scope in sorted(self._dirty | self._awaiting):
            names = self._scopes.get(scope, set())
            quiet = self._quiet_folders(names, state_of, now - settle_ms)
            pairing = pair_up(names, self.policy.pairing, quiet_folders=quiet)
            self._replace(self._pairings.get(scope, Pairing()), pairing, now)
            self._pairings[scope] = pairing
            is_awaiting = any(item.code == AWAITING_QUIET for item in pairing.unpaired)
            (self._awaiting.add if is_awaiting else self._awaiting.discard)(scope)
            (self._by_quiet.add if pairing.is_by_quiet else self._by_quiet.discard)(scope)
            if not names:
                self._scopes.pop(scope, None)
                self._pairings.pop(scope, None)
        self._dirty.clear()

    def _quiet_folders(
        self, names: Iterable[RelPath], state_of: Callable[[RelPath], FileState], arrived_by: Millis
    ) -> set[RelPath]:
        """Nothing there is arriving, and nothing has come for the settle time: the music may precede the dialogue."""
        folders: dict[RelPath, bool] = {}
        for path in names:
            folder = path.rpartition("/")[0]
            is_calm = self._arrived_at[folder] <= arrived_by and state_of(path) not in RESTLESS
            folders[folder] = folders.get(folder, True) and is_calm
        return {folder for folder, is_quiet in folders.items() if is_quiet}

    def _replace(self, old: Pairing, new: Pairing, now: Millis) -> None:
        if old == new:
            return
        self._replace_pairs(old.pairs, new.pairs)
        for item in old.unpaired:
            self.unpaired.pop(item.path, None)
            self.disputed.pop(item.path, None)
        for item in new.unpaired:
            self.unpaired[item.path] = item
            if item.state is PairState.ATTENTION:
                self.disputed[item.path] = item
            self.unpaired_since.setdefault(item.path, now)
        for item in old.unpaired:
            if item.path not in self.unpaired:
                self.unpaired_since.pop(item.path, None)

    def _replace_pairs(self, old: Iterable[Pair], new: Iterable[Pair]) -> None:
        before = {pair.key: pair for pair in old}
        for key, pair in before.items():
            self.pairs.pop(key, None)
            self._keys_of.pop(pair.video, None)
            self._keys_of.pop(pair.audio, None)
            self.gone[key] = None
        for pair in new:
            self.pairs[pair.key] = pair
            self.gone.pop(pair.key, None)
            for path in (pair.video, pair.audio):
                self._keys_of.setdefault(path, []).append(pair.key)
            if before.get(pair.key) != pair:
                self.ready[pair.key] = None
