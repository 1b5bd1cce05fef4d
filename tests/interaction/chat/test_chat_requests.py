"""What the model is sent besides the conversation."""

from typing import Any

import openai
import pytest
from tests.interaction.chat.conftest import StartChat
from tests.support.fake_tool_service import FakeToolService

from sidecall import AsyncClient, Client
from sidecall.chat import REFERENCE_HINT, ChatLoop, SyncChatLoop
from sidecall.scripted import ScriptedCall, ScriptedTurn

ROME = ScriptedCall("get_weather", {"city": "Rome"})
HELLO = ScriptedTurn(text="Hello.")


async def test_the_hint_is_sent_each_time_and_never_kept(start_chat: StartChat) -> None:
    chat = await start_chat(ScriptedTurn(calls=[ROME]), HELLO, HELLO, reference_hint=True)
    await chat.loop.run("Hi.")
    result = await chat.loop.run("Hi again.")
    for request in chat.model.requests:
        assert request.items[0] == {"role": "system", "content": REFERENCE_HINT}
        assert str(request.items).count("$ref:@1#/city/name") == 1
    assert "$ref" not in str(result.messages)


@pytest.mark.parametrize("role", ["system", "developer"])
async def test_the_hint_joins_the_instructions_that_are_there(
    start_chat: StartChat, role: str
) -> None:
    chat = await start_chat(HELLO, HELLO, reference_hint=True)
    messages = [{"role": role, "content": "Be kind."}, {"role": "user", "content": "Hi."}]
    await chat.loop.run(messages)
    sent = chat.model.requests[0].items
    assert sent[0] == {"role": role, "content": f"Be kind.\n\n{REFERENCE_HINT}"}
    assert [item["role"] for item in sent] == [role, "user"]
    assert messages[0]["content"] == "Be kind."
    parts = [{"type": "text", "text": "Be kind."}]
    await chat.loop.run([{"role": role, "content": parts}, {"role": "user", "content": "Hi."}])
    sent_parts = chat.model.requests[1].items[0]["content"]
    assert [part["text"] for part in sent_parts] == ["Be kind.", REFERENCE_HINT]


async def test_request_options_reach_the_model(start_chat: StartChat) -> None:
    extra = {"type": "function", "function": {"name": "mine", "parameters": {}}}
    options = {"temperature": 0.5, "tools": [extra], "stream_options": {}}
    chat = await start_chat(HELLO, stream=True, request_options=options)
    await chat.loop.run("Hi.")
    body = chat.model.requests[0].body
    assert body["temperature"] == 0.5
    assert body["stream_options"] == {}
    assert chat.model.requests[0].tool_names[-1] == "mine"
    assert options["tools"] == [extra]


async def test_context_and_batch_options_reach_the_sidecar(
    start_chat: StartChat, sidecar: FakeToolService
) -> None:
    chat = await start_chat(
        ScriptedTurn(calls=[ROME]),
        HELLO,
        context={"user": "u"},
        batch_options={"max_concurrency": 2},
        batch_timeout="1m",
    )
    await chat.loop.run("Hi.")
    assert sidecar.batches[0].context == {"user": "u"}
    assert sidecar.batches[0].max_concurrency == 2


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"api": "completions"}, "api"),
        ({"max_turns": 0}, "max_turns"),
        ({"batch_timeout": 0}, "duration"),
        ({"batch_timeout": "soon"}, "duration"),
        ({"request_options": {"messages": []}}, "messages"),
        ({"batch_options": {"request_id": "r"}}, "request_id"),
        ({"batch_options": {"approvals": []}}, "approvals"),
    ],
)
async def test_senseless_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    provider = openai.AsyncOpenAI(base_url="http://127.0.0.1:1", api_key="none")
    with pytest.raises(ValueError, match=complaint):
        ChatLoop(AsyncClient(), provider, model="m", **options)
    await provider.close()


def test_the_blocking_loop_has_no_early_start() -> None:
    with (
        Client() as client,
        openai.OpenAI(base_url="http://127.0.0.1:1", api_key="none") as provider,
        pytest.raises(ValueError, match="early_start"),
    ):
        SyncChatLoop(client, provider, model="m", early_start=True)


async def test_objects_of_the_provider_are_accepted_as_messages(start_chat: StartChat) -> None:
    from openai.types.chat import ChatCompletionMessage  # noqa: PLC0415  slow

    function = {"name": "x", "arguments": "{}"}
    message = ChatCompletionMessage.model_validate(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": function}],
        }
    )
    chat = await start_chat(HELLO)
    result = await chat.loop.run([{"role": "user", "content": "Hi."}, message])
    assert result.text == "Hello."
    assert result.messages[2]["tool_call_id"] == "a"
