"""The Responses API."""

from collections.abc import Sequence
from typing import Any

from sidecall._result_formats import responses_output
from sidecall._tool_formats import ToolNames, to_responses_tools
from sidecall.chat.assembly import CallSlot, CallSlots
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

_CALLS = ("function_call", "custom_tool_call")
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_ENDED = ("response.completed", "response.incomplete", "response.failed")


class Responses:
    """Writes and reads conversations of the Responses API.

    The history holds all items of a turn, reasoning included, so that it can be sent
    whole each time, whether or not the provider stores it.
    """

    def request(
        self, history: Sequence[Any], tools: Sequence[Tool], names: ToolNames, settings: Settings
    ) -> dict[str, Any]:
        """Returns the arguments of `responses.create`."""
        request = dict(settings.extra)
        request["model"] = settings.model
        request["input"] = list(history)
        if settings.hint:
            given = request.get("instructions")
            request["instructions"] = f"{given}\n\n{settings.hint}" if given else settings.hint
        if offered := [*to_responses_tools(tools, names), *request.get("tools", ())]:
            request["tools"] = offered
        if settings.stream:
            request["stream"] = True
        return request

    def parse(self, response: Any) -> ModelTurn:
        """Reads a response that was not streamed."""
        return _turn(response, [to_item(item) for item in response.output or ()])

    def assembler(self) -> Assembler:
        """Returns what puts one streamed response together."""
        return _EventAssembler()

    def set_call_ids(self, items: list[HistoryItem], call_ids: Sequence[str]) -> None:
        """Gives the calls of a turn these ids."""
        calls = [item for item in items if item.get("type") in _CALLS]
        for call, call_id in zip(calls, call_ids, strict=True):
            call["call_id"] = call_id

    def answer(self, call: ModelCall, call_id: str, content: str) -> HistoryItem:
        """Returns the output item that answers a call."""
        kind = _OUTPUTS[0] if call.supported else _OUTPUTS[1]
        return {"type": kind, "call_id": call_id, "output": content}

    def set_content(
        self, answer: HistoryItem, content: str, results: Sequence[ToolResult] = ()
    ) -> None:
        """Replaces the content of an output item."""
        answer["output"] = responses_output(content, results)

    def attached_parts(self, call_id: str, results: Sequence[ToolResult]) -> list[HistoryItem]:
        """Returns nothing: the output holds all that can be sent."""
        del call_id, results
        return []

    def attached_message(self, parts: Sequence[HistoryItem]) -> HistoryItem:
        """Returns a user message with these parts."""
        return {"role": "user", "content": list(parts)}

    def call_ids(self, history: Sequence[Any]) -> set[str]:
        """Returns the ids of all calls."""
        return {get(item, "call_id") for item in history if get(item, "type") in _CALLS}

    def open_calls(self, history: Sequence[Any]) -> list[tuple[int, ModelCall]]:
        """Finds calls that no later item answers."""
        answered = {get(item, "call_id") for item in history if get(item, "type") in _OUTPUTS}
        return [
            (place, _read_call(item))
            for place, item in enumerate(history, 1)
            if get(item, "type") in _CALLS and get(item, "call_id") not in answered
        ]


class _EventAssembler:
    """Puts the events of one streamed answer together."""

    def __init__(self) -> None:
        self._calls = CallSlots()
        self._by_output: dict[int, CallSlot] = {}
        self._done_items: dict[int, HistoryItem] = {}
        self._response: Any = None

    def feed(self, chunk: Any) -> Sequence[StreamPart]:
        """Takes an event in."""
        parts: list[StreamPart] = []
        match chunk.type:
            case "response.output_text.delta":
                parts.append(TextPart(chunk.delta))
            case "response.refusal.delta":
                parts.append(TextPart(chunk.delta, is_refusal=True))
            case "response.output_item.added":
                self._begin(chunk.output_index, chunk.item)
            case "response.function_call_arguments.delta":
                self._slot(chunk.output_index).arguments += chunk.delta
            case "response.function_call_arguments.done":
                self._finish(chunk.output_index, chunk.arguments)
            case "response.output_item.done":
                self._finish_item(chunk.output_index, chunk.item)
            case "error":
                raise ModelError(f"the model's stream reports an error: {chunk.message}")
            case kind if kind in _ENDED:
                self._response = chunk.response
        return [*parts, *self._calls.report()]

    def finish(self) -> ModelTurn:
        """Returns the whole turn."""
        if self._response is None:
            raise ModelError("the model's stream broke off before its end")
        # Some servers leave the output out of the last event.
        whole = [to_item(item) for item in self._response.output or ()]
        streamed = [item for _, item in sorted(self._done_items.items())]
        return _turn(self._response, whole or streamed)

    def _begin(self, output_index: int, item: Any) -> None:
        if item.type in _CALLS:
            supported = item.type == "function_call"
            slot = CallSlot(item.call_id or "", item.name or "", supported=supported)
            self._by_output[output_index] = slot
            self._calls.add(slot)

    def _slot(self, output_index: int) -> CallSlot:
        if output_index not in self._by_output:
            raise ModelError(f"the model's stream never began its output {output_index}")
        return self._by_output[output_index]

    def _finish(self, output_index: int, arguments: str) -> None:
        slot = self._slot(output_index)
        slot.arguments = arguments
        slot.done = True

    def _finish_item(self, output_index: int, item: Any) -> None:
        self._done_items[output_index] = to_item(item)
        if item.type in _CALLS and get(item, "status") != "incomplete":
            if output_index not in self._by_output:
                self._begin(output_index, item)
            self._finish(output_index, get(item, "arguments") or "")


def _turn(response: Any, items: list[HistoryItem]) -> ModelTurn:
    if response.status in ("failed", "cancelled"):
        raise ModelError(f"the model's answer {response.status}: {get(response, 'error')}")
    text = _contents(items, "output_text", "text")
    refusal = _contents(items, "refusal", "refusal")
    calls = tuple(_read_call(item) for item in items if item.get("type") in _CALLS)
    end: EndReason = "refusal" if refusal and not calls else "completed"
    if response.status == "incomplete":
        reason = get(response.incomplete_details, "reason")
        end = "content_filter" if reason == "content_filter" else "length"
        # Reasoning that led to nothing is refused in later requests.
        while items and items[-1].get("type") == "reasoning":
            items.pop()
    for item in items:
        if item.get("type") == "function_call":
            item["arguments"] = item.get("arguments") or ""
    return ModelTurn(text, refusal, calls, end, _usage(response.usage), sendable(items))


def _contents(items: list[HistoryItem], kind: str, key: str) -> str:
    parts = [
        part
        for item in items
        if item.get("type") == "message"
        for part in item.get("content") or ()
        if part.get("type") == kind
    ]
    return "".join(part.get(key) or "" for part in parts)


def _read_call(item: Any) -> ModelCall:
    supported = get(item, "type") == "function_call"
    return ModelCall(
        get(item, "call_id") or "", get(item, "name") or "", get(item, "arguments") or "", supported
    )


def _usage(usage: Any) -> Usage:
    if usage is None:
        return Usage()
    return Usage(get(usage, "input_tokens") or 0, get(usage, "output_tokens") or 0)
