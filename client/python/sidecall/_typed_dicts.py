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
        bare = hint
        while get_origin(bare) in (typing.Required, typing.NotRequired):
            bare = get_args(bare)[0]
        presence = typing.Required if name in annotation.__required_keys__ else typing.NotRequired
        fields[name] = presence[readable_typed_dicts(bare)]
    make: Any = typing_extensions.TypedDict
    rebuilt = make(annotation.__name__, fields)
    rebuilt.__doc__ = annotation.__doc__
    rebuilt.__module__ = annotation.__module__
    if hasattr(annotation, "__pydantic_config__"):
        rebuilt.__pydantic_config__ = annotation.__pydantic_config__
    return rebuilt
