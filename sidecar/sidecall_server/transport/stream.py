"""StreamBatch: messages in, events out, coalesced."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
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
from sidecall_server.core.outcome import Success
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.engine import Engine
from sidecall_server.engine.stream import ProtocolError, StreamIntake
from sidecall_server.policy.budget import cut
from sidecall_server.transport.requests import Peer, batch_options, tool_call
from sidecall_server.transport.results import fill_result, fit
from sidecall_server.transport.status import rejection_status

_log = logging.getLogger("sidecall.transport")

_FIRST_MESSAGE_S = 0.5
"""Seconds that the first message may take once the sidecar drains."""

_MANY_EVENTS = 10_000

_MAX_TEXT_CHARS = 256 * 1024
"""Text of one event: at most 1 MiB, a quarter of what a default client takes."""

Request = tool_service_pb2.StreamBatchRequest
Response = tool_service_pb2.StreamBatchResponse
Event = tool_service_pb2.BatchEvent


class _Events:
    """Events that were not sent yet. All that occur in one loop turn go into one message.

    Where very many wait for a client that does not read, only the newest progress of each
    call is kept: a tool that reports in a tight loop must not fill the memory.
    """

    def __init__(self) -> None:
        self._events: list[CallEvent] = []
        self._progress: dict[int, int] = {}  # position of the newest progress of each call
        self._some = asyncio.Event()

    def __call__(self, event: CallEvent) -> None:
        if type(event) is Progress:
            newest = self._progress.get(event.index)
            if newest is not None and len(self._events) > _MANY_EVENTS:
                self._events[newest] = event
                return
            self._progress[event.index] = len(self._events)
        self._events.append(event)
        self._some.set()

    def wake(self) -> None:
        """Ends a `wait` although nothing happened."""
        self._some.set()

    async def wait(self) -> list[CallEvent]:
        """Waits for events and takes them; may be empty after `wake`."""
        await self._some.wait()
        self._some.clear()
        events, self._events = self._events, []
        self._progress.clear()
        return events


async def serve_stream(
    engine: Engine, requests: AsyncIterator[Request], peer: Peer
) -> AsyncGenerator[Response, None]:
    """Serves one turn.

    Raises:
        Rejection: The turn was not accepted, or the client broke the protocol before any
            call was started.
    """
    messages = aiter(requests)
    first = await _first(engine, messages)
    engine.check_accepting()
    if isinstance(first, Rejection):
        raise first
    if first is None or first.WhichOneof("message") != "start":
        raise _invalid("the first message must hold `start`")
    options = batch_options(first.start, engine.limits, engine.clock.now_ns(), peer)
    events = _Events()
    batch = engine.open(options, events)
    batch.done.add_done_callback(lambda _: events.wake())
    intake = StreamIntake(engine, batch)
    reader = asyncio.create_task(_read(messages, intake))
    try:
        accepted = tool_service_pb2.BatchAccepted(
            received_unix_nanos=batch.epoch_ns + batch.received_ns
        )
        yield Response(events=[Event(accepted=accepted)])
        while not batch.done.done():
            for message in _messages(batch, await events.wait()):
                yield message
        violation = reader.result() if reader.done() and not reader.cancelled() else None
        if violation is not None and not any(c.attempt for c in batch.calls.values()):
            raise violation
        events.wake()
        for message in _messages(batch, await events.wait()):
            yield message
        yield Response(events=[Event(summary=_summary(intake, violation))])
    finally:
        reader.cancel()
        engine.close(batch)
        await asyncio.wait([reader])


async def _first(engine: Engine, messages: AsyncIterator[Request]) -> Request | None:
    """The first message; None where the client sends none, or not before the sidecar drains.

    It is awaited also where the turn will be refused: a refusal that crosses a message
    reaches clients of grpc.aio as INTERNAL.
    """
    first = asyncio.ensure_future(anext(messages, None))
    try:
        await asyncio.wait((first, engine.draining), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((first,), timeout=_FIRST_MESSAGE_S)
        return first.result() if first.done() else None
    finally:
        first.cancel()


async def _read(messages: AsyncIterator[Request], intake: StreamIntake) -> Rejection | None:
    """Feeds the turn until it ends; returns the violation that ended it, if one did."""
    try:
        async for message in messages:
            _dispatch(message, intake)
    except ProtocolError as violation:
        intake.abandon("The turn was abandoned: the client broke the protocol.")
        return _invalid(str(violation))
    except Rejection as rejection:
        intake.abandon("The turn was abandoned: a call was malformed.")
        return rejection
    except Exception:
        # Nobody feeds the turn any more: it must end.
        error_id = secrets.token_hex(4)
        _log.exception("reading a turn failed (error %s)", error_id)
        intake.abandon("The turn was abandoned: internal error.")
        return Rejection(RejectionReason.INTERNAL, f"Internal error {error_id}.")
    if not intake.sealed:
        intake.abandon("The client abandoned the turn before its seal.")
    return None


def _dispatch(message: Request, intake: StreamIntake) -> None:
    if isinstance(message, Rejection):
        raise message
    kind = message.WhichOneof("message")
    if kind == "call":
        call = message.call
        intake.add(call.index, tool_call(call.call, call.index))
    elif kind == "seal":
        intake.seal(message.seal.call_count)
    elif kind == "cancel":
        intake.cancel(message.cancel.index)
    else:
        raise ProtocolError(
            "`start` was sent twice" if kind == "start" else "a message holds nothing known"
        )


def _messages(batch: Batch, events: Iterable[CallEvent]) -> Iterable[Response]:
    """Events as messages, each within the budget of one response."""
    budget = batch.options.max_response_bytes
    message, size = Response(), 0
    for event in _split(events):
        converted = _convert(batch, event)
        bytes_more = converted.ByteSize()
        if size and size + bytes_more > budget:
            yield message
            message, size = Response(), 0
        message.events.append(converted)
        size += bytes_more
    if size:
        yield message


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


def _convert(batch: Batch, event: CallEvent) -> Event:
    index = event.index
    if isinstance(event, Finished):
        result = execution_pb2.ToolResult()
        fill_result(result, batch.calls[index], batch.epoch_ns)
        if result.ByteSize() > batch.options.max_response_bytes:
            fit([result], batch.options.max_response_bytes)
        return Event(result=tool_service_pb2.CallFinished(index=index, result=result))
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


def _summary(intake: StreamIntake, violation: Rejection | None) -> tool_service_pb2.BatchSummary:
    batch = intake.batch
    calls = batch.calls.values()
    summary = tool_service_pb2.BatchSummary(
        call_count=len(calls),
        ok_count=sum(type(call.outcome) is Success for call in calls),
        sealed=intake.sealed,
        duration_ns=max((c.finished_ns for c in calls), default=batch.received_ns)
        - batch.received_ns,
    )
    if violation is not None:
        summary.status.CopyFrom(rejection_status(violation))
    return summary


def _invalid(why: str) -> Rejection:
    return Rejection(RejectionReason.REQUEST_INVALID, f"StreamBatch: {why}")
