"""The process under test: a sidecar, and an echo of the same messages beside it.

The echo is the floor of any gRPC service of this shape: it reads N calls and answers N
results, without scheduling, validation, limits or timeouts. The raw echo does not even
look at the bytes.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import uvloop

from sidecall import Tool, tool
from sidecall.v1 import execution_pb2, tool_service_pb2
from sidecall_server.app import Sidecar
from sidecall_server.config import load
from sidecall_server.memory import relax_garbage_collection

_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "count": {"type": "integer", "default": 5}},
    "required": ["city"],
    "additionalProperties": False,
}


async def _noop(city: str, count: int = 5) -> str:
    del city, count
    return "ok"


GOVERNED = """\
limits:
  upstream: {max_concurrency: 600, rate: 1000000/s}
policies:
  governed:
    max_concurrency: 512
    rate: 1000000/s
    limits: [upstream]
    timeout: 5s
    queue_timeout: 10s
    retry: 3
    breaker: true
    max_result_bytes: 65536
"""
"""A typical configuration, with bounds that a no-op does not reach: what policies cost where
nothing waits or fails."""


@tool(max_concurrency=512)
async def pass_on(value: str) -> str:
    """Returns what it is given, for chains and DAGs."""
    return value


@tool(max_concurrency=512)
async def wait(seconds: float) -> str:
    """Waits without blocking."""
    await asyncio.sleep(seconds)
    return "ok"


@tool(max_concurrency=100)
def block(seconds: float) -> str:
    """Blocks a thread."""
    time.sleep(seconds)
    return "ok"


def tools(extra: int) -> list[Tool[..., Any]]:
    """The tools of the benchmark, and so many more that are never called."""
    names = ["noop", "governed"] + [f"unused_{number}" for number in range(extra)]
    made = [
        Tool(
            name=name,
            description="Does nothing.",
            input_schema=_SCHEMA,
            call=_noop,
            max_concurrency=512,
        )
        for name in names
    ]
    return [*made, pass_on, wait, block]


def echo_of(
    request: tool_service_pb2.ExecuteBatchRequest,
) -> tool_service_pb2.ExecuteBatchResponse:
    """One result per call, without running anything."""
    response = tool_service_pb2.ExecuteBatchResponse()
    now = time.time_ns()
    for call in request.calls:
        result = response.results.add()
        result.call_id = call.id
        result.name = call.name
        result.content = "ok"
        result.execution_state = execution_pb2.EXECUTION_STATE_COMPLETED
        result.attempts = 1
        timing = result.timing
        timing.received_unix_nanos = now
        timing.ready_offset_ns = 1_000_000
        timing.started_offset_ns = 2_000_000
        timing.finished_offset_ns = 3_000_000
    return response


async def _serve_echo(path: str) -> grpc.aio.Server:
    recorded: dict[int, bytes] = {}

    async def echo(
        request: tool_service_pb2.ExecuteBatchRequest, context: object
    ) -> tool_service_pb2.ExecuteBatchResponse:
        del context
        return echo_of(request)

    async def raw(request: bytes, context: object) -> bytes:
        del context
        if len(request) not in recorded:
            message = tool_service_pb2.ExecuteBatchRequest.FromString(request)
            recorded[len(request)] = echo_of(message).SerializeToString()
        return recorded[len(request)]

    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(
            echo,
            tool_service_pb2.ExecuteBatchRequest.FromString,
            tool_service_pb2.ExecuteBatchResponse.SerializeToString,
        ),
        "Raw": grpc.unary_unary_rpc_method_handler(raw),
    }
    size = ("grpc.max_receive_message_length", 64 << 20)
    server = grpc.aio.server(options=[size, ("grpc.max_send_message_length", 64 << 20)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("benchmarks.Echo", methods),)
    )
    server.add_insecure_port(f"unix:{path}/echo.sock")
    await server.start()
    return server


async def _longest_stall_ms(stop: asyncio.Event) -> float:
    """The longest time in which the event loop did not get back to this task."""
    longest = 0.0
    while not stop.is_set():
        start = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - start)
    return longest * 1e3


async def main(path: str, extra_tools: int) -> None:
    """Serves until standard input is closed; a line on it measures the stall until the next."""
    config = Path(path, "sidecall.yaml")
    config.write_text(GOVERNED)  # noqa: ASYNC240  before anything runs
    settings = load(
        {
            "listen": (f"unix:{path}/api.sock",),
            "max_message_bytes": 64 << 20,
            "config": str(config),
        },
        {},
    )
    sidecar = Sidecar(settings, tools(extra_tools))
    await sidecar.start()
    echo = await _serve_echo(path)
    relax_garbage_collection()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        stop = asyncio.Event()
        stall = asyncio.create_task(_longest_stall_ms(stop))
        await asyncio.sleep(0)
        print("measuring", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        stop.set()
        print(await stall, flush=True)
    await echo.stop(0)
    await sidecar.stop()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
