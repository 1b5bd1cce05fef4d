"""Outcomes are values: what became of a call."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

EMPTY_CONTENT = "(empty result)"
"""What stands in `content` where a tool returned an empty string: some providers refuse
an empty tool message."""


class Code(enum.IntEnum):
    """Canonical status codes (google.rpc.Code)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class CodedReason(enum.Enum):
    """Reasons that go with a status code; several may share one.

    Attributes:
        code: The status code.
    """

    code: Code

    def __new__(cls, code: Code) -> Self:
        """Makes members distinct although their codes are equal."""
        member = object.__new__(cls)
        member._value_ = (len(cls.__members__), code)
        member.code = code
        return member


class Reason(CodedReason):
    """Why a call has no OK result."""

    TOOL_NOT_FOUND = Code.NOT_FOUND
    ARGUMENTS_INVALID = Code.INVALID_ARGUMENT
    TOOL_FAILED = Code.UNKNOWN
    TOOL_TIMEOUT = Code.DEADLINE_EXCEEDED
    QUEUE_TIMEOUT = Code.DEADLINE_EXCEEDED
    CALL_DEADLINE = Code.DEADLINE_EXCEEDED
    BATCH_DEADLINE = Code.DEADLINE_EXCEEDED
    QUEUE_FULL = Code.RESOURCE_EXHAUSTED
    RATE_LIMITED = Code.RESOURCE_EXHAUSTED
    RESULT_TOO_LARGE = Code.RESOURCE_EXHAUSTED
    CIRCUIT_OPEN = Code.UNAVAILABLE
    APPROVAL_REQUIRED = Code.FAILED_PRECONDITION
    APPROVAL_REJECTED = Code.PERMISSION_DENIED
    IDEMPOTENCY_KEY_REUSED = Code.ALREADY_EXISTS
    OUTCOME_UNKNOWN = Code.UNKNOWN
    REFERENCE_UNRESOLVED = Code.FAILED_PRECONDITION
    REFERENCE_CYCLE = Code.INVALID_ARGUMENT
    DEPENDENCY_FAILED = Code.FAILED_PRECONDITION
    CANCELLED = Code.CANCELLED
    STOPPED = Code.CANCELLED
    DRAINING = Code.CANCELLED
    TOOL_CRASHED = Code.INTERNAL
    TOOL_UNAVAILABLE = Code.UNAVAILABLE
    HOST_DETACHED = Code.UNAVAILABLE
    INTERNAL = Code.INTERNAL


class ExecutionState(enum.IntEnum):
    """How far a call got. The numbers are those of the contract."""

    NOT_STARTED = 1
    COMPLETED = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with the arguments of a call.

    Attributes:
        field: JSON Pointer (RFC 6901) of the offending value; empty for the whole.
        message: What is expected there.
    """

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class TextPart:
    """Plain text.

    Attributes:
        text: The text.
    """

    text: str


@dataclass(frozen=True, slots=True)
class JsonPart:
    """A JSON value.

    Attributes:
        text: Its text.
    """

    text: str


@dataclass(frozen=True, slots=True)
class BlobPart:
    """Binary content.

    Attributes:
        media_type: What the bytes are, for example "image/png".
        data: The bytes.
        name: A file name for people; may be empty.
    """

    media_type: str
    data: bytes
    name: str = ""


@dataclass(frozen=True, slots=True)
class LinkPart:
    """Points to content elsewhere.

    Attributes:
        uri: The address.
        media_type: What is there; empty where unknown.
        name: A name for people; may be empty.
    """

    uri: str
    media_type: str = ""
    name: str = ""


Part = TextPart | JsonPart | BlobPart | LinkPart
"""A piece of a result that is more than text."""


class Success:
    """The tool returned.

    Attributes:
        text: The result: a string as the tool returned it, or the text of a JSON value.
            Of a result in parts, the text of them all, with a line in place of each blob
            and link; references read it.
        is_json: Whether `text` is JSON.
        parts: The result in parts, in order; empty where it is text alone.
    """

    __slots__ = ("is_json", "parts", "text")

    def __init__(self, text: str, is_json: bool = False, parts: tuple[Part, ...] = ()) -> None:
        self.text = text
        self.is_json = is_json
        self.parts = parts

    def __repr__(self) -> str:
        return f"Success({self.text!r}, is_json={self.is_json}, {len(self.parts)} parts)"

    @property
    def content(self) -> str:
        """Text for the model; never empty."""
        return self.text or EMPTY_CONTENT


@dataclass(frozen=True, slots=True)
class Failure:
    """The call has no result of its tool.

    Attributes:
        reason: What happened.
        message: For the model: what to repair, where it can be repaired.
        state: How far the call got.
        code: Status code; that of `reason` where None.
        violations: What is wrong with the arguments, one per field.
        retry_after_s: Seconds after which the call may be made again; None where unknown.
        metadata: Facts for machines.
    """

    reason: Reason
    message: str
    state: ExecutionState
    code: Code | None = None
    violations: tuple[Violation, ...] = ()
    retry_after_s: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def status_code(self) -> Code:
        """Status code in force."""
        return self.reason.code if self.code is None else self.code


Outcome = Success | Failure


def not_started(reason: Reason, message: str, **metadata: str) -> Failure:
    """A failure of a call whose tool was not started."""
    return Failure(reason, message, ExecutionState.NOT_STARTED, metadata=metadata)


def unknown_effect(reason: Reason, message: str, **metadata: str) -> Failure:
    """A failure of a call whose tool was started and may have taken effect."""
    return Failure(reason, message, ExecutionState.UNKNOWN, metadata=metadata)
