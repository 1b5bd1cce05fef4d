"""From outcomes to protobuf results."""

from collections.abc import Mapping, Sequence

from sidecall.v1 import execution_pb2, tool_service_pb2
from sidecall_server.core.call import Approval, BlockCause, Call, ToolCall
from sidecall_server.core.outcome import (
    EMPTY_CONTENT,
    ExecutionState,
    Failure,
    Reason,
    Success,
    not_started,
)
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.bugs import internal_failure
from sidecall_server.engine.registry import ToolTable
from sidecall_server.engine.slices import Slices
from sidecall_server.transport.result_budgets import fit, fit_result
from sidecall_server.transport.result_parts import fill_parts
from sidecall_server.transport.status import fill_status

_STRIDE = 64
_STRIDE_BYTES = 256 * 1024
_MAX_CHARACTER_BYTES = 4
_MAX_OTHER_BYTES = 256
"""More than everything in a successful result takes beside its texts."""

_LOST = "Not run: internal error before the call was taken in."

_BLOCKED_FIELDS: Mapping[BlockCause, str] = {
    BlockCause.REFERENCE: "blocked_on_reference_ns",
    BlockCause.ORDER: "blocked_on_order_ns",
    BlockCause.SEAL: "blocked_on_seal_ns",
    BlockCause.LANE: "blocked_on_lane_ns",
    BlockCause.TOOL_LIMIT: "blocked_on_tool_limit_ns",
    BlockCause.GROUP_LIMIT: "blocked_on_group_limit_ns",
    BlockCause.RATE: "blocked_on_rate_ns",
    BlockCause.BATCH_LIMIT: "blocked_on_batch_limit_ns",
    BlockCause.GLOBAL_LIMIT: "blocked_on_global_limit_ns",
    BlockCause.BACKOFF: "blocked_on_backoff_ns",
    BlockCause.SAME_CALL: "blocked_on_same_call_ns",
}


async def batch_response(
    batch: Batch, requests: Sequence[ToolCall], slices: Slices
) -> tool_service_pb2.ExecuteBatchResponse:
    """The response of a batch whose calls are all final: one result per request."""
    response = tool_service_pb2.ExecuteBatchResponse()
    results = response.results
    calls, epoch_ns, budgets = batch.calls, batch.epoch_ns, result_budgets(batch)
    most_bytes = breathed_bytes = 0
    for index, request in enumerate(requests):
        call, result = calls.get(index), results.add()
        if call is None:
            fill_failure(result, request, not_started(Reason.INTERNAL, _LOST))
        else:
            fill_result(result, call, epoch_ns, budgets.get(request.name) if budgets else None)
        most_bytes += _most_bytes(request, call) or _framed_bytes(result)
        if index % _STRIDE == _STRIDE - 1 or most_bytes - breathed_bytes > _STRIDE_BYTES:
            breathed_bytes = most_bytes
            await slices.breathe()
    max_bytes = batch.options.max_response_bytes
    if most_bytes > max_bytes and await _total_bytes(results, slices) > max_bytes:
        for _ in fit(results, max_bytes):
            await slices.breathe()
    return response


def _most_bytes(request: ToolCall, call: Call | None) -> int:
    """More than a result takes; 0 where only measuring it can tell, which takes a while."""
    outcome = None if call is None else call.outcome
    if call is None or type(outcome) is not Success or outcome.parts or call.failed_attempts:
        return 0
    texts = len(outcome.text) + len(request.id) + len(request.name)
    is_longer = call.asked is not None or call.decision is not None
    return 0 if is_longer else _MAX_CHARACTER_BYTES * texts + _MAX_OTHER_BYTES


def _exceeds(result: execution_pb2.ToolResult, call: Call, max_bytes: int) -> bool:
    most_bytes = _most_bytes(call.request, call)
    return not 0 < most_bytes <= max_bytes and result.ByteSize() > max_bytes


async def _total_bytes(results: Sequence[execution_pb2.ToolResult], slices: Slices) -> int:
    # One by one: measuring a message takes as long as encoding it.
    total_bytes = 0
    for result in results:
        total_bytes += _framed_bytes(result)
        await slices.breathe()
    return total_bytes


