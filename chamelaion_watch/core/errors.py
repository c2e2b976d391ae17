"""The errors, sorted by what must be done about them, not by where they came from.

    WatchError
    ├── ConfigError          the configuration or the environment is wrong: exit 78 before anything is touched
    ├── InputProblem         a source moved, changed, vanished, cannot be read: forget it and pair again
    ├── Rejected             this pair will never pass: note, no retry
    ├── Transient            this pair, later: back off, then note
    ├── NotFound             the service does not know this request: grace, look up, then doubtful
    ├── LinkExpired          an output link died: ask for the request again
    ├── AccountProblem       everybody waits: the gate
    │   ├── Throttled        429
    │   ├── QuotaExhausted   412
    │   ├── Unauthorized     401, 403
    │   └── Unreachable      DNS, TCP, TLS, a proxy's page instead of an answer
    ├── OutputProblem        a paid result cannot be written: keep it, retry, never submit again
    ├── RootProblem          the folder as a whole is not well: freeze it
    └── LedgerUnavailable    no ledger, no money

Edges translate foreign exceptions into these once; anything else that arrives in `effects` is a bug.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chamelaion_watch.core.model import RootState


class WatchError(Exception):
    """Something went wrong in a way that has a known reaction; `code` is a stable slug for notes and logs."""

    code = "internal"

    def __init__(self, message: str, *, code: str | None = None, http_status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.http_status = http_status

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code}: {self.message})"


class ConfigError(WatchError):
    """The configuration or the environment is wrong; `problems` lists every one, a line each."""

    code = "config"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class InputProblem(WatchError):
    """A source moved, changed, vanished or cannot be read: nothing was sent that counts."""

    code = "input_changed"


class Rejected(WatchError):
    """The service, or our own check before it, says that this pair will never pass."""

    code = "rejected"


class Transient(WatchError):
    """It may pass later: time-outs, resets, 5xx, a broken download. `retry_after_s` is what the server asked for."""

    code = "transient"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        http_status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, http_status=http_status)
        self.retry_after_s = retry_after_s


class NotFound(WatchError):
    """404: the service does not know this request."""

    code = "unknown_request"


class LinkExpired(WatchError):
    """403, 404 or 410 from the media host: the signed link is old; a fresh one comes with the request."""

    code = "link_expired"


class AccountProblem(WatchError):
    """Not about one pair: everybody waits. `retry_after_s` is what the server asked for, capped at an hour."""

    code = "account"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        http_status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, http_status=http_status)
        self.retry_after_s = retry_after_s


class Throttled(AccountProblem):
    """429: too fast, or too many at once."""

    code = "rate_limited"


class QuotaExhausted(AccountProblem):
    """412: the token balance is used up."""

    code = "quota_exhausted"


class Unauthorized(AccountProblem):
    """401 or 403: the key is missing, wrong or revoked."""

    code = "unauthorized"


class Unreachable(AccountProblem):
    """No answer of the service arrived: DNS, TCP, TLS, or a proxy answered in its place."""

    code = "unreachable"


class OutputProblem(WatchError):
    """A paid result cannot be written; `root_state` says what the folder is (`full`, `read_only`, …)."""

    code = "output"

    def __init__(self, message: str, *, root_state: RootState, code: str | None = None) -> None:
        super().__init__(message, code=code or str(root_state))
        self.root_state = root_state


class RootProblem(WatchError):
    """The folder as a whole is not well: it is frozen until a look says `ok` again."""

    code = "root"

    def __init__(self, message: str, *, root_state: RootState) -> None:
        super().__init__(message, code=str(root_state))
        self.root_state = root_state


class LedgerUnavailable(WatchError):
    """The ledger is gone, full, damaged, locked or newer than this version: no work may start."""

    code = "ledger"
