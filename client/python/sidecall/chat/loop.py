"""The chat loop for asyncio."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sidecall._aio_client import AsyncClient
from sidecall._batch_results import BatchResults
from sidecall._durations import optional_duration_s
from sidecall._requests import ExecuteOptions
from sidecall.chat.conversation import Conversation
from sidecall.chat.early import EarlyCalls
from sidecall.chat.events import Emitter
from sidecall.chat.execution import new_request_id
from sidecall.chat.options import ChatOptions, ChatResult
from sidecall.v1.execution_pb2 import ToolCall
from sidecall.v1.tool_pb2 import Tool

if TYPE_CHECKING:
    from openai import AsyncOpenAI


@dataclass(kw_only=True)
class ChatLoop(ChatOptions):
    """Drives conversations: model, tool calls, sidecar, tool messages, model.

    The history that it leaves is valid whatever happens: each tool call is answered, also
    after a cancellation or an error. One loop runs one conversation at a time.

    Attributes:
        client: Client of the sidecar.
        openai_client: Client of the model's provider.
    """

    client: AsyncClient = field(kw_only=False)
    openai_client: "AsyncOpenAI" = field(kw_only=False)

    def __post_init__(self) -> None:
        self.check()
        emit = Emitter(self.hooks)
        early = (lambda turn: self._early_calls(turn, emit)) if self.early_start else None
        self._conversation = Conversation(self, _Services(self), emit, early)

    @property
    def history(self) -> list[Any]:
        """The conversation so far."""
        return self._conversation.history

    async def run(self, messages: str | list[Any]) -> ChatResult:
        """Asks the model until it answers without calling tools.

        Args:
            messages: A question, which goes on with the loop's history; or a conversation,
                which replaces the history and is extended in place.

        Raises:
            SidecallError: The sidecar cannot be reached or refused a request.
            ModelError: The model's answer broke off or cannot be read.
            ValueError: A tool that was chosen by name is not there.
            openai.OpenAIError: The provider cannot be reached or refused a request.
            Exception: What a hook raised; an ExceptionGroup where `approve` raised several
                times in a turn.
        """
        return await self._conversation.run(messages)

    def _early_calls(self, turn: int, emit: Emitter) -> EarlyCalls:
        timeout_s = optional_duration_s(self.batch_timeout)
        options = self.batch()
        if self.resend:
            options["request_id"] = new_request_id()
        return EarlyCalls(
            turn,
            # No timeout here: the RPC is open while the model is still writing.
            lambda: self.client.stream_batch(**options),
            emit,
            timeout_s,
            hold_unstarted=self.approve is not None,
        )


class _Services:
    def __init__(self, loop: ChatLoop) -> None:
        self._loop = loop

    async def list_tools(self) -> list[Tool]:
        return await self._loop.client.list_tools()

    async def execute(
        self, calls: Sequence[ToolCall], options: ExecuteOptions, timeout_s: float | None
    ) -> BatchResults:
        options = {**self._loop.batch(), **options}
        return await self._loop.client.execute_batch(calls, timeout=timeout_s, **options)

    async def create(self, request: dict[str, Any]) -> Any:
        provider = self._loop.openai_client
        if self._loop.api == "responses":
            return await provider.responses.create(**request)
        return await provider.chat.completions.create(**request)

    async def wait_for_all(self, waiting: Sequence[Coroutine[Any, Any, None]]) -> None:
        async with asyncio.TaskGroup() as group:
            for coroutine in waiting:
                group.create_task(coroutine)
