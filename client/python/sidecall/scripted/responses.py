"""The scripted model's answers in the Responses API."""

from collections.abc import Iterator
from typing import Any

from sidecall.scripted.pieces import call_pieces, pieces
from sidecall.scripted.script import ScriptedTurn

_CREATED = 1_700_000_000
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response(turn: ScriptedTurn, model: str, answer_id: str, call_ids: list[str]) -> Any:
    """Returns the body of an answer that is not streamed."""
    reason = _INCOMPLETE.get(turn.ending)
    return {
        **_shell(model, answer_id),
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": _output(turn, answer_id, call_ids),
        "usage": {
            "input_tokens": turn.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": turn.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": turn.input_tokens + turn.output_tokens,
        },
    }


def events(
    turn: ScriptedTurn, model: str, answer_id: str, call_ids: list[str]
) -> Iterator[dict[str, Any]]:
    """Yields the events of a streamed answer."""
    whole = response(turn, model, answer_id, call_ids)
    in_progress = {**_shell(model, answer_id), "status": "in_progress", "output": []}
    inner = [
        {"type": "response.created", "response": in_progress},
        *_item_events(turn, whole["output"]),
        {"type": f"response.{whole['status']}", "response": whole},
    ]
    for number, event in enumerate(inner):
        yield {**event, "sequence_number": number}


def _shell(model: str, answer_id: str) -> dict[str, Any]:
    return {
        "id": f"resp_{answer_id}",
        "object": "response",
        "created_at": _CREATED,
        "model": model,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }


def _output(turn: ScriptedTurn, answer_id: str, call_ids: list[str]) -> list[dict[str, Any]]:
    output: list[dict[str, Any]] = []
    if turn.reasoning:
        summary = [{"type": "summary_text", "text": turn.reasoning}]
        output.append(
            {
                "id": f"rs_{answer_id}",
                "type": "reasoning",
                "summary": summary,
                "encrypted_content": "c2NyaXB0ZWQ=",
            }
        )
    if turn.text or turn.refusal or not (turn.calls or turn.reasoning):
        part: dict[str, Any] = (
            {"type": "refusal", "refusal": turn.refusal}
            if turn.refusal
            else {"type": "output_text", "text": turn.text, "annotations": [], "logprobs": []}
        )
        output.append(
            {
                "id": f"msg_{answer_id}",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )
    cut = turn.ending in _INCOMPLETE
    for index, (call, call_id) in enumerate(zip(turn.calls, call_ids, strict=True)):
        output.append(
            {
                "id": f"fc_{answer_id}_{index}",
                "type": "function_call",
                "call_id": call_id,
                "name": call.name,
                "arguments": call.text,
                "status": "incomplete" if cut else "completed",
            }
        )
    return output


def _item_events(turn: ScriptedTurn, output: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for index, item in enumerate(output):
        if item["type"] == "message":
            yield from _message_events(turn, index, item)
        elif item["type"] == "reasoning":
            begun = {**item, "encrypted_content": None, "summary": []}
            yield {"type": "response.output_item.added", "output_index": index, "item": begun}
            yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield from _call_events(turn, output)


def _message_events(
    turn: ScriptedTurn, index: int, item: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    place = {"item_id": item["id"], "output_index": index, "content_index": 0}
    part = item["content"][0]
    begun = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": index, "item": begun}
    yield {"type": "response.content_part.added", **place, "part": _empty(part)}
    kind = "response.refusal" if turn.refusal else "response.output_text"
    for piece in pieces(turn.refusal or turn.text, turn.piece_chars):
        yield {"type": f"{kind}.delta", **place, "delta": piece, "logprobs": []}
    key = "refusal" if turn.refusal else "text"
    yield {"type": f"{kind}.done", **place, key: part[key], "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": part}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _empty(part: dict[str, Any]) -> dict[str, Any]:
    return {**part, "refusal" if part["type"] == "refusal" else "text": ""}


def _call_events(turn: ScriptedTurn, output: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    first = len(output) - len(turn.calls)
    left = [0] * len(turn.calls)
    for index, _, _ in call_pieces(turn):
        left[index] += 1
    for index, is_first, piece in call_pieces(turn):
        item, place = output[first + index], first + index
        spot = {"item_id": item["id"], "output_index": place}
        if is_first:
            begun = {**item, "arguments": "", "status": "in_progress"}
            yield {"type": "response.output_item.added", "output_index": place, "item": begun}
        else:
            yield {"type": "response.function_call_arguments.delta", **spot, "delta": piece}
        left[index] -= 1
        if left[index] == 0 and item["status"] == "completed":
            yield {
                "type": "response.function_call_arguments.done",
                **spot,
                "name": item["name"],
                "arguments": item["arguments"],
            }
        if left[index] == 0:
            yield {"type": "response.output_item.done", "output_index": place, "item": item}
