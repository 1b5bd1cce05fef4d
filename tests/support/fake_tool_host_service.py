"""A ToolHostService without a sidecar, strict about what hosts may send."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Self

import grpc
import grpc.aio
from tests.support.fake_tool_service import RpcFailure, refuse

from sidecall.v1 import tool_host_pb2 as pb
from sidecall.v1 import tool_host_pb2_grpc

WAIT_S = 30.0
"""Bound of every wait; reached only where something is broken."""


class FakeToolHostService(tool_host_pb2_grpc.ToolHostServiceServicer):
    """Hosts attach to it, and tests call their tools. An async context manager.

    At its end no host may have broken the protocol.

    Attributes:
        refusals: Statuses to refuse the next attachments with, one each.
        is_deaf: Whether it takes streams without ever answering.
        heartbeat_interval_s: What it tells hosts; it sends no heartbeats by itself.
        silence_timeout_s: What it tells hosts; 0 for never.
        max_message_bytes: What it tells hosts.
        attempts: Attachments that were tried.
        metadata: Metadata of each of them.
        violations: How hosts broke the protocol.
        address: Where to listen.
        endpoint: Where hosts connect to.
    """

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self.refusals: list[RpcFailure] = []
        self.is_deaf = False
        self.heartbeat_interval_s = 10.0
        self.silence_timeout_s = 0.0
        self.max_message_bytes = 16 * 1024 * 1024
        self.attempts = 0
        self.metadata: list[dict[str, Any]] = []
        self.violations: list[str] = []
        self.address = address
        self.endpoint = ""
        self._attachments: asyncio.Queue[FakeAttachment] = asyncio.Queue()
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        assert self.violations == []

    async def start(self) -> None:
        """Listens."""
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 2**26)]
        self._server = grpc.aio.server(options=options)
        tool_host_pb2_grpc.add_ToolHostServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(self.address)
        self.address = self.endpoint = self.address.replace(":0", f":{port}")
        await self._server.start()

    async def kill(self) -> None:
        """Ends at once; streams break."""
        if self._server is not None:
            await self._server.stop(None)
            await self._server.wait_for_termination()
            self._server = None

    async def attachment(self) -> "FakeAttachment":
        """The next host that attaches."""
        async with asyncio.timeout(WAIT_S):
            return await self._attachments.get()

    async def Attach(  # noqa: N802  the contract's name
        self, request_iterator: AsyncIterator[pb.AttachRequest], context: Any
    ) -> AsyncIterator[pb.AttachResponse]:
        self.attempts += 1
        self.metadata.append(dict(context.invocation_metadata()))
        first = await anext(request_iterator, None)
        if self.is_deaf:
            await asyncio.Event().wait()
        if first is None or not first.HasField("attach"):
            self.violations.append("the first message is not `attach`")
            await refuse(RpcFailure(grpc.StatusCode.INVALID_ARGUMENT), context)
            return
        self._check(first.attach)
        if self.refusals:
            await refuse(self.refusals.pop(0), context)
        attachment = FakeAttachment(self, first.attach)
        yield attachment.attached()
        self._attachments.put_nowait(attachment)
        reader = asyncio.create_task(attachment.read(request_iterator))
        try:
            while True:
                message = await attachment.outgoing.get()
                if message is None:
                    return
                if isinstance(message, RpcFailure):
                    await refuse(message, context)
                    return
                yield message
        finally:
            reader.cancel()
            await asyncio.wait((reader,))
            attachment.over.set()

    def _check(self, attach: pb.HostAttach) -> None:
        names = [tool.name for tool in attach.tools]
        if not names or len(set(names)) < len(names):
            self.violations.append(f"the tools are {names}")
        for tool in attach.tools:
            if json.loads(tool.input_schema).get("type") != "object":
                self.violations.append(f"{tool.name}: no object schema")
        if attach.max_concurrency < 0 or len(attach.host_name.encode()) > 256:
            self.violations.append("max_concurrency or host_name is not valid")


class FakeAttachment:
    """One host that is attached.

    Attributes:
        attach: What it offers.
        received: Its messages.
        outgoing: What it is to be sent; None ends the stream, a failure breaks it.
        drained: Set when it has asked for no more calls.
        half_closed: Set when it sends nothing any more, in order or not.
        left_with: Attempts without a result when that happened.
        over: Set when the stream has ended.
    """

    def __init__(self, service: FakeToolHostService, attach: pb.HostAttach) -> None:
        self.attach = attach
        self.received: list[pb.AttachRequest] = []
        self.outgoing: asyncio.Queue[pb.AttachResponse | RpcFailure | None] = asyncio.Queue()
        self.drained = asyncio.Event()
        self.half_closed = asyncio.Event()
        self.left_with = -1
        self.over = asyncio.Event()
        self._service = service
        self._results: dict[int, asyncio.Future[pb.HostResult]] = {}
        self._reports: asyncio.Queue[pb.AttachRequest] = asyncio.Queue()
        self._heartbeats: asyncio.Queue[pb.HostHeartbeat] = asyncio.Queue()

    def attached(self) -> pb.AttachResponse:
        """What the host is told."""
        service = self._service
        attached = pb.HostAttached(
            host_id=f"host-{service.attempts}",
            instance_id="fake-1",
            max_message_bytes=service.max_message_bytes,
        )
        attached.heartbeat_interval.FromNanoseconds(int(service.heartbeat_interval_s * 1e9))
        attached.silence_timeout.FromNanoseconds(int(service.silence_timeout_s * 1e9))
        return pb.AttachResponse(attached=attached)

    def call(self, name: str, timeout_s: float | None = None, **fields: Any) -> int:
        """Sends a call; returns the number of the attempt."""
        attempt_id = len(self._results) + 1
        assert self.in_hand < self.attach.max_concurrency, "the fake keeps to the slots"
        self._results[attempt_id] = asyncio.get_running_loop().create_future()
        fields["arguments"] = json.dumps(fields.get("arguments", {}))
        call = pb.HostCall(attempt_id=attempt_id, name=name, **{"attempt": 1, **fields})
        if timeout_s is not None:
            call.timeout.FromNanoseconds(int(timeout_s * 1e9))
        self.send(call=call)
        return attempt_id

    async def run(self, name: str, **fields: Any) -> pb.HostResult:
        """Sends a call and waits for its result."""
        return await self.result(self.call(name, **fields))

    async def result(self, attempt_id: int) -> pb.HostResult:
        """Waits for the result of an attempt."""
        async with asyncio.timeout(WAIT_S):
            return await self._results[attempt_id]

    async def report(self) -> pb.AttachRequest:
        """The next progress or partial output."""
        async with asyncio.timeout(WAIT_S):
            return await self._reports.get()

    async def heartbeat(self) -> None:
        """Waits for the next heartbeat."""
        async with asyncio.timeout(WAIT_S):
            await self._heartbeats.get()

    def cancel(self, attempt_id: int) -> None:
        """Tells the host to end an attempt."""
        self.send(cancel=pb.HostCancel(attempt_id=attempt_id))

    def send(self, **message: Any) -> None:
        """Sends a message."""
        self.outgoing.put_nowait(pb.AttachResponse(**message))

    @property
    def in_hand(self) -> int:
        """Attempts without a result."""
        return sum(not result.done() for result in self._results.values())

    @property
    def has_reports(self) -> bool:
        """Whether there is progress or partial output that no test has asked for."""
        return not self._reports.empty()

    async def read(self, requests: AsyncIterator[pb.AttachRequest]) -> None:
        """Takes the host's messages until it half-closes; its stream ends OK then."""
        async for message in requests:
            self.received.append(message)
            if violation := self._take(message):
                self._service.violations.append(violation)
        self.left_with = self.in_hand
        self.half_closed.set()
        self.outgoing.put_nowait(None)

    def _take(self, message: pb.AttachRequest) -> str:
        """Takes a message; returns what is wrong with it."""
        kind = message.WhichOneof("message")
        if message.ByteSize() > self._service.max_message_bytes:
            return f"{kind} of {message.ByteSize()} bytes"
        if kind == "result":
            return self._end(message.result)
        if kind in ("progress", "partial_output"):
            self._reports.put_nowait(message)
            attempt_id = getattr(message, kind).attempt_id
            return "" if self._runs(attempt_id) else f"{kind} of attempt {attempt_id}"
        if kind == "heartbeat":
            self._heartbeats.put_nowait(message.heartbeat)
            return ""
        if kind == "drain" and not self.drained.is_set():
            self.drained.set()
            self.send(draining=pb.HostDraining())
            return ""
        return f"unexpected {kind}"

    def _end(self, result: pb.HostResult) -> str:
        if not self._runs(result.attempt_id):
            return f"result of attempt {result.attempt_id}"
        self._results[result.attempt_id].set_result(result)
        if not result.status.code and result.WhichOneof("value") is None:
            return f"no value of attempt {result.attempt_id}"
        return ""

    def _runs(self, attempt_id: int) -> bool:
        return attempt_id in self._results and not self._results[attempt_id].done()
