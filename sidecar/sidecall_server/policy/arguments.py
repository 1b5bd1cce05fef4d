"""Arguments: from the model's JSON text to values that a tool accepts.

Nothing is coerced. What is wrong is said so that a model can repair it: where, what is
expected there, which values are allowed.
"""

import difflib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import jsonschema_rs

from sidecall_server.core.call import Arguments, Call
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import ExecutionState, Failure, Reason, Violation, not_started
from sidecall_server.core.ports import Prepare
from sidecall_server.policy.argument_text import ArgumentsError, parse

_MAX_VIOLATIONS = 20
_MAX_SHOWN_CHARS = 200


class ArgumentsPolicy:
    """Checks the arguments of one tool against its JSON Schema (2020-12).

    Attributes:
        schema: The schema.
    """

    __slots__ = ("_defaults", "_is_valid", "_max_depth", "_prepare", "_validator", "schema")

    def __init__(
        self,
        schema: Mapping[str, object],
        prepare: Prepare | None = None,
        max_depth: int = Limits().max_argument_depth,
    ) -> None:
        """Compiles the schema.

        Args:
            schema: The schema.
            prepare: Turns valid values into what the tool takes; None where they are that.
            max_depth: Deepest nesting of arrays and objects.

        Raises:
            ValueError: It is not a valid schema; the message says why.
        """
        self.schema = schema
        self._prepare = prepare
        self._max_depth = max_depth
        try:
            self._validator = jsonschema_rs.Draft202012Validator(dict(schema))
        except (jsonschema_rs.ValidationError, ValueError) as error:
            raise ValueError(f"not a valid JSON Schema: {_first_line(error)}") from None
        self._is_valid = self._validator.is_valid
        self._defaults = _Defaults.of(schema, schema)

    def admit(self, call: Call, values: Arguments | None) -> Failure | None:
        """Sets a call's arguments, or says what is wrong with them.

        Args:
            call: The call.
            values: Its arguments where they were parsed before.
        """
        if values is None:
            try:
                values = parse(call.request.arguments, self._max_depth)
            except ArgumentsError as error:
                return not_started(
                    Reason.ARGUMENTS_INVALID,
                    f"{error}. Write the arguments of {call.request.name!r} as one JSON object "
                    "and call it again.",
                )
        failure = self.check(values)
        if failure is not None:
            return failure
        if self._prepare is None:
            call.arguments = values
            return None
        prepared = self._prepare(values)
        if isinstance(prepared, Failure):
            return prepared
        call.arguments = prepared
        return None

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
