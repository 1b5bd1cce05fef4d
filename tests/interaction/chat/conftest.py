"""What chats run against: a scripted model, and a sidecar."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import openai
import pytest
from tests.support.fake_tool_service import FakeTool, FakeToolService

from sidecall import AsyncClient
from sidecall.chat import ChatEvent, ChatLoop
from sidecall.scripted import Reply, ScriptedModel


async def _weather(arguments: dict[str, Any]) -> str:
    return f"sunny in {arguments['city']}"


async def _echo(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments)


async def _fail(arguments: dict[str, Any]) -> str:
    raise ValueError(f"no luck with {arguments}")


async def _hang(arguments: dict[str, Any]) -> str:
    await asyncio.Event().wait()
    return str(arguments)


@pytest.fixture
async def sidecar() -> AsyncIterator[FakeToolService]:
    """The one place that knows what stands in for the sidecar."""
    tools = {
        "get_weather": FakeTool(_weather, progress=("asking",)),
        "clock.now": FakeTool(_echo),
        "transfer": FakeTool(_echo, read_only=False),
        "fail": FakeTool(_fail),
        "hang": FakeTool(_hang),
        "hang_writing": FakeTool(_hang, read_only=False),
    }
    async with FakeToolService(tools) as service:
        yield service


class Chat:
    """A chat under test and all that it talks to."""

    def __init__(self, loop: ChatLoop, model: ScriptedModel, events: list[ChatEvent]) -> None:
        self.loop = loop
        self.model = model
        self.events = events

    def events_of(self, kind: type[ChatEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


StartChat = Callable[..., Any]


@pytest.fixture
async def start_chat(sidecar: FakeToolService) -> AsyncIterator[StartChat]:
    """Starts a scripted model and makes a chat loop of it and the sidecar."""
    async with AsyncExitStack() as resources:

        async def start(
            *script: Reply, endpoint: str = sidecar.endpoint, retries: int = 3, **options: Any
        ) -> Chat:
            client = await resources.enter_async_context(AsyncClient(endpoint, retries=retries))
            model = await resources.enter_async_context(ScriptedModel(script))
            provider = await resources.enter_async_context(
                openai.AsyncOpenAI(base_url=model.base_url, api_key="none", max_retries=0)
            )
            events: list[ChatEvent] = []
            options.setdefault("hooks", events.append)
            loop = ChatLoop(client, provider, model=model.model, **options)
            return Chat(loop, model, events)

        yield start


def answers(history: list[Any]) -> dict[str, str]:
    """Contents of the tool results of a history, by call id."""
    return {
        item.get("tool_call_id") or item["call_id"]: item.get("content") or item["output"]
        for item in history
        if item.get("role") == "tool" or item.get("type") == "function_call_output"
    }
