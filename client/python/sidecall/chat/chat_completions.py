"""The Chat Completions API."""

from collections.abc import Sequence
from typing import Any

from sidecall._result_formats import attached_message, attached_parts
from sidecall._tool_formats import ToolNames, to_chat_completions_tools
from sidecall.chat.assembly import CallSlot, CallSlots, merge_extra
from sidecall.chat.items import get, sendable, to_item
from sidecall.chat.model import (
    Assembler,
    EndReason,
    HistoryItem,
    ModelCall,
    ModelError,
    ModelTurn,
    Settings,
    StreamPart,
    TextPart,
    Usage,
)
from sidecall.v1.execution_pb2 import ToolResult
from sidecall.v1.tool_pb2 import Tool

_OUTPUT_ONLY = ("annotations", "function_call")
_ENDS: dict[str | None, EndReason] = {"length": "length", "content_filter": "content_filter"}


class ChatCompletions:
    """Writes and reads conversations of the Chat Completions API."""

    def request(
        self, history: Sequence[Any], tools: Sequence[Tool], names: ToolNames, settings: Settings
    ) -> dict[str, Any]:
        """Returns the arguments of `chat.completions.create`."""
        request = dict(settings.extra)
        request["model"] = settings.model
        request["messages"] = _with_hint(history, settings.hint)
        if offered := [*to_chat_completions_tools(tools, names), *request.get("tools", ())]:
            request["tools"] = offered
        if settings.stream:
            request["stream"] = True
            request.setdefault("stream_options", {"include_usage": True})
        return request

    def parse(self, response: Any) -> ModelTurn:
        """Reads a response that was not streamed."""
        if not response.choices:
            raise ModelError(f"the model's answer holds no choice: {get(response, 'error')}")
        choice = response.choices[0]
        item = to_item(choice.message)
        item["tool_calls"] = [to_item(call) for call in choice.message.tool_calls or ()]
        return _turn(item, choice.finish_reason, _usage(response.usage))

    def assembler(self) -> Assembler:
        """Returns what puts one streamed response together."""
        return _ChunkAssembler()

    def set_call_ids(self, items: list[HistoryItem], call_ids: Sequence[str]) -> None:
        """Gives the calls of a turn these ids."""
        for call, call_id in zip(items[0].get("tool_calls", ()), call_ids, strict=True):
            call["id"] = call_id

    def answer(self, call: ModelCall, call_id: str, content: str) -> HistoryItem:
        """Returns the tool message that answers a call."""
        del call
        return {"role": "tool", "tool_call_id": call_id, "content": content}

    def set_content(
        self, answer: HistoryItem, content: str, results: Sequence[ToolResult] = ()
    ) -> None:
        """Replaces the content of a tool message, which is text alone."""
        del results
        answer["content"] = content

    def attached_parts(self, call_id: str, results: Sequence[ToolResult]) -> list[HistoryItem]:
        """Returns the images and files of a call's results."""
        return attached_parts(call_id, results)

    def attached_message(self, parts: Sequence[HistoryItem]) -> HistoryItem:
        """Returns the user message that holds them."""
        return attached_message(parts)

    def call_ids(self, history: Sequence[Any]) -> set[str]:
        """Returns the ids of all calls."""
        return {get(call, "id") for message in history for call in get(message, "tool_calls") or ()}

    def open_calls(self, history: Sequence[Any]) -> list[tuple[int, ModelCall]]:
        """Finds calls that the tool messages right after them do not answer."""
        found = []
        for index, message in enumerate(history):
            calls = get(message, "tool_calls") if get(message, "role") == "assistant" else None
            if not calls:
                continue
            end = index + 1
            while end < len(history) and get(history[end], "role") == "tool":
                end += 1
            answered = {get(answer, "tool_call_id") for answer in history[index + 1 : end]}
            found += [
                (end, ModelCall(get(call, "id"), "", ""))
                for call in calls
                if get(call, "id") not in answered
            ]
        return found


