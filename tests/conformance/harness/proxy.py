"""A gRPC proxy that records what a client sends, and disturbs it as a case says."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Self

import grpc
import grpc.aio
from tests.conformance.harness.faults import Fault, Faults, code_of, details_of
from tests.conformance.harness.forwarding import (
    STREAMS,
    UNARIES,
    Context,
    Rpc,
    forward_stream,
    forward_unary,
)
from tests.support.proxy import CuttableProxy

_NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_QUICK = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    # In spite of its name, the time that an attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 20_000),
    ("grpc.max_reconnect_backoff_ms", 200),
]
_IDLE_S = 20.0


class RecordingProxy(grpc.GenericRpcHandler):
    """Stands between a client and a sidecar. An async context manager.

    Attributes:
        address: Where it listens: TCP, through a connection that can be cut.
        tls_address: Where it listens with TLS; empty without credentials.
        socket_address: Where it listens on a unix socket.
        rpcs: The RPCs since `begin`, in the order in which they came.

    Args:
        sidecar: Address of the sidecar.
        socket_path: Path of the unix socket.
        restart: Kills the sidecar and starts it again.
        tls: Credentials for TLS; None for none.
    """

    def __init__(
        self,
        sidecar: str,
        socket_path: str,
        restart: Callable[[], Awaitable[None]],
        tls: grpc.ServerCredentials | None = None,
    ) -> None:
        self.address = ""
        self.tls_address = ""
        self.socket_address = f"unix:{socket_path}"
        self.rpcs: list[Rpc] = []
        self._sidecar = sidecar
        self._restart = restart
        self._tls = tls
        self._faults = Faults(())
        self._open: set[Rpc] = set()
        self._resources = AsyncExitStack()
        self._channel: grpc.aio.Channel
        self._cuttable: CuttableProxy

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            options = [*_NO_LIMIT, *_QUICK]
            self._channel = await resources.enter_async_context(
                grpc.aio.insecure_channel(self._sidecar, options)
            )
            server = grpc.aio.server(options=_NO_LIMIT)
            server.add_generic_rpc_handlers((self,))
            port = server.add_insecure_port("127.0.0.1:0")
            server.add_insecure_port(self.socket_address)
            if self._tls is not None:
                self.tls_address = f"localhost:{server.add_secure_port('127.0.0.1:0', self._tls)}"
            await server.start()
            resources.push_async_callback(server.stop, None)
            self._cuttable = await resources.enter_async_context(CuttableProxy(f"127.0.0.1:{port}"))
            self.address = self._cuttable.address
            self._resources = resources.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    def begin(self, faults: Iterable[Fault]) -> None:
        """Forgets what was recorded and takes the faults of the next case."""
        self.rpcs = []
        self._faults = Faults(faults)

    def cut(self) -> None:
        """Cuts all connections."""
        self._cuttable.cut()

    def messages_sent(self) -> int:
        """How many messages have come on streamed turns of the case."""
        return sum(len(rpc.messages) for rpc in self.rpcs if rpc.method == "StreamBatch")

    async def until_idle(self) -> None:
        """Waits until no RPC of the case is open.

        Raises:
            TimeoutError: One stays open.
        """
        async with asyncio.timeout(_IDLE_S):
            for rpc in list(self._open):
                await rpc.over.wait()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        """Serves every method of the contract."""
        path = handler_call_details.method
        if path in UNARIES:

            async def unary(request: bytes, context: Context) -> bytes:
                rpc = self._begin_rpc(path, context)
                try:
                    return await forward_unary(rpc, request, context, self._channel, self._disturb)
                finally:
                    self._end_rpc(rpc)

            return grpc.unary_unary_rpc_method_handler(unary)
        if path in STREAMS:

            async def stream(_: object, context: Context) -> None:
                rpc = self._begin_rpc(path, context)
                try:
                    await forward_stream(rpc, context, self._channel, self._disturb)
                finally:
                    self._end_rpc(rpc)

            return grpc.stream_stream_rpc_method_handler(stream)
        return None

    def _begin_rpc(self, path: str, context: Context) -> Rpc:
        rpc = Rpc.of(path, context)
        rpc.faults = self._faults.of_next(rpc.method)
        self.rpcs.append(rpc)
        self._open.add(rpc)
        return rpc

    def _end_rpc(self, rpc: Rpc) -> None:
        rpc.over.set()
        self._open.discard(rpc)

    async def _disturb(self, rpc: Rpc, at: str | int, context: Context) -> None:
        for fault in rpc.faults:
            if fault.at != at:
                continue
            await asyncio.sleep(fault.delay_ms / 1000)
            if fault.restart:
                await self._restart()
            if fault.reset:
                self.cut()
                # The RPC's own end follows, as a cancellation, as soon as gRPC notices.
                await asyncio.Event().wait()
            if fault.status is not None:
                await context.abort(
                    code_of(fault.status),
                    fault.status.get("message", ""),
                    details_of(fault.status),
                )
