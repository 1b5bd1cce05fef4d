"""Refuses what the real API refuses, in its words."""

import re
from collections.abc import Iterable
from typing import Any

from sidecall.scripted.contents import message_problem, output_problem

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_MAX_NAME = 64
_MAX_ID = 40


def refusal(path: str, body: Any) -> str | None:
    """Returns why a request is refused, or None."""
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        return "you must provide a model parameter"
    tools = body.get("tools", ())
    names = [
        tool.get("function", tool).get("name")
        for tool in tools
        # The provider's own tools, such as "web_search", have no names.
        if tool.get("type", "function") == "function"
    ]
    problem = _tools_problem(names, empty="tools" in body and not tools)
    if problem is not None:
        return problem
    if path.endswith("/responses"):
        return _items_problem(body.get("input", []))
    return _messages_problem(body.get("messages", []))


def _tools_problem(names: list[Any], *, empty: bool) -> str | None:
    if empty:
        return "Invalid 'tools': empty array. Expected an array with minimum length 1."
    for index, name in enumerate(names):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return (
                f"Invalid 'tools[{index}].function.name': string does not match pattern. "
                "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
            )
        if len(name) > _MAX_NAME:
            return (
                f"Invalid 'tools[{index}].function.name': string too long. "
                f"Expected a string with maximum length {_MAX_NAME}."
            )
    if len(set(names)) != len(names):
        return "Tool names must be unique."
    return None


def _messages_problem(messages: list[dict[str, Any]]) -> str | None:
    if not messages:
        return "Invalid 'messages': empty array. Expected an array with minimum length 1."
    open_ids: list[str] = []
    for index, message in enumerate(messages):
        role = message.get("role")
        if role == "tool":
            if message.get("tool_call_id") not in open_ids:
                return (
                    "Invalid parameter: messages with role 'tool' must be a response to a "
                    "preceeding message with 'tool_calls'."
                )
            open_ids.remove(message["tool_call_id"])
            if problem := message_problem(message, f"messages[{index}].content"):
                return problem
            continue
        if open_ids:
            return _unanswered(open_ids)
        calls = message.get("tool_calls")
        if calls is not None:
            open_ids = [call.get("id", "") for call in calls]
            if problem := _ids_problem(f"messages[{index}].tool_calls", open_ids):
                return problem
        no_content = message.get("content") is None
        if no_content and not (role == "assistant" and (calls or message.get("refusal"))):
            return f"Invalid value for 'content': expected a string, got null. (messages[{index}])"
        if problem := message_problem(message, f"messages[{index}].content"):
            return problem
    return _unanswered(open_ids) if open_ids else None


def _unanswered(ids: Iterable[str]) -> str:
    return (
        "An assistant message with 'tool_calls' must be followed by tool messages responding "
        "to each 'tool_call_id'. The following tool_call_ids did not have response messages: "
        + ", ".join(ids)
    )


def _ids_problem(where: str, ids: list[str]) -> str | None:
    if not ids:
        return f"Invalid '{where}': empty array. Expected an array with minimum length 1."
    for position, call_id in enumerate(ids):
        if not call_id:
            return f"Invalid '{where}[{position}].id': empty string."
        if len(call_id) > _MAX_ID:
            return f"Invalid '{where}[{position}].id': string too long."
    if len(set(ids)) != len(ids):
        return f"Duplicate value for 'tool_call_id' in '{where}'."
    return None


def _items_problem(items: str | list[dict[str, Any]]) -> str | None:
    if isinstance(items, str):
        return None
    calls: list[str] = []
    outputs: set[str] = set()
    for index, item in enumerate(items):
        if problem := output_problem(item, f"input[{index}]"):
            return problem
        if item.get("type") == "function_call":
            calls.append(item.get("call_id", ""))
        elif item.get("type") == "function_call_output":
            if item.get("call_id") not in calls:
                return (
                    "No tool call found for function call output with call_id "
                    f"{item.get('call_id')}."
                )
            outputs.add(item["call_id"])
    if problem := _ids_problem("input", calls) if calls else None:
        return problem
    if missing := [call_id for call_id in calls if call_id not in outputs]:
        return f"No tool output found for function call {missing[0]}."
    if items and items[-1].get("type") == "reasoning":
        return (
            f"Item '{items[-1].get('id')}' of type 'reasoning' was provided without its "
            "required following item."
        )
    return None
