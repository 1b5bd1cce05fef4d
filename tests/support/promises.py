"""The promises of the sidecar, checked against what happened."""

from collections import Counter
from collections.abc import Sequence

from google.rpc import error_details_pb2
from tests.support.random_batches import Expectation, PlannedBatch
from tests.support.recorded_tools import LIMITS, Recorder

from sidecall.v1 import execution_pb2

NOT_STARTED = execution_pb2.EXECUTION_STATE_NOT_STARTED
COMPLETED = execution_pb2.EXECUTION_STATE_COMPLETED
UNKNOWN = execution_pb2.EXECUTION_STATE_UNKNOWN

STATES = {"OK": COMPLETED, "TOOL_FAILED": COMPLETED, "TOOL_TIMEOUT": UNKNOWN}
"""Execution states that are not NOT_STARTED."""


def reason_of(result: execution_pb2.ToolResult) -> str:
    """Why a call failed; OK where it did not."""
    if not result.status.code:
        return "OK"
    info = error_details_pb2.ErrorInfo()
    assert result.status.details[0].Unpack(info)
    assert info.domain == "sidecall.dev"
    return str(info.reason)


def check_batch(
    batch: PlannedBatch,
    results: Sequence[execution_pb2.ToolResult],
    recorder: Recorder,
    *,
    streamed: bool = False,
) -> None:
    """Asserts all that is promised about one batch, or about a turn that was streamed."""
    assert len(results) == len(batch.calls)
    expected = Expectation(batch)
    reasons = [reason_of(result) for result in results]
    for index, result in enumerate(results):
        check_result(batch, index, result, recorder)
    for index, reason in enumerate(reasons):
        allowed = expected.allowed(index, streamed=streamed)
        assert reason in allowed | ({"STOPPED"} if batch.on_failure == "STOP" else set())
    if "STOPPED" in reasons:
        assert set(reasons) - {"OK", "STOPPED"}
    for index, reason in enumerate(reasons):
        if reason == "OK":
            assert recorder.values[batch.key(index)] == expected.values(index)
    check_order(batch, expected, reasons, recorder)


def check_result(
    batch: PlannedBatch, index: int, result: execution_pb2.ToolResult, recorder: Recorder
) -> None:
    """Asserts that one result answers its call, and says honestly how far the call got."""
    call, reason = batch.calls[index], reason_of(result)
    assert (result.call_id, result.name) == (call.id, call.tool)
    assert result.content
    assert result.execution_state == STATES.get(reason, NOT_STARTED)
    starts = recorder.starts()[batch.key(index)]
    assert starts == result.attempts == (result.execution_state != NOT_STARTED)
    timing = result.timing
    assert 0 <= timing.ready_offset_ns <= timing.finished_offset_ns
    assert timing.HasField("started_offset_ns") == bool(starts)
    if starts:
        assert timing.ready_offset_ns <= timing.started_offset_ns <= timing.finished_offset_ns


def check_order(
    batch: PlannedBatch, expected: Expectation, reasons: Sequence[str], recorder: Recorder
) -> None:
    """Asserts that dependencies ended OK before a start, and that the batch's limits held."""
    keys = set(batch.keys)
    for index in range(len(batch.calls)):
        if not recorder.starts()[batch.key(index)]:
            continue
        started = recorder.position("start", batch.key(index))
        for dependency in expected.edges[index]:
            assert reasons[dependency] == "OK"
            assert recorder.position("end", batch.key(dependency)) < started
    limit = 1 if batch.mode == "SEQUENTIAL" else batch.max_concurrency or len(batch.calls)
    assert peak(recorder, keys) <= limit


def check_tool_limits(recorder: Recorder) -> None:
    """Asserts that no tool ran more often at a time than it may, whoever called it."""
    for tool, limit in LIMITS.items():
        keys = {mark.key for mark in recorder.marks if mark.tool == tool}
        assert peak(recorder, keys) <= limit
    assert all(count == 1 for count in recorder.starts().values())


def peak(recorder: Recorder, keys: set[str]) -> int:
    """Most of some calls that ran at a time."""
    running: Counter[str] = Counter()
    most = 0
    for mark in recorder.marks:
        if mark.key in keys:
            running["now"] += 1 if mark.what == "start" else -1
            most = max(most, running["now"])
    return most
