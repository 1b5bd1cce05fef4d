"""A tool's result as text: strings as they are, everything else as JSON."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import to_json, to_jsonable_python

from sidecall._errors import ResultError

_UNKNOWN_TYPE = re.compile(r"Unable to serialize unknown type: <class '([^']+)'>")


def render(value: object) -> tuple[str, bool]:
    """Writes a tool's result as text.

    Strings, and bytes that hold UTF-8, stand as they are. Everything else becomes JSON:
    None `null`, NaN and the infinities strings as in protobuf's JSON. Lone surrogates are
    escaped, so that the text can always be encoded.

    Returns:
        The text, and whether it is JSON.

    Raises:
        ResultError: The value cannot be written; the text never quotes an exception.
    """
    if isinstance(value, str):
        return encodable(value), False
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _decode(value), False
    try:
        return to_json(value, inf_nan_mode="strings").decode(), True
    except Exception as error:
        return _render_unusual(value, error), True


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
        raise ResultError("is bytes that are not UTF-8 text") from error


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
