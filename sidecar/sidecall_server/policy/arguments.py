"""Arguments: from the model's JSON text to values that a tool accepts.

Nothing is coerced. What is wrong is said so that a model can repair it: where, what is
expected there, which values are allowed.
"""

import difflib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from itertools import islice
from typing import Any, NoReturn

import jsonschema_rs

from sidecall_server.core.call import Arguments, Call
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import ExecutionState, Failure, Reason, Violation, not_started
from sidecall_server.core.ports import Prepare
from sidecall_server.policy.argument_text import ArgumentsError, parse
from sidecall_server.policy.budget import cut

_MAX_VIOLATIONS = 20
_MAX_NAMES = 20
_MAX_SHOWN_CHARS = 200
_MAX_VIOLATION_CHARS = 1_000
_MAX_MESSAGE_BYTES = 4_096

_MAX_LISTED_NODES = 5_000
"""Values in arguments whose errors are all listed. The validator makes every error before
it hands out the first; in larger arguments only the first one is looked for."""


class ArgumentsPolicy:
    """Checks the arguments of one tool against its JSON Schema (2020-12).

    Attributes:
        schema: The schema.
        max_depth: Deepest nesting of arrays and objects.
    """

    __slots__ = ("_defaults", "_is_valid", "_prepare", "_validator", "max_depth", "schema")

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
        self.max_depth = max_depth
        try:
            self._validator = jsonschema_rs.Draft202012Validator(
                dict(schema), retriever=_refuse_to_retrieve
            )
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
        # As `checked` and `set`, in one function: it is called for every call.
        if values is None:
            try:
                values = parse(call.request.arguments, self.max_depth)
            except ArgumentsError as error:
                return _not_an_object(call, error)
        if self._defaults is not None:
            self._defaults.apply(values)
        try:
            valid = self._is_valid(values)
        except (ValueError, OverflowError):
            valid = False
        if not valid:
            failure = self.check(values)
            if failure is not None:
                return failure
        if self._prepare is None:
            call.arguments = values
            return None
        prepared = self._prepare(values)
        if type(prepared) is not dict and isinstance(prepared, Failure):
            return prepared
        call.arguments = prepared
        return None

    def checked(self, call: Call, values: Arguments | None) -> Arguments | Failure:
        """A call's arguments as JSON values that are valid, with defaults applied."""
        if values is None:
            try:
                values = parse(call.request.arguments, self.max_depth)
            except ArgumentsError as error:
                return _not_an_object(call, error)
        return self.check(values) or values

    def set(self, call: Call, values: Arguments) -> Failure | None:
        """Sets a call's arguments from valid JSON values, which stay as they are.

        Where nothing is to be converted the call gets the values themselves.
        """
        if self._prepare is None:
            call.arguments = values
            return None
        prepared = self._prepare(values)
        if isinstance(prepared, Failure):
            return prepared
        call.arguments = prepared
        return None

    def defaulted(self, text: str) -> Arguments | None:
        """Arguments as they stand in JSON text, with defaults; None where they are malformed."""
        try:
            values = parse(text, self.max_depth)
        except ArgumentsError:
            return None
        if self._defaults is not None:
            self._defaults.apply(values)
        return values

    def check(self, arguments: Arguments) -> Failure | None:
        """Applies the schema's defaults in place and validates; None when all is well."""
        defaults = self._defaults
        if defaults is not None:
            defaults.apply(arguments)
        try:
            if self._is_valid(arguments):
                return None
            errors = self._errors(arguments)
        except (ValueError, OverflowError):
            # The compiled validator takes no lone surrogates: check what stands for them.
            arguments = _without_surrogates(arguments)
            if self._is_valid(arguments):
                return None
            errors = self._errors(arguments)
        return invalid(_violations(errors, self.schema))

    def _errors(self, arguments: Arguments) -> Iterable[jsonschema_rs.ValidationError]:
        """What is wrong; only the first of it in large arguments."""
        if not _is_large(arguments):
            return self._validator.iter_errors(arguments)
        try:
            self._validator.validate(arguments)
        except jsonschema_rs.ValidationError as error:
            return (error,)
        return ()


def _not_an_object(call: Call, error: ArgumentsError) -> Failure:
    return not_started(
        Reason.ARGUMENTS_INVALID,
        f"{error}. Write the arguments of {call.request.name!r} as one JSON object "
        "and call it again.",
    )


def _refuse_to_retrieve(uri: str) -> NoReturn:
    """A schema must not make the sidecar read files or ask other servers."""
    raise ValueError(f"{uri} is outside of the schema; only references within it are followed")


def invalid(violations: Iterable[Violation]) -> Failure:
    """The failure of a call whose arguments do not fit; lists the first violations."""
    remaining = iter(violations)
    listed = tuple(islice(remaining, _MAX_VIOLATIONS))
    lines = [f"- {v.field or 'arguments'}: {v.message}" for v in listed]
    if next(remaining, None) is not None:
        lines.append("- and more")
    text = "The arguments are invalid. Correct them and call the tool again:\n" + "\n".join(lines)
    return Failure(
        Reason.ARGUMENTS_INVALID,
        cut(text, _MAX_MESSAGE_BYTES),
        ExecutionState.NOT_STARTED,
        violations=listed,
    )


def _violations(
    errors: Iterable[jsonschema_rs.ValidationError], schema: Mapping[str, object]
) -> Iterable[Violation]:
    known = schema.get("properties")
    names = list(known) if isinstance(known, Mapping) else []
    return (_violation(error, names) for error in errors)


def _violation(error: jsonschema_rs.ValidationError, names: list[str]) -> Violation:
    path = "".join(
        "/" + str(part).replace("~", "~0").replace("/", "~1") for part in error.instance_path
    )
    message = _shorten(_first_line(error), _MAX_SHOWN_CHARS)
    unexpected = getattr(error.kind, "unexpected", None)
    if unexpected and not path:
        message = f"{message}; {_near(unexpected, names)}known fields: {_some(names)}"
    return Violation(_shorten(path, _MAX_SHOWN_CHARS), _shorten(message, _MAX_VIOLATION_CHARS))


def _near(unexpected: Iterable[str], names: list[str]) -> str:
    short = [name for name in islice(unexpected, _MAX_NAMES) if len(name) <= _MAX_SHOWN_CHARS]
    near = [match for name in short for match in difflib.get_close_matches(name, names, n=1)]
    distinct = dict.fromkeys(near)
    return f"did you mean {' and '.join(map(repr, distinct))}? " if distinct else ""


def _some(names: list[str]) -> str:
    more = ", ..." if len(names) > _MAX_NAMES else ""
    return (", ".join(names[:_MAX_NAMES]) or "none") + more


def _is_large(arguments: Arguments) -> bool:
    todo: list[Any] = [arguments]
    count = 0
    while todo:
        item = todo.pop()
        if isinstance(item, dict | list):
            count += len(item)
            if count > _MAX_LISTED_NODES:
                return True
            todo.extend(item.values() if isinstance(item, dict) else item)
    return False


def _first_line(error: Exception) -> str:
    return str(getattr(error, "message", error)).split("\n", 1)[0]


def _shorten(message: str, max_chars: int) -> str:
    """Keeps head and tail: the validator quotes the whole value before what it expects."""
    if len(message) <= max_chars:
        return message
    half = max_chars // 2
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
