"""Requests and responses of both clients, without any I/O."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypedDict

import grpc

from sidecall._batch_results import BatchResults
from sidecall._options import option_fields
from sidecall._rpc_errors import SidecallError
from sidecall._tool_calls import ToolCallLike, to_tool_call
from sidecall.v1.execution_pb2 import Approval
from sidecall.v1.tool_pb2 import Tool
from sidecall.v1.tool_service_pb2 import (
    ExecuteBatchRequest,
    ExecuteBatchResponse,
    ListToolsRequest,
    ListToolsResponse,
    StreamStart,
)

_MAX_LISTINGS = 5
_NO_ANSWER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class ExecuteOptions(TypedDict, total=False):
    """What may be said about a batch. What is absent or None is the sidecar's default."""

    mode: Literal["parallel", "sequential"] | None
    """How the calls are ordered against each other."""
    on_failure: Literal["continue", "stop"] | None
    """What a failed call means for the rest."""
    max_concurrency: int | None
    """Most calls of the batch that run at a time."""
    context: Mapping[str, str] | None
    """Facts about the end user; tools and policies see them, the model does not."""
    request_id: str | None
    """Key under which the batch may be sent again without running a call twice; a UUID, for
    example. The calls (their timeouts apart), mode, on_failure, context, session_id and
    disable_references must then be the same. Calls that have started go on when the client
    cancels or loses its connection. A sidecar that is restarted has forgotten
    it, unless its `GetCapabilitiesResponse.durable_requests` says otherwise."""
    sent_to_instance: str | None
    """Where a batch with the `request_id` was sent before: `SidecallError.sent_to_instance` of
    that send, or `instance_id` of the sidecar's capabilities, read before it. Another sidecar
    that cannot know what has run then refuses, with reason REQUEST_FORGOTTEN, instead of
    running it again."""
    session_id: str | None
    """Session whose earlier results may be referenced, and which gets those of this batch."""
    approvals: Sequence[Approval] | None
    """Decisions, made by `approve` and `reject`, on calls of an earlier send of the same
    calls; `request_id` is that of its results."""
    max_response_bytes: int | None
    """Bytes that the results may take together."""
    disable_references: bool | None
    """Passes argument strings as they are."""


def batch_request(calls: Iterable[ToolCallLike], options: ExecuteOptions) -> ExecuteBatchRequest:
    """Makes the request of ExecuteBatch."""
    return ExecuteBatchRequest(
        calls=[to_tool_call(call) for call in calls], **option_fields(options)
    )


def note_failure(request: ExecuteBatchRequest, instance_id: str, error: SidecallError) -> None:
    """Has a request, and the error that ended its RPC, say where it may have been received."""
    if not error.not_started:
        request.sent_to_instance = error.sent_to_instance = instance_id


def check_unread_instance(error: SidecallError) -> None:
    """Raises why the instance of a sidecar could not be read, unless it just does not tell."""
    if error.code in _NO_ANSWER:
        error.not_started = True  # The batch comes after it.
        raise error


def forgets_instance(error: SidecallError) -> bool:
    """Whether the sidecar may have been restarted since its instance was asked for."""
    lost = error.code is grpc.StatusCode.UNAVAILABLE
    return lost or error.reason == "REQUEST_FORGOTTEN"


def stream_start(options: ExecuteOptions) -> StreamStart:
    """Makes the message that opens StreamBatch."""
    return StreamStart(**option_fields(options))


def batch_results(request: ExecuteBatchRequest, response: ExecuteBatchResponse) -> BatchResults:
    """Returns the results, in call order.

    Raises:
        SidecallError: There is not one result per call.
    """
    if len(response.results) != len(request.calls):
        raise SidecallError(
            f"{len(request.calls)} calls were sent but {len(response.results)} results came back",
            code=grpc.StatusCode.INTERNAL,
        )
    return BatchResults(response.results, response.request_id, response.schedule)


class ListedTools(list[Tool]):
    """The caller's tools, ordered by name.

    Attributes:
        revision: Opaque value that changes when they or their descriptions do.
    """

    revision = ""


class ToolPages:
    """Collects the pages of ListTools; starts again where the tools change in between."""

    def __init__(self) -> None:
        self.tools = ListedTools()
        self.done = False
        self._token = ""
        self._listings = 1

    def request(self) -> ListToolsRequest:
        """Makes the request for the next page."""
        return ListToolsRequest(page_token=self._token)

    def add(self, page: ListToolsResponse) -> None:
        """Takes a page in."""
        self.tools.extend(page.tools)
        self.tools.revision = page.revision
        self._token = page.next_page_token
        self.done = not self._token

    def restart(self, error: SidecallError) -> None:
        """Begins a new listing, or raises the error where that does not help."""
        if error.code is not grpc.StatusCode.ABORTED or self._listings >= _MAX_LISTINGS:
            raise error
        self._listings += 1
        self.tools.clear()
        self._token = ""
