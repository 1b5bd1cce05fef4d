"""The chat loop: a model's tool calls, run in a sidecar, until the model answers.

Needs the extra `sidecall[openai]`.
"""

from sidecall.chat.approvals import ApprovalHook
from sidecall.chat.events import (
    ApprovalDecided,
    ApprovalRequested,
    CallEvent,
    CallFinished,
    CallPartialOutput,
    CallProgress,
    CallQueued,
    CallReady,
    CallStarted,
    ChatEvent,
    EarlyStartAbandoned,
    ErrorOccurred,
    Hook,
    RefusalDelta,
    TextDelta,
    TurnFinished,
    TurnStarted,
)
from sidecall.chat.hint import REFERENCE_HINT, SESSION_REFERENCE_HINT
from sidecall.chat.loop import ChatLoop
from sidecall.chat.model import ModelError, Usage
from sidecall.chat.options import ChatOptions, ChatResult, StoppedReason, Turn
from sidecall.chat.sync_loop import SyncChatLoop

__all__ = [
    "REFERENCE_HINT",
    "SESSION_REFERENCE_HINT",
    "ApprovalDecided",
    "ApprovalHook",
    "ApprovalRequested",
    "CallEvent",
    "CallFinished",
    "CallPartialOutput",
    "CallProgress",
    "CallQueued",
    "CallReady",
    "CallStarted",
    "ChatEvent",
    "ChatLoop",
    "ChatOptions",
    "ChatResult",
    "EarlyStartAbandoned",
    "ErrorOccurred",
    "Hook",
    "ModelError",
    "RefusalDelta",
    "StoppedReason",
    "SyncChatLoop",
    "TextDelta",
    "Turn",
    "TurnFinished",
    "TurnStarted",
    "Usage",
]
