"""The scripted model's answers in the Chat Completions API."""

from collections.abc import Iterator
from typing import Any

from sidecall.scripted.pieces import call_pieces, pieces
from sidecall.scripted.script import ScriptedTurn

_CREATED = 1_700_000_000


def completion(turn: ScriptedTurn, model: str, answer_id: str, call_ids: list[str]) -> Any:
    """Returns the body of an answer that is not streamed."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": turn.text or None,
        "refusal": turn.refusal or None,
        "annotations": [],
    }
    if turn.calls:
        message["tool_calls"] = [
            {
                "id": call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.text},
            }
            for call, call_id in zip(turn.calls, call_ids, strict=True)
        ]
    return {
        "id": f"chatcmpl-{answer_id}",
        "object": "chat.completion",
        "created": _CREATED,
        "model": model,
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": turn.ending}
        ],
        "usage": _usage(turn),
    }


def chunks(
    turn: ScriptedTurn, model: str, answer_id: str, call_ids: list[str], *, usage: bool
) -> Iterator[Any]:
    """Yields the chunks of a streamed answer."""
    head = {
        "id": f"chatcmpl-{answer_id}",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": model,
    }

    def chunk(delta: Any, finish_reason: str | None = None) -> Any:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**head, "choices": [choice]}

    yield chunk({"role": "assistant", "content": "" if turn.text else None})
    for piece in pieces(turn.text, turn.piece_chars):
        yield chunk({"content": piece})
    for piece in pieces(turn.refusal, turn.piece_chars):
        yield chunk({"refusal": piece})
    for index, is_first, piece in call_pieces(turn):
        call: dict[str, Any] = {"index": index, "function": {"arguments": piece}}
        if is_first:
            call |= {"id": call_ids[index], "type": "function"}
            call["function"]["name"] = turn.calls[index].name
        yield chunk({"tool_calls": [call]})
    yield chunk({}, turn.ending)
    if usage:
        yield {**head, "choices": [], "usage": _usage(turn)}


def _usage(turn: ScriptedTurn) -> dict[str, int]:
    return {
        "prompt_tokens": turn.input_tokens,
        "completion_tokens": turn.output_tokens,
        "total_tokens": turn.input_tokens + turn.output_tokens,
    }
