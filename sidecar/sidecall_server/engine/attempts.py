"""What follows from the end of an attempt: an outcome, or another attempt."""

from collections.abc import Iterator

from sidecall_server.core.call import BlockCause, Call
from sidecall_server.core.outcome import Failure, Outcome, Reason, unknown_effect
from sidecall_server.engine.admission import Flow
from sidecall_server.engine.aside import Wait
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.effects import may_have_happened
from sidecall_server.engine.supervision import Supervision


def settle(batch: Batch, flow: Flow, call: Call, outcome: Outcome, now_ns: int) -> None:
    """Takes the outcome of an attempt that something follows from."""
    if call.outcome is not None and not call.detached:
        return
    supervision: Supervision | None = call.supervision
    if call.ticket is not None:
        _tell_breaker(batch, flow, call, outcome, now_ns)
    if call.detached and supervision is not None:
        supervision.land(call, outcome, hands_over=_is_retryable(flow, outcome))
        return
    if isinstance(outcome, Failure) and _try_again(batch, flow, call, outcome, now_ns):
        return
    batch.finish(call, outcome, now_ns)


def time_out(batch: Batch, flow: Flow, call: Call, now_ns: int) -> None:
    """Ends an attempt that took too long, and perhaps has another one made."""
    call.cancelled = True
    failure = unknown_effect(
        Reason.TOOL_TIMEOUT,
        f"The tool did not answer in time ({flow.entry.timeout_ns / 1e9:g} s)."
        + may_have_happened(flow.entry.spec.effects),
    )
    supervision: Supervision | None = call.supervision
    if call.ticket is not None:
        _tell_breaker(batch, flow, call, failure, now_ns)
    if call.detached and supervision is not None:
        supervision.land(call, failure, hands_over=_is_retryable(flow, failure))
    elif not _try_again(batch, flow, call, failure, now_ns):
        batch.finish(call, failure, now_ns)
    batch.host.abandon(call)


def _is_retryable(flow: Flow, outcome: Outcome) -> bool:
    retrier, effects = flow.entry.retrier, flow.entry.spec.effects
    return retrier is not None and isinstance(outcome, Failure) and retrier.wants(outcome, effects)


def _tell_breaker(batch: Batch, flow: Flow, call: Call, outcome: Outcome, now_ns: int) -> None:
    breaker, ticket = flow.entry.breaker, call.ticket
    call.ticket = None
    if breaker is not None and ticket is not None and breaker.ended(ticket, outcome, now_ns):
        batch.host.refuse_waiting(call.request.name)


def _try_again(batch: Batch, flow: Flow, call: Call, failure: Failure, now_ns: int) -> bool:
    """Has the next attempt of a call made after a while; returns whether there is one."""
    policies = flow.entry
    if policies.retrier is None or batch.over is not None or batch.plan.stopped:
        return False
    delay_ns = policies.retrier.delay_ns(
        len(call.failed_attempts) + 1,
        failure,
        policies.spec.effects,
        batch.deadlines.of(call) - now_ns,
    )
    if delay_ns is None:
        return False
    following = call.successor(failure, now_ns)
    supervision: Supervision | None = following.supervision
    if supervision is not None:
        supervision.succeeded_by(following)
    batch.calls[call.index] = following
    batch.deadlines.replace(following)

    def go() -> None:
        batch.end_wait(following)
        batch.host.try_again(batch, flow, following)

    timer = batch.host.clock.call_at(now_ns + delay_ns, go)
    batch.set_aside(Wait(following, BlockCause.BACKOFF, now_ns, timer.cancel))
    if supervision is not None and call.worker is None:
        supervision.leave_lane(call)
    return True


def refuse_waiting(batch: Batch, name: str, failure: Failure) -> None:
    """Ends the calls of a tool that wait for permits or a lane: its breaker has opened."""
    flow = batch.flows.get(name)
    if flow is None or flow.entry.breaker is None:
        return
    # First those who would get the lanes of the others.
    for wait in batch.aside:
        if wait.cause is BlockCause.LANE and wait.call.request.name == name:
            batch.finish_unplaced(wait.call, failure)
    batch.host.slices.spread(_refuse(batch, batch.host.admission.withdraw(flow), failure))


def _refuse(batch: Batch, calls: list[Call], failure: Failure) -> Iterator[None]:
    for call in calls:
        batch.finish_unplaced(call, failure)
        yield
