"""Calls tools of a host, straight at the sidecar."""

import json
from contextlib import AsyncExitStack
from typing import Any

from tests.conformance.python_runner.clients import result_of

from sidecall import AsyncClient, BatchStream, ToolCall, retry_after_s
from sidecall.v1.execution_pb2 import ToolResult
from sidecall.v1.tool_pb2 import Effects, ToolHealth

Json = dict[str, Any]


class HostCaller:
    """A client of the sidecar, with one streamed turn at a time.

    Args:
        endpoint: Address of the sidecar.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._resources = AsyncExitStack()
        self._turn: BatchStream | None = None
        self._events: list[Any] = []

    async def close(self) -> None:
        """Cancels the turn where there is one."""
        await self._resources.aclose()

    async def call(self, call: Json, step: Json) -> Json:
        """Makes one call; returns its result."""
        metadata = tuple(step.get("metadata", {}).items())
        options = step.get("options", {})
        timeout_ms = step.get("timeout_ms")
        async with AsyncClient(self._endpoint, metadata=metadata) as client:
            (result,) = await client.execute_batch(
                [_message(call)], timeout=timeout_ms and timeout_ms / 1000, **options
            )
        return _told(result)

    async def begin(self, calls: list[Json]) -> None:
        """Opens a turn with these calls and seals it."""
        self._events = []
        client = await self._resources.enter_async_context(AsyncClient(self._endpoint))
        self._turn = await self._resources.enter_async_context(client.stream_batch())
        for index, call in enumerate(calls):
            await self._turn.send(index, _message(call))
        await self._turn.seal()

    async def until_progress(self, index: int) -> Json:
        """Reads until a call reports progress; returns the report."""
        assert self._turn is not None
        async for event in self._turn:
            self._events.append(event)
            if event.HasField("progress") and event.progress.index == index:
                report = event.progress
                total = report.total if report.HasField("total") else None
                return {"progress": report.progress, "total": total, "message": report.message}
        raise AssertionError(f"call {index} ended without progress")

    async def cancel(self, index: int) -> None:
        """Cancels a call of the turn."""
        assert self._turn is not None
        await self._turn.cancel(index)

    async def end(self) -> Json:
        """Waits for the end of the turn; returns results and what was shown before."""
        assert self._turn is not None
        async for event in self._turn:
            self._events.append(event)
        results = await self._turn.results()
        self._turn = None
        reports = [event.progress for event in self._events if event.HasField("progress")]
        shown = [event.partial_output for event in self._events if event.HasField("partial_output")]
        return {
            "results": [_told(result) for result in results],
            "messages": [report.message for report in reports],
            "output": "".join(part.text for part in shown),
        }

    async def offered(self) -> dict[str, Json]:
        """The tools that are there, in short."""
        async with AsyncClient(self._endpoint) as client:
            tools = await client.list_tools()
        offered: dict[str, Json] = {}
        for tool in tools:
            schema = json.loads(tool.input_schema)
            properties = schema.get("properties", {})
            offered[tool.name] = {
                "description": tool.description,
                "effects": Effects.Name(tool.effects).removeprefix("EFFECTS_").lower(),
                "health": ToolHealth.Name(tool.health).removeprefix("TOOL_HEALTH_").lower(),
                "properties": {name: given.get("type") for name, given in properties.items()},
                "required": sorted(schema.get("required", ())),
            }
        return offered


def _message(call: Json) -> ToolCall:
    return ToolCall(**call)


def _told(result: ToolResult) -> Json:
    return {**result_of(result), "retry_after_s": retry_after_s(result)}
