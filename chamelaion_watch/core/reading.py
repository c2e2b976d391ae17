"""Which files are to be read whole, for their content identity: in the order in which they became quiet."""

from __future__ import annotations

from dataclasses import dataclass, field

from chamelaion_watch.core.model import RelPath, Signature

LARGE_BYTES = 64 << 20  # two such files of one disk are not read at once: it would do nothing but seek


@dataclass(slots=True)
class Reading:
    """What waits to be read in one root, and what is being read."""

    under_way: dict[RelPath, Signature] = field(default_factory=dict)
    _wanted: dict[RelPath, Signature] = field(default_factory=dict)

    def want(self, path: RelPath, signature: Signature | None) -> None:
        """Have a file read as it is now; None: it need not be."""
        if signature is None:
            self._wanted.pop(path, None)
        else:
            self._wanted[path] = signature

    def next(self) -> tuple[RelPath, Signature] | None:
        """Return what is to be read next, if anything may be."""
        is_large_read = any(_is_large(signature) for signature in self.under_way.values())
        for path, signature in self._wanted.items():
            if path not in self.under_way and not (is_large_read and _is_large(signature)):
                return path, signature
        return None

    def begun(self, path: RelPath, signature: Signature) -> None:
        self.under_way[path] = signature

    def ended(self, path: RelPath) -> None:
        self.under_way.pop(path, None)


def _is_large(signature: Signature) -> bool:
    return signature.size >= LARGE_BYTES
