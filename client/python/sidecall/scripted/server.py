"""The scripted model's HTTP server."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any, Self

from sidecall.scripted import chat_completions, responses
from sidecall.scripted.http import (
    BadRequestError,
    EventStream,
    HttpRequest,
    read_request,
    write_json,
)
from sidecall.scripted.script import ModelRequest, Reply, ScriptedTurn
from sidecall.scripted.validation import refusal

_ANSWERS = ("/v1/chat/completions", "/v1/responses")


class ScriptedModel:
    """A model server on loopback that answers from a script.

    It speaks the protocol of the Chat Completions and of the Responses API, streamed or
    not, and refuses conversations that the real API refuses. An async context manager.

    Args:
        script: One turn per request, in order. A callable makes its turn of the request.
        model: Name of the model.
        port: Port on 127.0.0.1; 0 for a free one.
    """

    def __init__(
        self, script: Sequence[Reply], *, model: str = "scripted-model", port: int = 0
    ) -> None:
        self.model = model
        self.requests: list[ModelRequest] = []
        self._script = list(script)
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._calls_made = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    @property
    def base_url(self) -> str:
        """URL for the `base_url` of the openai package's clients."""
        if self._server is None:
            raise RuntimeError("the server is not running: use `async with`")
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}/v1"

    @property
    def turns_left(self) -> int:
        """How many turns of the script have not been asked for."""
        return max(0, len(self._script) - len(self.requests))

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await read_request(reader)) is not None:
                await self._answer(request, writer)
        except BadRequestError as error:
            await write_json(writer, 400, _error(str(error)))
        except ConnectionError:
            pass  # The client went away, which ends the connection as well.
        finally:
            writer.close()

    async def _answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        if request.method == "GET" and request.path == "/v1/models":
            model = {"id": self.model, "object": "model", "created": 0, "owned_by": "sidecall"}
            await write_json(writer, 200, {"object": "list", "data": [model]})
            return
        if request.method != "POST" or request.path not in _ANSWERS:
            message = f"Invalid URL ({request.method} {request.path})"
            await write_json(writer, 404, _error(message))
            return
        problem = refusal(request.path, request.body)
        if problem is not None:
            await write_json(writer, 400, _error(problem))
            return
        received = ModelRequest(request.path, request.body, len(self.requests))
        self.requests.append(received)
        if received.number >= len(self._script):
            await write_json(writer, 400, _error("the script has no more turns"))
            return
        reply = self._script[received.number]
        try:
            turn = reply if isinstance(reply, ScriptedTurn) else reply(received)
        except Exception as error:
            await write_json(writer, 500, _error(f"the script failed: {error!r}"))
            return
        if turn.http_status is not None:
            await write_json(writer, turn.http_status, _error(turn.error))
        elif received.body.get("stream"):
            await self._stream(received, turn, writer)
        elif turn.raw:
            await write_json(writer, 200, turn.raw[0])
        else:
            whole = responses.response if _is_responses(received) else chat_completions.completion
            answer_id, call_ids = self._ids(received, turn)
            await write_json(writer, 200, whole(turn, self.model, answer_id, call_ids))

    async def _stream(
        self, request: ModelRequest, turn: ScriptedTurn, writer: asyncio.StreamWriter
    ) -> None:
        stream = EventStream(writer, turn.piece_bytes)
        await stream.begin()
        for number, (event, data) in enumerate(self._events(request, turn)):
            if number == turn.break_after:
                await (stream.end() if turn.break_quietly else _cut(stream))
                return
            if turn.before_chunk is not None:
                await turn.before_chunk(number)
            if turn.delay_s:
                await asyncio.sleep(turn.delay_s)
            await stream.send(data, event)
        await stream.end()

    def _events(
        self, request: ModelRequest, turn: ScriptedTurn
    ) -> Iterator[tuple[str | None, str]]:
        answer_id, call_ids = self._ids(request, turn)
        if _is_responses(request):
            made = responses.events(turn, self.model, answer_id, call_ids)
            for event in turn.raw or made:
                yield event["type"], json.dumps(event)
            return
        options = request.body.get("stream_options") or {}
        usage = bool(options.get("include_usage"))
        chunks = chat_completions.chunks(turn, self.model, answer_id, call_ids, usage=usage)
        for chunk in turn.raw or chunks:
            yield None, json.dumps(chunk)
        yield None, "[DONE]"

    def _ids(self, request: ModelRequest, turn: ScriptedTurn) -> tuple[str, list[str]]:
        call_ids = []
        for call in turn.calls:
            self._calls_made += 1
            call_ids.append(f"call_{self._calls_made:04d}" if call.id is None else call.id)
        return f"scripted{request.number:04d}", call_ids


async def _cut(stream: EventStream) -> None:
    stream.abort()


def _is_responses(request: ModelRequest) -> bool:
    return request.path == "/v1/responses"


def _error(message: str) -> dict[str, Any]:
    detail = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return {"error": detail}
