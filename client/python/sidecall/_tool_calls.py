"""Tool calls of every shape as messages of the contract."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from google.protobuf.duration_pb2 import Duration

from sidecall._durations import Timeout, parse_duration
from sidecall.v1.execution_pb2 import ToolCall

_SURROGATE = re.compile("[\ud800-\udfff]")


class _ProviderFunction(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> str: ...


@runtime_checkable
class ChatCompletionsCall(Protocol):
    """A tool call as the Chat Completions API returns it."""

    @property
    def id(self) -> str:
        """Id that the provider gave it."""
        ...

    @property
    def function(self) -> _ProviderFunction:
        """Name and arguments."""
        ...


@runtime_checkable
class ResponsesCall(Protocol):
    """A function call item as the Responses API returns it."""

    @property
    def call_id(self) -> str:
        """Id that the provider gave it."""
        ...

    @property
    def name(self) -> str:
        """Name of the tool."""
        ...

    @property
    def arguments(self) -> str:
        """JSON text."""
        ...


ToolCallLike = ToolCall | Mapping[str, Any] | ChatCompletionsCall | ResponsesCall
"""A call: the contract's message, a dictionary, or a provider's object."""


def to_tool_call(call: ToolCallLike) -> ToolCall:
    """Makes the contract's message of a call.

    A dictionary has the fields of `ToolCall` (`arguments` may be an object; `timeout` is
    in seconds, or text such as "5s"), or the form of a Chat Completions tool call or a
    Responses function call.

    Raises:
        TypeError: It is none of these, or a field has a value of another type.
        ValueError: Its timeout is not positive and finite.
    """
    if isinstance(call, ToolCall):
        return call
    if isinstance(call, Mapping):
        return _from_mapping(call)
    if isinstance(call, ChatCompletionsCall):
        return make_tool_call(call.function.name, call.function.arguments, call.id)
    if isinstance(call, ResponsesCall):
        return make_tool_call(call.name, call.arguments, call.call_id)
    raise TypeError(f"not a tool call: {type(call).__name__}")


def make_tool_call(
    name: str,
    arguments: str | Mapping[str, Any] | None = None,
    call_id: str | None = None,
    timeout: Timeout | None = None,
) -> ToolCall:
    """Makes a call.

    Args:
        name: Name of the tool.
        arguments: JSON text, or an object that is made into it.
        call_id: Id of the call.
        timeout: Time from receipt to result: seconds, or text such as "5s".

    Raises:
        TypeError: A field has a value of another type; the text names it.
        ValueError: The timeout is not positive and finite.
    """
    if isinstance(arguments, Mapping):
        arguments = json.dumps(dict(arguments))
    call = ToolCall(
        id=_text("id", "" if call_id is None else call_id),
        name=_text("name", name),
        arguments=_text(
            "arguments", "" if arguments is None else arguments, "an object or JSON text"
        ),
    )
    if timeout is not None:
        call.timeout.CopyFrom(to_duration(parse_duration(timeout)))
    return call


def to_duration(seconds: float) -> Duration:
    """Makes a duration of seconds."""
    whole, nanos = divmod(round(seconds * 1e9), 1_000_000_000)
    return Duration(seconds=whole, nanos=nanos)


def escape_surrogates(text: str) -> str:
    r"""Writes lone surrogates as `\uXXXX`: UTF-8 has no form for them, and in JSON text the
    escape means the same.
    """  # noqa: D205  the first sentence needs two lines
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _from_mapping(call: Mapping[str, Any]) -> ToolCall:
    function = call.get("function")
    if isinstance(function, Mapping):
        if "name" not in function:
            raise TypeError(f"a call's function needs a name; its keys are {sorted(function)}")
        return make_tool_call(function["name"], function.get("arguments"), call.get("id"))
    if "name" not in call:
        raise TypeError(f"a call needs a name; its keys are {sorted(call)}")
    if call.get("type") == "function_call":
        return make_tool_call(call["name"], call.get("arguments"), call.get("call_id"))
    known = {"id", "name", "arguments", "timeout", "depends_on", "idempotency_key", "type"}
    if unknown := sorted(set(call) - known):
        raise TypeError(f"a call has no {', '.join(unknown)}")
    message = make_tool_call(
        call["name"], call.get("arguments"), call.get("id"), call.get("timeout")
    )
    ids = call.get("depends_on") or ()
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise _wrong_type("depends_on", "a list of ids", ids)
    message.depends_on.extend(_text("depends_on", item, "a list of ids") for item in ids)
    message.idempotency_key = _text("idempotency_key", call.get("idempotency_key") or "")
    return message


def _text(field: str, value: object, expected: str = "text") -> str:
    if not isinstance(value, str):
        raise _wrong_type(field, expected, value)
    return escape_surrogates(value)


def _wrong_type(field: str, expected: str, value: object) -> TypeError:
    return TypeError(f"a call's {field} must be {expected}, not {value!r}")
