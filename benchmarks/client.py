"""Connections to the process under test, and what one would write instead of a sidecar."""

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc

from sidecall.v1 import execution_pb2, tool_service_pb2, tool_service_pb2_grpc

_OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.default_authority", "localhost"),
]
ARGUMENTS = '{"city":"Berlin"}'

Calls = list[execution_pb2.ToolCall]


class Bench:
    """One process under test.

    Attributes:
        stub: The sidecar's ToolService.
    """

    def __init__(
        self, process: subprocess.Popen[str], api: grpc.aio.Channel, echo: grpc.aio.Channel
    ) -> None:
        self._process = process
        self.stub = tool_service_pb2_grpc.ToolServiceStub(api)
        self._echo: Any = echo.unary_unary(
            "/benchmarks.Echo/Echo",
            tool_service_pb2.ExecuteBatchRequest.SerializeToString,
            tool_service_pb2.ExecuteBatchResponse.FromString,
        )
        self._raw: Any = echo.unary_unary("/benchmarks.Echo/Raw")

    async def sidecar(self, count: int, name: str = "noop") -> None:
        """A batch of no-ops: built, sent, and every result read."""
        response = await self.stub.ExecuteBatch(_request(count, name))
        _check(response, count)

    async def sidecar_remembered(self, count: int) -> None:
        """The same under a request_id, remembered in memory."""
        request = _request(count)
        request.request_id = uuid.uuid4().hex
        _check(await self.stub.ExecuteBatch(request), count)

    async def echo(self, count: int) -> None:
        """The same messages, answered by a service that does nothing."""
        _check(await self._echo(_request(count)), count)

    async def raw(self, request: bytes) -> None:
        """The same bytes, looked at by nobody."""
        assert await self._raw(request)

    async def execute(self, calls: Calls) -> list[execution_pb2.ToolResult]:
        """Runs any batch."""
        response = await self.stub.ExecuteBatch(tool_service_pb2.ExecuteBatchRequest(calls=calls))
        return list(response.results)

    async def longest_stall_ms(self, count: int) -> float:
        """The longest stall of the server's event loop during a batch of no-ops."""
        self._say()
        assert self._hear() == "measuring"
        await self.sidecar(count)
        self._say()
        return float(self._hear())

    def _say(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _request(count: int, name: str = "noop") -> tool_service_pb2.ExecuteBatchRequest:
    request = tool_service_pb2.ExecuteBatchRequest()
    for number in range(count):
        request.calls.add(id=f"call_{number}", name=name, arguments=ARGUMENTS)
    return request


def request_bytes(count: int) -> bytes:
    """The bytes of a batch of no-ops."""
    return _request(count).SerializeToString()


def _check(response: tool_service_pb2.ExecuteBatchResponse, count: int) -> None:
    seen = 0
    for result in response.results:
        assert result.content == "ok", result
        seen += 1
    assert seen == count


async def _noop(city: str, count: int = 5) -> str:
    del city, count
    return "ok"


async def gather(count: int) -> None:
    """Bare asyncio.gather in this process: JSON in, a coroutine per call, JSON out."""
    calls = [{"id": f"call_{n}", "name": "noop", "arguments": ARGUMENTS} for n in range(count)]
    tools = {"noop": _noop}

    async def one(call: dict[str, str]) -> dict[str, str]:
        value = await tools[call["name"]](**json.loads(call["arguments"]))
        return {"tool_call_id": call["id"], "content": json.dumps(value)}

    results = await asyncio.gather(*(one(call) for call in calls))
    assert len(results) == count
    assert all(result["content"] == '"ok"' for result in results)


@contextlib.asynccontextmanager
async def bench(extra_tools: int = 0) -> AsyncIterator[Bench]:
    """A process under test, ended with the block."""
    with tempfile.TemporaryDirectory(prefix="sidecall-bench-") as path:
        process = subprocess.Popen(  # noqa: S603,ASYNC220  a fixed command, before anything runs
            [sys.executable, "-m", "benchmarks.server", path, str(extra_tools)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            async with (
                grpc.aio.insecure_channel(f"unix:{path}/api.sock", options=_OPTIONS) as api,
                grpc.aio.insecure_channel(f"unix:{path}/echo.sock", options=_OPTIONS) as echo,
            ):
                yield Bench(process, api, echo)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
