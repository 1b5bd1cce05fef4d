"""From events to the messages of StreamBatch."""

from collections.abc import Iterable
from dataclasses import replace

from sidecall.v1 import execution_pb2, tool_service_pb2
from sidecall_server.core.events import (
    CallEvent,
    Finished,
    PartialOutput,
    Progress,
    Queued,
    Started,
)
from sidecall_server.core.outcome import Reason
from sidecall_server.core.rejection import Rejection
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.bugs import internal_error, internal_failure
from sidecall_server.policy.budget import cut
from sidecall_server.transport.result_budgets import fit
from sidecall_server.transport.results import (
    fill_failure,
    fill_result,
    result_budgets,
    state_of,
)
from sidecall_server.transport.schedule import fill_schedule
from sidecall_server.transport.status import rejection_status

_MAX_TEXT_CHARS = 256 * 1024
"""Text of one event: at most 1 MiB, a quarter of what a default client takes."""

Response = tool_service_pb2.StreamBatchResponse
Event = tool_service_pb2.BatchEvent


class EventMessages:
    """Makes the messages of one turn, and keeps count of the results in them.

    What goes wrong with one event costs only that event; a result is sent in any case.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._budgets = result_budgets(batch)
        self._answered: set[int] = set()
        self._ok_count = 0

    def of(self, events: Iterable[CallEvent]) -> Iterable[Response]:
        """Events as messages, each within the budget of one response."""
        budget = self._batch.options.max_response_bytes
        message, size = Response(), 0
        for event in _split(events):
            converted = self._convert(event)
            if converted is None:
                continue
            bytes_more = converted.ByteSize()
            if size and size + bytes_more > budget:
                yield message
                message, size = Response(), 0
            message.events.append(converted)
            size += bytes_more
        if size:
            yield message

    def missing(self, why: str) -> Iterable[Response]:
        """Ends the turn for the sidecar's own fault; the results that were not sent yet."""
        try:
            self._batch.cancel(Reason.INTERNAL, why)
        except Exception:
            internal_error("ending a turn")
        yield from self.of([Finished(i) for i in self._batch.calls if i not in self._answered])

    def summary(self, sealed: bool, problem: Rejection | None) -> Response:
        """The last message; `problem` is what the turn was abandoned for, if it was."""
        received_ns = self._batch.received_ns
        calls = self._batch.calls.values()
        summary = tool_service_pb2.BatchSummary(
            call_count=len(self._answered),
            ok_count=self._ok_count,
            sealed=sealed,
            duration_ns=max((c.finished_ns for c in calls), default=received_ns) - received_ns,
        )
        summary.request_id = self._batch.request_id
        if problem is not None:
            summary.status.CopyFrom(rejection_status(problem))
        fill_schedule(summary.schedule, self._batch)
        return Response(events=[Event(summary=summary)])

    def _convert(self, event: CallEvent) -> Event | None:
        if isinstance(event, Finished):
            return self._result(event.index)
        try:
            return _observation(event)
        except Exception:
            internal_error(f"converting an event of call {event.index}")
            return None

    def _result(self, index: int) -> Event:
        call, max_bytes = self._batch.calls[index], self._batch.options.max_response_bytes
        result = execution_pb2.ToolResult()
        max_result_bytes = self._budgets.get(call.request.name)
        fill_result(result, call, self._batch.epoch_ns, max_result_bytes)
        try:
            if result.ByteSize() > max_bytes:
                for _ in fit([result], max_bytes):
                    pass
        except Exception:
            fill_failure(result, call.request, internal_failure(call, state_of(call)))
        self._answered.add(index)
        self._ok_count += not result.status.code
        return Event(result=tool_service_pb2.CallFinished(index=index, result=result))


def _split(events: Iterable[CallEvent]) -> Iterable[CallEvent]:
    """The same events, none of them too large for a message."""
    for event in events:
        if isinstance(event, PartialOutput) and len(event.text) > _MAX_TEXT_CHARS:
            for start in range(0, len(event.text), _MAX_TEXT_CHARS):
                yield PartialOutput(event.index, event.text[start : start + _MAX_TEXT_CHARS])
        elif isinstance(event, Progress) and len(event.message) > _MAX_TEXT_CHARS:
            yield replace(event, message=cut(event.message, _MAX_TEXT_CHARS))
        else:
            yield event


def _observation(event: CallEvent) -> Event:
    index = event.index
    if isinstance(event, Started):
        return Event(started=tool_service_pb2.CallStarted(index=index, attempt=event.attempt))
    if isinstance(event, Queued):
        cause = execution_pb2.BlockCause.ValueType(event.cause)
        return Event(
            queued=tool_service_pb2.CallQueued(
                index=index, cause=cause, waiting_for=event.waiting_for
            )
        )
    if isinstance(event, Progress):
        progress = tool_service_pb2.CallProgress(
            index=index, progress=event.progress, total=event.total, message=event.message
        )
        return Event(progress=progress)
    assert isinstance(event, PartialOutput)  # noqa: S101  narrows the last member of the union
    return Event(partial_output=tool_service_pb2.CallPartialOutput(index=index, text=event.text))
