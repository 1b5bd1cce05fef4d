"""From protobuf requests to the engine's words; what is malformed is rejected."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sidecall.v1 import execution_pb2, tool_service_pb2
from sidecall_server.core.call import Approval, BatchOptions, Mode, OnFailure, ToolCall
from sidecall_server.core.defaults import Limits
from sidecall_server.core.rejection import Rejection, RejectionReason, invalid_field
from sidecall_server.engine.approvals import MAX_ARGUMENTS_BYTES
from sidecall_server.engine.slices import Slices
from sidecall_server.policy.budget import utf8_bytes

_STRIDE = 64
_MAX_TIMEOUT_S = 365 * 24 * 3600
_MAX_TRACE_CHARS = 512

_MODES = {
    execution_pb2.EXECUTION_MODE_UNSPECIFIED: Mode.PARALLEL,
    execution_pb2.EXECUTION_MODE_PARALLEL: Mode.PARALLEL,
    execution_pb2.EXECUTION_MODE_SEQUENTIAL: Mode.SEQUENTIAL,
}
_DECISIONS = {
    execution_pb2.DECISION_APPROVE: True,
    execution_pb2.DECISION_REJECT: False,
}
_FAILURE_POLICIES = {
    execution_pb2.FAILURE_POLICY_UNSPECIFIED: OnFailure.CONTINUE,
    execution_pb2.FAILURE_POLICY_CONTINUE: OnFailure.CONTINUE,
    execution_pb2.FAILURE_POLICY_STOP: OnFailure.STOP,
}

BatchMessage = tool_service_pb2.ExecuteBatchRequest | tool_service_pb2.StreamStart

FEATURES = (
    "approvals",
    "idempotency_keys",
    "references",
    "request_id",
    "result_budgets",
    "result_parts",
    "sessions",
    "stream_batch",
)
"""What this version has of the features that the contract names."""

MAX_ID_BYTES = 256
"""Largest id, idempotency_key or name of who has decided."""

MAX_COMMENT_BYTES = 4096
"""Largest comment of a human."""


MAX_ECHO_BYTES = 64 * 1024
"""Largest id and name of one call together: nothing can cut them in its result."""

_ECHO_CHARS = MAX_ECHO_BYTES // 4
"""Characters of them that are certainly no more."""


class Peer(Protocol):
    """What the RPC knows about time and its sender."""

    def time_remaining(self) -> float | None:
        """Seconds to the RPC's deadline; None without one."""

    def peer(self) -> str:
        """Address of the client."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Metadata that came with the RPC."""


def identity_of(credential: str | bytes | None) -> str:
    """Whose request ids, sessions and cached results a client may see.

    That of its credential: who does not know the token cannot read them. Clients without
    one are one identity together.
    """
    if credential is None:
        return ""
    data = credential.encode() if isinstance(credential, str) else credential
    return "token:" + hashlib.sha256(data).hexdigest()[:32]


def _text(value: str | bytes | None) -> str:
    """A metadata value that is passed on; nothing where it is too large to be what it is."""
    text = value if isinstance(value, str) else ""
    return text if len(text) <= _MAX_TRACE_CHARS else ""


def batch_options(message: BatchMessage, limits: Limits, now_ns: int, peer: Peer) -> BatchOptions:
    """Reads what holds for a whole batch.

    Raises:
        Rejection: Malformed or expired.
    """
    mode = _MODES.get(message.mode)
    if mode is None:
        raise invalid_field("mode", f"{message.mode} is not an ExecutionMode")
    on_failure = _FAILURE_POLICIES.get(message.on_failure)
    if on_failure is None:
        raise invalid_field("on_failure", f"{message.on_failure} is not a FailurePolicy")
    if message.max_concurrency < 0:
        raise invalid_field("max_concurrency", "must not be negative")
    if not 0 <= message.max_response_bytes <= limits.max_message_bytes:
        raise invalid_field(
            "max_response_bytes", f"must be within 0 and {limits.max_message_bytes}"
        )
    approvals = _approvals(message, limits) if message.approvals else {}
    metadata = dict(peer.invocation_metadata() or ())
    identity = identity_of(metadata.get("authorization"))
    return BatchOptions(
        mode=mode,
        on_failure=on_failure,
        max_concurrency=message.max_concurrency or None,
        deadline_ns=_deadline(message, now_ns),
        client_deadline_ns=_client_deadline(now_ns, peer.time_remaining()),
        context=_context(message.context, limits),
        references=not message.disable_references,
        caller=identity or peer.peer(),
        identity=identity,
        request_id=_id("request_id", message.request_id),
        sent_to_instance=_id("sent_to_instance", message.sent_to_instance),
        session_id=_id("session_id", message.session_id),
        approvals=approvals,
        max_response_bytes=message.max_response_bytes or limits.max_response_bytes,
        traceparent=_text(metadata.get("traceparent")),
        tracestate=_text(metadata.get("tracestate")),
    )


def _id(field: str, text: str) -> str:
    return _bounded(field, text, MAX_ID_BYTES) if text else ""


def _bounded(field: str, text: str, max_bytes: int) -> str:
    if len(text.encode()) > max_bytes:
        raise invalid_field(field, f"is larger than {max_bytes} bytes")
    return text


