"""StreamBatch: messages in, events out, coalesced."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial

from sidecall.v1 import tool_service_pb2
from sidecall_server.core.call import Call, ToolCall
from sidecall_server.core.events import CallEvent, Finished
from sidecall_server.core.outcome import Reason
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.bugs import internal_error
from sidecall_server.engine.engine import Engine
from sidecall_server.engine.stream import ProtocolError, StreamIntake
from sidecall_server.transport.event_buffer import EventBuffer
from sidecall_server.transport.event_messages import Event, EventMessages, Response
from sidecall_server.transport.idle import IdleTimer
from sidecall_server.transport.opening import first_message
from sidecall_server.transport.requests import Peer, batch_options, tool_call

_HALF_CLOSE_S = 0.25
"""Seconds that a client may take to half-close once it was sent the summary."""

Request = tool_service_pb2.StreamBatchRequest
StreamStart = tool_service_pb2.StreamStart


async def serve_stream(
    engine: Engine, requests: AsyncIterator[Request], peer: Peer
) -> AsyncGenerator[Response, None]:
    """Serves one turn.

    Raises:
        Rejection: The turn was not accepted, or the client broke the protocol before any
            call was started.
    """
    messages = aiter(requests)
    options = batch_options(
        await _start(engine, messages), engine.limits, engine.clock.now_ns(), peer
    )
    known = await engine.look_up(options, None)
    events = EventBuffer()
    batch = engine.open(options, events, known)
    batch.done.add_done_callback(lambda _: events.wake())
    intake = StreamIntake(engine, batch)
    idle = _idle_timer(engine, intake)
    over = asyncio.Event()
    closing = contextlib.ExitStack()
    for callback in (partial(engine.close, batch), intake.answered, over.set, idle.stop):
        closing.callback(callback)
    reader = asyncio.create_task(_read(messages, intake, idle, over))
    reader.add_done_callback(lambda _: events.wake())
    out = EventMessages(batch)
    try:
        yield _accepted(batch)
        problem: Rejection | None = None
        is_refused = False
        try:
            while not batch.done.done():
                for message in out.of(await _settled(engine, batch, events)):
                    yield message
                problem = _problem(reader)
            problem = _problem(reader)
            is_refused = problem is not None and _is_refusal(problem, batch)
            events.wake()
            last = await _settled(engine, batch, events)
            for message in () if is_refused else out.of(last):
                yield message
        except Exception:
            # An RPC that fails would say that no call was started.
            problem = Rejection(RejectionReason.INTERNAL, internal_error("serving a turn"))
            for message in out.missing(problem.message):
                yield message
        if is_refused and problem is not None:
            raise problem
        await engine.remember(batch)
        yield out.summary(intake.sealed, problem)
        closing.close()
        # What the client sends before it has read the summary must not cross the end of the
        # RPC: grpc.aio would fail it then, and drop the results that were not read.
        await asyncio.wait([reader], timeout=_HALF_CLOSE_S)
    finally:
        closing.close()
        reader.cancel()
        await asyncio.wait([reader])


def _accepted(batch: Batch) -> Response:
    received_unix_nanos = batch.epoch_ns + batch.received_ns
    accepted = tool_service_pb2.BatchAccepted(received_unix_nanos=received_unix_nanos)
    return Response(events=[Event(accepted=accepted)])


async def _settled(engine: Engine, batch: Batch, events: EventBuffer) -> list[CallEvent]:
    """Waits for events; results in them are durable, where they have to be."""
    arrived = await events.wait()
    if any(type(event) is Finished for event in arrived):
        await engine.settle(batch)
    return arrived


async def _start(engine: Engine, messages: AsyncIterator[Request]) -> StreamStart:
    """The message that opens the turn.

    Raises:
        Rejection: There is none, or no turn is accepted.
    """
    first = await first_message(engine, messages, "StreamBatch")
    if isinstance(first, Rejection):
        engine.check_accepting()
        raise first
    is_start = first is not None and first.WhichOneof("message") == "start"
    # What may be known has to be looked at first: known turns are served until the end.
    engine.check_accepting(is_known=first is not None and is_start and bool(first.start.request_id))
    if first is None or not is_start:
        raise _invalid("the first message must hold `start`")
    return first.start


def _problem(reader: "asyncio.Task[Rejection | None]") -> Rejection | None:
    """What ended the reading of a turn; raises what it failed with."""
    return reader.result() if reader.done() and not reader.cancelled() else None


def _is_refusal(problem: Rejection, batch: Batch) -> bool:
    """Whether the RPC fails: the client's fault, and no call was started."""
    ours = problem.reason is RejectionReason.INTERNAL
    return not ours and not any(call.attempt for call in batch.calls.values())


def _idle_timer(engine: Engine, intake: StreamIntake) -> IdleTimer:
    timeout_s = engine.limits.stream_idle_timeout_s

    def abandon() -> None:
        if not intake.sealed:
            intake.abandon(
                "The turn was abandoned: the client sent nothing for "
                f"{timeout_s:g} s before its seal."
            )

    return IdleTimer(engine.clock, timeout_s, abandon)


async def _read(
    messages: AsyncIterator[Request], intake: StreamIntake, idle: IdleTimer, over: asyncio.Event
) -> Rejection | None:
    """Feeds the turn until it ends; returns the problem that ended it, if one did.

    Once the turn is over, what still comes means nothing.
    """
    try:
        async for message in messages:
            if not over.is_set():
                idle.heard()
                await _dispatch(message, intake)
    except ProtocolError as violation:
        intake.abandon("The turn was abandoned: the client broke the protocol.")
        return _invalid(str(violation))
    except Rejection as rejection:
        intake.abandon("The turn was abandoned: a call was malformed.")
        return rejection
    except Exception:
        # Nobody feeds the turn any more: it must end.
        why = internal_error("reading a turn")
        intake.batch.cancel_waiting(Reason.INTERNAL, why)
        return Rejection(RejectionReason.INTERNAL, why)
    if not (intake.sealed or over.is_set()):
        intake.abandon("The client abandoned the turn before its seal.")
    return None


async def _dispatch(message: Request, intake: StreamIntake) -> None:
    if isinstance(message, Rejection):
        raise message
    kind = message.WhichOneof("message")
    if kind == "call":
        await _add(message.call, intake)
    elif kind == "seal":
        await intake.seal(message.seal.call_count)
    elif kind == "cancel":
        intake.cancel(message.cancel.index)
    else:
        raise ProtocolError(
            "`start` was sent twice" if kind == "start" else "a message holds nothing known"
        )


async def _add(message: tool_service_pb2.StreamCall, intake: StreamIntake) -> None:
    """Adds a call. One that is lost for the sidecar's own fault still gets a result."""
    index, batch = message.index, intake.batch
    try:
        await intake.add(index, tool_call(message.call, index))
    except (ProtocolError, Rejection):
        raise
    except Exception:
        if index not in batch.calls:
            request = ToolCall(message.call.id, message.call.name)
            batch.add([Call(index, request, batch.options, batch.observer, batch.received_ns)])
        raise


def _invalid(why: str) -> Rejection:
    return Rejection(RejectionReason.REQUEST_INVALID, f"StreamBatch: {why}")
