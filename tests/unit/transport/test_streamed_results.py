"""When the results of a turn are told that must survive."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tests.support.clock import settle
from tests.support.engines import Bench, bench
from tests.support.works import DictStore, Works

from sidecall.v1 import execution_pb2, tool_service_pb2
from sidecall_server.transport.stream import serve_stream

Request = tool_service_pb2.StreamBatchRequest


class _Peer:
    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float | None:
        return None

    def invocation_metadata(self) -> tuple[Any, ...]:
        return ()


async def _messages(request_id: str, end: asyncio.Event) -> AsyncIterator[Request]:
    yield Request(start=tool_service_pb2.StreamStart(request_id=request_id))
    for index, (tool, key) in enumerate((("write", "a"), ("write", "b"))):
        made = execution_pb2.ToolCall(id=key, name=tool, arguments=f'{{"key": "{key}"}}')
        yield Request(call=tool_service_pb2.StreamCall(index=index, call=made))
    yield Request(seal=tool_service_pb2.StreamSeal(call_count=2))
    await end.wait()


async def _told(b: Bench, request_id: str, told: list[str], end: asyncio.Event) -> None:
    async for response in serve_stream(b.engine, _messages(request_id, end), _Peer()):
        told += [e.result.result.content for e in response.events if e.HasField("result")]


async def test_results_are_durable_before_they_are_told() -> None:
    works, store, told, end = Works(), DictStore(), list[str](), asyncio.Event()
    async with bench(*works.tools(), store=store) as b:
        turn = asyncio.create_task(_told(b, "r", told, end))
        await settle()
        assert works.started == ["a", "b"]
        store.gate.clear()
        works.open("a")
        await settle()
        assert told == [], "a restart would not know it"
        store.gate.set()
        await settle()
        assert told == ["did a"]
        works.open("b")
        end.set()
        await turn
        assert told == ["did a", "did b"]


async def test_turns_without_an_id_do_not_wait_for_the_store() -> None:
    works, store, told, end = Works("a", "b"), DictStore(), list[str](), asyncio.Event()
    async with bench(*works.tools(), store=store) as b:
        end.set()
        await asyncio.create_task(_told(b, "", told, end))
        assert (sorted(told), store.flushes) == (["did a", "did b"], 0)
