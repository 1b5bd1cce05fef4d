"""Sidecall: executes the tool calls of language models in a sidecar.

Names load when they are used, so that a file of tools needs neither gRPC nor a model
provider's package.
"""

import importlib
from typing import TYPE_CHECKING, Any

from sidecall._version import __version__

if TYPE_CHECKING:
    from sidecall._aio_client import AsyncClient as AsyncClient
    from sidecall._approvals import approve as approve
    from sidecall._approvals import pending_approvals as pending_approvals
    from sidecall._approvals import reject as reject
    from sidecall._batch_results import BatchResults as BatchResults
    from sidecall._batch_stream import BatchStream as BatchStream
    from sidecall._client import Client as Client
    from sidecall._context import ToolContext as ToolContext
    from sidecall._errors import ArgumentError as ArgumentError
    from sidecall._errors import ResultError as ResultError
    from sidecall._errors import ToolDefinitionError as ToolDefinitionError
    from sidecall._errors import ToolError as ToolError
    from sidecall._host import ToolHost as ToolHost
    from sidecall._lifespan import Lifespan as Lifespan
    from sidecall._lifespan import lifespan as lifespan
    from sidecall._loader import ToolLoadError as ToolLoadError
    from sidecall._parts import File as File
    from sidecall._parts import Image as Image
    from sidecall._parts import Link as Link
    from sidecall._requests import ExecuteOptions as ExecuteOptions
    from sidecall._requests import ListedTools as ListedTools
    from sidecall._result_formats import (
        to_chat_completions_messages as to_chat_completions_messages,
    )
    from sidecall._result_formats import to_responses_outputs as to_responses_outputs
    from sidecall._results import is_ok as is_ok
    from sidecall._results import reason_of as reason_of
    from sidecall._results import retry_after_s as retry_after_s
    from sidecall._results import violations_of as violations_of
    from sidecall._rpc_errors import SidecallError as SidecallError
    from sidecall._tool import Tool as Tool
    from sidecall._tool import tool as tool
    from sidecall._tool_calls import to_tool_call as to_tool_call
    from sidecall._tool_formats import ToolNames as ToolNames
    from sidecall._tool_formats import to_chat_completions_tools as to_chat_completions_tools
    from sidecall._tool_formats import to_responses_tools as to_responses_tools
    from sidecall.chat import ChatLoop as ChatLoop
    from sidecall.chat import SyncChatLoop as SyncChatLoop
    from sidecall.v1.execution_pb2 import Approval as Approval
    from sidecall.v1.execution_pb2 import ToolCall as ToolCall
    from sidecall.v1.execution_pb2 import ToolResult as ToolResult

_MODULES = {
    "Approval": "sidecall.v1.execution_pb2",
    "ArgumentError": "sidecall._errors",
    "AsyncClient": "sidecall._aio_client",
    "BatchResults": "sidecall._batch_results",
    "BatchStream": "sidecall._batch_stream",
    "ChatLoop": "sidecall.chat",
    "Client": "sidecall._client",
    "ExecuteOptions": "sidecall._requests",
    "File": "sidecall._parts",
    "Image": "sidecall._parts",
    "Lifespan": "sidecall._lifespan",
    "Link": "sidecall._parts",
    "ListedTools": "sidecall._requests",
    "ResultError": "sidecall._errors",
    "SidecallError": "sidecall._rpc_errors",
    "SyncChatLoop": "sidecall.chat",
    "Tool": "sidecall._tool",
    "ToolCall": "sidecall.v1.execution_pb2",
    "ToolContext": "sidecall._context",
    "ToolDefinitionError": "sidecall._errors",
    "ToolError": "sidecall._errors",
    "ToolHost": "sidecall._host",
    "ToolLoadError": "sidecall._loader",
    "ToolNames": "sidecall._tool_formats",
    "ToolResult": "sidecall.v1.execution_pb2",
    "approve": "sidecall._approvals",
    "is_ok": "sidecall._results",
    "lifespan": "sidecall._lifespan",
    "pending_approvals": "sidecall._approvals",
    "reason_of": "sidecall._results",
    "reject": "sidecall._approvals",
    "retry_after_s": "sidecall._results",
    "to_chat_completions_messages": "sidecall._result_formats",
    "to_chat_completions_tools": "sidecall._tool_formats",
    "to_responses_outputs": "sidecall._result_formats",
    "to_responses_tools": "sidecall._tool_formats",
    "to_tool_call": "sidecall._tool_calls",
    "tool": "sidecall._tool",
    "violations_of": "sidecall._results",
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
