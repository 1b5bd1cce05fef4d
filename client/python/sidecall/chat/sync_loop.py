"""The chat loop for blocking code."""

import inspect
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from sidecall._batch_results import BatchResults
from sidecall._client import Client
from sidecall._requests import ExecuteOptions
from sidecall.chat.conversation import Conversation
from sidecall.chat.events import Emitter
from sidecall.chat.options import ChatOptions, ChatResult
from sidecall.v1.execution_pb2 import ToolCall
from sidecall.v1.tool_pb2 import Tool

if TYPE_CHECKING:
    from openai import OpenAI

_T = TypeVar("_T")


@dataclass(kw_only=True)
class SyncChatLoop(ChatOptions):
    """`ChatLoop` for blocking code, without early start.

    Attributes:
        client: Client of the sidecar.
        openai_client: Client of the model's provider.
    """

    client: Client = field(kw_only=False)
    openai_client: "OpenAI" = field(kw_only=False)

    def __post_init__(self) -> None:
        self.check()
        if self.early_start:
            raise ValueError("early_start needs the asyncio ChatLoop")
        if inspect.iscoroutinefunction(self.approve):
            raise ValueError("approve is a plain function here; a coroutine needs the ChatLoop")
        self._conversation = Conversation(self, _Services(self), Emitter(self.hooks), None)

    @property
    def history(self) -> list[Any]:
        """The conversation so far."""
        return self._conversation.history

    def run(self, messages: str | list[Any]) -> ChatResult:
        """Asks the model until it answers without calling tools; see `ChatLoop.run`."""
        return _finish(self._conversation.run(messages))


def _finish(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Runs a coroutine none of whose awaits suspends: all of its services block instead."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: _T = end.value
        return value
    coroutine.close()
    raise RuntimeError("a hook of a SyncChatLoop must not wait for anything asynchronous")


class _Services:
    """Blocking services in the form that the conversation awaits."""

    def __init__(self, loop: SyncChatLoop) -> None:
        self._loop = loop

    async def list_tools(self) -> list[Tool]:
        return self._loop.client.list_tools()

    async def execute(
        self, calls: Sequence[ToolCall], options: ExecuteOptions, timeout_s: float | None
    ) -> BatchResults:
        options = {**self._loop.batch(), **options}
        return self._loop.client.execute_batch(calls, timeout=timeout_s, **options)

    async def create(self, request: dict[str, Any]) -> Any:
        provider = self._loop.openai_client
        responses = self._loop.api == "responses"
        create: Any = provider.responses.create if responses else provider.chat.completions.create
        answer = create(**request)
        return _BlockingStream(answer) if request.get("stream") else answer

    async def wait_for_all(self, waiting: Sequence[Coroutine[Any, Any, None]]) -> None:
        for coroutine in waiting:
            await coroutine


class _BlockingStream:
    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._chunks: Iterator[Any] = iter(stream)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None

    async def close(self) -> None:
        self._stream.close()
