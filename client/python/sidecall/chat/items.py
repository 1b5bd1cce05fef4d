"""Access to history items, which callers may give as dictionaries or as objects."""

from collections.abc import Mapping
from typing import Any

from sidecall._tool_calls import escape_surrogates


def get(item: Any, key: str) -> Any:
    """Returns a field of a dictionary or an object; None where it has none."""
    return item.get(key) if isinstance(item, Mapping) else getattr(item, key, None)


def to_item(message: Any) -> dict[str, Any]:
    """Makes a history item of one of the openai package's objects, unknown fields included."""
    dumped: dict[str, Any] = message.to_dict(mode="json", exclude_none=True, warnings=False)
    return dumped


def sendable(value: Any) -> Any:
    """Returns a copy whose texts can be written as UTF-8: a model may write lone surrogates."""
    if isinstance(value, str):
        return escape_surrogates(value)
    if isinstance(value, dict):
        return {key: sendable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [sendable(item) for item in value]
    return value
