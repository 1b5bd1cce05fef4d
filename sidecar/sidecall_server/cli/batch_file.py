"""Batches as people and model providers write them."""

import json
from collections.abc import Mapping
from typing import Any

from sidecall import ToolCall, to_tool_call
from sidecall._durations import parse_duration

SHAPES = (
    'a list of calls, an object with "calls" or "tool_calls", or a whole answer of the Chat '
    "Completions or Responses API"
)


class BatchFileError(Exception):
    """The text holds no batch; the message says where it goes wrong."""


def read_calls(text: str) -> list[ToolCall]:
    """Reads the calls of a batch.

    A call has `name`, `arguments` (an object or its JSON text), and if wanted `id`,
    `depends_on` and `timeout`; or it is a provider's tool call.

    Raises:
        BatchFileError: The text is not JSON, or not in one of the shapes.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise BatchFileError(f"not JSON: {error}") from None
    return [_call(number, item) for number, item in enumerate(_items(document), 1)]


def _items(document: Any) -> list[Any]:
    if isinstance(document, Mapping):
        for key in ("calls", "tool_calls"):
            if isinstance(document.get(key), list):
                return list(document[key])
        if isinstance(document.get("output"), list):
            items = [item for item in document["output"] if isinstance(item, Mapping)]
            return [item for item in items if item.get("type") == "function_call"]
        choices = document.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
            return _items(choices[0].get("message"))
    if isinstance(document, list):
        return document
    raise BatchFileError(f"no calls found; expected {SHAPES}")


def _call(number: int, item: Any) -> ToolCall:
    if not isinstance(item, Mapping):
        raise BatchFileError(f"call {number}: expected an object, not {type(item).__name__}")
    call = dict(item)
    try:
        if isinstance(call.get("timeout"), str):
            call["timeout"] = parse_duration(call["timeout"])
        return to_tool_call(call)
    except (TypeError, ValueError, KeyError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise BatchFileError(f"call {number}: {what}") from None
