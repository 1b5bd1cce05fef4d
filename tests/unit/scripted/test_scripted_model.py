"""The scripted model, asked with plain HTTP."""

import asyncio
import dataclasses
import json
import re
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


def _image(media_type: str, data: str = "eA==") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}


def _file(media_type: str, filename: str = "a") -> dict[str, Any]:
    file = {"filename": filename, "file_data": f"data:{media_type};base64,eA=="}
    return {"type": "file", "file": file}


ASKED = {"role": "assistant", "tool_calls": [CALL]}
ANSWER = {"role": "tool", "tool_call_id": "a"}
SEEN = _image("image/png")

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
    ("empty array", [{"role": "user", "content": []}]),
    ("Supported values are: 'text'.", [USER, ASKED, {**ANSWER, "content": [SEEN]}]),
    ("unsupported image", [{"role": "user", "content": [_image("image/svg+xml")]}]),
    ("Invalid base64", [{"role": "user", "content": [_image("image/png", "?")]}]),
    ("Invalid base64", [{"role": "user", "content": [_image("image/png", "")]}]),
    ("unsupported MIME type 'text/csv'", [{"role": "user", "content": [_file("text/csv")]}]),
    ("'filename'", [{"role": "user", "content": [_file("application/pdf", "")]}]),
    ("itself", [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
    ("Missing required parameter: 'text'", [{"role": "user", "content": [{"type": "text"}]}]),
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
    ("input[1].output", [ITEM, {**OUTPUT, "output": None}]),
    ("empty array", [ITEM, {**OUTPUT, "output": []}]),
    ("Invalid value: 'text'", [ITEM, {**OUTPUT, "output": [{"type": "text", "text": "x"}]}]),
    ("Invalid value: 'image_url'", [{"role": "user", "content": [SEEN]}]),
    (
        "unsupported image",
        [
            ITEM,
            {**OUTPUT, "output": [{"type": "input_image", "image_url": "data:a/b;base64,eA=="}]},
        ],
    ),
]


async def test_images_and_files_are_accepted_where_the_real_apis_take_them() -> None:
    shown = [SEEN, _file("application/pdf"), {"type": "text", "text": "Look."}]
    linked = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    text = [{"type": "text", "text": "x"}]
    messages = [USER, ASKED, {**ANSWER, "content": text}, {**USER, "content": [*shown, linked]}]
    output = [
        {"type": "input_text", "text": "x"},
        {"type": "input_image", "image_url": "data:image/png;base64,eA=="},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_file", "filename": "a.csv", "file_data": "data:text/csv;base64,eA=="},
    ]
    async with ScriptedModel([ScriptedTurn(text="Hi.")] * 2) as model:
        body = {"model": "m", "messages": messages}
        status, _ = await post(model, "/v1/chat/completions", body)
        assert status == 200
        items = [USER, ITEM, {**OUTPUT, "output": output}]
        status, _ = await post(model, "/v1/responses", {"model": "m", "input": items})
        assert status == 200
        assert [request.results() for request in model.requests] == [[], ["x"]]
        assert model.requests[0].media_types() == ["image/png", "application/pdf", ""]
        assert model.requests[1].media_types() == ["image/png", "", "text/csv"]


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


async def test_a_stream_may_be_cut_inside_a_character() -> None:
    turn = ScriptedTurn(text="süß", raw=[{"choices": [{"delta": {"content": "süß"}}]}])
    for piece_bytes in (1, 7, None):
        cut = dataclasses.replace(turn, piece_bytes=piece_bytes)
        async with ScriptedModel([cut]) as model:
            body = json.dumps({"model": "m", "messages": [USER], "stream": True}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
            answer = await send(model, head.encode() + body)
        chunks = re.findall(rb"(?s)\r\n([0-9a-f]+)\r\n(.*?)(?=\r\n[0-9a-f]+\r\n)", b"\r\n" + answer)
        sizes = [int(size, 16) for size, _ in chunks]
        assert max(sizes) <= (piece_bytes or len(answer))
        lines = b"".join(part for _, part in chunks).decode().split("\n\n")
        assert json.loads(lines[0].removeprefix("data: ")) == turn.raw[0]


async def test_a_raw_body_is_sent_as_it_stands() -> None:
    async with ScriptedModel([ScriptedTurn(raw=[{"choices": []}])]) as model:
        body = {"model": "m", "messages": [USER]}
        assert await post(model, "/v1/chat/completions", body) == (200, {"choices": []})
