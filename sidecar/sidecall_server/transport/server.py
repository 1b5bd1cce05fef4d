"""The gRPC servers: the API with health and reflection, and health alone."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from sidecall.v1 import tool_host_pb2_grpc, tool_service_pb2_grpc
from sidecall_server.engine.engine import Engine
from sidecall_server.hosts.pool import HostPool
from sidecall_server.transport.addresses import (
    Address,
    AddressError,
    TcpAddress,
    UnixAddress,
    UnixSocketGuard,
)
from sidecall_server.transport.attach import HostDesk
from sidecall_server.transport.decoding import DecodingRegistrar
from sidecall_server.transport.guard import Guard
from sidecall_server.transport.service import (
    HOST_SERVICE_NAME,
    SERVICE_NAME,
    ToolHostService,
    ToolService,
)

_HEALTH_NAMES = ("", SERVICE_NAME, HOST_SERVICE_NAME, "startup", "readiness", "liveness")


class GrpcServers:
    """Serves an engine on some addresses.

    Attributes:
        addresses: Addresses that are listened on, free ports filled in.
    """

    def __init__(self, engine: Engine, hosts: HostPool, max_message_bytes: int) -> None:
        self._guard = Guard()
        # Hosts stay as long as there are calls for them: nobody waits for them to leave.
        self._hosts_guard = Guard()
        self._desk = HostDesk(engine, hosts)
        self._health = health.aio.HealthServicer()
        self._api = grpc.aio.server(options=_options(max_message_bytes))
        registrar: Any = DecodingRegistrar(self._api)  # has the methods that are used
        tool_service_pb2_grpc.add_ToolServiceServicer_to_server(
            ToolService(engine, self._guard), registrar
        )
        tool_host_pb2_grpc.add_ToolHostServiceServicer_to_server(
            ToolHostService(self._desk, self._hosts_guard), registrar
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._api)
        services = (SERVICE_NAME, HOST_SERVICE_NAME)
        names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._api)
        self._max_message_bytes = max_message_bytes
        self._servers = [self._api]
        self._sockets: list[UnixSocketGuard] = []
        self.addresses: list[Address] = []

    async def start(self, listen: Sequence[Address], health_listen: Sequence[Address] = ()) -> None:
        """Listens and serves.

        Raises:
            AddressError: An address is taken or cannot be had; nothing is served then.
        """
        started: list[grpc.aio.Server] = []
        try:
            self.addresses = [self._bind(self._api, address) for address in listen]
            if health_listen:
                alone = grpc.aio.server(options=_options(self._max_message_bytes))
                health_pb2_grpc.add_HealthServicer_to_server(self._health, alone)
                self._servers.append(alone)
                for address in health_listen:
                    self._bind(alone, address)
            for server in self._servers:
                await server.start()
                started.append(server)
            for guard in self._sockets:
                guard.open_to_group()
        except AddressError:
            for server in started:
                await server.stop(0)
            self._release_sockets()
            raise
        await self._set_health(health_pb2.HealthCheckResponse.SERVING, _HEALTH_NAMES)

    def _bind(self, server: grpc.aio.Server, address: Address) -> Address:
        if isinstance(address, UnixAddress):
            guard = UnixSocketGuard(address)
            guard.claim()
            self._sockets.append(guard)
        try:
            port = server.add_insecure_port(str(address))
        except (RuntimeError, OSError):
            port = 0
        if isinstance(address, UnixAddress):
            if not port:
                raise AddressError(f"{address}: cannot listen on it")
            return address
        if not port:
            raise AddressError(f"{address}: cannot listen on it; is another process there?")
        return TcpAddress(address.host, port)

    async def refuse(self) -> None:
        """Says in health checks that no new work is wanted; liveness stays."""
        names = [name for name in _HEALTH_NAMES if name != "liveness"]
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING, names)

    async def wait_idle(self) -> None:
        """Waits until no RPC is in flight, those of hosts apart."""
        await self._guard.idle.wait()

    async def stop(self, grace_s: float) -> None:
        """Stops listening; RPCs in flight get `grace_s` seconds. Idempotent."""
        self._desk.close()
        await asyncio.gather(*(server.stop(grace_s) for server in self._servers))
        with contextlib.suppress(TimeoutError):
            # gRPC returns before the handlers it cancelled have cleaned up.
            async with asyncio.timeout(grace_s):
                await self.wait_idle()
                await self._hosts_guard.idle.wait()
        self._release_sockets()

    def _release_sockets(self) -> None:
        for guard in self._sockets:
            guard.release()
        self._sockets.clear()

    async def _set_health(
        self, status: health_pb2.HealthCheckResponse.ServingStatus, names: Sequence[str]
    ) -> None:
        for name in names:
            await self._health.set(name, status)


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        # Two processes on one port would share its connections without a word.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
