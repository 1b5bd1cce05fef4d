"""Calls of a batch whose time is over."""

from sidecall_server.core.call import BlockCause, Call
from sidecall_server.core.outcome import Reason
from sidecall_server.engine.admission import Flow
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.deadlines import BATCH_OVER, queued_since
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
        if not flow.entry.is_plain:
            # They may have come in another order than that in which they became ready.
            late = [c for c in flow.waiting if now_ns >= queued_since(c) + timeout_ns]
            for call in late:
                batch.give_up(call, Reason.QUEUE_TIMEOUT, _waited(timeout_ns))
            next_ns = min([next_ns, *(queued_since(c) + timeout_ns for c in flow.waiting)])
            continue
        while flow.waiting and now_ns >= queued_since(flow.waiting[0]) + timeout_ns:
            batch.give_up(flow.waiting[0], Reason.QUEUE_TIMEOUT, _waited(timeout_ns))
        if flow.waiting:
            next_ns = min(next_ns, queued_since(flow.waiting[0]) + timeout_ns)
    return min(next_ns, _expire_in_lanes(batch, now_ns)) if batch.aside.waits else next_ns


def expire_in_line(flow: Flow, call: Call, now_ns: int) -> int:
    """Ends a call that has permits and waits too long for its place; returns when to ask again."""
    timeout_ns = flow.entry.queue_timeout_ns
    until_ns = queued_since(call) + timeout_ns
    if now_ns < until_ns:
        return until_ns
    batch: Batch = flow.owner
    batch.give_up(call, Reason.QUEUE_TIMEOUT, _waited(timeout_ns))
    return NEVER


def _expire_in_lanes(batch: Batch, now_ns: int) -> int:
    """Ends what has waited too long for its lane; returns when to ask again."""
    next_ns = NEVER
    for wait in batch.aside:
        if wait.cause is not BlockCause.LANE:
            continue
        timeout_ns = batch.tools[wait.call.request.name].queue_timeout_ns
        until_ns = queued_since(wait.call) + timeout_ns
        if now_ns >= until_ns:
            batch.give_up(wait.call, Reason.QUEUE_TIMEOUT, _waited(timeout_ns))
        else:
            next_ns = min(next_ns, until_ns)
    return next_ns


def _waited(timeout_ns: int) -> str:
    return f"Not run: the call waited {timeout_ns / 1e9:g} s for its turn. Try again later."
