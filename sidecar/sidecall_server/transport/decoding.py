"""Bytes that are no message, or hold text that is not UTF-8.

gRPC answers them with UNKNOWN and its own words, and in the middle of a stream with an
exception. Here they become a rejection, which takes the place of the message.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.transport.guard import ServicerContext, abort

_Decode = Callable[[bytes], Any]
_Answer = Callable[[Any, ServicerContext], Awaitable[Any]]


class DecodingRegistrar:
    """Stands for a server where the handlers of a service are added.

    A unary handler gets only messages. The messages of a stream may be rejections.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Does nothing: the same handlers are registered by name."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds the handlers of a service."""
        adapted = {name: _adapt(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, adapted),)
        )
        self._server.add_registered_method_handlers(service, adapted)


def _adapt(handler: Any) -> Any:
    adapted = handler._replace(request_deserializer=_tolerant(handler.request_deserializer))
    if handler.request_streaming:
        return adapted
    return adapted._replace(unary_unary=_messages_only(handler.unary_unary))


def _tolerant(decode: _Decode) -> _Decode:
    def decode_or_reject(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError as error:
            return Rejection(RejectionReason.REQUEST_INVALID, f"Not a message: {error}")

    return decode_or_reject


def _messages_only(answer: _Answer) -> _Answer:
    async def answer_or_abort(request: Any, context: ServicerContext) -> Any:
        if isinstance(request, Rejection):
            await abort(context, request)
        return await answer(request, context)

    return answer_or_abort
