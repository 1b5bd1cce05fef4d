"""Batches as people and model providers write them."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sidecall import ToolCall, to_tool_call
from sidecall._durations import parse_duration

SHAPES = (
    'a list of calls, an object with "calls" or "tool_calls", or a whole answer of the Chat '
    "Completions or Responses API"
)
_CHOICES = {"mode": ("parallel", "sequential"), "on_failure": ("continue", "stop")}
_IDS = ("request_id", "sent_to_instance", "session_id")
_OPTIONS = (*_CHOICES, "max_concurrency", "timeout", "context", *_IDS)
_MAX_INT32 = 2**31 - 1


class BatchFileError(Exception):
    """The text holds no batch; the message says where it goes wrong."""


@dataclass(frozen=True, slots=True)
class BatchFile:
    """What a file says.

    Attributes:
        calls: The calls in order.
        options: What it says about the batch: `mode`, `on_failure`, `max_concurrency`,
            `timeout` in seconds, `context`, `request_id`, `sent_to_instance`, `session_id`;
            only what is there.
    """

    calls: Sequence[ToolCall]
    options: Mapping[str, Any] = field(default_factory=dict)


def read_batch(text: str) -> BatchFile:
    """Reads a batch.

    A call has `name`, `arguments` (an object or its JSON text), and if wanted `id`,
    `depends_on` and `timeout`; or it is a provider's tool call.

    Raises:
        BatchFileError: The text is not JSON, or not in one of the shapes.
    """
    try:
        document = json.loads(text.removeprefix("\ufeff"))
        items = _items(document)
        calls = [_call(number, item) for number, item in enumerate(items, 1)]
    except RecursionError:
        raise BatchFileError("arrays and objects are nested too deep") from None
    except ValueError as error:
        raise BatchFileError(_explained(error)) from None
    return BatchFile(calls, _options(document) if _is_ours(document) else {})


def _explained(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error}"
    # The only other thing that the parser refuses.
    return (
        f"a number has more than {sys.get_int_max_str_digits()} digits; "
        "give the arguments as JSON text to pass it on"
    )


def _is_ours(document: Any) -> bool:
    return isinstance(document, Mapping) and isinstance(document.get("calls"), list)


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


def _options(document: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(document) - {"calls", *_OPTIONS}):
        raise BatchFileError(
            f"a batch has no {', '.join(map(repr, unknown))}; "
            f"beside calls it may have {', '.join(_OPTIONS)}"
        )
    options = {name: document[name] for name in _OPTIONS if document.get(name) is not None}
    for name, values in _CHOICES.items():
        if options.get(name, values[0]) not in values:
            raise BatchFileError(f"{name} is {' or '.join(values)}, not {options[name]!r}")
    for name in _IDS:
        if not isinstance(options.get(name, ""), str):
            raise BatchFileError(f"{name} is a string, not {options[name]!r}")
    limit = options.get("max_concurrency", 1)
    if type(limit) is not int or not 1 <= limit <= _MAX_INT32:
        raise BatchFileError(f"max_concurrency is a whole number from 1 on, not {limit!r}")
    if "timeout" in options:
        options["timeout"] = _timeout_s(options["timeout"])
    context = options.get("context", {})
    if not isinstance(context, Mapping) or not _are_strings(context.values()):
        raise BatchFileError("context is an object of strings")
    return options


def _timeout_s(value: Any) -> float:
    if not isinstance(value, str | float | int):
        raise BatchFileError(f"timeout: {value!r} is not a duration")
    try:
        return parse_duration(value)
    except (ValueError, OverflowError) as error:
        raise BatchFileError(f"timeout: {error}") from None


def _are_strings(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _call(number: int, item: Any) -> ToolCall:
    if not isinstance(item, Mapping):
        raise BatchFileError(f"call {number}: expected an object, not {type(item).__name__}")
    depends_on = item.get("depends_on") or []
    if not isinstance(depends_on, list) or not _are_strings(depends_on):
        raise BatchFileError(f"call {number}: depends_on is a list of strings, not {depends_on!r}")
    call = dict(item)
    try:
        if isinstance(call.get("timeout"), str):
            call["timeout"] = parse_duration(call["timeout"])
        return to_tool_call(call)
    except (TypeError, ValueError) as error:
        raise BatchFileError(f"call {number}: {error}") from None
