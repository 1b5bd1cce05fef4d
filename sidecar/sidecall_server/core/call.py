"""Calls: as the model made them, and on their way through the engine."""

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sidecall_server.core.events import Observer
from sidecall_server.core.outcome import Failure, Outcome

Arguments = dict[str, Any]
"""Arguments of a call as JSON values."""


class ToolCall:
    """One call as the model made it.

    Attributes:
        id: Id that the provider gave it; may be empty or repeated.
        name: Name of the tool.
        arguments: JSON text as the model wrote it; empty means {}.
        depends_on: Ids of calls that must end OK first.
        timeout_s: Seconds from receipt to result; None for no bound.
        idempotency_key: Tells a repeated call from a new one; empty for none.
    """

    __slots__ = ("arguments", "depends_on", "id", "idempotency_key", "name", "timeout_s")

    def __init__(
        self,
        id: str,  # noqa: A002  the contract's word
        name: str,
        arguments: str = "",
        depends_on: tuple[str, ...] = (),
        timeout_s: float | None = None,
        idempotency_key: str = "",
    ) -> None:
        self.id = id
        self.name = name
        self.arguments = arguments
        self.depends_on = depends_on
        self.timeout_s = timeout_s
        self.idempotency_key = idempotency_key

    def __repr__(self) -> str:
        return f"ToolCall(id={self.id!r}, name={self.name!r})"


class Mode(enum.Enum):
    """How the calls of a batch are ordered against each other."""

    PARALLEL = "parallel"
    SEQUENTIAL = "sequential"


class OnFailure(enum.Enum):
    """What a failed call means for the rest of its batch."""

    CONTINUE = "continue"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Approval:
    """What a human decided on a call.

    Attributes:
        approved: Whether it may run.
        decided_by: Who decided.
        decided_unix_ns: When, in nanoseconds since the Unix epoch; 0 where not told.
        arguments: JSON text to run with instead of the model's; None for unchanged.
        comment: What to tell the model about a rejection.
    """

    approved: bool
    decided_by: str = ""
    decided_unix_ns: int = 0
    arguments: str | None = None
    comment: str = ""


# Not frozen: that takes four times as long to make, and every batch has one.
@dataclass(slots=True)
class BatchOptions:
    """What holds for all calls of a batch.

    Attributes:
        mode: Order of the calls against each other.
        on_failure: What a failed call means for the rest.
        max_concurrency: Most calls that run at a time; None for the sidecar's bound.
        deadline_ns: Point on the clock at which the results must be final; None for none.
        client_deadline_ns: Point on the clock at which the client gives up; None for none.
        context: Facts about the end user, for tools and policies.
        references: Whether references in arguments are resolved.
        caller: Who sent the batch; turns go round callers.
        identity: Whose request ids, sessions and cached results it may see.
        request_id: Key under which it may be sent again; empty for none.
        sent_to_instance: Instance that an earlier send went to; empty for a first send.
        session_id: Session whose results it may refer to; empty for none.
        approvals: Decisions on its calls, by approval id.
        max_response_bytes: Bytes that the results may take together.
        traceparent: Trace that it belongs to (W3C Trace Context); empty for none.
        tracestate: What vendors say about that trace; empty for nothing.
    """

    mode: Mode = Mode.PARALLEL
    on_failure: OnFailure = OnFailure.CONTINUE
    max_concurrency: int | None = None
    deadline_ns: int | None = None
    client_deadline_ns: int | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    references: bool = True
    caller: str = ""
    identity: str = ""
    request_id: str = ""
    session_id: str = ""
    approvals: Mapping[str, Approval] = field(default_factory=dict)
    max_response_bytes: int = 3_670_016
    sent_to_instance: str = ""
    traceparent: str = ""
    tracestate: str = ""


class BlockCause(enum.IntEnum):
    """What a call waits for. The numbers are those of the contract."""

    NONE = 0
    REFERENCE = 1
    ORDER = 2
    SEAL = 3
    LANE = 4
    TOOL_LIMIT = 5
    GROUP_LIMIT = 6
    RATE = 7
    BATCH_LIMIT = 8
    GLOBAL_LIMIT = 9
    BACKOFF = 10
    SAME_CALL = 11


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that was followed by another one.

    Attributes:
        failure: What became of it.
        started_ns: When it was started; 0 where it was not.
        finished_ns: When that was known.
    """

    failure: Failure
    started_ns: int
    finished_ns: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What a human is asked about a call.

    Attributes:
        approval_id: Id of the question.
        arguments: JSON text of what the call would run with.
    """

    approval_id: str
    arguments: str


class AttemptClock(Protocol):
    """Whoever runs an attempt and watches its time."""

    def restart_clock(self) -> None:
        """Counts the attempt's time from now."""


