"""Sidecall: executes the tool calls of language models in a sidecar.

Names load when they are used, so that a file of tools needs neither gRPC nor a model
provider's package.
"""

import importlib
from typing import TYPE_CHECKING, Any

from sidecall._version import __version__

if TYPE_CHECKING:
    from sidecall._context import ToolContext as ToolContext
    from sidecall._errors import ArgumentError as ArgumentError
    from sidecall._errors import ResultError as ResultError
    from sidecall._errors import ToolDefinitionError as ToolDefinitionError
    from sidecall._errors import ToolError as ToolError
    from sidecall._lifespan import Lifespan as Lifespan
    from sidecall._lifespan import lifespan as lifespan
    from sidecall._tool import Tool as Tool
    from sidecall._tool import tool as tool

_MODULES = {
    "ArgumentError": "sidecall._errors",
    "AsyncClient": "sidecall._client",
    "Client": "sidecall._client",
    "Lifespan": "sidecall._lifespan",
    "ResultError": "sidecall._errors",
    "Tool": "sidecall._tool",
    "ToolContext": "sidecall._context",
    "ToolDefinitionError": "sidecall._errors",
    "ToolError": "sidecall._errors",
    "lifespan": "sidecall._lifespan",
    "tool": "sidecall._tool",
}

__all__ = ["__version__", *_MODULES]  # noqa: PLE0604  the table holds the rest


def __getattr__(name: str) -> Any:
    try:
        module = _MODULES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
