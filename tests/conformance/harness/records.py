"""Writes down what a client sent in a form that is equal in all languages."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conformance.harness.forwarding import Rpc

from sidecall.scripted import ModelRequest

TOOLS = Path(__file__).resolve().parents[1] / "tools.json"
_BATCHES = ("ExecuteBatch", "StreamBatch")
_MINTED = {
    "request_id": "request",
    "approval_id": "approval",
    "sent_to_instance": "instance",
    "decide_time": "time",
}
_ITEMS = ("message", "function_call", "output_text")
_OF_THE_SERVER = ("id", "status", "annotations", "logprobs")
_LONG = 4000
_SHOWN = 80
_RPC_FAILURE = re.compile(r"failed \(([A-Z_]+): .*\)\. (?=This call)")
_FAILURE_ID = re.compile(r"\(id [0-9a-f]{8}\)")

Json = dict[str, Any]


def sidecar_requests(rpcs: Iterable[Rpc], given: str) -> list[Json]:
    """The batches and turns that were sent, with minted ids numbered.

    Args:
        rpcs: All RPCs of the case.
        given: The case's text: ids in it were not minted.
    """
    numbers = _Numbers(given)
    return [_rpc(rpc, numbers) for rpc in rpcs if rpc.method in _BATCHES]


def _rpc(rpc: Rpc, numbers: "_Numbers") -> Json:
    told: Json = {"method": rpc.method}
    if rpc.metadata:
        told["metadata"] = dict(sorted(rpc.metadata.items()))
    if rpc.timeout_s is not None:
        told["timeout_s"] = rpc.timeout_s
    messages = [numbers.put(message) for message in rpc.messages]
    if rpc.method == "StreamBatch":
        return {**told, "messages": messages}
    return {**told, "request": messages[0] if messages else None}


class _Numbers:
    """Names that minted ids are given in the order in which they come."""

    def __init__(self, given: str) -> None:
        self._given = given
        self._names: dict[str, dict[str, str]] = {kind: {} for kind in _MINTED.values()}

    def put(self, value: Any) -> Any:
        """A copy with names in place of minted ids."""
        if isinstance(value, list):
            return [self.put(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: self._name(_MINTED[key], item) if key in _MINTED else self.put(item)
            for key, item in value.items()
        }

    def _name(self, kind: str, value: str) -> str:
        if value in self._given:
            return value
        names = self._names[kind]
        if kind == "time":
            return "some time"
        return names.setdefault(value, f"{kind} {len(names) + 1}")


def comparable(value: Any) -> Any:
    """A copy that is equal from run to run, and short.

    The random ids under which the sidecar logs errors of tools are left out, what a gRPC
    library says of a lost connection, and of a very long text the most.
    """
    if isinstance(value, str):
        plain = _RPC_FAILURE.sub(r"failed (\1: ...). ", _FAILURE_ID.sub("(id ...)", value))
        if len(plain) <= _LONG:
            return plain
        digest = hashlib.sha256(plain.encode()).hexdigest()[:16]
        return f"{plain[:_SHOWN]}... ({len(plain)} characters, sha256 {digest}...)"
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    return [comparable(item) for item in value] if isinstance(value, list) else value


def plain_items(value: Any) -> Any:
    """A copy without what model servers write into items as they please."""
    if isinstance(value, dict):
        own = _OF_THE_SERVER if value.get("type") in _ITEMS else ()
        return {key: plain_items(item) for key, item in value.items() if key not in own}
    return [plain_items(item) for item in value] if isinstance(value, list) else value


def model_requests(
    requests: Iterable[ModelRequest], history: Sequence[Any], *, stream: bool
) -> list[Json]:
    """The requests to the model, short where they repeat the history or a tool's definition."""
    definitions = json.loads(TOOLS.read_text()) if TOOLS.exists() else {}
    return [_model_request(request, history, stream, definitions) for request in requests]


def _model_request(
    request: ModelRequest, history: Sequence[Any], stream: bool, definitions: Mapping[str, Any]
) -> Json:
    body = dict(request.body)
    key, api = ("input", "responses") if "input" in body else ("messages", "chat_completions")
    items = body.pop(key, None)
    begins = isinstance(items, list) and items == history[: len(items)]
    told: Json = {"path": request.path, "items": len(items or ()) if begins else items}
    if "tools" in body:
        told["tools"] = [_tool(tool, definitions.get(api, {})) for tool in body.pop("tools")]
    if stream:
        # Streaming is said in the same way each time, and all else is equal without it.
        usage = {"include_usage": True} if api == "chat_completions" else None
        said = (body.pop("stream", None), body.pop("stream_options", None))
        if said != (True, usage):
            told["streaming"] = said
    elif body.get("stream") is False:
        del body["stream"]
    return {**told, "body": body}


def _tool(tool: Json, definitions: Mapping[str, Any]) -> Any:
    name = tool.get("function", tool).get("name")
    return name if tool == definitions.get(name, {}) else tool
