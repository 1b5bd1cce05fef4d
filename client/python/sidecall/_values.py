"""A tool's result as text: strings as they are, everything else as JSON.

A result that holds an image, a file or a link is rendered in parts.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import to_json, to_jsonable_python

from sidecall._errors import ResultError
from sidecall._parts import MAX_PARTS, PART_TYPES, File, Image, Link, blob_line, link_line

_UNKNOWN_TYPE = re.compile(r"Unable to serialize unknown type: <class '([^']+)'>")


class RenderedText(NamedTuple):
    """A part of a result that is text.

    Attributes:
        text: The text.
        is_json: Whether it is that of a JSON value.
    """

    text: str
    is_json: bool


RenderedPart = RenderedText | Image | File | Link


# A plain tuple: this is made for every result.
Rendered = tuple[str, bool, tuple[RenderedPart, ...]]
"""A result: its text, whether that is JSON, and its parts, none where it is text or JSON
alone. The text of a result in parts is that of them all, one below the other, with a line
in place of each image, file and link."""


def render(value: object) -> tuple[str, bool]:
    """Writes a tool's result as text.

    Returns:
        The text, and whether it is JSON; see `render_result`.

    Raises:
        ResultError: The value cannot be written; the text never quotes an exception.
    """
    text, is_json, _ = render_result(value)
    return text, is_json


def render_result(value: object) -> Rendered:
    """Writes a tool's result.

    Strings, and bytes that hold UTF-8, stand as they are. Everything else becomes JSON:
    None `null`, NaN and the infinities strings as in protobuf's JSON. Lone surrogates are
    escaped, so that the text can always be encoded. An image, a file or a link, alone or
    in a list or tuple, makes the result one in parts.

    Raises:
        ResultError: The value cannot be written; the text never quotes an exception.
    """
    if isinstance(value, str):
        return encodable(value), False, ()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _decode(value), False, ()
    try:
        return to_json(value, inf_nan_mode="strings").decode(), True, ()
    except Exception as error:
        # Parts are looked for only now, so that other results cost nothing more.
        if isinstance(value, PART_TYPES):
            return _in_parts((value,))
        if isinstance(value, (list, tuple)) and any(isinstance(i, PART_TYPES) for i in value):
            return _in_parts(value)
        return _render_unusual(value, error), True, ()


def join_yielded(items: list[Any]) -> Any:
    """The result of a generator that yielded these: text, parts or a list of values.

    Texts are pieces of one text; between images, files and links as well.
    """
    if all(isinstance(item, str) for item in items):
        return "".join(items)
    if not any(isinstance(item, PART_TYPES) for item in items):
        return items
    joined: list[Any] = []
    for item in items:
        if isinstance(item, str) and joined and isinstance(joined[-1], str):
            joined[-1] += item
        else:
            joined.append(item)
    return joined


def _in_parts(items: Sequence[object]) -> Rendered:
    if len(items) > MAX_PARTS:
        raise ResultError(
            f"holds {len(items)} parts, and at most {MAX_PARTS} are allowed; make one text or "
            "value of what stands beside images, files and links"
        )
    parts: list[RenderedPart] = []
    lines: list[str] = []
    for item in items:
        if isinstance(item, Link):
            lines.append(encodable(link_line(item.uri, item.media_type, item.name)))
        elif isinstance(item, (Image, File)):
            lines.append(encodable(blob_line(item.media_type, len(item.data), item.name)))
        else:
            text, is_json = render(item)
            if text:  # models' providers refuse empty text
                lines.append(text)
                parts.append(RenderedText(text, is_json))
            continue
        parts.append(item)
    return "\n".join(lines), False, tuple(parts)


def encodable(text: str) -> str:
    """The text as a plain string, with lone surrogates escaped."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.encode("utf-8", "backslashreplace").decode()
    return text if type(text) is str else str.__str__(text)


def _decode(value: bytes | bytearray | memoryview) -> str:
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise ResultError(
            "is bytes that are not UTF-8 text; return sidecall.Image or sidecall.File"
        ) from error


def _render_unusual(value: object, error: Exception) -> str:
    """Writes what the fast path refuses: lone surrogates, and types known by their shape."""
    try:
        plain = to_jsonable_python(_escaped(value), inf_nan_mode="strings", fallback=_by_shape)
        return to_json(_escaped(plain), inf_nan_mode="strings").decode()
    except Exception as second:
        raise ResultError(_explain(second)) from error


def _by_shape(value: Any) -> Any:
    """JSON's equivalent of numpy's arrays and scalars, mappings and iterables."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    if isinstance(value, PART_TYPES):
        raise ResultError(
            f"holds a sidecall.{type(value).__name__} inside another value; return it alone, "
            "or in a list beside text and other values"
        )
    raise ResultError(_without_json_form(_type_name(value)))


def _escaped(value: Any) -> Any:
    if type(value) is str:
        return encodable(value)
    if type(value) is dict:
        return {_escaped(key): _escaped(item) for key, item in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return [_escaped(item) for item in value]
    return value


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _without_json_form(type_name: str) -> str:
    article = "an" if type_name[0] in "aeiouAEIOU" else "a"
    return f"holds {article} {type_name}, which has no JSON form"


def _explain(error: BaseException) -> str:
    if isinstance(error, ResultError):
        return str(error)
    text = str(error)
    unknown = _UNKNOWN_TYPE.match(text)
    if unknown is not None:
        return _without_json_form(unknown[1])
    if isinstance(error, RecursionError) or "depth exceeded" in text or "Circular" in text:
        return "is nested too deeply or holds itself"
    if "utf-8" in text or isinstance(error, UnicodeError):
        return "holds bytes that are not UTF-8 text"
    return "cannot be written as JSON"
