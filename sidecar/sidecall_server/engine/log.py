"""What is known of calls that may be sent again."""

import sys
from dataclasses import dataclass, field

from sidecall_server.core.outcome import (
    ExecutionState,
    Failure,
    Outcome,
    Part,
    Reason,
    Success,
)
from sidecall_server.core.records import PendingApproval, Record, Scope
from sidecall_server.engine.flights import Flight, is_own

ENTRY_BYTES = 400
"""About what an entry takes beside its texts."""

_ITEM_BYTES = 64
"""About what a place in a table takes."""

_BULK_BYTES = 1024
"""Bytes of an approval above which it is dropped with the outcomes."""


@dataclass(slots=True)
class Entry:
    """What is known of one call.

    Attributes:
        digest: Digest of its content.
        started: Whether an attempt may have been started.
        outcome: What became of it; None where that is not known.
        attempts: Attempts that were made.
        approval: The human's part; None where none is asked.
        flight: The run in flight; None where there is none.
        is_marked: Whether the store says that it was started.
        is_repeatable: Whether running it twice does no harm.
        counted: Bytes that its log counts for it.
    """

    digest: bytes
    started: bool = False
    outcome: Outcome | None = None
    attempts: int = 0
    approval: PendingApproval | None = None
    flight: Flight | None = None
    is_marked: bool = False
    is_repeatable: bool = False
    counted: int = 0

    def settled(self, name: str, *, repeatable: bool) -> Outcome | None:
        """What a call gets that must not run again; None where it may run.

        Args:
            name: Name of the tool.
            repeatable: Whether running it twice does no harm.
        """
        outcome = self.outcome
        if isinstance(outcome, Success):
            return outcome
        if outcome is None or (self.started and outcome.state is ExecutionState.NOT_STARTED):
            # What an earlier send came to before it was started says nothing.
            unknown = self.started
        elif outcome.reason is Reason.APPROVAL_REJECTED or _is_of_tool(outcome):
            return outcome
        else:
            unknown = outcome.state is not ExecutionState.NOT_STARTED
        return _outcome_unknown(name) if unknown and not repeatable else None

    def set_outcome(self, outcome: Outcome, attempts: int) -> None:
        """Takes what has become of the call."""
        self.outcome = outcome
        self.attempts = attempts
        self.started = not (
            isinstance(outcome, Failure) and outcome.state is ExecutionState.NOT_STARTED
        )

    def start(self, attempt: int) -> None:
        """Takes note that an attempt may have been started.

        What an earlier send had come to, where it had not started the call, holds no more.
        """
        self.started = self.is_marked = True
        self.outcome = None
        self.attempts = attempt

    def record(self) -> Record:
        """What is stored of it."""
        return Record(self.digest, self.started, self.outcome, self.attempts, self.approval)

    @property
    def size(self) -> int:
        """About the bytes that it takes."""
        outcome, size = self.outcome, ENTRY_BYTES
        if self.approval is not None:
            size += _approval_size(self.approval)
        if isinstance(outcome, Failure):
            size += _failure_size(outcome)
        elif outcome is not None:
            size += sys.getsizeof(outcome.text) + sum(map(_part_size, outcome.parts))
        return size

    def drop_bulk(self) -> None:
        """Forgets how it ended, but not that it was started."""
        self.outcome = None
        if self.approval is not None and _approval_size(self.approval) > _BULK_BYTES:
            self.approval = None


@dataclass(slots=True)
class Log:
    """The calls that are remembered under one scope.

    Attributes:
        scope: The scope.
        digest: Digest of what holds for all calls; empty for a key.
        call_count: Number of its calls; None before the seal of a stream.
        entries: What is known of each call, by position.
        is_known: Whether a batch with it was accepted before.
        users: Batches that use it at present.
        used_ns: When it was last used.
        size: About the bytes that it takes.
    """

    scope: Scope
    digest: bytes = b""
    call_count: int | None = None
    entries: dict[int, Entry] = field(default_factory=dict)
    is_known: bool = False
    users: int = 0
    used_ns: int = 0
    size: int = ENTRY_BYTES

    @property
    def is_in_use(self) -> bool:
        """Whether a batch uses it, or an attempt runs whose outcome belongs here."""
        return self.users > 0 or any(e.flight is not None for e in self.entries.values())

    def approval_ids(self) -> set[str]:
        """The ids that were given out."""
        return {entry.approval.id for entry in self.entries.values() if entry.approval is not None}

    @property
    def marks(self) -> int:
        """What is remembered at least: the request or key itself, and its calls."""
        return 1 + len(self.entries)

    @property
    def is_spare(self) -> bool:
        """Whether nothing in it must not be run twice."""
        return all(e.is_repeatable or not e.started for e in self.entries.values())

    def recount(self, entry: Entry) -> int:
        """Counts what an entry takes by now; returns how many bytes that is more."""
        size = entry.size
        more, entry.counted = size - entry.counted, size
        self.size += more
        return more

    def drop_bulk(self) -> int:
        """Keeps no more than marks of its calls; returns how many bytes that is less."""
        less = 0
        for entry in self.entries.values():
            entry.drop_bulk()
            less -= self.recount(entry)
        return less


def _is_of_tool(failure: Failure) -> bool:
    # A call may also end between two attempts, of which the first was completed.
    return failure.state is ExecutionState.COMPLETED and is_own(failure)


def _part_size(part: Part) -> int:
    return _ITEM_BYTES + sum(sys.getsizeof(getattr(part, name)) for name in part.__slots__)


def _failure_size(failure: Failure) -> int:
    size = sys.getsizeof(failure.message)
    for violation in failure.violations:
        size += _ITEM_BYTES + sys.getsizeof(violation.field) + sys.getsizeof(violation.message)
    for key, value in failure.metadata.items():
        size += _ITEM_BYTES + sys.getsizeof(key) + sys.getsizeof(value)
    return size


def _approval_size(approval: PendingApproval) -> int:
    decision, size = approval.decision, _ITEM_BYTES + sys.getsizeof(approval.id)
    if decision is not None:
        texts = (decision.decided_by, decision.arguments, decision.comment)
        size += _ITEM_BYTES + sum(map(sys.getsizeof, texts))
    return size


def _outcome_unknown(name: str) -> Failure:
    return Failure(
        Reason.OUTCOME_UNKNOWN,
        f"The call of {name!r} was started in an earlier send, and how it ended is not known, or "
        "no longer. It may have taken effect: find out before you call it again.",
        ExecutionState.UNKNOWN,
    )
