"""One turn over StreamBatch."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Self

import grpc
import grpc.aio

from sidecall._batch_results import BatchResults
from sidecall._rpc_errors import SidecallError, closed_error, is_cancelled, make_error
from sidecall._tool_calls import ToolCallLike, to_tool_call
from sidecall.v1.execution_pb2 import ToolResult
from sidecall.v1.tool_service_pb2 import (
    BatchEvent,
    BatchSummary,
    StreamBatchRequest,
    StreamBatchResponse,
    StreamCall,
    StreamCancel,
    StreamSeal,
    StreamStart,
)

if TYPE_CHECKING:
    _Call = grpc.aio.StreamStreamCall[StreamBatchRequest, StreamBatchResponse]

_OVER = "the turn is already over"


class BatchStream:
    """One turn whose calls are sent while the model is still producing them.

    Use it as an async context manager. Entering raises SidecallError where the sidecar does
    not accept the turn; leaving before the turn is over cancels it.
    Events have one consumer: either iterate, or await `results()`, or first one and then
    the other, in one task. Cancelling that task cancels the turn.
    """

    def __init__(
        self,
        start: StreamStart,
        open_call: "Callable[[], _Call]",
        find_instance: Callable[[], Awaitable[str]],
    ) -> None:
        self._start = start
        self._open_call = open_call
        self._find_instance = find_instance
        self._call: _Call | None = None
        self._sent: set[int] = set()
        self._pending: list[BatchEvent] = []
        self._results: dict[int, ToolResult] = {}
        self._sealed = False
        self._half_closed = False
        self._over = False
        self._accepted = False
        self.summary: BatchSummary | None = None
        """The turn's summary; None before it is over."""
        self.sent_to_instance = start.sent_to_instance
        """Where the turn was first sent, for `execute_batch` under the same request_id. Empty
        where that is not known, or the turn has no request_id of its own: then a lost turn
        must not be sent again."""

    @property
    def request_id(self) -> str:
        """Key under which the turn's calls may be sent again, by `execute_batch`.

        Once the turn is over it may be one that the sidecar made because a call waits for
        approval. Empty where there is none.
        """
        return self._start.request_id if self.summary is None else self.summary.request_id

    async def __aenter__(self) -> Self:
        if self._start.request_id and not self.sent_to_instance:
            self.sent_to_instance = await self._find_instance()
        self._call = self._open_call()
        try:
            await self._write(StreamBatchRequest(start=self._start))
            # Nothing is sent before the sidecar has accepted the turn: a message that gRPC
            # cannot send any more hides the reason of a refusal.
            first = await self._read()
        except SidecallError as error:
            # No call was sent now, whatever the reason.
            error.not_started = not self._start.sent_to_instance
            error.sent_to_instance = self._start.sent_to_instance
            raise
        except BaseException:
            self._call.cancel()
            raise
        self._accepted = True
        if first is not None:
            self._pending.extend(reversed(first.events))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._call is not None and not self._over:
            self._over = True
            self._call.cancel()

    async def send(self, index: int, call: ToolCallLike) -> None:
        """Sends a call that the model has finished.

        Args:
            index: Its position in the turn, counted from 0.
            call: The call.

        Raises:
            SidecallError: The RPC failed.
            ValueError: The index was sent before, or the turn is sealed or abandoned.
        """
        if index in self._sent or self._sealed or self._half_closed:
            raise ValueError(f"call {index} cannot be sent: it was, or the turn has ended")
        message = to_tool_call(call)
        self._sent.add(index)
        await self._write(StreamBatchRequest(call=StreamCall(index=index, call=message)))

    async def seal(self) -> None:
        """Ends the turn: calls that are held may start.

        Raises:
            SidecallError: The RPC failed.
            ValueError: The turn is sealed or abandoned.
        """
        if self._sealed:
            raise ValueError("the turn is already sealed")
        self._check_not_abandoned()
        self._sealed = True
        await self._write(StreamBatchRequest(seal=StreamSeal(call_count=len(self._sent))))

    async def cancel(self, index: int) -> None:
        """Cancels one call. One that is already final is left as it is.

        Raises:
            SidecallError: The RPC failed.
            ValueError: The turn is abandoned.
        """
        if self.summary is None and not self._over and index not in self._results:
            self._check_not_abandoned()
            await self._write(StreamBatchRequest(cancel=StreamCancel(index=index)))

    async def abandon(self) -> None:
        """Gives the unsealed turn up: calls that are held are never started."""
        if not self._half_closed and not self._over:
            self._half_closed = True
            await self._half_close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchEvent:
        while not self._pending:
            response = await self._read()
            if response is None:
                raise StopAsyncIteration
            self._pending.extend(reversed(response.events))
        event = self._pending.pop()
        if event.HasField("result"):
            self._results[event.result.index] = event.result.result
        elif event.HasField("summary"):
            self.summary = event.summary
            # The sidecar waits for it, so that what is sent until now does not cross the end
            # of the RPC: gRPC would fail the RPC then, and drop what was not read.
            await self._half_close()
        return event

    async def results(self) -> BatchResults:
        """Waits for the turn to end and returns its results, ordered by index.

        Raises:
            SidecallError: The RPC failed, or a call that was sent has no result.
        """
        async for _ in self:
            pass
        if missing := sorted(self._sent - self._results.keys()):
            raise SidecallError(
                f"the turn ended without results of the calls {missing}",
                code=grpc.StatusCode.INTERNAL,
            )
        summary = self.summary or BatchSummary()
        return BatchResults(
            (self._results[index] for index in sorted(self._results)),
            self.request_id,
            summary.schedule,
        )

    def _running_call(self) -> "_Call":
        if self._call is None:
            raise RuntimeError("a BatchStream is an async context manager: use `async with`")
        return self._call

    def _check_not_abandoned(self) -> None:
        # gRPC would refuse the message, and say why only once all events have been read.
        if self._half_closed:
            raise ValueError("the turn is abandoned: nothing can be sent any more")

    async def _half_close(self) -> None:
        try:
            await self._running_call().done_writing()
        except grpc.aio.InternalError:
            # gRPC could not half-close: the RPC is over, and the turn with it.
            self._running_call().cancel()

    async def _write(self, message: StreamBatchRequest) -> None:
        call = self._running_call()
        if self.summary is not None:
            raise SidecallError(_OVER, code=grpc.StatusCode.FAILED_PRECONDITION)
        try:
            await call.write(message)
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            raise await self._why_over(call) from error
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise self._noted(closed_error("turn or its client")) from None

    async def _read(self) -> StreamBatchResponse | None:
        if self._over:
            return None
        call = self._running_call()
        try:
            response = await call.read()
        except grpc.RpcError as error:
            self._over = True
            if self.summary is not None:
                return None  # All has been said.
            raise await self._why_over(call) from error
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise self._noted(closed_error("turn or its client")) from None
        if isinstance(response, StreamBatchResponse):
            return response
        self._over = True
        return None

    async def _why_over(self, call: "_Call") -> SidecallError:
        code, details = await call.code(), await call.details()
        if code is grpc.StatusCode.OK:
            code, details = grpc.StatusCode.FAILED_PRECONDITION, _OVER
        return self._noted(make_error(code, details, await call.trailing_metadata()))

    def _noted(self, error: SidecallError) -> SidecallError:
        if self._accepted:
            # Calls of an accepted turn may have run, whatever the reason.
            error.not_started = False
            error.sent_to_instance = self.sent_to_instance
        return error
