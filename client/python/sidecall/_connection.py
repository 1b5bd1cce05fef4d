"""How a client reaches its sidecar: endpoint, channel options, metadata."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import grpc
import grpc.aio

DEFAULT_ENDPOINT = "127.0.0.1:50071"
DEFAULT_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_ENDPOINT_VARIABLE = "SIDECALL_ENDPOINT"
_MAX_MESSAGE_VARIABLE = "SIDECALL_MAX_INBOUND_MESSAGE_BYTES"
_LOOPBACK = ("127.", "localhost:", "[::1]:")

Metadata = Sequence[tuple[str, str | bytes]]


class ConnectionOptions(TypedDict, total=False):
    """Keywords of those that connect to a sidecar.

    Attributes:
        token: Sent as a bearer token.
        credentials: For TLS; None for a plain connection.
        metadata: Sent with each RPC.
        max_message_bytes: Largest message sent or received; by default the environment's
            SIDECALL_MAX_INBOUND_MESSAGE_BYTES, then 16 MiB.
    """

    token: str | None
    credentials: grpc.ChannelCredentials | None
    metadata: Metadata
    max_message_bytes: int | None


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything that a channel and its RPCs need.

    Attributes:
        target: gRPC target.
        options: Channel options.
        metadata: Sent with each RPC.
        credentials: For TLS; None for a plain connection.
        max_message_bytes: Largest message sent or received.
    """

    target: str
    options: tuple[tuple[str, str | int], ...]
    metadata: tuple[tuple[str, str | bytes], ...]
    credentials: grpc.ChannelCredentials | None
    max_message_bytes: int

    @classmethod
    def resolve(
        cls,
        endpoint: str | None = None,
        *,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Metadata = (),
        max_message_bytes: int | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> "Connection":
        """Fills what is not given from the environment, then from the defaults.

        Raises:
            ValueError: The endpoint or the message size makes no sense.
        """
        target = _checked(endpoint or environ.get(_ENDPOINT_VARIABLE) or DEFAULT_ENDPOINT)
        message_bytes = _message_bytes(max_message_bytes, environ)
        authorization = () if token is None else (("authorization", f"Bearer {token}"),)
        return cls(
            target=target,
            options=_channel_options(target, message_bytes),
            metadata=(*metadata, *authorization),
            credentials=credentials,
            max_message_bytes=message_bytes,
        )

    def open_channel(self) -> grpc.aio.Channel:
        """Makes a channel of the event loop that is running."""
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.target, self.options)
        return grpc.aio.secure_channel(self.target, self.credentials, self.options)


def _checked(endpoint: str) -> str:
    if endpoint.startswith("unix:"):
        return endpoint
    host, colon, port = endpoint.rpartition(":")
    if not colon or not host or not port.isdecimal() or "/" in endpoint:
        raise ValueError(f"endpoint must be host:port or unix:/path, not {endpoint!r}")
    return endpoint


def _message_bytes(given: int | None, environ: Mapping[str, str]) -> int:
    if given is None:
        text = environ.get(_MAX_MESSAGE_VARIABLE) or str(DEFAULT_MAX_MESSAGE_BYTES)
        if not text.isdecimal():
            raise ValueError(f"{_MAX_MESSAGE_VARIABLE} must be a number of bytes, not {text!r}")
        given = int(text)
    if given <= 0:
        raise ValueError(f"max_message_bytes must be positive, not {given}")
    return given


def _channel_options(target: str, max_message_bytes: int) -> tuple[tuple[str, str | int], ...]:
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # A sidecar is near: when it restarts, seconds of reconnect backoff serve nobody.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    if target.startswith("unix:"):
        # The socket's path would become the authority, which many servers refuse.
        options.append(("grpc.default_authority", "localhost"))
    if target.startswith(("unix:", *_LOOPBACK)):
        options.append(("grpc.enable_http_proxy", 0))
    return tuple(options)
