"""The histories that chats leave, per API."""

from typing import Any

import pytest
from tests.interaction.chat.conftest import StartChat, answers

from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedTurn

ROME = ScriptedCall("get_weather", {"city": "Rome"}, id="r")
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def summarise(request: ModelRequest) -> ScriptedTurn:
    return ScriptedTurn(text=" / ".join(request.results()))


@STREAM
async def test_chat_completions(start_chat: StartChat, stream: bool) -> None:
    turn = ScriptedTurn(text="Let me look.", calls=[ROME])
    chat = await start_chat(turn, summarise, stream=stream)
    await chat.loop.run("Rome?")
    function = {"name": "get_weather", "arguments": '{"city": "Rome"}'}
    call = {"id": "r", "type": "function", "function": function}
    assert chat.loop.history == [
        {"role": "user", "content": "Rome?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "r", "content": "sunny in Rome"},
        {"role": "assistant", "content": "sunny in Rome"},
    ]


@STREAM
async def test_responses_keep_reasoning(start_chat: StartChat, stream: bool) -> None:
    turn = ScriptedTurn(text="Let me look.", calls=[ROME], reasoning="Look it up.")
    chat = await start_chat(turn, summarise, stream=stream, api="responses")
    await chat.loop.run("Rome?")
    kinds = [item.get("type", item.get("role")) for item in chat.loop.history]
    assert kinds == [
        "user",
        "reasoning",
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]
    assert chat.loop.history[1]["encrypted_content"] == "c2NyaXB0ZWQ="
    assert chat.loop.history[4] == {
        "type": "function_call_output",
        "call_id": "r",
        "output": "sunny in Rome",
    }
    assert chat.model.requests[1].items == chat.loop.history[:-1]


@STREAM
async def test_reasoning_that_led_to_nothing_is_dropped(
    start_chat: StartChat, stream: bool
) -> None:
    only_reasoning = ScriptedTurn(reasoning="Hm.", finish_reason="length")
    chat = await start_chat(only_reasoning, summarise, stream=stream, api="responses")
    result = await chat.loop.run("Rome?")
    assert result.stopped_reason == "length"
    assert len(result.messages) == 1
    await chat.loop.run("Well?")


@STREAM
async def test_instructions_and_hint_are_not_in_the_history(
    start_chat: StartChat, stream: bool
) -> None:
    chat = await start_chat(
        ScriptedTurn(calls=[ROME]),
        summarise,
        stream=stream,
        api="responses",
        reference_hint=True,
        request_options={"instructions": "Be kind.", "store": False},
    )
    await chat.loop.run("Rome?")
    for request in chat.model.requests:
        assert request.body["instructions"].startswith("Be kind.\n\nYou can call several")
        assert request.body["store"] is False
    assert "kind" not in str(chat.loop.history)


def chat_call(call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "x", "arguments": ""}}


def item_call(call_id: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "x", "arguments": ""}


BROKEN: dict[str, list[dict[str, Any]]] = {
    "chat_completions": [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "tool_calls": [chat_call("a"), chat_call("b"), chat_call("c")]},
        {"role": "tool", "tool_call_id": "b", "content": "done"},
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "tool_calls": [chat_call("d")]},
    ],
    "responses": [
        {"role": "user", "content": "Go."},
        item_call("a"),
        item_call("b"),
        item_call("c"),
        {"type": "function_call_output", "call_id": "b", "output": "done"},
        {"role": "user", "content": "Well?"},
        item_call("d"),
    ],
}


@pytest.mark.parametrize("api", list(BROKEN))
async def test_a_history_with_open_calls_is_repaired(start_chat: StartChat, api: str) -> None:
    messages = [dict(message) for message in BROKEN[api]]
    chat = await start_chat(ScriptedTurn(text="Ready."), api=api)
    assert (await chat.loop.run(messages)).text == "Ready."
    assert sorted(answers(messages)) == ["a", "b", "c", "d"]
    assert answers(messages)["b"] == "done"
    assert [message for message in messages if message in BROKEN[api]] == BROKEN[api]
