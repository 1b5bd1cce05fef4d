"""Calls of a batch whose time is over."""

from sidecall_server.core.call import BlockCause, Call
from sidecall_server.core.outcome import Reason
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.deadlines import BATCH_OVER
from sidecall_server.engine.watchdog import NEVER


def expire(batch: Batch, now_ns: int) -> int:
    """Ends what has waited too long; returns when to ask again."""
    deadlines = batch.deadlines
    if now_ns >= deadlines.batch_ns:
        batch.cancel(Reason.BATCH_DEADLINE, BATCH_OVER)
        return NEVER
    for call in deadlines.pop_due(now_ns):
        batch.give_up(call, *deadlines.missed(call))
    next_ns = deadlines.next_ns()
    for flow in list(batch.flows.values()):
        timeout_ns = flow.entry.queue_timeout_ns
        while flow.waiting and now_ns >= _queued_since(flow.waiting[0]) + timeout_ns:
            batch.give_up(flow.waiting[0], Reason.QUEUE_TIMEOUT, _waited(timeout_ns))
        if flow.waiting:
            next_ns = min(next_ns, _queued_since(flow.waiting[0]) + timeout_ns)
    return min(next_ns, _expire_in_lanes(batch, now_ns)) if batch.aside.waits else next_ns


def _expire_in_lanes(batch: Batch, now_ns: int) -> int:
    """Ends what has waited too long for its lane; returns when to ask again."""
    next_ns = NEVER
    for wait in batch.aside:
        if wait.cause is not BlockCause.LANE:
            continue
        timeout_ns = batch.tools[wait.call.request.name].queue_timeout_ns
        if now_ns >= wait.since_ns + timeout_ns:
            batch.give_up(wait.call, Reason.QUEUE_TIMEOUT, _waited(timeout_ns))
        else:
            next_ns = min(next_ns, wait.since_ns + timeout_ns)
    return next_ns


def _queued_since(call: Call) -> int:
    return call.queue_clock_ns or call.ready_ns


def _waited(timeout_ns: int) -> str:
    return f"Not run: the call waited {timeout_ns / 1e9:g} s for its turn. Try again later."
