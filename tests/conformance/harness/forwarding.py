"""Passes one RPC on to the sidecar and writes down what the client says."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Self

import grpc
import grpc.aio
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from tests.conformance.harness.faults import Fault

from sidecall.v1 import tool_host_pb2, tool_service_pb2

_TOOLS = "/sidecall.v1.ToolService/"
_HOSTS = "/sidecall.v1.ToolHostService/"
UNARIES: Mapping[str, type[Message]] = {
    f"{_TOOLS}GetCapabilities": tool_service_pb2.GetCapabilitiesRequest,
    f"{_TOOLS}ListTools": tool_service_pb2.ListToolsRequest,
    f"{_TOOLS}ExecuteBatch": tool_service_pb2.ExecuteBatchRequest,
}
STREAMS: Mapping[str, type[Message]] = {
    f"{_TOOLS}StreamBatch": tool_service_pb2.StreamBatchRequest,
    f"{_HOSTS}Attach": tool_host_pb2.AttachRequest,
}
_KEPT_METADATA = ("authorization", "traceparent", "tracestate")

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[bytes, bytes]
else:
    Context = grpc.aio.ServicerContext


@dataclass(eq=False)
class Rpc:
    """One RPC of a client.

    Attributes:
        path: Path of the method.
        metadata: What was sent of the metadata that the suite looks at.
        timeout_s: Time until its deadline; None without one.
        messages: What the client sent, as JSON with the contract's names.
        ended: How the client's side of a stream ended: "half_close", "cancel", or "" where the
            RPC was over before.
        faults: What goes wrong in it.
        over: Set when it is over.
    """

    path: str
    metadata: dict[str, str]
    timeout_s: float | None
    messages: list[Any] = field(default_factory=list)
    ended: str = ""
    faults: list[Fault] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, path: str, context: Context) -> Self:
        """Begins the record of an RPC."""
        metadata = {
            key: value if isinstance(value, str) else value.decode()
            for key, value in context.invocation_metadata() or ()
            if key in _KEPT_METADATA
        }
        return cls(path, metadata, context.time_remaining())

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.path.rpartition("/")[2]

    def record(self, raw: bytes) -> None:
        """Writes a message of the client down."""
        kind = {**UNARIES, **STREAMS}[self.path]
        message = kind.FromString(raw)
        self.messages.append(MessageToDict(message, preserving_proto_field_name=True))


Disturb = Callable[[Rpc, str | int, Context], Awaitable[None]]
"""Does what a case wants at a moment of an RPC."""


async def forward_unary(
    rpc: Rpc, request: bytes, context: Context, channel: grpc.aio.Channel, disturb: Disturb
) -> bytes:
    """Passes a unary RPC on."""
    rpc.record(request)
    try:
        await disturb(rpc, "open", context)
        method: Any = channel.unary_unary(rpc.path)
        metadata = tuple(rpc.metadata.items())
        try:
            response: bytes = await method(request, timeout=rpc.timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            await _fail_as(error, context)
        await disturb(rpc, "answer", context)
    except asyncio.CancelledError:
        rpc.ended = "cancel"
        raise
    return response


async def forward_stream(
    rpc: Rpc, context: Context, channel: grpc.aio.Channel, disturb: Disturb
) -> None:
    """Passes a stream on."""
    await disturb(rpc, "open", context)
    metadata = tuple(rpc.metadata.items())
    call: Any = channel.stream_stream(rpc.path)(timeout=rpc.timeout_s, metadata=metadata)
    upstream = asyncio.create_task(_pass_requests(rpc, context, call, disturb))
    downstream = asyncio.create_task(_pass_responses(rpc, context, call, disturb))
    try:
        done, _ = await asyncio.wait([upstream, downstream], return_when=asyncio.FIRST_COMPLETED)
        if upstream in done:
            # A fault on the way to the sidecar has ended the RPC, or the client is done.
            await upstream
        await downstream
    except asyncio.CancelledError:
        rpc.ended = rpc.ended or "cancel"
        raise
    except grpc.aio.AioRpcError as error:
        await _fail_as(error, context)
    finally:
        call.cancel()
        for task in (upstream, downstream):
            task.cancel()
        await asyncio.wait([upstream, downstream])
        for task in (upstream, downstream):
            if not task.cancelled():
                task.exception()


async def _pass_requests(rpc: Rpc, context: Context, call: Any, disturb: Disturb) -> None:
    while isinstance(raw := await context.read(), bytes):
        rpc.record(raw)
        try:
            await call.write(raw)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # The sidecar has ended the RPC: who reads its answers hears why.
        await disturb(rpc, len(rpc.messages), context)
    rpc.ended = rpc.ended or "half_close"
    await call.done_writing()


async def _pass_responses(rpc: Rpc, context: Context, call: Any, disturb: Disturb) -> None:
    while isinstance(raw := await call.read(), bytes):
        if _is_last(rpc, raw):
            await disturb(rpc, "answer", context)
        await context.write(raw)
    await call.code()


def _is_last(rpc: Rpc, raw: bytes) -> bool:
    if not rpc.path.endswith("StreamBatch"):
        return False
    events = tool_service_pb2.StreamBatchResponse.FromString(raw).events
    return any(event.HasField("summary") for event in events)


async def _fail_as(error: grpc.aio.AioRpcError, context: Context) -> NoReturn:
    trailing = tuple(error.trailing_metadata() or ())
    await context.abort(error.code(), error.details() or "", trailing)
    raise AssertionError("abort always raises")
