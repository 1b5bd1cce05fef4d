"""The scripted model, asked with plain HTTP."""

import asyncio
import json
from typing import Any

import openai
import pytest

from sidecall.scripted import ScriptedCall, ScriptedModel, ScriptedTurn

CALL = {"id": "a", "type": "function", "function": {"name": "t", "arguments": "{}"}}
USER = {"role": "user", "content": "Hi."}


async def send(model: ScriptedModel, raw: bytes) -> bytes:
    port = int(model.base_url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def post(model: ScriptedModel, path: str, body: Any) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
    answer = await send(model, head + raw)
    status, _, payload = answer.partition(b"\r\n\r\n")
    return int(status.split()[1]), json.loads(payload)


async def test_models_are_listed() -> None:
    async with (
        ScriptedModel([], model="m1") as model,
        openai.AsyncOpenAI(base_url=model.base_url, api_key="none") as client,
    ):
        assert [entry.id async for entry in client.models.list()] == ["m1"]


async def test_requests_are_recorded() -> None:
    async with ScriptedModel([ScriptedTurn(text="Hi.")]) as model:
        body = {"model": "m", "input": "Hello.", "tools": [{"type": "function", "name": "t"}]}
        status, answer = await post(model, "/v1/responses?x=1", body)
        assert status == 200
        assert answer["output"][0]["content"][0]["text"] == "Hi."
        (request,) = model.requests
        assert request.items == [{"role": "user", "content": "Hello."}]
        assert request.tool_names == ["t"]
        assert model.turns_left == 0


async def test_a_script_that_is_over_says_so() -> None:
    async with ScriptedModel([]) as model:
        body = {"model": "m", "messages": [USER]}
        status, answer = await post(model, "/v1/chat/completions", body)
        assert (status, answer["error"]["message"]) == (400, "the script has no more turns")


async def test_a_script_that_fails_says_so() -> None:
    def broken(request: object) -> ScriptedTurn:
        del request
        raise LookupError("no idea")

    async with ScriptedModel([broken]) as model:
        body = {"model": "m", "messages": [USER]}
        status, answer = await post(model, "/v1/chat/completions", body)
        assert status == 500
        assert "no idea" in answer["error"]["message"]


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /v1/responses HTTP/1.1\r\nContent-Length: 1\r\n\r\n{",
        b"POST /v1/responses HTTP/1.1\r\nContent-Length: x\r\n\r\n{}",
        b"nonsense\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\n\r\n",
    ],
)
async def test_nonsense_is_refused(raw: bytes) -> None:
    async with ScriptedModel([]) as model:
        status = (await send(model, raw)).split(b" ", 2)[1]
        assert status in (b"400", b"404")


async def test_a_request_that_breaks_off_is_left_alone() -> None:
    async with ScriptedModel([]) as model:
        assert await send(model, b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{") == b""
        assert await send(model, b"POST / HT") == b""


MESSAGES: list[tuple[str, list[dict[str, Any]]]] = [
    ("did not have response messages: a", [USER, {"role": "assistant", "tool_calls": [CALL]}]),
    (
        "must be followed by tool messages",
        [USER, {"role": "assistant", "tool_calls": [CALL]}, USER],
    ),
    ("must be a response to", [USER, {"role": "tool", "tool_call_id": "a", "content": "x"}]),
    ("Duplicate", [USER, {"role": "assistant", "tool_calls": [CALL, CALL]}]),
    ("empty string", [USER, {"role": "assistant", "tool_calls": [{**CALL, "id": ""}]}]),
    ("string too long", [USER, {"role": "assistant", "tool_calls": [{**CALL, "id": "x" * 41}]}]),
    ("empty array", [USER, {"role": "assistant", "tool_calls": []}]),
    ("expected a string, got null", [USER, {"role": "assistant", "content": None}]),
    ("empty array", []),
]


@pytest.mark.parametrize(("complaint", "messages"), MESSAGES)
async def test_invalid_messages_are_refused(complaint: str, messages: list[Any]) -> None:
    async with ScriptedModel([ScriptedTurn(text="Hi.")]) as model:
        body = {"model": "m", "messages": messages}
        status, answer = await post(model, "/v1/chat/completions", body)
        assert status == 400
        assert complaint in answer["error"]["message"]
        assert model.requests == []


ITEM = {"type": "function_call", "call_id": "a", "name": "t", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "a", "output": "x"}
ITEMS: list[tuple[str, list[dict[str, Any]]]] = [
    ("No tool output found for function call a.", [ITEM]),
    ("No tool call found", [OUTPUT]),
    ("Duplicate", [ITEM, OUTPUT, ITEM, OUTPUT]),
    ("required following item", [USER, {"type": "reasoning", "id": "rs"}]),
]


@pytest.mark.parametrize(("complaint", "items"), ITEMS)
async def test_invalid_items_are_refused(complaint: str, items: list[Any]) -> None:
    async with ScriptedModel([ScriptedTurn(text="Hi.")]) as model:
        status, answer = await post(model, "/v1/responses", {"model": "m", "input": items})
        assert status == 400
        assert complaint in answer["error"]["message"]


@pytest.mark.parametrize(
    ("complaint", "names"),
    [("pattern", ["a.b"]), ("too long", ["x" * 65]), ("unique", ["a", "a"]), ("empty array", [])],
)
async def test_invalid_tools_are_refused(complaint: str, names: list[str]) -> None:
    async with ScriptedModel([ScriptedTurn(text="Hi.")]) as model:
        tools = [{"type": "function", "function": {"name": name}} for name in names]
        body = {"model": "m", "messages": [USER], "tools": tools}
        status, answer = await post(model, "/v1/chat/completions", body)
        assert status == 400
        assert complaint in answer["error"]["message"]


async def test_a_model_is_required() -> None:
    async with ScriptedModel([]) as model:
        status, answer = await post(model, "/v1/responses", {"input": "Hi."})
        assert status == 400
        assert "model" in answer["error"]["message"]


async def test_deltas_have_the_size_that_was_asked_for() -> None:
    turn = ScriptedTurn(text="abcdef", calls=[ScriptedCall("t", "0123456789")], piece_chars=4)
    async with (
        ScriptedModel([turn]) as model,
        openai.AsyncOpenAI(base_url=model.base_url, api_key="none") as client,
    ):
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi."}], stream=True
        )
        deltas = [chunk.choices[0].delta async for chunk in stream if chunk.choices]
    texts = [delta.content for delta in deltas if delta.content]
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    arguments = [call.function.arguments for call in calls if call.function]
    assert texts == ["abcd", "ef"]
    assert arguments == ["", "0123", "4567", "89"]
