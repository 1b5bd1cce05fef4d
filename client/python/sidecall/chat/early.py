"""Early start: a turn's calls go out while the model is still writing the turn."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self

import grpc

from sidecall._batch_stream import BatchStream
from sidecall._rpc_errors import SidecallError
from sidecall.chat.events import (
    CallFinished,
    CallPartialOutput,
    CallProgress,
    CallQueued,
    CallStarted,
    ChatEvent,
    EarlyStartAbandoned,
    Emitter,
)
from sidecall.chat.history import TurnRecord
from sidecall.chat.turn_calls import TurnCalls
from sidecall.v1.execution_pb2 import (
    EXECUTION_STATE_NOT_STARTED,
    BlockCause,
    ToolCall,
    ToolResult,
)
from sidecall.v1.tool_service_pb2 import BatchEvent
from sidecall.v1.tool_service_pb2 import CallFinished as ResultEvent

_ANSWER_S = 5.0
"""Seconds in which a sidecar that serves gives the results of calls that are cancelled."""


class EarlyCalls:
    """Calls of one turn that are sent over StreamBatch before the turn is over.

    Args:
        turn: Number of the model turn.
        open_stream: Opens StreamBatch.
        emit: Is told what happens to the calls.
        timeout_s: Seconds for the calls from the seal; then what has not ended is
            cancelled, which gives it a result, or else ends the turn. None for no bound.
        hold_unstarted: Whether results of calls that were not started are not reported: a
            human's decision may start them later.

    Attributes:
        told: Indexes of the calls whose results were reported.
        request_id: Key under which the calls may be sent again once they were released;
            empty where there is none.
        sent_to_instance: Where they were sent; empty where they must not be sent again.
    """

    def __init__(
        self,
        turn: int,
        open_stream: Callable[[], BatchStream],
        emit: Emitter,
        timeout_s: float | None,
        *,
        hold_unstarted: bool = False,
    ) -> None:
        self._turn = turn
        self._open_stream = open_stream
        self._emit = emit
        self._timeout_s = timeout_s
        self._hold_unstarted = hold_unstarted
        self.told: set[int] = set()
        self.request_id = ""
        self.sent_to_instance = ""
        self._resources = AsyncExitStack()
        self._stream: BatchStream | None = None
        self._reader: asyncio.Task[None] | None = None
        self._sent: list[ToolCall] = []
        self._calls: TurnCalls | None = None
        self._given_up = False
        self._sealed = False
        self._results: dict[int, ToolResult] = {}
        self._record: TurnRecord | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    async def send(self, calls: TurnCalls) -> None:
        """Sends the calls that the model has finished and that were not sent yet."""
        unsent = calls.batch[len(self._sent) :]
        if self._given_up or not unsent:
            return
        self._calls = calls
        try:
            stream = self._stream or await self._open()
            for call in unsent:
                self._sent.append(call)
                await stream.send(len(self._sent) - 1, call)
        except SidecallError as error:
            await self.abandon(str(error))

    async def abandon(self, reason: str) -> None:
        """Gives up what was sent; only tools that are read_only can have run."""
        if self._given_up:
            return
        self._given_up = True
        if self._stream is not None:
            await self._stream.abandon()
        await self._emit(EarlyStartAbandoned(self._turn, reason))

    async def complete(self, calls: TurnCalls, record: TurnRecord) -> bool:
        """Runs the turn to its end once all of its calls are known.

        Returns:
            Whether every call has its result in the record. If not, nothing has taken
            effect, and the calls are to be sent as one batch.

        Raises:
            SidecallError: The turn failed after the calls were released. Without a
                `request_id` they are never sent again, whatever the sidecar says.
        """
        if self._sent != calls.batch[: len(self._sent)]:
            await self.abandon("the model changed a call that had been sent")
        await self.send(calls)
        if self._reader is not None and self._reader.done():
            await self._reader
        if self._given_up or self._stream is None or self._reader is None:
            return False
        self._record = record
        self._sealed = True
        self.request_id = self._stream.request_id
        self.sent_to_instance = self._stream.sent_to_instance
        for index, result in self._results.items():
            record.add_result(index, result)
        await self._stream.seal()
        await self._wait(self._stream, self._reader)
        await self._stream.results()
        self.request_id = self._stream.request_id
        return True

    async def _open(self) -> BatchStream:
        self._stream = await self._resources.enter_async_context(self._open_stream())
        self._reader = asyncio.create_task(self._read(self._stream))
        self._resources.push_async_callback(_stop, self._reader)
        return self._stream

    async def _wait(self, stream: BatchStream, reader: "asyncio.Task[None]") -> None:
        await asyncio.wait([reader], timeout=self._timeout_s)
        if not reader.done():
            canceller = asyncio.create_task(self._cancel_all(stream))
            try:
                await self._wait_for_answers(reader)
            finally:
                await _stop(canceller)
        await reader

    async def _cancel_all(self, stream: BatchStream) -> None:
        for index in range(len(self._sent)):
            await stream.cancel(index)

    async def _wait_for_answers(self, reader: "asyncio.Task[None]") -> None:
        while not reader.done():
            await asyncio.wait([reader], timeout=_ANSWER_S)
            # While a hook is told of an event, nobody hears of the next one.
            if not (reader.done() or self._emit.is_telling):
                raise SidecallError(
                    "the sidecar did not answer when the time of its calls was over",
                    code=grpc.StatusCode.DEADLINE_EXCEEDED,
                )

    async def _read(self, stream: BatchStream) -> None:
        why = "the sidecar ended the turn before its seal"
        try:
            async for event in stream:
                if event.HasField("result"):
                    self._keep(event.result)
                translated = _translate(self._turn, event)
                if translated is not None and not (self._given_up or self._holds(translated)):
                    await self._emit(translated)
                    if isinstance(translated, CallFinished):
                        self.told.add(translated.index)
        except SidecallError as error:
            if self._sealed:
                raise
            why = str(error)
        if not self._sealed:
            await self.abandon(why)

    def _holds(self, event: ChatEvent) -> bool:
        return (
            self._hold_unstarted
            and isinstance(event, CallFinished)
            and event.result.execution_state == EXECUTION_STATE_NOT_STARTED
        )

    def _keep(self, finished: ResultEvent) -> None:
        index = finished.index
        if self._calls is not None:
            finished.result.CopyFrom(self._calls.settle(index, finished.result))
        self._results[index] = finished.result
        if self._record is not None:
            self._record.add_result(index, finished.result)


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        # Whoever needed to know has been told; asyncio must not report it as lost.
        task.exception()


def _translate(turn: int, event: BatchEvent) -> ChatEvent | None:
    match event.WhichOneof("event"):
        case "queued":
            queued = event.queued
            known = queued.cause in BlockCause.values()
            cause = BlockCause.Name(queued.cause) if known else "BLOCK_CAUSE_UNSPECIFIED"
            return CallQueued(turn, queued.index, cause, tuple(queued.waiting_for))
        case "started":
            return CallStarted(turn, event.started.index, event.started.attempt)
        case "progress":
            report = event.progress
            total = report.total if report.HasField("total") else None
            return CallProgress(turn, report.index, report.progress, total, report.message)
        case "partial_output":
            return CallPartialOutput(turn, event.partial_output.index, event.partial_output.text)
        case "result":
            return CallFinished(turn, event.result.index, event.result.result)
        case _:
            return None
