"""The chat loop for blocking code."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from tests.interaction.chat.conftest import answers
from tests.support.fake_tool_service import FakeTool, FakeToolService
from tests.support.threads import running_in_thread

from sidecall import Client, SyncChatLoop
from sidecall.chat import ChatEvent, TextDelta, TurnFinished
from sidecall.scripted import Reply, ScriptedCall, ScriptedModel, ScriptedTurn

SCRIPT: list[Reply] = [
    ScriptedTurn(calls=[ScriptedCall("get_weather", {"city": "Rome"})], text="Let me see."),
    lambda request: ScriptedTurn(text=" ".join(request.results())),
]


async def weather(arguments: dict[str, Any]) -> str:
    return f"sunny in {arguments['city']}"


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def make_loop(resources: ExitStack, **options: Any) -> SyncChatLoop:
    service = FakeToolService({"get_weather": FakeTool(weather)})
    resources.enter_context(running_in_thread(service))
    model = resources.enter_context(running_in_thread(ScriptedModel(SCRIPT)))
    provider = openai.OpenAI(base_url=model.base_url, api_key="none", max_retries=0)
    resources.enter_context(provider)
    client = resources.enter_context(Client(service.endpoint))
    return SyncChatLoop(client, provider, model=model.model, **options)


@pytest.mark.parametrize("stream", [False, True])
def test_a_whole_chat(resources: ExitStack, stream: bool) -> None:
    events: list[ChatEvent] = []
    loop = make_loop(resources, stream=stream, hooks=events.append)
    result = loop.run("How is Rome?")
    assert result.text == "sunny in Rome"
    assert loop.history is result.messages
    texts = [event for event in events if isinstance(event, TextDelta) and event.turn == 1]
    assert "".join(event.text for event in texts) == "Let me see."
    assert (len(texts) > 1) is stream


def test_an_interruption_leaves_a_valid_history(resources: ExitStack) -> None:
    def interrupt(event: ChatEvent) -> None:
        if isinstance(event, TurnFinished):
            raise KeyboardInterrupt

    loop = make_loop(resources, hooks=interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run("How is Rome?")
    assert list(answers(loop.history).values()) == ["sunny in Rome"]


def test_a_hook_that_waits_is_refused(resources: ExitStack) -> None:
    async def wait(event: ChatEvent) -> None:
        await asyncio.sleep(0)
        assert event

    loop = make_loop(resources, hooks=wait)
    with pytest.raises(RuntimeError, match="hook"):
        loop.run("How is Rome?")
