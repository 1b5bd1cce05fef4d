"""Clients as requests ask for them, and messages as answers tell them."""

import base64
from pathlib import Path
from typing import Any

import grpc
import openai
from google.rpc import code_pb2

from sidecall import AsyncClient, SidecallError, reason_of
from sidecall.chat import ModelError
from sidecall.v1.execution_pb2 import ExecutionState, ResultPart, ToolResult

Json = dict[str, Any]


class HookError(Exception):
    """What a hook of the application fails with."""


def client_of(where: Json) -> AsyncClient:
    """Makes the client of a request's `sidecar`."""
    return AsyncClient(**connection_of(where))


def connection_of(where: Json) -> Json:
    """How a client or a host reaches a request's `sidecar`."""
    tls = where.get("tls")
    return {
        "endpoint": where.get("endpoint"),
        "token": where.get("token"),
        "metadata": tuple(where.get("metadata", {}).items()),
        "max_message_bytes": where.get("max_message_bytes"),
        "credentials": None if tls is None else _credentials(tls),
    }


def _credentials(tls: Json) -> grpc.ChannelCredentials:
    def read(name: str) -> bytes | None:
        return Path(tls[name]).read_bytes() if name in tls else None

    return grpc.ssl_channel_credentials(read("ca_file"), read("key_file"), read("cert_file"))


def error_of(error: BaseException) -> Json:
    """Tells an error."""
    if isinstance(error, SidecallError):
        return {
            "kind": "sidecar",
            "code": error.code.name,
            "reason": error.reason,
            "not_started": error.not_started,
            "message": str(error),
        }
    told: Json = {"kind": _kind_of(error), "message": str(error)}
    if isinstance(error, openai.APIStatusError):
        told["status"] = error.status_code
    return told


def _kind_of(error: BaseException) -> str:
    if isinstance(error, ModelError):
        return "model"
    if isinstance(error, HookError):
        return "hook"
    if isinstance(error, ExceptionGroup):
        (kind,) = {_kind_of(inner) for inner in error.exceptions}
        return kind
    if isinstance(error, openai.OpenAIError):
        return "provider"
    if isinstance(error, ValueError | TypeError):
        return "invalid"
    raise error


def result_of(result: ToolResult) -> Json:
    """Tells a result."""
    return {
        "call_id": result.call_id,
        "name": result.name,
        "content": result.content,
        "code": code_pb2.Code.Name(result.status.code),
        "reason": reason_of(result),
        "execution_state": ExecutionState.Name(result.execution_state).removeprefix(
            "EXECUTION_STATE_"
        ),
        "attempts": result.attempts,
        "truncated": result.truncated,
        "replayed": result.replayed,
        "coalesced": result.coalesced,
        "approval_id": result.approval_id,
        "approval_arguments": result.approval_arguments,
        "parts": [_part_of(part) for part in result.parts],
    }


def _part_of(part: ResultPart) -> Json:
    match part.WhichOneof("part"):
        case "blob":
            data = base64.b64encode(part.blob.data).decode()
            blob = {"media_type": part.blob.media_type, "data": data, "name": part.blob.name}
            return {"blob": blob}
        case "link":
            link = part.link
            return {"link": {"uri": link.uri, "media_type": link.media_type, "name": link.name}}
        case "json":
            return {"json": part.json}
        case _:
            return {"text": part.text}