def _approvals(message: BatchMessage, limits: Limits) -> Mapping[str, Approval]:
    if not message.request_id:
        raise invalid_field("request_id", "is needed with approvals: that of the response")
    most = limits.max_calls_per_batch
    if len(message.approvals) > most:
        raise invalid_field(
            "approvals", f"{len(message.approvals)} decisions; at most {most} are allowed"
        )
    decided: dict[str, Approval] = {}
    for number, item in enumerate(message.approvals):
        field = f"approvals[{number}]"
        approval_id = _id(f"{field}.approval_id", item.approval_id)
        if not approval_id or approval_id in decided:
            raise invalid_field(f"{field}.approval_id", "is empty, or decided on twice")
        if item.decision not in _DECISIONS:
            raise invalid_field(f"{field}.decision", "must be DECISION_APPROVE or DECISION_REJECT")
        decided[approval_id] = Approval(
            approved=_DECISIONS[item.decision],
            decided_by=_id(f"{field}.decided_by", item.decided_by),
            decided_unix_ns=_unix_ns(f"{field}.decide_time", item.decide_time)
            if item.HasField("decide_time")
            else 0,
            arguments=_bounded(f"{field}.arguments", item.arguments, MAX_ARGUMENTS_BYTES)
            if item.HasField("arguments")
            else None,
            comment=_bounded(f"{field}.comment", item.comment, MAX_COMMENT_BYTES),
        )
    return decided


def _unix_ns(field: str, time: Timestamp) -> int:
    try:
        return time.ToNanoseconds()
    except ValueError:
        raise invalid_field(field, "is not a time between the years 1 and 9999") from None


def _deadline(message: BatchMessage, now_ns: int) -> int | None:
    if not message.HasField("timeout"):
        return None
    return now_ns + int(duration_s("timeout", message.timeout) * 1e9)


def _client_deadline(now_ns: int, remaining_s: float | None) -> int | None:
    if remaining_s is None or remaining_s >= _MAX_TIMEOUT_S:
        return None
    remaining_ns = int(remaining_s * 1e9)
    if remaining_ns <= 0:
        raise Rejection(RejectionReason.DEADLINE_EXPIRED, "The request arrived with no time left.")
    return now_ns + remaining_ns


def duration_s(field: str, duration: Duration) -> float:
    """Seconds of a duration; raises Rejection when it is not positive or absurdly long."""
    seconds = duration.seconds + duration.nanos / 1e9
    if seconds <= 0:
        raise invalid_field(field, "must be positive")
    return min(seconds, _MAX_TIMEOUT_S)


def _context(context: Mapping[str, str], limits: Limits) -> Mapping[str, str]:
    if not context:
        return {}
    if len(context) > limits.max_context_entries:
        raise invalid_field("context", f"holds more than {limits.max_context_entries} entries")
    for key, value in context.items():
        if max(len(key.encode()), len(value.encode())) > limits.max_context_value_bytes:
            most = limits.max_context_value_bytes
            raise invalid_field("context", f"an entry is larger than {most} bytes")
    return dict(context)


async def tool_calls(
    messages: Sequence[execution_pb2.ToolCall],
    limits: Limits,
    slices: Slices,
    max_response_bytes: int,
) -> list[ToolCall]:
    """Reads the calls of a whole batch, without keeping the event loop for long.

    Raises:
        Rejection: Too many calls, one is malformed, or their ids and names leave no room
            for results.
    """
    if len(messages) > limits.max_calls_per_batch:
        raise invalid_field(
            "calls", f"{len(messages)} calls; at most {limits.max_calls_per_batch} are allowed"
        )
    calls: list[ToolCall] = []
    echoed_bytes = 0
    for index, message in enumerate(messages):
        call = tool_call(message, index)
        calls.append(call)
        echoed_bytes += utf8_bytes(call.id) + utf8_bytes(call.name)
        if index % _STRIDE == _STRIDE - 1:
            await slices.breathe()
    room = max(max_response_bytes, limits.max_response_bytes) // 4
    if echoed_bytes > room:
        # Nothing can cut them later, and a client refuses a response that is too large.
        raise invalid_field(
            "calls",
            f"ids and names take {echoed_bytes} bytes, which results repeat; at most {room} are "
            "allowed",
        )
    return calls


def tool_call(message: execution_pb2.ToolCall, index: int) -> ToolCall:
    """Reads one call.

    Raises:
        Rejection: It is malformed.
    """
    key = message.idempotency_key
    if key:
        _id(f"calls[{index}].idempotency_key", key)
    call_id, name = message.id, message.name
    if len(call_id) + len(name) > _ECHO_CHARS:
        size = utf8_bytes(call_id) + utf8_bytes(name)
        if size > MAX_ECHO_BYTES:
            raise invalid_field(
                f"calls[{index}].id",
                f"id and name take {size} bytes, which the result repeats; at most "
                f"{MAX_ECHO_BYTES} are allowed",
            )
    timeout_s = None
    if message.HasField("timeout"):
        timeout_s = duration_s(f"calls[{index}].timeout", message.timeout)
    depends_on = message.depends_on
    return ToolCall(
        call_id,
        name,
        message.arguments,
        tuple(depends_on) if depends_on else (),
        timeout_s,
        key,
    )
