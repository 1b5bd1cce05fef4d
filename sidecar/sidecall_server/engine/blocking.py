"""What calls wait for, and how long, at a constant cost per call."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from sidecall_server.core.call import BatchOptions, BlockCause, Call, Mode


class Mark(NamedTuple):
    """Times blocked per cause of the calls of one flow, up to a point in time.

    Attributes:
        cause: What they are blocked on since then.
        since_ns: The point in time.
        totals: Time blocked per cause before it.
    """

    cause: BlockCause
    since_ns: int
    totals: dict[BlockCause, int]

    def switch(self, cause: BlockCause, now_ns: int) -> "Mark":
        """The mark after the cause has changed."""
        if cause is self.cause:
            return self
        totals = dict(self.totals)
        totals[self.cause] = totals.get(self.cause, 0) + now_ns - self.since_ns
        return Mark(cause, now_ns, totals)

    def at(self, now_ns: int, cause: BlockCause) -> int:
        """Time blocked on a cause up to now."""
        running = now_ns - self.since_ns if cause is self.cause else 0
        return self.totals.get(cause, 0) + running


UNBLOCKED = Mark(BlockCause.NONE, 0, {})


def account(call: Call, mark: Mark, now_ns: int) -> None:
    """Books the time between its queueing and now on what the call was blocked on.

    Args:
        call: A call whose `mark` is that of its flow when it was queued.
        mark: The mark of its flow now.
        now_ns: The point in time.
    """
    before: Mark = call.mark
    since_ns = call.queued_ns or call.ready_ns
    if mark is before:
        if mark.cause is not BlockCause.NONE:
            add_blocked(call, mark.cause, now_ns - since_ns)
        return
    for cause in {mark.cause, *mark.totals} - {BlockCause.NONE}:
        blocked = mark.at(now_ns, cause) - before.at(since_ns, cause)
        if blocked > 0:
            add_blocked(call, cause, blocked)


def add_blocked(call: Call, cause: BlockCause, time_ns: int) -> None:
    """Books time on one cause."""
    if call.blocked_ns is None:
        call.blocked_ns = {}
    call.blocked_ns[cause] = call.blocked_ns.get(cause, 0) + time_ns


class Waiting(Protocol):
    """What the calls of a batch wait for before they are ready.

    Attributes:
        options: What holds for all calls.
        calls: The calls by position.
        edges: The calls that each call depends on, for those that have any.
        order: The calls that each call comes after in its lane, for those that have any.
        held: Calls that wait for the seal, or did.
        sealed_ns: When the seal came; 0 before.
    """

    options: BatchOptions
    calls: dict[int, Call]
    edges: dict[int, list[int]]
    order: dict[int, list[int]]
    held: set[int]
    sealed_ns: int


def account_before(batch: Waiting, call: Call, until_ns: int) -> None:
    """Books the time before a call became ready, or final without that."""
    index, received_ns, calls = call.index, call.received_ns, batch.calls
    since_ns = received_ns

    def book(cause: BlockCause, end_ns: int) -> None:
        nonlocal since_ns
        if end_ns > since_ns:
            add_blocked(call, cause, end_ns - since_ns)
            since_ns = end_ns

    def last_end_ns(before: Iterable[int]) -> int:
        return max(calls[i].finished_ns or until_ns for i in before)

    if index in batch.edges:
        book(BlockCause.REFERENCE, last_end_ns(batch.edges[index]))
    if index in batch.held:
        waited_ns = (batch.sealed_ns or until_ns) - received_ns
        if waited_ns > 0:
            add_blocked(call, BlockCause.SEAL, waited_ns)
        since_ns = max(since_ns, received_ns + waited_ns)
    if index in batch.order:
        book(BlockCause.LANE, last_end_ns(batch.order[index]))
    if batch.options.mode is Mode.SEQUENTIAL:
        book(BlockCause.ORDER, until_ns)
