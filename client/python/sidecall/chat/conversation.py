"""The loop itself: model, tool calls, results, model."""

from collections.abc import Callable
from typing import Any

from sidecall._rpc_errors import SidecallError
from sidecall._tool_formats import ToolNames
from sidecall.chat import text
from sidecall.chat.chat_completions import ChatCompletions
from sidecall.chat.early import EarlyCalls
from sidecall.chat.events import (
    CallReady,
    Emitter,
    RefusalDelta,
    TextDelta,
    TurnFinished,
    TurnStarted,
)
from sidecall.chat.execution import TurnExecution
from sidecall.chat.history import TurnRecord, answer_open_calls
from sidecall.chat.model import CallDone, Dialect, ModelTurn, StreamPart, TextPart, Usage
from sidecall.chat.options import ChatOptions, ChatResult, StoppedReason, Turn
from sidecall.chat.responses import Responses
from sidecall.chat.services import Services
from sidecall.chat.turn_calls import TurnCalls
from sidecall.v1.tool_pb2 import Tool


class Conversation:
    """Drives one conversation.

    Args:
        options: Choices of the loop.
        services: What it needs from outside.
        emit: Is told of each event.
        open_early: Makes the early start of a turn; None where calls wait for the turn's end.
    """

    def __init__(
        self,
        options: ChatOptions,
        services: Services,
        emit: Emitter,
        open_early: Callable[[int], EarlyCalls] | None,
    ) -> None:
        self.history: list[Any] = []
        self._options = options
        self._services = services
        self._emit = emit
        self._open_early = open_early
        self._dialect: Dialect = Responses() if options.api == "responses" else ChatCompletions()
        self._tools: list[Tool] = []
        self._names = ToolNames(())
        self._turn = 0

    async def run(self, messages: str | list[Any]) -> ChatResult:
        """Asks the model until it answers without calling tools."""
        if isinstance(messages, str):
            self.history.append({"role": "user", "content": messages})
        else:
            self.history = messages
        self._turn = 0
        answer_open_calls(self.history, self._dialect)
        try:
            return await self._run()
        except Exception as error:
            await self._emit.report(self._turn, error)
            raise

    async def _run(self) -> ChatResult:
        await self._choose_tools()
        turns: list[Turn] = []
        last: ModelTurn | None = None
        stopped: StoppedReason = "max_turns"
        while self._turn < self._options.max_turns:
            self._turn += 1
            await self._emit(TurnStarted(self._turn))
            last, turn = await self._one_turn()
            turns.append(turn)
            if last.end != "completed" or not last.calls:
                stopped = last.end
                break
        return ChatResult(
            text=last.text if last else "",
            refusal=last.refusal if last else "",
            messages=self.history,
            turns=tuple(turns),
            usage=sum((turn.usage for turn in turns), Usage()),
            stopped_reason=stopped,
        )

    async def _choose_tools(self) -> None:
        listed = await self._services.list_tools()
        chosen = self._options.tools
        if chosen is not None:
            if missing := sorted(set(chosen) - {tool.name for tool in listed}):
                raise ValueError(f"the sidecar offers no tool {', '.join(missing)}")
            listed = [tool for tool in listed if tool.name in chosen]
        self._tools = listed
        self._names = ToolNames(tool.name for tool in listed)

    async def _one_turn(self) -> tuple[ModelTurn, Turn]:
        announced = self._new_calls()
        if self._open_early is None:
            model_turn = await self._ask(announced, None)
            turn = await self._run_calls(model_turn, announced, None)
        else:
            async with self._open_early(self._turn) as early:
                model_turn = await self._ask(announced, early)
                turn = await self._run_calls(model_turn, announced, early)
        await self._emit(TurnFinished(self._turn, turn.text, len(turn.calls), turn.usage))
        return model_turn, turn

    def _new_calls(self) -> TurnCalls:
        # The history only grows, so its length tells this turn from all others.
        prefix = f"call_{len(self.history)}"
        taken = self._dialect.call_ids(self.history)
        # A tool that was not chosen is not run because a model guesses its name.
        chosen = self._options.tools is not None
        return TurnCalls(self._names, lambda place: f"{prefix}_{place}", taken, offered_only=chosen)

    async def _ask(self, announced: TurnCalls, early: EarlyCalls | None) -> ModelTurn:
        settings = self._options.settings()
        request = self._dialect.request(self.history, self._tools, self._names, settings)
        response = await self._services.create(request)
        if not settings.stream:
            turn = self._dialect.parse(response)
            for text_, is_refusal in ((turn.text, False), (turn.refusal, True)):
                if text_:
                    await self._take_part(TextPart(text_, is_refusal), announced, early)
            return turn
        assembler = self._dialect.assembler()
        try:
            async for chunk in response:
                for part in assembler.feed(chunk):
                    await self._take_part(part, announced, early)
        finally:
            await response.close()
        return assembler.finish()

    async def _take_part(
        self, part: StreamPart, announced: TurnCalls, early: EarlyCalls | None
    ) -> None:
        if isinstance(part, TextPart):
            kind = RefusalDelta if part.is_refusal else TextDelta
            await self._emit(kind(self._turn, part.text))
        elif isinstance(part, CallDone):
            first = len(announced.batch)
            added = announced.add(part.call)
            for index, call in enumerate(added, first):
                await self._emit(CallReady(self._turn, index, call))
            if early is not None and added:
                await early.send(announced)
        elif early is not None:
            await early.abandon("more of a call arrived after the next one had begun")

    async def _run_calls(
        self, model_turn: ModelTurn, announced: TurnCalls, early: EarlyCalls | None
    ) -> Turn:
        calls = self._new_calls()
        for call in model_turn.calls:
            calls.add(call)
        batch = calls.batch
        record = TurnRecord(
            self.history,
            self._dialect,
            model_turn,
            calls,
            attachments=self._options.attachments,
        )
        if model_turn.end in ("length", "content_filter"):
            filtered = model_turn.end == "content_filter"
            record.fail(text.NOT_RUN_FILTER if filtered else text.NOT_RUN_LENGTH)
        elif batch:
            for index, ready in enumerate(batch):
                if announced.batch[index : index + 1] != [ready]:
                    await self._emit(CallReady(self._turn, index, ready))
            try:
                await TurnExecution(
                    self._turn, calls, record, self._options, self._services, self._emit
                ).run(early)
            except SidecallError as error:
                record.fail(text.failed(error))
                raise
        results = tuple(record.results[index] for index in sorted(record.results))
        return Turn(model_turn.text, tuple(batch), results, model_turn.usage)
