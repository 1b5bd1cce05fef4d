"""What is remembered of calls, so that none of them is run twice."""

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sidecall_server.core.call import Approval
from sidecall_server.core.outcome import Outcome


class ScopeKind(enum.Enum):
    """What a scope's id is."""

    REQUEST = "request"
    KEY = "key"


class Scope(NamedTuple):
    """What calls are remembered under.

    Attributes:
        kind: Whether the id is a request_id or an idempotency_key.
        identity: Whose it is.
        tool: Name of the tool of an idempotency_key; empty for a request_id.
        id: The id.
    """

    kind: ScopeKind
    identity: str
    tool: str
    id: str


BATCH = -1
"""Index of the record of a batch itself, beside those of its calls."""


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """A call that waits for a human, or did.

    Attributes:
        id: The approval id.
        digest: Digest of the arguments that the human decides on.
        decision: What was decided; None before.
    """

    id: str
    digest: bytes
    decision: Approval | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of one call.

    Attributes:
        digest: Digest of its content: another one under the same key is refused.
        started: Whether an attempt may have been started.
        outcome: What became of it; None where it is not known.
        attempts: Attempts that were made.
        approval: The human's part; None where none is asked.
    """

    digest: bytes
    started: bool = False
    outcome: Outcome | None = None
    attempts: int = 0
    approval: PendingApproval | None = None

    @classmethod
    def of_batch(cls, digest: bytes, call_count: int | None) -> "Record":
        """The record of a batch itself; it is stored like that of a call.

        Args:
            digest: Digest of what holds for all its calls.
            call_count: Number of its calls; None where it is not known yet.
        """
        return cls(digest, attempts=_NO_COUNT if call_count is None else call_count)

    @property
    def call_count(self) -> int | None:
        """Number of the calls of a batch, in its own record; None where it is not known."""
        return None if self.attempts == _NO_COUNT else self.attempts


_NO_COUNT = -1


class RecordStore(Protocol):
    """Keeps records where they survive the death of the process.

    Used from one event loop. Its own failures must not fail calls: it logs them.
    """

    async def load(self, scope: Scope) -> Mapping[int, Record] | None:
        """The records of a scope by index; empty where there are none or they expired.

        None where they cannot be read or may have been lost: then nobody knows what has
        been run.
        """

    def touch(self, scope: Scope) -> None:
        """Takes note that a scope is used, although nothing is put under it."""

    def keep_in_use(self, in_use: Callable[[], Iterable[Scope]]) -> None:
        """Has scopes not expire as long as they are in use; `in_use` tells which are."""

    def put(self, scope: Scope, index: int, record: Record) -> None:
        """Takes a record to be written; it replaces that of the same scope and index.

        The scope must have been loaded, unless it is new, and be in use since.
        """

    async def flush(self) -> bool:
        """Waits until all that was put before is committed; False where that failed.

        Flushes that wait at the same time share one commit.
        """

    async def close(self) -> None:
        """Commits what was put, and ends."""
