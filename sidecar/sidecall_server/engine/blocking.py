"""What calls wait for, and how long, at a constant cost per call."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sidecall_server.core.call import BlockCause, Call


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


def account_before(
    call: Call,
    calls: Mapping[int, Call],
    edges: Mapping[int, Sequence[int]],
    order: Mapping[int, Sequence[int]],
    sealed_ns: int,
    *,
    in_turn: bool,
) -> None:
    """Books the time before a call became ready.

    Args:
        call: The call.
        calls: All calls of its batch.
        edges: The calls that each call depends on, for those that have any.
        order: The calls that each call comes after in its lane, for those that have any.
        sealed_ns: When the seal came that it waited for; 0 where it did not.
        in_turn: Whether the calls run one at a time.
    """
    index, received_ns = call.index, call.received_ns
    since_ns = received_ns
    if index in edges:
        since_ns = max(received_ns, *[calls[i].finished_ns for i in edges[index]])
        if since_ns > received_ns:
            add_blocked(call, BlockCause.REFERENCE, since_ns - received_ns)
    if sealed_ns > received_ns:
        add_blocked(call, BlockCause.SEAL, sealed_ns - received_ns)
        since_ns = max(since_ns, sealed_ns)
    if index in order:
        last_ns = max(calls[i].finished_ns for i in order[index])
        if last_ns > since_ns:
            add_blocked(call, BlockCause.LANE, last_ns - since_ns)
            since_ns = last_ns
    if in_turn and call.ready_ns > since_ns:
        add_blocked(call, BlockCause.ORDER, call.ready_ns - since_ns)
