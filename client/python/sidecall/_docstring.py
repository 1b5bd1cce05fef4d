"""Descriptions for the model, taken from docstrings."""

import inspect
from collections.abc import Callable
from typing import Any


def read_docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Reads a docstring in google, numpy or reST style.

    Returns:
        Summary and body, and the description of each argument that has one.
    """
    return _parse(inspect.getdoc(function) or "")


def read_class_docstring(cls: type[Any]) -> tuple[str, dict[str, str]]:
    """Reads the docstring of a class with fields; those of its bases describe theirs.

    Returns:
        Summary and body, and the description of each field that has one.
    """
    summary, fields = "", dict[str, str]()
    for base in reversed(cls.__mro__):
        if base.__module__.partition(".")[0] not in ("builtins", "pydantic"):
            summary, described = _parse(inspect.cleandoc(vars(base).get("__doc__") or ""))
            fields |= described
    return summary, fields


def _parse(text: str) -> tuple[str, dict[str, str]]:
    if not text:
        return "", {}
    import docstring_parser  # noqa: PLC0415  slow to import; only what is described needs it

    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return text.strip(), {}
    described = {
        param.arg_name.lstrip("*"): " ".join(param.description.split())
        for param in parsed.params
        if param.description
    }
    return (parsed.description or "").strip(), described
