"""Tools in the formats of model providers."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from sidecall.v1.tool_pb2 import Tool

_ACCEPTED = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_REFUSED_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_LENGTH = 64
_SPEAKER_PREFIX = "functions."


class ToolNames:
    """Names of tools and the names that a provider accepts for them, there and back.

    An accepted name stays as it is. In others each refused character becomes "_"; where
    the outcome is too long or not unique, a short hash of the name ends it. The order of
    the names does not matter.

    Args:
        names: Names of the tools.
    """

    def __init__(self, names: Iterable[str]) -> None:
        known = sorted(set(names))
        self._to_provider = {name: name for name in known if _ACCEPTED.fullmatch(name)}
        taken = set(self._to_provider)
        others = [name for name in known if name not in taken]
        plain = {name: _REFUSED_CHARACTER.sub("_", name) for name in others}
        wanted = Counter(plain.values())
        for name, candidate in plain.items():
            unique = wanted[candidate] == 1 and candidate not in taken
            if unique and _ACCEPTED.fullmatch(candidate):
                self._to_provider[name] = candidate
        taken.update(self._to_provider.values())
        for name in others:
            if name not in self._to_provider:
                self._to_provider[name] = _hashed(name, taken)
                taken.add(self._to_provider[name])
        self._to_tool = {provider: name for name, provider in self._to_provider.items()}

    def to_provider(self, name: str) -> str:
        """Returns the provider's name of a tool.

        Raises:
            KeyError: There is no such tool.
        """
        return self._to_provider[name]

    def to_tool(self, name: str) -> str:
        """Returns the tool that a model means; a name that nobody knows stays as it is."""
        if name in self._to_tool:
            return self._to_tool[name]
        if name not in self._to_provider and name.startswith(_SPEAKER_PREFIX):
            bare = name.removeprefix(_SPEAKER_PREFIX)
            if bare in self._to_tool or bare in self._to_provider:
                return self._to_tool.get(bare, bare)
        return name

    @property
    def provider_names(self) -> list[str]:
        """All names that the provider is given, sorted."""
        return sorted(self._to_tool)

    def __contains__(self, name: str) -> bool:
        return name in self._to_provider


def to_chat_completions_tools(
    tools: Iterable[Tool], names: ToolNames | None = None
) -> list[dict[str, Any]]:
    """Returns tools as the Chat Completions API takes them.

    Args:
        tools: From `list_tools`.
        names: Maps the names; by default made from `tools`.
    """
    return [{"type": "function", "function": function} for function in _functions(tools, names)]


def to_responses_tools(
    tools: Iterable[Tool], names: ToolNames | None = None
) -> list[dict[str, Any]]:
    """Returns tools as the Responses API takes them.

    Args:
        tools: From `list_tools`.
        names: Maps the names; by default made from `tools`.
    """
    # Here strict is on unless said otherwise, and refuses most schemas of real tools.
    return [
        {"type": "function", **function, "strict": False} for function in _functions(tools, names)
    ]


def _functions(tools: Iterable[Tool], names: ToolNames | None) -> list[dict[str, Any]]:
    listed = list(tools)
    mapping = names or ToolNames(tool.name for tool in listed)
    return [
        {
            "name": mapping.to_provider(tool.name),
            "description": tool.description,
            "parameters": _parameters(tool.input_schema),
        }
        for tool in listed
    ]


def _parameters(schema: str) -> dict[str, Any]:
    parameters: dict[str, Any] = json.loads(schema) if schema else {}
    parameters.pop("$schema", None)
    return {"type": "object", "properties": {}} | parameters


def _hashed(name: str, taken: set[str]) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    plain = _REFUSED_CHARACTER.sub("_", name)
    for length in range(8, _MAX_LENGTH):
        candidate = f"{plain[: _MAX_LENGTH - length - 1]}_{digest[:length]}"
        if candidate not in taken:
            return candidate
    raise ValueError(f"no name is free for the tool {name!r}")
