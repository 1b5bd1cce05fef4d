"""Whatever interrupts a chat, its history can be sent again."""

import asyncio
import dataclasses
from typing import Any

import grpc
import pytest
from tests.interaction.chat.conftest import Chat, StartChat, answers
from tests.support.fake_tool_service import FakeToolService, RpcFailure

from sidecall import SidecallError, approve
from sidecall.chat import CallFinished, ChatEvent, ErrorOccurred
from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedTurn
from sidecall.scripted.validation import refusal

ROME = ScriptedCall("get_weather", {"city": "Rome"})
PAY = ScriptedCall("transfer", {"to": "Rome"})
HANG = ScriptedCall("hang", {})

WAYS = [
    {"api": api, **how}
    for api in ("chat_completions", "responses")
    for how in ({"stream": False}, {"stream": True}, {"stream": True, "early_start": True})
]


def name_of(way: dict[str, Any]) -> str:
    return "-".join([way["api"], *(key for key, value in way.items() if value is True)])


@pytest.fixture(params=WAYS, ids=name_of)
def way(request: Any) -> dict[str, Any]:
    options: dict[str, Any] = request.param
    return options


def any_request(request: ModelRequest) -> ScriptedTurn:
    """Calls tools until it is told to stop."""
    if "Stop." in str(request.items[-1]):
        return ScriptedTurn(text="Stopped.")
    return SCRIPT[len(request.results()) // 2]


SCRIPT = [
    ScriptedTurn(text="Let me look.", calls=[ROME, PAY]),
    ScriptedTurn(text="Once more.", calls=[PAY, ROME]),
    ScriptedTurn(text="Done."),
]


async def assert_goes_on(chat: Chat, way: dict[str, Any]) -> None:
    key = "input" if way["api"] == "responses" else "messages"
    path = "/v1/responses" if way["api"] == "responses" else "/v1/chat/completions"
    assert refusal(path, {"model": "m", key: chat.loop.history}) is None
    chat.loop.hooks = None
    assert (await chat.loop.run("Stop.")).text == "Stopped."


@pytest.mark.parametrize("approved", [False, True], ids=["free", "approved"])
@pytest.mark.parametrize("awaits", [False, True], ids=["after", "inside"])
async def test_cancelled_at_any_event(
    start_chat: StartChat,
    sidecar: FakeToolService,
    way: dict[str, Any],
    awaits: bool,
    approved: bool,
) -> None:
    """Cancels in or right after the k-th event, for every k, until a chat runs through."""
    sidecar.tools["transfer"].needs_approval = approved
    chat = await start_chat(*[any_request] * 1000, approve=approve, **way)
    cancelled_at = 0
    tasks: list[asyncio.Task[Any]] = []
    while True:
        cancelled_at += 1
        seen: list[ChatEvent] = []

        async def hook(
            event: ChatEvent, seen: list[ChatEvent] = seen, at: int = cancelled_at
        ) -> None:
            seen.append(event)
            if len(seen) == at:
                tasks[-1].cancel()
                if awaits:
                    await asyncio.sleep(0)

        chat.loop = dataclasses.replace(chat.loop, hooks=hook)
        task = asyncio.create_task(chat.loop.run("Go."))
        tasks.append(task)
        done, _ = await asyncio.wait([task], timeout=60)
        assert done, f"the chat goes on although it was cancelled at event {cancelled_at}"
        if not task.cancelled():
            assert task.result().text == "Done."
            break
        await assert_goes_on(chat, way)
    assert cancelled_at > 10


@pytest.mark.parametrize("steps", range(1, 241, 24))
async def test_cancelled_at_any_moment(
    start_chat: StartChat, way: dict[str, Any], steps: int
) -> None:
    chat = await start_chat(*[any_request] * 4, **way)
    task = asyncio.create_task(chat.loop.run("Go."))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await assert_goes_on(chat, way)


@pytest.mark.parametrize("way", [way for way in WAYS if "early_start" in way], ids=name_of)
async def test_what_had_ended_keeps_its_result(start_chat: StartChat, way: dict[str, Any]) -> None:
    running = asyncio.Event()

    def hook(event: ChatEvent) -> None:
        if isinstance(event, CallFinished):
            running.set()

    turn = ScriptedTurn(calls=[ROME, HANG])
    chat = await start_chat(turn, any_request, hooks=hook, **way)
    task = asyncio.create_task(chat.loop.run("Go."))
    await asyncio.wait_for(running.wait(), 60)
    async with asyncio.timeout(60):
        while len(chat.loop.history) == 1:  # noqa: ASYNC110  nobody tells when it grows
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait([task])
    rome, hung = answers(chat.loop.history).values()
    assert rome == "sunny in Rome"
    assert hung.startswith("CANCELLED")
    await assert_goes_on(chat, way)


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("DRAINING", "NOT RUN"),
        ("INTERNAL", "may have taken effect"),
        ("", "may have taken effect"),
    ],
)
async def test_a_sidecar_that_fails_is_told_to_both(
    start_chat: StartChat, sidecar: FakeToolService, way: dict[str, Any], reason: str, says: str
) -> None:
    failure = RpcFailure(grpc.StatusCode.INTERNAL, reason)
    sidecar.failures = {"ExecuteBatch": [failure], "StreamBatch": [failure]}
    chat = await start_chat(any_request, any_request, **way)
    with pytest.raises(SidecallError) as caught:
        await chat.loop.run("Go.")
    assert caught.value.reason == reason
    assert isinstance(chat.events[-1], ErrorOccurred)
    contents = answers(chat.loop.history)
    assert len(contents) == 2
    assert all(says in content for content in contents.values())
    await assert_goes_on(chat, way)