def _framed_bytes(result: execution_pb2.ToolResult) -> int:
    """What a result takes in a response: a tag and its size come before it."""
    size = result.ByteSize()
    return 1 + max(1, (size.bit_length() + 6) // 7) + size


def result_budgets(batch: Batch) -> Mapping[str, int]:
    """Bytes that one result may take, for the tools that bound it."""
    return batch.tools.max_result_bytes if isinstance(batch.tools, ToolTable) else {}


def failed_response(
    batch: Batch | None, requests: Sequence[ToolCall], why: str
) -> tool_service_pb2.ExecuteBatchResponse:
    """The response of an accepted batch whose outcomes cannot be told.

    Args:
        batch: The batch, where it is known.
        requests: Its calls.
        why: What to say about each.
    """
    response = tool_service_pb2.ExecuteBatchResponse()
    for index, request in enumerate(requests):
        call = None if batch is None else batch.calls.get(index)
        state = ExecutionState.UNKNOWN if call is None else state_of(call)
        fill_failure(response.results.add(), request, Failure(Reason.INTERNAL, why, state))
    return response


def fill_result(
    result: execution_pb2.ToolResult, call: Call, epoch_ns: int, max_bytes: int | None = None
) -> None:
    """Writes the result of a final call; where that fails, an INTERNAL one.

    Args:
        result: An empty result.
        call: The call.
        epoch_ns: Unix time in nanoseconds at which the engine's clock was zero.
        max_bytes: Bytes that it may take; None for no bound of its own.
    """
    # One function, since it is called for every result.
    try:
        request, outcome, received_ns = call.request, call.outcome, call.received_ns
        result.call_id = request.id
        result.name = request.name
        if type(outcome) is Success:
            result.content = outcome.text or EMPTY_CONTENT
            result.execution_state = execution_pb2.EXECUTION_STATE_COMPLETED
            if outcome.parts:
                fill_parts(result, outcome.parts)
        else:
            _fill_outcome(result, _failure_of(call))
        result.attempts = call.attempt
        timing = result.timing
        timing.received_unix_nanos = epoch_ns + received_ns
        if call.ready_ns:
            timing.ready_offset_ns = call.ready_ns - received_ns
        if call.started_ns:
            timing.started_offset_ns = call.started_ns - received_ns
        timing.finished_offset_ns = call.finished_ns - received_ns
        if call.blocked_ns is not None:
            _fill_blocked(timing, call.blocked_ns)
        if call.failed_attempts or call.replayed or call.coalesced or call.asked is not None:
            _fill_history(result, call)
        if call.decision is not None:
            _fill_decision(result, call.decision, before=call.decided_before)
        if max_bytes is not None and _exceeds(result, call, max_bytes):
            fit_result(result, max_bytes)
    except Exception:
        fill_failure(result, call.request, internal_failure(call, state_of(call)))
        result.attempts = call.attempt


def fill_failure(result: execution_pb2.ToolResult, request: ToolCall, failure: Failure) -> None:
    """Writes a failure in place of whatever a result holds."""
    result.Clear()
    result.call_id = request.id
    result.name = request.name
    _fill_outcome(result, failure)


def state_of(call: Call) -> ExecutionState:
    """How far a call got, also where nothing else about its outcome can be told."""
    outcome = call.outcome
    if isinstance(outcome, Success):
        return ExecutionState.COMPLETED
    if isinstance(outcome, Failure) and outcome.state in _STATES:
        return outcome.state
    return ExecutionState.UNKNOWN


def _failure_of(call: Call) -> Failure:
    if not isinstance(call.outcome, Failure):
        raise TypeError(f"{call!r} is not final")
    return call.outcome


def _fill_decision(result: execution_pb2.ToolResult, decision: Approval, *, before: bool) -> None:
    written = result.approval_decision
    written.decision = (
        execution_pb2.DECISION_APPROVE if decision.approved else execution_pb2.DECISION_REJECT
    )
    written.decided_by = decision.decided_by
    if decision.decided_unix_ns:
        written.decide_time.FromNanoseconds(decision.decided_unix_ns)
    written.arguments_edited = decision.arguments is not None
    if before:
        what = "approved" if decision.approved else "rejected"
        by = f" by {decision.decided_by}" if decision.decided_by else ""
        result.content += f"\n[This call was {what}{by} before; the later decision was not taken.]"


def _fill_blocked(timing: execution_pb2.CallTiming, blocked_ns: Mapping[BlockCause, int]) -> None:
    for cause, time_ns in blocked_ns.items():
        setattr(timing, _BLOCKED_FIELDS[cause], time_ns)


def _fill_history(result: execution_pb2.ToolResult, call: Call) -> None:
    """Writes what most calls have nothing of."""
    result.replayed = call.replayed
    result.coalesced = call.coalesced
    for attempt in call.failed_attempts:
        written = result.failed_attempts.add()
        fill_status(written.status, attempt.failure)
        # One that it has from a call which it joined may have been over before its receipt.
        if attempt.started_ns:
            written.started_offset_ns = max(0, attempt.started_ns - call.received_ns)
        written.finished_offset_ns = max(0, attempt.finished_ns - call.received_ns)
    if call.asked is not None:
        result.approval_id = call.asked.approval_id
        result.approval_arguments = call.asked.arguments


def _fill_outcome(result: execution_pb2.ToolResult, failure: Failure) -> None:
    result.content = failure.message
    result.execution_state = _STATES[failure.state]
    fill_status(result.status, failure)


_STATES = {
    ExecutionState.NOT_STARTED: execution_pb2.EXECUTION_STATE_NOT_STARTED,
    ExecutionState.COMPLETED: execution_pb2.EXECUTION_STATE_COMPLETED,
    ExecutionState.UNKNOWN: execution_pb2.EXECUTION_STATE_UNKNOWN,
}
