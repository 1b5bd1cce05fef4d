"""A minimal ToolService: enough of the contract to test clients without a sidecar."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2
from tests.support.fake_requests import FakeRequest, FakeSend, failed, unstarted

from sidecall.v1.execution_pb2 import (
    BLOCK_CAUSE_SEAL,
    EXECUTION_STATE_COMPLETED,
    EXECUTION_STATE_NOT_STARTED,
    EXECUTION_STATE_UNKNOWN,
    Schedule,
    ToolCall,
    ToolResult,
)
from sidecall.v1.tool_pb2 import EFFECTS_NON_IDEMPOTENT, EFFECTS_READ_ONLY, Tool
from sidecall.v1.tool_service_pb2 import (
    BatchAccepted,
    BatchEvent,
    BatchSummary,
    CallFinished,
    CallPartialOutput,
    CallProgress,
    CallQueued,
    CallStarted,
    ExecuteBatchRequest,
    ExecuteBatchResponse,
    GetCapabilitiesRequest,
    GetCapabilitiesResponse,
    ListToolsRequest,
    ListToolsResponse,
    StreamBatchRequest,
    StreamBatchResponse,
)
from sidecall.v1.tool_service_pb2_grpc import (
    ToolServiceServicer,
    add_ToolServiceServicer_to_server,
)

_HALF_CLOSE_S = 0.25
"""Seconds that a client may take to half-close, as with the sidecar."""

Report = Callable[[BatchEvent], Awaitable[None]]
ToolFunction = Callable[[dict[str, Any]], Awaitable[str]]


@dataclass
class FakeTool:
    """A tool of the fake service; one that raises fails its call."""

    function: ToolFunction
    read_only: bool = True
    needs_approval: bool = False
    progress: Sequence[str] = ()
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "object"})


@dataclass
class RpcFailure:
    """A status to refuse an RPC with."""

    code: grpc.StatusCode
    reason: str = ""
    retry_after_s: float | None = None


APPROVAL_UNKNOWN = RpcFailure(grpc.StatusCode.FAILED_PRECONDITION, "APPROVAL_UNKNOWN")


class FakeToolService(ToolServiceServicer):
    """Runs tools in this process. An async context manager.

    Attributes:
        tools: Its tools by name; may be changed while it serves.
        started: Names of the tools that were started, in order.
        batches: The requests of ExecuteBatch.
        streams: The messages of each StreamBatch.
        failures: Statuses to refuse the next RPCs with, one each, by RPC name; under "seal"
            statuses that end the next turns once their calls were released, under "answer"
            those that end the next ExecuteBatch RPCs once their calls have run.
        requests: What is remembered of each request_id.
        page_size: Tools per page.
        revision: Revision of its tools.
        instance_id: Its instance; empty for a sidecar that does not tell.
        metadata: Metadata of each RPC.
        address: Where to listen.
        endpoint: Where clients connect to.
        idle: Set when the last StreamBatch has ended.
    """

    def __init__(self, tools: dict[str, FakeTool], page_size: int = 2) -> None:
        self.tools = tools
        self.started: list[str] = []
        self.batches: list[ExecuteBatchRequest] = []
        self.streams: list[list[StreamBatchRequest]] = []
        self.failures: dict[str, list[RpcFailure]] = {}
        self.requests: dict[str, FakeRequest] = {}
        self.page_size = page_size
        self.revision = "fake"
        self.instance_id = "fake-1"
        self.metadata: list[dict[str, Any]] = []
        self.address = "127.0.0.1:0"
        self.endpoint = ""
        self.idle = asyncio.Event()
        self._open_streams = 0
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_ToolServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(self.address)
        self.endpoint = self.address.replace(":0", f":{port}")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.stop(None)
        await self._server.wait_for_termination()

    async def GetCapabilities(  # noqa: N802  the contract's name
        self, request: GetCapabilitiesRequest, context: Any
    ) -> GetCapabilitiesResponse:
        await self._maybe_fail("GetCapabilities", context)
        return GetCapabilitiesResponse(
            server_version="0.0.0-fake", features=["stream_batch"], instance_id=self.instance_id
        )

    async def ListTools(  # noqa: N802  the contract's name
        self, request: ListToolsRequest, context: Any
    ) -> ListToolsResponse:
        await self._maybe_fail("ListTools", context)
        names = sorted(self.tools)
        start = int(request.page_token or "0")
        end = start + self.page_size
        return ListToolsResponse(
            tools=[self._describe(name) for name in names[start:end]],
            next_page_token=str(end) if end < len(names) else "",
            revision=self.revision,
        )

    async def ExecuteBatch(  # noqa: N802  the contract's name
        self, request: ExecuteBatchRequest, context: Any
    ) -> ExecuteBatchResponse:
        self.batches.append(request)
        await self._maybe_fail("ExecuteBatch", context)
        send = self._send(request.request_id)
        if not send.request.decide(request.approvals):
            await refuse(APPROVAL_UNKNOWN, context)
        runs = [self._run(call, index, send, None) for index, call in enumerate(request.calls)]
        results = await asyncio.gather(*runs)
        await self._maybe_fail("answer", context)
        request_id = request.request_id or self._mint_id(send.request)
        schedule = Schedule(duration_ns=1, speed_up=len(results))
        return ExecuteBatchResponse(results=results, request_id=request_id, schedule=schedule)

    async def StreamBatch(  # noqa: N802  the contract's name
        self, request_iterator: AsyncIterator[StreamBatchRequest], context: Any
    ) -> AsyncIterator[StreamBatchResponse]:
        await self._maybe_fail("StreamBatch", context)
        messages: list[StreamBatchRequest] = []
        self.streams.append(messages)
        turn = _Turn(self)
        self._open_streams += 1
        self.idle.clear()
        receiver = asyncio.create_task(turn.receive(request_iterator, messages))
        try:
            while True:
                event = await turn.events.get()
                if event is None:
                    await asyncio.wait([receiver], timeout=_HALF_CLOSE_S)
                    break
                if isinstance(event, RpcFailure):
                    await refuse(event, context)
                    break
                yield StreamBatchResponse(events=[event])
        finally:
            receiver.cancel()
            for task in turn.running.values():
                task.cancel()
            await asyncio.gather(receiver, *turn.running.values(), return_exceptions=True)
            self._open_streams -= 1
            if not self._open_streams:
                self.idle.set()

    def _describe(self, name: str) -> Tool:
        tool = self.tools[name]
        effects = EFFECTS_READ_ONLY if tool.read_only else EFFECTS_NON_IDEMPOTENT
        return Tool(
            name=name,
            description=f"The tool {name}.",
            input_schema=json.dumps(tool.schema),
            effects=effects,
        )

    async def _maybe_fail(self, rpc: str, context: Any) -> None:
        self.metadata.append(dict(context.invocation_metadata()))
        planned = self.failures.get(rpc)
        if planned:
            await refuse(planned.pop(0), context)

    def _send(self, request_id: str) -> FakeSend:
        request = self.requests.get(request_id) or FakeRequest()
        if request_id:
            self.requests[request_id] = request
        return FakeSend(request)

    def _mint_id(self, request: FakeRequest) -> str:
        if not request.asked:
            return ""
        request_id = f"minted-{len(self.requests)}"
        self.requests[request_id] = request
        return request_id

    async def _run(
        self, call: ToolCall, index: int, send: FakeSend, report: Report | None
    ) -> ToolResult:
        tool = self.tools.get(call.name)
        if tool is None:
            text = f"There is no tool {call.name!r}."
            return unstarted(call, code_pb2.NOT_FOUND, text, "TOOL_NOT_FOUND")
        return await send.run(
            call,
            index,
            lambda call: self._start(call, tool, index, report),
            needs_approval=tool.needs_approval,
        )

    async def _start(
        self, call: ToolCall, tool: FakeTool, index: int, report: Report | None
    ) -> ToolResult:
        try:
            arguments = json.loads(call.arguments or "{}")
        except ValueError:
            text = "The arguments are not JSON."
            return unstarted(call, code_pb2.INVALID_ARGUMENT, text, "ARGUMENTS_INVALID")
        result = ToolResult(call_id=call.id, name=call.name)
        self.started.append(call.name)
        if report is not None:
            await report(BatchEvent(started=CallStarted(index=index, attempt=1)))
            for number, text in enumerate(tool.progress, 1):
                done = CallProgress(index=index, progress=number, message=text)
                await report(BatchEvent(progress=done))
                part = CallPartialOutput(index=index, text=text)
                await report(BatchEvent(partial_output=part))
        result.execution_state = EXECUTION_STATE_COMPLETED
        try:
            result.content = await tool.function(arguments)
        except ValueError as error:
            return failed(result, code_pb2.UNKNOWN, f"The tool failed: {error}")
        return result


class _Turn:
    """One StreamBatch."""

    def __init__(self, service: FakeToolService) -> None:
        self.events: asyncio.Queue[BatchEvent | RpcFailure | None] = asyncio.Queue()
        self.running: dict[int, asyncio.Task[None]] = {}
        self._service = service
        self._held: dict[int, ToolCall] = {}
        self._calls: dict[int, ToolCall] = {}
        self._results: dict[int, ToolResult] = {}
        self._sealed = False
        self._over = False
        self._request_id = ""
        self._send = FakeSend(FakeRequest())

    async def receive(
        self, requests: AsyncIterator[StreamBatchRequest], messages: list[StreamBatchRequest]
    ) -> None:
        async for message in requests:
            messages.append(message)
            if message.HasField("start"):
                self._request_id = message.start.request_id
                self._send = self._service._send(self._request_id)
                await self.events.put(BatchEvent(accepted=BatchAccepted()))
            elif message.HasField("call"):
                await self._take(message.call.index, message.call.call)
            elif message.HasField("seal"):
                self._sealed = True
                for index, call in self._held.items():
                    self._start(index, call)
                self._held.clear()
                if planned := self._service.failures.get("seal"):
                    await self.events.put(planned.pop(0))
                else:
                    await self._maybe_end()
            else:
                await self._cancel(message.cancel.index)
        if not self._sealed:
            for index in list(self._held):
                await self._cancel(index)
            self._sealed = True
            await self._maybe_end()

    async def _take(self, index: int, call: ToolCall) -> None:
        self._calls[index] = call
        tool = self._service.tools.get(call.name)
        if tool is None or tool.read_only:
            self._start(index, call)
            return
        self._held[index] = call
        queued = CallQueued(index=index, cause=BLOCK_CAUSE_SEAL)
        await self.events.put(BatchEvent(queued=queued))

    def _start(self, index: int, call: ToolCall) -> None:
        self.running[index] = asyncio.create_task(self._run(index, call))

    async def _run(self, index: int, call: ToolCall) -> None:
        run = self._service._run(call, index, self._send, self.events.put)
        await self._finish(index, await run)

    async def _cancel(self, index: int) -> None:
        started = self.running.get(index)
        if index in self._results:
            return
        if started is not None:
            started.cancel()
        self._held.pop(index, None)
        result = ToolResult(call_id=self._calls[index].id, name=self._calls[index].name)
        result.execution_state = EXECUTION_STATE_UNKNOWN if started else EXECUTION_STATE_NOT_STARTED
        await self._finish(index, failed(result, code_pb2.CANCELLED, "The call was cancelled."))

    async def _finish(self, index: int, result: ToolResult) -> None:
        self._results[index] = result
        await self.events.put(BatchEvent(result=CallFinished(index=index, result=result)))
        await self._maybe_end()

    async def _maybe_end(self) -> None:
        if self._over or not self._sealed or len(self._results) < len(self._calls):
            return
        self._over = True
        summary = BatchSummary(
            call_count=len(self._results),
            sealed=self._sealed,
            request_id=self._request_id or self._service._mint_id(self._send.request),
            schedule=Schedule(duration_ns=1, speed_up=len(self._results)),
        )
        await self.events.put(BatchEvent(summary=summary))
        await self.events.put(None)


async def refuse(failure: RpcFailure, context: Any) -> None:
    status = status_pb2.Status(code=failure.code.value[0], message="planned failure")
    if failure.reason:
        info = error_details_pb2.ErrorInfo(reason=failure.reason, domain="sidecall.dev")
        status.details.append(_packed(info))
    if failure.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(failure.retry_after_s * 1e9))
        status.details.append(_packed(retry))
    trailing = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(failure.code, "planned failure", trailing_metadata=trailing)


def _packed(message: Any) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
