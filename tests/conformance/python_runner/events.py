"""Tells events of chats."""

import dataclasses
import re
from typing import Any

from tests.conformance.python_runner.clients import error_of, result_of

from sidecall.chat import (
    ApprovalDecided,
    ApprovalRequested,
    CallFinished,
    CallReady,
    ChatEvent,
    ErrorOccurred,
)
from sidecall.v1.execution_pb2 import DECISION_APPROVE

Json = dict[str, Any]

_CAPITAL = re.compile(r"(?<=.)([A-Z])")


def event_of(event: ChatEvent) -> Json:
    """Tells an event."""
    kind = _CAPITAL.sub(r"_\1", type(event).__name__).lower()
    return {"event": kind, "turn": event.turn, **_members(event)}


def _members(event: ChatEvent) -> Json:
    match event:
        case CallReady():
            call = event.call
            told = {"id": call.id, "name": call.name, "arguments": call.arguments}
            return {"index": event.index, "call": told}
        case CallFinished():
            return {"index": event.index, "result": result_of(event.result)}
        case ApprovalRequested():
            return {
                "index": event.index,
                "call_id": event.call_id,
                "tool_name": event.tool_name,
                "arguments": event.arguments,
            }
        case ApprovalDecided():
            return {"index": event.index, "decision": _decision_of(event)}
        case ErrorOccurred():
            return {"error": error_of(event.error)}
        case _:
            # The members of all others have the names and values of the protocol.
            return dataclasses.asdict(event)


def _decision_of(event: ApprovalDecided) -> str:
    if event.approval is None:
        return "open"
    return "approve" if event.approval.decision == DECISION_APPROVE else "reject"
