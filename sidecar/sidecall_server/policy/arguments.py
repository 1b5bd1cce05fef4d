"""Arguments: from the model's JSON text to values that a tool accepts.

Nothing is coerced. What is wrong is said so that a model can repair it: where, what is
expected there, which values are allowed.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import jsonschema_rs
from pydantic_core import from_json

from sidecall_server.core.call import Arguments
from sidecall_server.core.outcome import ExecutionState, Failure, Reason, Violation

_MAX_VIOLATIONS = 20
_MAX_SHOWN_CHARS = 200
# A float beyond the range of a double would become infinity.
_HUGE_EXPONENT = re.compile(r"[0-9][eE]\+?[0-9]{3}")
_MAX_FLOAT_DIGITS = 308
_HUGE_MANTISSA = re.compile(rf"[0-9]{{{_MAX_FLOAT_DIGITS}}}")

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
        value = _parse_slowly(text, error)
    if type(value) is not dict:
        raise ArgumentsError(f"the arguments must be a JSON object, not {_kind(value)}")
    if len(text) > max_depth * 2 and _depth(value) > max_depth:
        raise ArgumentsError(f"the arguments are nested more than {max_depth} levels deep")
    if _holds_infinity(value, text):
        raise ArgumentsError("the arguments hold a number beyond the range of a double")
    return value


def _parse_slowly(text: str, error: ValueError) -> Any:
    """The standard library accepts lone surrogates, which the fast parser refuses."""
    if "\\u" not in text:
        raise ArgumentsError(f"the arguments are not valid JSON: {error}") from None

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise ArgumentsError(f"the arguments are not valid JSON: {error}") from None


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


class ArgumentsPolicy:
    """Checks the arguments of one tool against its JSON Schema (2020-12).

    Attributes:
        schema: The schema.
    """

    __slots__ = ("_defaults", "_is_valid", "_validator", "schema")

    def __init__(self, schema: Mapping[str, object]) -> None:
        """Compiles the schema.

        Raises:
            ValueError: It is not a valid schema; the message says why.
        """
        self.schema = schema
        try:
            self._validator = jsonschema_rs.Draft202012Validator(dict(schema))
        except (jsonschema_rs.ValidationError, ValueError) as error:
            raise ValueError(f"not a valid JSON Schema: {_first_line(error)}") from None
        self._is_valid = self._validator.is_valid
        self._defaults = _Defaults.of(schema, schema)

    def check(self, arguments: Arguments) -> Failure | None:
        """Applies the schema's defaults in place and validates; None when all is well."""
        defaults = self._defaults
        if defaults is not None:
            defaults.apply(arguments)
        try:
            if self._is_valid(arguments):
                return None
            errors = list(self._validator.iter_errors(arguments))
        except (ValueError, OverflowError):
            # The compiled validator takes no lone surrogates: check what stands for them.
            arguments = _without_surrogates(arguments)
            if self._is_valid(arguments):
                return None
            errors = list(self._validator.iter_errors(arguments))
        return invalid(_violations(errors, self.schema), len(errors))


def invalid(violations: Iterable[Violation], count: int | None = None) -> Failure:
    """The failure of a call whose arguments do not fit."""
    listed = tuple(violations)
    lines = [f"- {v.field or 'arguments'}: {v.message}" for v in listed]
    if count is not None and count > len(listed):
        lines.append(f"- and {count - len(listed)} more")
    return Failure(
        Reason.ARGUMENTS_INVALID,
        "The arguments are invalid. Correct them and call the tool again:\n" + "\n".join(lines),
        ExecutionState.NOT_STARTED,
        violations=listed,
    )


def _violations(
    errors: list[jsonschema_rs.ValidationError], schema: Mapping[str, object]
) -> list[Violation]:
    known = schema.get("properties")
    names = list(known) if isinstance(known, Mapping) else []
    return [_violation(error, names) for error in errors[:_MAX_VIOLATIONS]]


def _violation(error: jsonschema_rs.ValidationError, names: list[str]) -> Violation:
    path = "".join(
        "/" + str(part).replace("~", "~0").replace("/", "~1") for part in error.instance_path
    )
    message = _shorten(_first_line(error))
    unexpected = getattr(error.kind, "unexpected", None)
    if unexpected and not path:
        near = [m for name in unexpected for m in difflib.get_close_matches(name, names, n=1)]
        expected = ", ".join(names) or "none"
        hint = f"did you mean {' and '.join(map(repr, near))}? " if near else ""
        message = f"{message}; {hint}known fields: {expected}"
    return Violation(path, message)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "message", error)).split("\n", 1)[0]


def _shorten(message: str) -> str:
    """Keeps head and tail: the validator quotes the whole value before what it expects."""
    if len(message) <= _MAX_SHOWN_CHARS:
        return message
    half = _MAX_SHOWN_CHARS // 2
    return f"{message[:half]} ... {message[-half:]}"


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


class _Defaults:
    """The defaults of an object schema: those of its properties, and of objects inside."""

    __slots__ = ("_inner", "_values")

    def __init__(self, values: dict[str, Any], inner: dict[str, "_Defaults"]) -> None:
        self._values = values
        self._inner = inner

    @classmethod
    def of(
        cls, schema: object, root: Mapping[str, object], seen: frozenset[str] = frozenset()
    ) -> "_Defaults | None":
        """The defaults of a schema; None where it has none. Local `$ref`s are followed."""
        if not isinstance(schema, Mapping):
            return None
        target = schema.get("$ref")
        if isinstance(target, str):
            if target in seen:
                return None
            return cls.of(_local(root, target), root, seen | {target})
        properties = schema.get("properties")
        if not isinstance(properties, Mapping):
            return None
        values: dict[str, Any] = {}
        inner: dict[str, _Defaults] = {}
        for name, item in properties.items():
            if isinstance(item, Mapping) and "default" in item:
                values[name] = item["default"]
            defaults = cls.of(item, root, seen)
            if defaults is not None:
                inner[name] = defaults
        return cls(values, inner) if values or inner else None

    def apply(self, target: Arguments) -> None:
        """Adds what is missing, in place."""
        for name, value in self._values.items():
            if name not in target:
                # No call may change what the next one gets.
                target[name] = deepcopy(value) if isinstance(value, dict | list) else value
        for name, defaults in self._inner.items():
            value = target.get(name)
            if isinstance(value, dict):
                defaults.apply(value)


def _local(root: Mapping[str, object], target: str) -> object:
    if not target.startswith("#/"):
        return None
    node: object = root
    for part in target[2:].split("/"):
        if not isinstance(node, Mapping):
            return None
        node = node.get(part.replace("~1", "/").replace("~0", "~"))
    return node
