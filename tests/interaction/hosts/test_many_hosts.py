"""Hosts that come and go in every way while batches run: each call is answered, truthfully."""

import asyncio
import random
from collections import Counter

import grpc
from tests.interaction.conftest import StartServing
from tests.support.batches import NOT_STARTED, call
from tests.support.raw_host import RawHost, offered
from tests.support.serving import Serving

from sidecall.v1 import tool_host_pb2, tool_pb2

EFFECTS = {
    "read": tool_pb2.EFFECTS_IDEMPOTENT,
    "look": tool_pb2.EFFECTS_READ_ONLY,
    "pay": tool_pb2.EFFECTS_NON_IDEMPOTENT,
    "send": tool_pb2.EFFECTS_NON_IDEMPOTENT,
}
WAYS = ("break", "half-close", "drain", "lie")
"""How hosts end."""

BATCHES = 25
CALLS = 20


class Lives:
    """Hosts of one test.

    Attributes:
        runs: How often each call was given to a host, by its id.
        ended: How many hosts have ended in each way.
    """

    def __init__(self, sidecar: Serving, seed: int) -> None:
        self._sidecar = sidecar
        self._random = random.Random(seed)  # noqa: S311  a repeatable choice
        self.runs: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()

    async def live_on(self) -> None:
        """Attaches hosts, one after the other."""
        while True:
            names = self._random.sample(sorted(EFFECTS), self._random.randint(1, 4))
            tools = [offered(name, effects=EFFECTS[name]) for name in names]
            slots = self._random.choice([1, 3, 16])
            async with RawHost(self._sidecar.address, *tools, max_concurrency=slots) as host:
                await host.attached()
                await self._live(host, self._random.randint(1, 12), self._random.choice(WAYS))

    async def _live(self, host: RawHost, answers: int, way: str) -> None:
        """Answers some calls, then ends with one in hand."""
        while True:
            message = await self._next(host)
            received = message.call
            if not answers:
                break
            answers -= 1
            if self._random.random() < 0.1:
                host.fail(received, 14, "Later.")
            else:
                host.answer(received)
        if way == "half-close":
            host.half_close()
        elif way == "lie":
            host.send(result=tool_host_pb2.HostResult(attempt_id=1 << 40))
        elif way == "drain":
            host.send(drain=tool_host_pb2.HostDrain())
            while message.WhichOneof("message") == "call":
                message = await self._next(host)
            assert message.WhichOneof("message") == "draining"
            host.answer(received)
        self.ended[way] += 1

    async def _next(self, host: RawHost) -> tool_host_pb2.AttachResponse:
        """The next message, cancellations apart: they may cross results."""
        while (message := await host.message()).WhichOneof("message") == "cancel":
            pass
        if message.HasField("call"):
            self.runs[message.call.call_id] += 1
        return message


async def send(sidecar: Serving, lives: Lives, number: int) -> None:
    """Sends batches, and checks what is said of each call."""
    names = sorted(EFFECTS)
    for turn in range(BATCHES):
        ids = [f"{number}.{turn}.{index}" for index in range(CALLS)]
        sent = sidecar.begin(
            *[call(names[i % 4], {"n": i}, id=name) for i, name in enumerate(ids)],
            request_id=f"{number}.{turn}" if turn % 2 else "",
        )
        if turn % 5 == 4:
            sent.cancel()
            continue
        results = (await sent).results
        assert [result.call_id for result in results] == ids
        for result in results:
            runs = lives.runs[result.call_id]
            if result.execution_state == NOT_STARTED:
                assert not runs, result
            if EFFECTS[result.name] == tool_pb2.EFFECTS_NON_IDEMPOTENT:
                assert runs <= 1, result
            if result.status.code == grpc.StatusCode.OK.value[0]:
                assert runs >= 1, result


async def test_every_call_is_answered_truthfully(start_sidecar: StartServing) -> None:
    sidecar: Serving = await start_sidecar(host_retention_s=0.1)
    lives = Lives(sidecar, seed=1)
    hosts = [asyncio.create_task(lives.live_on()) for _ in range(12)]
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*(send(sidecar, lives, number) for number in range(6)))
        assert not [host for host in hosts if host.done()]
    finally:
        for host in hosts:
            host.cancel()
        await asyncio.wait(hosts)
    await sidecar.until(lambda s: not (s.running or s.lanes or sidecar.app.hosts.hosts))
    assert sidecar.app.engine.answering.open_calls == 0
    assert lives.ended.total() > 20