class _ChunkAssembler:
    """Puts the chunks of one streamed answer together."""

    def __init__(self) -> None:
        self._text = ""
        self._refusal = ""
        self._extra: HistoryItem = {}
        self._calls = CallSlots()
        self._by_index: dict[int | None, CallSlot] = {}
        self._finish_reason: str | None = None
        self._usage = Usage()

    def feed(self, chunk: Any) -> Sequence[StreamPart]:
        """Takes a chunk in."""
        if get(chunk, "usage") is not None:
            self._usage = _usage(chunk.usage)
        # Other choices than the first are nobody's turn.
        choices = [choice for choice in chunk.choices or () if not choice.index]
        parts: list[StreamPart] = []
        for choice in choices:
            if choice.delta is not None:
                parts += self._feed_delta(choice.delta)
            if choice.finish_reason is not None:
                self._finish_reason = choice.finish_reason
                if choice.finish_reason not in _ENDS:
                    self._calls.finish_all()
        return [*parts, *self._calls.report()]

    def finish(self) -> ModelTurn:
        """Returns the whole turn."""
        if self._finish_reason is None:
            raise ModelError("the model's stream broke off before its end")
        item: HistoryItem = {"role": "assistant", "content": self._text, **self._extra}
        if self._refusal:
            item["refusal"] = self._refusal
        item["tool_calls"] = [_call_item(slot) for slot in self._calls.slots]
        return _turn(item, self._finish_reason, self._usage)

    def _feed_delta(self, delta: Any) -> Sequence[StreamPart]:
        parts = []
        if delta.content:
            self._text += delta.content
            parts.append(TextPart(delta.content))
        if delta.refusal:
            self._refusal += delta.refusal
            parts.append(TextPart(delta.refusal, is_refusal=True))
        merge_extra(self._extra, delta.model_extra)
        for call in delta.tool_calls or ():
            self._feed_call(call)
        return parts

    def _feed_call(self, delta: Any) -> None:
        slot = self._by_index.get(delta.index)
        # Some providers give every call of a turn the same index; a new id tells them apart.
        if slot is None or (delta.id and slot.call_id and delta.id != slot.call_id):
            self._calls.finish_all()
            slot = self._by_index[delta.index] = CallSlot()
            self._calls.add(slot)
        slot.call_id = slot.call_id or delta.id or ""
        if delta.function is not None:
            slot.name = slot.name or delta.function.name or ""
            slot.arguments += delta.function.arguments or ""
        merge_extra(slot.extra, delta.model_extra)


def _call_item(slot: CallSlot) -> HistoryItem:
    function = {"name": slot.name, "arguments": slot.arguments}
    return {"id": slot.call_id, "type": "function", "function": function, **slot.extra}


def _turn(item: HistoryItem, finish_reason: str | None, usage: Usage) -> ModelTurn:
    for name in _OUTPUT_ONLY:
        item.pop(name, None)
    if "audio" in item:
        item["audio"] = {"id": item["audio"]["id"]}
    text, refusal = item.get("content") or "", item.get("refusal") or ""
    calls = tuple(_read_call(call) for call in item["tool_calls"])
    if not calls:
        del item["tool_calls"]
    # An answer without calls must have content; beside calls some providers refuse "".
    item["content"] = text or (None if calls or refusal else "")
    end = _ENDS.get(finish_reason, "refusal" if refusal and not calls else "completed")
    return ModelTurn(text, refusal, calls, end, usage, [sendable(item)])


def _read_call(call: HistoryItem) -> ModelCall:
    function = call.get("function")
    if function is None:
        return ModelCall(call.get("id") or "", "", "", supported=False)
    function["arguments"] = function.get("arguments") or ""
    return ModelCall(call.get("id") or "", function.get("name") or "", function["arguments"])


def _usage(usage: Any) -> Usage:
    if usage is None:
        return Usage()
    return Usage(get(usage, "prompt_tokens") or 0, get(usage, "completion_tokens") or 0)


def _with_hint(history: Sequence[Any], hint: str) -> list[Any]:
    if not hint:
        return list(history)
    # Merged into the first message where that instructs already: many models' templates
    # allow one such message only.
    if history and get(history[0], "role") in ("system", "developer"):
        role, content = get(history[0], "role"), get(history[0], "content")
        merged = (
            f"{content}\n\n{hint}"
            if isinstance(content, str)
            else [*(content or ()), {"type": "text", "text": hint}]
        )
        return [{"role": role, "content": merged}, *history[1:]]
    return [{"role": "system", "content": hint}, *history]
