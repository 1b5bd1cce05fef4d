"""What calls wait for, and how long, at a constant cost per call."""

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
