"""From the messages of a host to the words of the service, and back."""

import json
from collections.abc import Iterable
from typing import Any

from google.protobuf.duration_pb2 import Duration
from pydantic_core import from_json

from sidecall._errors import ToolDefinitionError
from sidecall._parts import blob_line, link_line
from sidecall.v1 import execution_pb2, tool_host_pb2, tool_pb2
from sidecall_server.core.call import Call
from sidecall_server.core.outcome import (
    BlobPart,
    Code,
    ExecutionState,
    Failure,
    JsonPart,
    LinkPart,
    Outcome,
    Part,
    Reason,
    Success,
    TextPart,
)
from sidecall_server.core.ports import Clock
from sidecall_server.core.rejection import invalid_field
from sidecall_server.hosts.host import HostedAttempt, HostedTool

_EFFECTS = {
    tool_pb2.EFFECTS_UNSPECIFIED: "non_idempotent",
    tool_pb2.EFFECTS_READ_ONLY: "read_only",
    tool_pb2.EFFECTS_IDEMPOTENT: "idempotent",
    tool_pb2.EFFECTS_NON_IDEMPOTENT: "non_idempotent",
}
_STATES = {
    execution_pb2.EXECUTION_STATE_NOT_STARTED: ExecutionState.NOT_STARTED,
    execution_pb2.EXECUTION_STATE_UNKNOWN: ExecutionState.UNKNOWN,
}


def hosted_tools(messages: Iterable[tool_pb2.Tool], source: str) -> list[HostedTool]:
    """The tools that a host declares.

    Raises:
        Rejection: One of them is not valid, or two have one name.
    """
    tools: dict[str, HostedTool] = {}
    for number, message in enumerate(messages):
        field = f"tools[{number}]"
        try:
            tool = _tool(message, source)
        except (ToolDefinitionError, ValueError) as error:
            raise invalid_field(field, str(error)) from None
        if tool.name in tools:
            raise invalid_field(f"{field}.name", f"{tool.name!r} stands twice")
        tools[tool.name] = tool
    if not tools:
        raise invalid_field("tools", "is empty")
    return list(tools.values())


def _tool(message: tool_pb2.Tool, source: str) -> HostedTool:
    limits = message.limits
    policy: dict[str, Any] = {
        "effects": _EFFECTS[message.effects],
        "approval": "required" if message.requires_approval else "none",
        "max_concurrency": limits.max_concurrency or None,
        "max_queue": limits.max_queue or None,
        "timeout": _seconds(limits, "timeout"),
        "queue_timeout": _seconds(limits, "queue_timeout"),
        "limits": list(limits.groups),
        "max_result_bytes": limits.max_result_bytes or None,
        "retry": limits.max_attempts or None,
        "cache_ttl": _seconds(limits, "cache_ttl"),
        "lane": message.lane or None,
    }
    if limits.HasField("rate"):
        period_ms = limits.rate.period.ToNanoseconds() / 1e6
        policy["rate"] = {"limit": f"{limits.rate.count}/{period_ms:g}ms"}
        if limits.rate.burst:
            policy["rate"]["burst"] = limits.rate.burst
    given = {key: value for key, value in policy.items() if value is not None}
    return HostedTool(
        source,
        name=message.name,
        description=message.description,
        input_schema=_schema(message.input_schema, "input_schema") or {"type": "object"},
        output_schema=_schema(message.output_schema, "output_schema"),
        **given,
    )


def _seconds(limits: tool_pb2.ToolLimits, field: str) -> float | None:
    if not limits.HasField(field):  # type: ignore[arg-type]  # fields of this message
        return None
    duration: Duration = getattr(limits, field)
    return duration.ToNanoseconds() / 1e9


def _schema(text: str, field: str) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{field}: is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise ToolDefinitionError(f"{field}: must be an object")
    return schema


def call_message(attempt: HostedAttempt, clock: Clock) -> tool_host_pb2.AttachResponse:
    """An attempt as its host gets it; its time counts already."""
    call = attempt.call
    message = tool_host_pb2.HostCall(
        attempt_id=attempt.id,
        name=call.request.name,
        arguments=_json(call),
        attempt=call.attempt,
        call_id=call.request.id,
        context=call.options.context,
        idempotency_key=call.request.idempotency_key,
        traceparent=call.options.traceparent,
        tracestate=call.options.tracestate,
    )
    if call.deadline_ns:
        message.timeout.FromNanoseconds(max(0, call.deadline_ns - clock.now_ns()))
    return tool_host_pb2.AttachResponse(call=message)


def _json(call: Call) -> str:
    text = json.dumps(call.arguments, ensure_ascii=False, separators=(",", ":"))
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # lone surrogates
            return json.dumps(call.arguments, separators=(",", ":"))
    return text


def too_large(attempt: HostedAttempt, size: int, max_bytes: int) -> Failure:
    """The failure of a call whose arguments its host cannot receive."""
    return Failure(
        Reason.TOOL_FAILED,
        f"Not run: the arguments of {attempt.offer.tool.name!r} make a message of {size} bytes, "
        f"and at most {max_bytes} can be sent to the application that runs it.",
        ExecutionState.NOT_STARTED,
        code=Code.RESOURCE_EXHAUSTED,
    )


def outcome_of(message: tool_host_pb2.HostResult, name: str) -> Outcome:
    """What became of an attempt."""
    if message.HasField("status") and message.status.code:
        return _failure(message, name)
    kind = message.WhichOneof("value")
    if kind == "text":
        return Success(message.text)
    try:
        if kind == "parts":
            parts = tuple(_part(part) for part in message.parts.parts)
            return Success("\n".join(_line(part) for part in parts), False, parts)
        text = message.json or "null"
        _check_json(text)
        return Success(text, is_json=True)
    except ValueError as error:
        return Failure(
            Reason.TOOL_FAILED,
            f"Tool {name!r} ran, but its result cannot be passed on: {error}.",
            ExecutionState.COMPLETED,
        )


def _failure(message: tool_host_pb2.HostResult, name: str) -> Failure:
    status = message.status
    state = _STATES.get(message.execution_state, ExecutionState.COMPLETED)
    code = Code(status.code) if status.code in Code.__members__.values() else Code.UNKNOWN
    reason = Reason.TOOL_FAILED
    if state is ExecutionState.NOT_STARTED:
        invalid = code is Code.INVALID_ARGUMENT
        reason = Reason.ARGUMENTS_INVALID if invalid else Reason.TOOL_UNAVAILABLE
    return Failure(
        reason,
        status.message or f"Tool {name!r} failed.",
        state,
        code=code,
        retry_after_s=message.retry_after.ToNanoseconds() / 1e9
        if message.HasField("retry_after")
        else None,
    )


def _check_json(text: str) -> None:
    try:
        from_json(text, allow_inf_nan=False)
    except ValueError as error:
        try:
            json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise ValueError(f"it is not JSON: {error}") from None


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _part(part: execution_pb2.ResultPart) -> Part:
    kind = part.WhichOneof("part")
    if kind == "json":
        _check_json(part.json)
        return JsonPart(part.json)
    if kind == "blob":
        return BlobPart(part.blob.media_type, part.blob.data, part.blob.name)
    if kind == "link":
        return LinkPart(part.link.uri, part.link.media_type, part.link.name)
    return TextPart(part.text)


def _line(part: Part) -> str:
    if isinstance(part, BlobPart):
        return blob_line(part.media_type, len(part.data), part.name)
    if isinstance(part, LinkPart):
        return link_line(part.uri, part.media_type, part.name)
    return part.text
