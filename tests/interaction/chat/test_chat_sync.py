"""The chat loop for blocking code."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from tests.interaction.chat.conftest import answers
from tests.support.fake_tool_service import FakeTool, FakeToolService
from tests.support.threads import running_in_thread

from sidecall import Approval, Client, SyncChatLoop, approve, reject
from sidecall.chat import ApprovalRequested, ChatEvent, TextDelta, TurnFinished
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


def make_loop(
    resources: ExitStack, *, script: Sequence[Reply] = SCRIPT, **options: Any
) -> SyncChatLoop:
    tools = {
        "get_weather": FakeTool(weather),
        "book": FakeTool(weather, read_only=False, needs_approval=True),
    }
    service = resources.enter_context(running_in_thread(FakeToolService(tools)))
    model = resources.enter_context(running_in_thread(ScriptedModel(script)))
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


BOOKINGS: list[Reply] = [
    ScriptedTurn(calls=[ScriptedCall("book", {"city": city}) for city in ("Rome", "Oslo")]),
    lambda request: ScriptedTurn(text=" / ".join(request.results())),
]


@pytest.mark.parametrize("stream", [False, True])
def test_a_human_decides(resources: ExitStack, stream: bool) -> None:
    def ask(request: ApprovalRequested) -> Approval:
        if "Rome" in request.arguments:
            return approve(request, by="ada")
        return reject(request, comment="Too cold.")

    loop = make_loop(resources, script=BOOKINGS, stream=stream, approve=ask)
    assert loop.run("Book.").text == "sunny in Rome / Not run: rejected. Too cold."


def test_an_interruption_at_a_question_leaves_a_valid_history(resources: ExitStack) -> None:
    def ask(request: ApprovalRequested) -> Approval:
        raise KeyboardInterrupt

    loop = make_loop(resources, script=BOOKINGS, approve=ask)
    with pytest.raises(KeyboardInterrupt):
        loop.run("Book.")
    assert (
        list(answers(loop.history).values())
        == [
            "Not run: a human has to approve it first.",
        ]
        * 2
    )


def test_a_coroutine_cannot_ask(resources: ExitStack) -> None:
    async def ask(request: ApprovalRequested) -> Approval:
        return approve(request)

    with pytest.raises(ValueError, match="approve"):
        make_loop(resources, approve=ask)