class Call:
    """A call on its way through the engine; what a handler is given.

    All points in time are nanoseconds on the engine's monotonic clock.

    Attributes:
        index: Position in the batch, from 0.
        request: The call as the model made it.
        options: What holds for its batch.
        observer: Receives progress and partial output; None where nobody watches.
        arguments: Resolved, validated arguments with defaults applied.
        attempt: Number of the current attempt, from 1; 0 before the first.
        received_ns: When it was received.
        ready_ns: When its dependencies were final and its turn had come; 0 before.
        queued_ns: When it was last given to the queue of its tool, where that was not
            when it became ready; 0 else.
        queue_clock_ns: When the wait of its current attempt began, where that was not when
            it became ready; 0 else.
        started_ns: When its last attempt was started; 0 before.
        finished_ns: When its outcome was final; 0 before.
        deadline_ns: When the current attempt must end; 0 for never.
        outcome: What became of it; None before it is final.
        cancelled: Whether the current attempt has been told to end.
        preparing: Whether the attempt waits for what runs it: its tool has not started.
        in_line: Whether it waits behind other calls while it prepares: its tool's queue
            timeout holds on.
        on_cancel: Called once when the attempt is told to end; set by a backend that
            cannot be cancelled through its task, or not soon enough.
        blocked_ns: Time blocked per cause, for the causes that occurred.
        failed_attempts: Attempts that were followed by another one, in order.
        replayed: Whether the outcome was kept from an earlier send.
        coalesced: Whether the outcome is that of an identical call or of the cache.
        asked: What a human is asked about it; None where nothing is.
        decision: What a human has decided on it; None where nothing.
        decided_before: Whether `decision` holds although its batch brings another one.
        mark_started: Makes it durable that an attempt starts, and says whether that worked;
            None where nothing is to do.
        ticket: What its tool's breaker gave for the current attempt; None without one.
        lane: Key of the lane that it holds or waits for; None for none.
        detached: Whether its attempt goes on for others although its outcome is final.
        supervision: What the engine has to do beside running it; None for nothing.
    """

    # Class attributes, so that making a call sets only what differs: batches are large.
    arguments: Arguments
    attempt = 0
    ready_ns = 0
    queued_ns = 0
    queue_clock_ns = 0
    started_ns = 0
    finished_ns = 0
    deadline_ns = 0
    outcome: Outcome | None = None
    cancelled = False
    preparing = False
    in_line = False
    on_cancel: Callable[[], None] | None = None
    blocked_ns: dict[BlockCause, int] | None = None
    failed_attempts: tuple[FailedAttempt, ...] = ()
    replayed = False
    coalesced = False
    asked: Asked | None = None
    decision: Approval | None = None
    decided_before = False
    mark_started: Callable[[], Awaitable[bool]] | None = None
    ticket: int | None = None
    lane: str | None = None
    detached = False
    supervision: Any = None  # engine.supervision.Supervision
    mark: Any = None  # the admission's note of what the call has been blocked on
    worker: AttemptClock | None = None  # the engine's worker that runs the current attempt

    def __init__(
        self,
        index: int,
        request: ToolCall,
        options: BatchOptions,
        observer: Observer | None,
        received_ns: int,
    ) -> None:
        self.index = index
        self.request = request
        self.options = options
        self.observer = observer
        self.received_ns = received_ns

    def prepare(self, *, in_line: bool = False) -> None:
        """Says that the attempt has to wait for what runs it, a process for example.

        Until `restart_clock` the attempt's time does not count, and the call is not
        started when it is given up.

        Args:
            in_line: Whether others may be before it, so that it waits no longer than its
                tool's calls may wait for permits.
        """
        self.preparing = True
        self.in_line = in_line

    def restart_clock(self) -> None:
        """Says that the tool starts now: the attempt's time counts from here."""
        self.preparing = False
        if self.worker is not None:
            self.worker.restart_clock()

    def take_back(self) -> None:
        """Says that the attempt will not be run: it counts as not made."""
        if self.outcome is None:
            self.preparing = False
            self.attempt -= 1
            self.started_ns = 0

    def successor(self, failure: Failure, now_ns: int) -> "Call":
        """The call's next attempt, which takes this one's place.

        This object stays with the attempt that failed, which may still be running.

        Args:
            failure: What became of the attempt.
            now_ns: When that was known.
        """
        following = Call(self.index, self.request, self.options, self.observer, self.received_ns)
        following.attempt = self.attempt
        following.ready_ns = self.ready_ns
        following.blocked_ns = self.blocked_ns
        following.supervision = self.supervision
        attempt = FailedAttempt(failure, self.started_ns, now_ns)
        following.failed_attempts = (*self.failed_attempts, attempt)
        self.supervision = None
        self.outcome = failure
        return following

    def __repr__(self) -> str:
        return f"Call(#{self.index} {self.request.name!r} outcome={self.outcome!r})"
