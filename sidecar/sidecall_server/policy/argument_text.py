"""The JSON text of a call's arguments, as a model wrote it."""

import json
import re
from typing import Any

from pydantic_core import from_json

from sidecall_server.core.call import Arguments

# A float beyond the range of a double would become infinity.
_HUGE_EXPONENT = re.compile(r"[0-9][eE]\+?[0-9]{3}")
_MAX_FLOAT_DIGITS = 308
# Only where digits begin: elsewhere each digit of a run would count the rest of it again.
_HUGE_MANTISSA = re.compile(rf"(?<![0-9])[0-9]{{{_MAX_FLOAT_DIGITS}}}")
_PARSER_DEPTH = 200
"""What the fast parser takes."""
_INFINITIES = (float("inf"), float("-inf"))


class ArgumentsError(ValueError):
    """The text is not the JSON object that it should be."""


def parse(text: str, max_depth: int) -> Arguments:
    """Parses the arguments of a call; empty text means {}.

    Integers of any size are exact; lone surrogates are kept.

    Raises:
        ArgumentsError: Not JSON, not an object, too deep, or a number that no float holds.
    """
    if not text or text.isspace():
        return {}
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        value = _parse_slowly(text, error, max_depth)
    if type(value) is not dict:
        raise ArgumentsError(f"the arguments must be a JSON object, not {_kind(value)}")
    if len(text) > max_depth * 2 and _depth(value) > max_depth:
        raise _too_deep(max_depth)
    if _holds_infinity(value, text):
        raise ArgumentsError("the arguments hold a number beyond the range of a double")
    return value


def _parse_slowly(text: str, error: ValueError, max_depth: int) -> Any:
    """The standard library accepts lone surrogates, which the fast parser refuses."""
    if "\\u" not in text:
        raise _malformed(error, max_depth) from None

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError:
        raise _malformed(error, max_depth) from None
    except RecursionError:
        raise _too_deep(max_depth) from None


def _malformed(error: ValueError, max_depth: int) -> ArgumentsError:
    if "recursion limit" in str(error):
        return _too_deep(min(max_depth, _PARSER_DEPTH))
    return ArgumentsError(f"the arguments are not valid JSON: {error}")


def _too_deep(max_depth: int) -> ArgumentsError:
    return ArgumentsError(
        f"the arguments are nested too deeply: at most {max_depth} levels are allowed"
    )


def _depth(value: object) -> int:
    deepest = 0
    todo: list[tuple[object, int]] = [(value, 1)]
    while todo:
        item, depth = todo.pop()
        if isinstance(item, dict):
            todo.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            todo.extend((child, depth + 1) for child in item)
        else:
            depth -= 1
        deepest = max(deepest, depth)
    return deepest


def _holds_infinity(value: Arguments, text: str) -> bool:
    for item in value.values():
        kind = type(item)
        if kind is float and item in _INFINITIES:
            return True
        if (kind is dict or kind is list) and _may_hold_infinity(text):
            return _has_infinity(value)
    return False


def _may_hold_infinity(text: str) -> bool:
    if _HUGE_EXPONENT.search(text) is not None:
        return True
    return len(text) > _MAX_FLOAT_DIGITS and _HUGE_MANTISSA.search(text) is not None


def _has_infinity(value: object) -> bool:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, float) and item in _INFINITIES:
            return True
    return False


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    if value is None:
        return "null"
    return "an array" if isinstance(value, list) else names.get(type(value), "an object")
