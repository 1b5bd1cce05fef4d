"""A host that does nothing by itself: a test says each message."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2, status_pb2
from tests.support.serving import Serving

from sidecall.v1 import tool_host_pb2 as pb
from sidecall.v1 import tool_host_pb2_grpc, tool_pb2, tool_service_pb2

WAIT_S = 20.0
"""Seconds that something may take that must happen."""

ANY_OBJECT = json.dumps({"type": "object"})


def offered(name: str, **fields: Any) -> tool_pb2.Tool:
    """A tool as a host declares it; idempotent where nothing else is said."""
    fields.setdefault("effects", tool_pb2.EFFECTS_IDEMPOTENT)
    fields.setdefault("input_schema", ANY_OBJECT)
    return tool_pb2.Tool(name=name, description=f"The tool {name}.", **fields)


async def listed(sidecar: Serving) -> dict[str, tool_pb2.Tool]:
    """The tools that are listed, by name."""
    response = await sidecar.stub.ListTools(tool_service_pb2.ListToolsRequest())
    return {tool.name: tool for tool in response.tools}


class RawHost:
    """One Attach stream; to be used as a context manager."""

    def __init__(self, address: str, *tools: tool_pb2.Tool, **attach: Any) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._outgoing: asyncio.Queue[pb.AttachRequest | None] = asyncio.Queue()
        self._first = pb.AttachRequest(
            attach=pb.HostAttach(tools=tools, **{"host_name": "a test", **attach})
        )
        self.stream: Any = None

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stream.cancel()
        await self._channel.close()

    def open(self, first: pb.AttachRequest | None = None) -> None:
        """Opens the stream with its usual first message, or another one."""
        self._outgoing.put_nowait(first or self._first)
        self.stream = tool_host_pb2_grpc.ToolHostServiceStub(self._channel).Attach(self._requests())

    async def _requests(self) -> AsyncIterator[pb.AttachRequest]:
        while (message := await self._outgoing.get()) is not None:
            yield message

    def send(self, **message: Any) -> None:
        """Sends a message."""
        self._outgoing.put_nowait(pb.AttachRequest(**message))

    def half_close(self) -> None:
        """Sends nothing any more."""
        self._outgoing.put_nowait(None)

    def kill(self) -> None:
        """Breaks the stream."""
        self.stream.cancel()

    async def message(self) -> pb.AttachResponse:
        """The next message that is not a heartbeat."""
        while True:
            async with asyncio.timeout(WAIT_S):
                message = await self.stream.read()
            assert isinstance(message, pb.AttachResponse), "the stream has ended"
            if message.WhichOneof("message") != "heartbeat":
                return message

    async def attached(self) -> pb.HostAttached:
        """The first message, which must be this one."""
        message = await self.message()
        assert message.WhichOneof("message") == "attached"
        return message.attached

    async def call(self) -> pb.HostCall:
        """The next message, which must be a call."""
        message = await self.message()
        assert message.WhichOneof("message") == "call", message
        return message.call

    async def cancelled(self) -> int:
        """The attempt that the next message cancels."""
        message = await self.message()
        assert message.WhichOneof("message") == "cancel", message
        return message.cancel.attempt_id

    def answer(self, call: pb.HostCall, text: str = "done") -> None:
        """Ends a call with text."""
        self.send(result=pb.HostResult(attempt_id=call.attempt_id, text=text))

    def fail(self, call: pb.HostCall, code: int, message: str, **result: Any) -> None:
        """Ends a call with a status."""
        status = status_pb2.Status(code=code, message=message)
        self.send(result=pb.HostResult(attempt_id=call.attempt_id, status=status, **result))

    async def end(self) -> Mapping[str, str]:
        """How the stream ended: code, reason and details."""
        async with asyncio.timeout(WAIT_S):
            # gRPC tells the status of a stream once what came before it has been read.
            with contextlib.suppress(grpc.aio.AioRpcError):
                while await self.stream.read() is not grpc.aio.EOF:
                    pass
            code = await self.stream.code()
        return {
            "code": code.name,
            "reason": _reason(await self.stream.trailing_metadata()),
            "details": await self.stream.details() or "",
        }


def _reason(trailing: Any) -> str:
    for key, value in trailing or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    return ""
