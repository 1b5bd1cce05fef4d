"""Descriptions for the model, taken from a function's docstring."""

import inspect
from collections.abc import Callable
from typing import Any


def read_docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Reads a docstring in google, numpy or reST style.

    Returns:
        Summary and body, and the description of each argument that has one.
    """
    text = inspect.getdoc(function)
    if not text:
        return "", {}
    import docstring_parser  # noqa: PLC0415  slow to import; only decorated functions need it

    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return text.strip(), {}
    arguments = {
        param.arg_name.lstrip("*"): " ".join(param.description.split())
        for param in parsed.params
        if param.description
    }
    return (parsed.description or "").strip(), arguments
