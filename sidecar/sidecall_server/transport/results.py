"""From outcomes to protobuf results."""

from collections.abc import Mapping, Sequence

from sidecall.v1 import execution_pb2, tool_service_pb2
from sidecall_server.core.call import BlockCause, Call
from sidecall_server.core.outcome import EMPTY_CONTENT, ExecutionState, Success
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.slices import Slices
from sidecall_server.policy import budget
from sidecall_server.transport.status import fill_status, thin_status

_STRIDE = 64
_FRAME_BYTES = 16
"""About what the lengths around a result and its content take."""

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
}


async def batch_response(batch: Batch, slices: Slices) -> tool_service_pb2.ExecuteBatchResponse:
    """The response of a batch whose calls are all final."""
    response = tool_service_pb2.ExecuteBatchResponse()
    results = response.results
    calls, epoch_ns = batch.calls, batch.epoch_ns
    for index in range(len(calls)):
        fill_result(results.add(), calls[index], epoch_ns)
        if index % _STRIDE == _STRIDE - 1:
            await slices.breathe()
    if response.ByteSize() > batch.options.max_response_bytes:
        fit(results, batch.options.max_response_bytes)
    return response


def fit(results: Sequence[execution_pb2.ToolResult], max_bytes: int) -> None:
    """Cuts results so that they take at most `max_bytes` together.

    First the contents, the largest first; where that is not enough, what statuses say
    beside their reason, since the content says it as well.
    """
    sizes = [len(result.content.encode()) for result in results]
    fixed = _fixed_bytes(results, sizes)
    if fixed + len(results) * budget.MARKER_BYTES > max_bytes:
        for result in results:
            thin_status(result.status)
        fixed = _fixed_bytes(results, sizes)
    cap = budget.cap_for(sizes, max(0, max_bytes - fixed))
    if cap is None:
        return
    for result, size in zip(results, sizes, strict=True):
        if size > cap:
            result.content = budget.cut(result.content, cap)
            result.truncated = True


def _fixed_bytes(results: Sequence[execution_pb2.ToolResult], sizes: Sequence[int]) -> int:
    """What results take beside their contents."""
    return sum(
        result.ByteSize() - size + _FRAME_BYTES for result, size in zip(results, sizes, strict=True)
    )


def fill_result(
    result: execution_pb2.ToolResult, call: Call, epoch_ns: int
) -> execution_pb2.ToolResult:
    """Writes the result of a final call and returns it.

    Args:
        result: An empty result.
        call: The call.
        epoch_ns: Unix time in nanoseconds at which the engine's clock was zero.
    """
    request, outcome, received_ns = call.request, call.outcome, call.received_ns
    result.call_id = request.id
    result.name = request.name
    if type(outcome) is Success:
        result.content = outcome.text or EMPTY_CONTENT
        result.execution_state = execution_pb2.EXECUTION_STATE_COMPLETED
    else:
        _fill_failure(result, call)
    result.attempts = call.attempt
    timing = result.timing
    timing.received_unix_nanos = epoch_ns + received_ns
    if call.ready_ns:
        timing.ready_offset_ns = call.ready_ns - received_ns
    if call.started_ns:
        timing.started_offset_ns = call.started_ns - received_ns
    timing.finished_offset_ns = call.finished_ns - received_ns
    if call.blocked_ns is not None:
        for cause, time_ns in call.blocked_ns.items():
            setattr(timing, _BLOCKED_FIELDS[cause], time_ns)
    return result


def _fill_failure(result: execution_pb2.ToolResult, call: Call) -> None:
    outcome = call.outcome
    if outcome is None or isinstance(outcome, Success):
        raise AssertionError(f"{call!r} is not a failed call")
    result.content = outcome.message
    result.execution_state = _STATES[outcome.state]
    fill_status(result.status, outcome)


_STATES = {
    ExecutionState.NOT_STARTED: execution_pb2.EXECUTION_STATE_NOT_STARTED,
    ExecutionState.COMPLETED: execution_pb2.EXECUTION_STATE_COMPLETED,
    ExecutionState.UNKNOWN: execution_pb2.EXECUTION_STATE_UNKNOWN,
}
