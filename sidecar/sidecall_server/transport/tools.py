"""ListTools: the registry as protobuf messages, page by page."""

import base64
import binascii
import json
from itertools import islice

from google.protobuf.duration_pb2 import Duration

from sidecall.v1 import tool_pb2, tool_service_pb2
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.engine.registry import Registry
from sidecall_server.policy.build import ToolPolicies

_DEFAULT_PAGE_SIZE = 1_000
_MAX_PAGE_SIZE = 10_000
_MAX_PAGE_BYTES = 1024 * 1024
"""A quarter of what a client takes that sets no option."""


def list_tools(
    registry: Registry, request: tool_service_pb2.ListToolsRequest
) -> tool_service_pb2.ListToolsResponse:
    """One page of tools: at least one, and about 1 MiB at most where it holds several.

    Raises:
        Rejection: The page size or the token is wrong, or the tools have changed since.
    """
    if request.page_size < 0:
        raise Rejection(
            RejectionReason.REQUEST_INVALID, "page_size: must not be negative", "page_size"
        )
    size = min(request.page_size or _DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE)
    start = _start(request.page_token, registry.revision) if request.page_token else 0
    response = tool_service_pb2.ListToolsResponse(revision=registry.revision)
    end, page_bytes = start, 0
    for entry in islice(registry.tools.values(), start, start + size):
        message = _message(entry)
        page_bytes += message.ByteSize()
        if page_bytes > _MAX_PAGE_BYTES and end > start:
            break
        response.tools.append(message)
        end += 1
    if end < len(registry.tools):
        token = f"{registry.revision}:{end}"
        response.next_page_token = base64.urlsafe_b64encode(token.encode()).decode()
    return response


def _start(token: str, revision: str) -> int:
    try:
        of_revision, _, position = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
        start = int(position)
    except (ValueError, binascii.Error):
        raise Rejection(
            RejectionReason.PAGE_TOKEN_INVALID, "page_token: not made by ListTools", "page_token"
        ) from None
    if of_revision != revision:
        raise Rejection(
            RejectionReason.TOOLS_CHANGED, "The tools have changed; start again without a token."
        )
    return max(0, start)


def _message(entry: ToolPolicies) -> tool_pb2.Tool:
    spec = entry.spec
    message = tool_pb2.Tool(
        name=spec.name,
        description=spec.description,
        input_schema=json.dumps(spec.input_schema, ensure_ascii=False),
        effects=tool_pb2.Effects.ValueType(spec.effects),
        health=_health(entry),
        requires_approval=spec.requires_approval,
        lane="" if spec.lane is None else spec.lane.template,
    )
    if spec.output_schema is not None:
        message.output_schema = json.dumps(spec.output_schema, ensure_ascii=False)
    message.limits.max_concurrency = entry.limiter.limit
    message.limits.max_queue = entry.queue.max_calls
    message.limits.timeout.CopyFrom(duration(entry.timeout_ns))
    message.limits.queue_timeout.CopyFrom(duration(entry.queue_timeout_ns))
    message.limits.groups.extend(spec.groups)
    message.limits.max_attempts = 1 if spec.retry is None else spec.retry.max_attempts
    message.limits.max_result_bytes = spec.max_result_bytes or 0
    if spec.rate is not None:
        message.limits.rate.count = spec.rate.count
        message.limits.rate.burst = spec.rate.burst
        message.limits.rate.period.CopyFrom(duration(spec.rate.period_ns))
    if spec.sharing is not None and spec.sharing.cache_ttl_s is not None:
        message.limits.cache_ttl.CopyFrom(duration(int(spec.sharing.cache_ttl_s * 1e9)))
    return message


def _health(entry: ToolPolicies) -> tool_pb2.ToolHealth.ValueType:
    places = entry.tool.places
    if places is None or places.is_available:
        return tool_pb2.TOOL_HEALTH_AVAILABLE
    return tool_pb2.TOOL_HEALTH_UNAVAILABLE


def duration(time_ns: int) -> Duration:
    """A protobuf duration of so many nanoseconds."""
    message = Duration()
    message.FromNanoseconds(time_ns)
    return message
