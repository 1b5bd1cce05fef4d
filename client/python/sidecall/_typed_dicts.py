"""`typing.TypedDict` for pydantic, which reads that of typing_extensions before Python 3.12."""

import sys
import types
import typing
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typing_extensions


def readable_typed_dicts(annotation: Any) -> Any:
    """The annotation with its TypedDicts in the form that pydantic can read."""
    if sys.version_info >= (3, 12):
        return annotation
    if typing.is_typeddict(annotation):
        return _rebuilt(annotation) if type(annotation).__module__ == "typing" else annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None or origin is Literal or not arguments:
        return annotation
    if origin is Annotated:
        base = readable_typed_dicts(arguments[0])
        return annotation if base is arguments[0] else Annotated[(base, *arguments[1:])]
    changed = tuple(readable_typed_dicts(item) for item in arguments)
    if all(new is old for new, old in zip(changed, arguments, strict=True)):
        return annotation
    if origin is types.UnionType:
        origin = Union
    return origin[changed]


def _rebuilt(annotation: Any) -> Any:
    hints = typing.get_type_hints(annotation, include_extras=True)
    fields: dict[str, Any] = {}
    for name, hint in hints.items():
        bare, marked = _without_qualifiers(hint)
        # The class cannot see a mark inside of a string, so it counts the field by `total`.
        required = name in annotation.__required_keys__ if marked is None else marked
        presence = typing.Required if required else typing.NotRequired
        fields[name] = presence[readable_typed_dicts(bare)]
    make: Any = typing_extensions.TypedDict
    rebuilt = make(annotation.__name__, fields)
    rebuilt.__doc__ = annotation.__doc__
    rebuilt.__module__ = annotation.__module__
    if hasattr(annotation, "__pydantic_config__"):
        rebuilt.__pydantic_config__ = annotation.__pydantic_config__
    return rebuilt


def _without_qualifiers(hint: Any) -> tuple[Any, bool | None]:
    """The type of a field, and whether it says itself that it is required."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        base, marked = _without_qualifiers(arguments[0])
        return Annotated[(base, *arguments[1:])], marked
    if origin in (typing.Required, typing.NotRequired):
        return _without_qualifiers(arguments[0])[0], origin is typing.Required
    if origin is typing_extensions.ReadOnly:
        return _without_qualifiers(arguments[0])
    return hint, None
