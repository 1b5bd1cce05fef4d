"""The blocking client."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Self, TypeVar, Unpack

import grpc

from sidecall._batch_results import BatchResults
from sidecall._connection import Connection, Metadata
from sidecall._durations import Timeout, optional_duration_s, parse_duration
from sidecall._requests import (
    ExecuteOptions,
    ListedTools,
    ToolPages,
    batch_request,
    batch_results,
    check_unread_instance,
    forgets_instance,
    note_failure,
)
from sidecall._retry import Attempts
from sidecall._rpc_errors import (
    SidecallError,
    check_open,
    closed_error,
    error_from_rpc,
)
from sidecall._tool_calls import ToolCallLike, make_tool_call
from sidecall.v1.execution_pb2 import ToolResult
from sidecall.v1.tool_service_pb2 import GetCapabilitiesRequest, GetCapabilitiesResponse
from sidecall.v1.tool_service_pb2_grpc import ToolServiceStub

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_READY_POLL_S = 0.05


class Client:
    """A blocking client of one sidecar. It may be shared between threads.

    Args:
        endpoint: `host:port` or `unix:/path`; by default the environment's
            SIDECALL_ENDPOINT, then 127.0.0.1:50071.
        token: Sent as a bearer token.
        credentials: For TLS; None for a plain connection.
        metadata: Sent with each RPC.
        max_message_bytes: Largest message sent or received; by default the environment's
            SIDECALL_MAX_INBOUND_MESSAGE_BYTES, then 16 MiB.
        retries: How often an RPC is sent again where that certainly runs no call twice: it
            started nothing, or has a `request_id` that the sidecar knows, or refuses where it
            was restarted and has forgotten it. Pauses grow from 0.1 to 2 seconds. By default
            often enough to outlast a restart of 3 seconds, and, once the sidecar may have
            received what was sent, until the RPC's timeout. Where the sidecar asks for a pause
            of more than 5 seconds that is left to the caller (`SidecallError.retry_after_s`).

    Raises:
        ValueError: An argument or a variable makes no sense.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Metadata = (),
        max_message_bytes: int | None = None,
        retries: int | None = None,
    ) -> None:
        connection = self._connection = Connection.resolve(
            endpoint,
            token=token,
            credentials=credentials,
            metadata=metadata,
            max_message_bytes=max_message_bytes,
        )
        self._retries = retries
        self._channel = (
            grpc.insecure_channel(connection.target, connection.options)
            if connection.credentials is None
            else grpc.secure_channel(connection.target, connection.credentials, connection.options)
        )
        self._open_stub = ToolServiceStub(self._channel)
        self._instance_id = ""
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection for good; idempotent.

        RPCs in flight end with a SidecallError, CANCELLED. Later ones raise RuntimeError.
        """
        self._closed = True
        self._channel.close()

    def wait_until_ready(self, timeout: Timeout = 30.0) -> GetCapabilitiesResponse:
        """Waits until the sidecar serves.

        Args:
            timeout: How long to wait: seconds, or text such as "5s".

        Raises:
            SidecallError: It does not serve in time, or refuses this client.
            ValueError: The timeout is not positive and finite.
        """
        attempts = Attempts(0, parse_duration(timeout))
        while True:
            try:
                return self._send(
                    self._stub.GetCapabilities, GetCapabilitiesRequest(), attempts, wait=True
                )
            except SidecallError as error:
                if error.code is not grpc.StatusCode.UNAVAILABLE or not attempts.remaining_s():
                    raise
            time.sleep(_READY_POLL_S)

    def get_capabilities(self, *, timeout: Timeout | None = None) -> GetCapabilitiesResponse:
        """Returns what the sidecar speaks and its limits.

        Raises:
            SidecallError: The RPC failed.
        """
        return self._repeat(self._stub.GetCapabilities, GetCapabilitiesRequest(), timeout)

    def list_tools(self, *, timeout: Timeout | None = None) -> ListedTools:
        """Returns all tools that the caller may use, ordered by name.

        Args:
            timeout: Time for each page: seconds, or text such as "5s".

        Raises:
            SidecallError: The RPC failed.
        """
        pages = ToolPages()
        while not pages.done:
            try:
                pages.add(self._repeat(self._stub.ListTools, pages.request(), timeout))
            except SidecallError as error:
                pages.restart(error)
        return pages.tools

    def execute_batch(
        self,
        calls: Iterable[ToolCallLike],
        *,
        timeout: Timeout | None = None,
        **options: Unpack[ExecuteOptions],
    ) -> BatchResults:
        """Executes the calls of one turn and returns one result per call, in call order.

        With a `request_id` the batch is sent again also after a lost connection: the
        sidecar runs no call a second time. One that was restarted meanwhile knows what has
        run only where its requests are durable; else it refuses, with reason
        REQUEST_FORGOTTEN. Who sends it again by hand, after an error of which `not_started`
        is False, passes the error's `sent_to_instance` on.

        Args:
            calls: Messages, dictionaries or a provider's tool calls; see `to_tool_call`.
            timeout: Time for the whole batch: seconds, or text such as "5s". The sidecar
                answers shortly before with the results so far.
            options: See `ExecuteOptions`.

        Raises:
            SidecallError: The RPC failed; `not_started` says whether that is harmless.
            ValueError: An option or the timeout has no such value.
            TypeError: Something is not a tool call, or an option is unknown or of another type.
        """
        request = batch_request(calls, options)
        instance_id = earlier = request.sent_to_instance
        attempts = Attempts(
            self._retries, optional_duration_s(timeout), may_have_started=bool(earlier)
        )
        if request.request_id:
            reads = Attempts(self._retries, attempts.remaining_s(), repeatable=True)
            instance_id = earlier or self._find_instance(reads)
            attempts.repeatable = bool(instance_id)
        response = self._invoke(
            self._stub.ExecuteBatch,
            request,
            attempts,
            partial(note_failure, request, instance_id),
        )
        return batch_results(request, response)

    def call(
        self,
        name: str,
        arguments: str | Mapping[str, Any] | None = None,
        *,
        timeout: Timeout | None = None,
        **options: Unpack[ExecuteOptions],
    ) -> ToolResult:
        """Executes one call; `execute_batch` for a batch of one.

        Where a human may have to approve it, give a `request_id` to send it again with.
        """
        (result,) = self.execute_batch(
            [make_tool_call(name, arguments)], timeout=timeout, **options
        )
        return result

    @property
    def _stub(self) -> ToolServiceStub:
        check_open(closed=self._closed)
        return self._open_stub

    def _find_instance(self, attempts: Attempts) -> str:
        """The sidecar's instance_id, to be read before a first send; empty where unknown.

        Raises:
            SidecallError: The sidecar does not answer.
        """
        if not self._instance_id:
            try:
                response = self._invoke(
                    self._stub.GetCapabilities, GetCapabilitiesRequest(), attempts
                )
            except SidecallError as error:
                check_unread_instance(error)
                return ""
            self._instance_id = response.instance_id
        return self._instance_id

    def _repeat(
        self,
        method: "grpc.UnaryUnaryMultiCallable[_Request, _Response]",
        request: _Request,
        timeout: Timeout | None,
    ) -> _Response:
        """Invokes what changes nothing."""
        attempts = Attempts(self._retries, optional_duration_s(timeout), repeatable=True)
        return self._invoke(method, request, attempts)

    def _invoke(
        self,
        method: "grpc.UnaryUnaryMultiCallable[_Request, _Response]",
        request: _Request,
        attempts: Attempts,
        on_failure: Callable[[SidecallError], None] | None = None,
    ) -> _Response:
        while True:
            try:
                return self._send(method, request, attempts)
            except SidecallError as error:
                if forgets_instance(error):
                    self._instance_id = ""
                delay_s = attempts.delay_s(error)
                if on_failure is not None:
                    on_failure(error)
                if delay_s is None:
                    raise
            time.sleep(delay_s)

    def _send(
        self,
        method: "grpc.UnaryUnaryMultiCallable[_Request, _Response]",
        request: _Request,
        attempts: Attempts,
        *,
        wait: bool = False,
    ) -> _Response:
        """Sends it once; `wait` is for a connection, until the deadline."""
        if self._closed:
            raise closed_error()
        try:
            return method(
                request,
                timeout=attempts.remaining_s(),
                metadata=self._connection.metadata,
                wait_for_ready=wait or None,
            )
        except (grpc.RpcError, ValueError) as error:
            if self._closed:
                raise closed_error() from error
            if isinstance(error, grpc.RpcError):
                raise error_from_rpc(error, self._connection.target) from error
            raise
