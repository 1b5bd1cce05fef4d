"""From JSON values to what a function's parameters take. Nothing is coerced silently."""

import types
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import BaseMetadata, Predicate
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_json

from sidecall._errors import ArgumentError

Converter = Callable[[Any], Any]

_PLAIN = (str, bool, type(None), Any, object, dict, list, Parameter.empty)
_UNKNOWN_FIELD = ("extra_forbidden", "unexpected_keyword_argument")
_LARGEST_EXACT = 2.0**53


def converter_for(annotation: Any, adapter: TypeAdapter[Any], *, closed: bool) -> Converter | None:
    """What turns a valid JSON value into the annotated type; None where it already is one.

    Args:
        annotation: The type.
        adapter: Pydantic's adapter of it.
        closed: See `strict_converter`.
    """
    base = _without_constraints(annotation)
    if _is_plain(base):
        return None
    optional = _optional_of(base)
    if base is int or optional is int:
        return _to_int if base is int else _or_none(_to_int)
    if base is float or optional is float:
        return _to_float if base is float else _or_none(_to_float)
    return strict_converter(adapter, closed=closed)


def strict_converter(adapter: TypeAdapter[Any], *, closed: bool) -> Converter:
    """Converts as pydantic reads JSON in strict mode, but takes 3.0 for an integer.

    JSON Schema counts 3.0 as an integer, and models do write it.

    Args:
        adapter: Pydantic's adapter of the type.
        closed: Whether unknown fields are refused everywhere; False leaves that to each
            class, since pydantic would refuse those that a class allows as well.
    """
    extra: Literal["forbid"] | None = "forbid" if closed else None

    def convert(value: Any) -> Any:
        try:
            text = to_json(value)
        except PydanticSerializationError:
            raise ArgumentError([("", "holds text that is not valid Unicode")]) from None
        try:
            return adapter.validate_json(text, strict=True, extra=extra)
        except ValidationError as error:
            narrowed = _narrowed(value)
            if narrowed is value:
                raise _translated(error, value) from None
        try:
            return adapter.validate_json(to_json(narrowed), strict=True, extra=extra)
        except ValidationError as error:
            raise _translated(error, value) from None

    return convert


def narrower(schema: Mapping[str, Any]) -> Converter | None:
    """What makes integers of integral floats where a schema says integer.

    It follows properties and items; None where they hold no integer.
    """
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if "integer" in kinds and "number" not in kinds:
        return _integral
    inner = {
        name: narrow
        for name, item in (schema.get("properties") or {}).items()
        if isinstance(item, dict) and (narrow := narrower(item)) is not None
    }
    if inner:
        return _object_narrower(inner)
    items = schema.get("items")
    narrow_item = narrower(items) if isinstance(items, dict) else None
    if narrow_item is not None:
        return lambda value: [*map(narrow_item, value)] if isinstance(value, list) else value
    return None


def _object_narrower(inner: Mapping[str, Converter]) -> Converter:
    fields = tuple(inner.items())

    def narrow(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        narrowed = value
        for name, narrow_item in fields:
            before = value.get(name)
            if before is None or type(before) is int:
                continue
            after = narrow_item(before)
            if after is not before:
                if narrowed is value:
                    narrowed = dict(value)
                narrowed[name] = after
        return narrowed

    return narrow


def _integral(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def convert_all(
    converters: Sequence[tuple[str, Converter]], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Converts the arguments that have a converter.

    Raises:
        ArgumentError: Values do not fit; all of them are named.
    """
    converted = dict(arguments)
    violations: list[tuple[str, str]] = []
    for name, convert in converters:
        if name in converted:
            try:
                converted[name] = convert(converted[name])
            except ArgumentError as error:
                at = "/" + _escape(name)
                violations += [(at + inner, message) for inner, message in error.violations]
    if violations:
        raise ArgumentError(violations)
    return converted


def _without_constraints(annotation: Any) -> Any:
    """The bare type, where everything beside it stands in the JSON Schema as well."""
    if get_origin(annotation) is not Annotated:
        return annotation
    base, *metadata = get_args(annotation)
    for item in metadata:
        harmless = isinstance(item, (str, FieldInfo, BaseMetadata)) or hasattr(
            item, "documentation"
        )
        if not harmless or isinstance(item, Predicate):
            return annotation
    return base


def _is_plain(annotation: Any) -> bool:
    """Whether JSON values of the type are already what the function takes."""
    if any(annotation is plain for plain in _PLAIN):
        return True
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return all(isinstance(item, (str, type(None))) for item in arguments)
    if origin is dict:
        return arguments[0] is str and _is_plain(arguments[1])
    if origin in (Union, types.UnionType, list):
        return all(_is_plain(item) for item in arguments)
    return False


def _optional_of(annotation: Any) -> Any:
    """T where the annotation is `T | None`."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [item for item in get_args(annotation) if item is not type(None)]
        if len(rest) == 1 and len(get_args(annotation)) == 2:
            return _without_constraints(rest[0])
    return None


def _or_none(convert: Converter) -> Converter:
    return lambda value: None if value is None else convert(value)


def _to_int(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise ArgumentError([("", "must be an integer")])


def _to_float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ArgumentError([("", "is beyond the range of a double")]) from None
    raise ArgumentError([("", "must be a number")])


def _narrowed(value: Any) -> Any:
    """The value with integral floats as integers; the very same object where there are none."""
    if isinstance(value, float):
        exact = value.is_integer() and abs(value) <= _LARGEST_EXACT
        return int(value) if exact else value
    if isinstance(value, dict):
        changed = {key: _narrowed(item) for key, item in value.items()}
        return changed if any(changed[key] is not value[key] for key in changed) else value
    if isinstance(value, list):
        items = [_narrowed(item) for item in value]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def _translated(error: ValidationError, value: Any) -> ArgumentError:
    return ArgumentError(
        [
            (_pointer(item["loc"], value), _message(item["type"], item["msg"]))
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    )


def _message(kind: str, message: str) -> str:
    if kind in _UNKNOWN_FIELD:
        return "is not a known field"
    # The text of a validator of the user's own stands for itself.
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _pointer(location: Sequence[str | int], value: Any) -> str:
    """The JSON Pointer of a place; pydantic's names of union branches are left out."""
    pointer = ""
    last = len(location) - 1
    for index, part in enumerate(location):
        if isinstance(value, dict) and (part in value or index == last):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            continue
        pointer += "/" + _escape(str(part))
    return pointer


def _escape(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
