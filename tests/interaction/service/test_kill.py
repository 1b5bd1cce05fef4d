"""A sidecar that is killed between two sends, or in the middle of one, runs nothing twice."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.interaction.conftest import StartProcess
from tests.support.batches import UNKNOWN, batch, call, check_failure, reason, reasons, rpc_status
from tests.support.gate import WAIT_S, Gate
from tests.support.serving import stub_of
from tests.support.sidecar import SidecarProcess
from tests.support.turns import Turn

from sidecall.v1 import execution_pb2
from sidecall.v1.tool_service_pb2 import ExecuteBatchRequest, ExecuteBatchResponse

TOOLS = Path(__file__).with_name("kill_tools.py")
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
_POLL_S = 0.01

Results = list[execution_pb2.ToolResult]


class Killable:
    """A sidecar that is killed and started again on the same address and store.

    Attributes:
        process: The process that lives.
        path: Where its tools write.
    """

    def __init__(self, start: StartProcess, folder: Path, store: str, **settings: Any) -> None:
        self._start = start
        self._address = f"unix:{folder}/api.sock"
        self._settings = {"tools": TOOLS, "store": store, **settings}
        self._channels: list[grpc.aio.Channel] = []
        self.path = folder / "lines"
        self.process = self._launch()

    def _launch(self) -> SidecarProcess:
        return self._start(self._address, **self._settings)

    async def restart(self) -> None:
        """Kills the sidecar and starts the next one."""
        self.process.kill()
        self.process = await asyncio.to_thread(self._launch)

    async def close(self) -> None:
        """Hangs up."""
        for channel in self._channels:
            await channel.close()

    def channel(self) -> grpc.aio.Channel:
        """A connection of its own to the sidecar that lives."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels.append(grpc.aio.insecure_channel(self._address, options))
        return self._channels[-1]

    def call(self, tool: str, name: str, **arguments: Any) -> execution_pb2.ToolCall:
        """A call of one of the tools."""
        return call(tool, {"path": str(self.path), "name": name, **arguments}, id=name)

    def begin(self, request: ExecuteBatchRequest) -> "asyncio.Future[ExecuteBatchResponse]":
        """Sends a batch."""
        return asyncio.ensure_future(_wait(stub_of(self.channel()), request))

    async def send(self, request: ExecuteBatchRequest) -> Results:
        """Sends a batch and returns its results."""
        return list((await self.begin(request)).results)

    def lines(self) -> Counter[str]:
        """How often each call was started."""
        return Counter(self.path.read_text().split() if self.path.exists() else ())

    async def until_lines(self, count: int) -> None:
        """Polls until so many calls were started."""
        async with asyncio.timeout(WAIT_S):
            while self.lines().total() < count:  # noqa: ASYNC110  files have no events
                await asyncio.sleep(_POLL_S)


async def _wait(stub: Any, request: ExecuteBatchRequest) -> ExecuteBatchResponse:
    response: ExecuteBatchResponse = await stub.ExecuteBatch(request, timeout=WAIT_S)
    return response


@pytest.fixture
async def killable(start_process: StartProcess, folder: Path) -> Any:
    """A sidecar with a store in a file."""
    made = Killable(start_process, folder, f"sqlite:///{folder}/calls.db")
    yield made
    await made.close()


async def lost(rpc: "asyncio.Future[Any]") -> None:
    """Waits until a client has noticed that its sidecar died."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rpc
    assert caught.value.code() is UNAVAILABLE
    assert reason(rpc_status(caught.value)) == "OK", "nobody said what was started"


async def refused(stub: Any) -> None:
    """Polls until a sidecar takes no new batches."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await stub.ExecuteBatch(batch(), timeout=WAIT_S)
            except grpc.aio.AioRpcError as error:
                if reason(rpc_status(error)) != "DRAINING":
                    raise
                return


def contents(results: Results) -> list[str]:
    return [result.content for result in results]


def flags(results: Results) -> list[bool]:
    return [result.replayed for result in results]


async def test_killed_between_two_sends(killable: Killable) -> None:
    names = ("write", "write_in_thread", "write_in_process", "put", "read", "fail")
    request = batch(*[killable.call(name, name) for name in names], request_id="r")
    first = await killable.send(request)
    await killable.restart()
    again = await killable.send(request)

    assert reasons(first) == ["OK"] * 5 + ["TOOL_FAILED"]
    assert contents(again) == contents(first)
    assert reasons(again) == reasons(first)
    assert [flags(first), flags(again)] == [[False] * 6, [True] * 6]
    assert killable.lines() == dict.fromkeys(names, 1)


@pytest.mark.parametrize("tool", ["write", "write_in_thread", "write_in_process"])
async def test_killed_in_the_middle(killable: Killable, gate: Gate, tool: str) -> None:
    at = {"gate": gate.path}
    request = batch(
        killable.call("write", "done"),
        killable.call(tool, "running", **at),
        killable.call("put", "put", **at),
        killable.call("read", "read", **at),
        killable.call("write", "later", after="$ref:put"),
        killable.call("write", "never", after="$ref:running"),
        request_id="r",
    )
    rpc = killable.begin(request)
    for name in ("running", "put", "read"):
        await gate.arrived(name)
    await killable.until_lines(4)
    await killable.restart()
    await lost(rpc)
    second = killable.begin(request)
    for name in ("put", "read"):
        (await gate.arrived(name)).release()
    done, running, put, read, later, never = (await second).results

    assert reason(done.status) in ("OK", "OUTCOME_UNKNOWN"), "its end may not have been written"
    check_failure(running, "OUTCOME_UNKNOWN", grpc.StatusCode.UNKNOWN, UNKNOWN)
    assert (running.replayed, running.attempts) == (True, 1)
    assert contents([put, read, later]) == ["did put", "did read", "did later"]
    assert flags([put, read, later]) == [False] * 3
    assert reason(never.status) == "DEPENDENCY_FAILED"
    counts = {"done": 1, "running": 1, "put": 2, "read": 2, "later": 1}
    assert killable.lines() == counts
    await killable.restart()
    third = await killable.send(request)
    assert contents(third) == contents(list((await second).results))
    assert killable.lines() == counts


async def test_killed_while_a_turn_is_streamed(killable: Killable, gate: Gate) -> None:
    calls = [
        killable.call("read", "early"),
        killable.call("write", "running", gate=gate.path),
        killable.call("write", "waits", after="$ref:running"),
        killable.call("write", "later", after="$ref:early"),
    ]
    turn = await Turn(killable.channel()).start(request_id="r")
    for index, item in enumerate(calls):
        await turn.call(index, item)
    await turn.seal(len(calls))
    await turn.until("result", 3)
    await gate.arrived("running")
    await killable.restart()
    error = await turn.failure()
    assert error.code() is UNAVAILABLE

    again = await Turn(killable.channel()).start(request_id="r")
    for index, item in enumerate(calls):
        await again.call(index, item)
    await again.seal(len(calls))
    await again.finish()
    results = again.results()
    as_batch = await killable.send(batch(*calls, request_id="r"))

    assert reasons(results[i] for i in range(4))[1:3] == ["OUTCOME_UNKNOWN", "DEPENDENCY_FAILED"]
    assert contents([results[0]]) == ["did early"]
    assert reason(results[3].status) in ("OK", "OUTCOME_UNKNOWN")
    assert reasons(as_batch) == reasons(results[i] for i in range(4))
    lines = killable.lines()
    assert (lines["running"], lines["waits"], lines["later"]) == (1, 0, 1)


async def test_killed_before_the_seal(killable: Killable) -> None:
    calls = [killable.call("read", "early"), killable.call("write", "held")]
    turn = await Turn(killable.channel()).start(request_id="r")
    for index, item in enumerate(calls):
        await turn.call(index, item)
    await turn.until("result", 0)
    await killable.restart()
    await turn.failure()
    assert killable.lines() == {"early": 1}
    results = await killable.send(batch(*calls, killable.call("write", "more"), request_id="r"))

    assert contents(results) == ["did early", "did held", "did more"]
    assert killable.lines()["held"] == killable.lines()["more"] == 1


async def test_idempotency_keys_survive(killable: Killable, gate: Gate) -> None:
    def keyed(tool: str, name: str, **arguments: Any) -> execution_pb2.ToolCall:
        made = killable.call(tool, name, **arguments)
        made.idempotency_key = f"key of {name}"
        return made

    done = [keyed("write", "done"), keyed("fail", "failed"), keyed("put", "put")]
    first = await killable.send(batch(*done))
    rpc = killable.begin(batch(keyed("write", "running", gate=gate.path)))
    await gate.arrived("running")
    await killable.restart()
    await lost(rpc)
    again = await killable.send(
        batch(*done, keyed("write", "running", gate=gate.path), request_id="a new one")
    )

    assert contents(again)[:3] == contents(first)
    assert reasons(again) == ["OK", "TOOL_FAILED", "OK", "OUTCOME_UNKNOWN"]
    assert flags(again) == [True] * 4
    other = keyed("write", "done", after="else")
    assert reasons(await killable.send(batch(other))) == ["IDEMPOTENCY_KEY_REUSED"]
    assert killable.lines() == dict.fromkeys(("done", "failed", "put", "running"), 1)


async def test_killed_while_many_batches_run(killable: Killable) -> None:
    requests = [
        batch(
            *[killable.call("work", f"{number}-{index}", delay_ms=index * 7) for index in range(6)],
            killable.call("write", f"{number}-last", after=f"$ref:{number}-3"),
            request_id=f"r{number}",
        )
        for number in range(40)
    ]
    answered: dict[int, Results] = {}
    for kill in range(3):
        rpcs = {n: killable.begin(r) for n, r in enumerate(requests) if n not in answered}
        seen = killable.lines().total()
        await killable.until_lines(min(seen + 60, len(requests) * 7 - 1) if kill < 2 else seen)
        if kill == 2:
            await asyncio.wait(rpcs.values())
        await killable.restart()
        await asyncio.wait(rpcs.values())
        for number, rpc in rpcs.items():
            if rpc.exception() is None:
                answered[number] = list(rpc.result().results)
    finals = [await killable.send(request) for request in requests]

    lines = killable.lines()
    assert max(lines.values()) == 1, "nothing was started twice"
    for number, results in enumerate(finals):
        for result in results:
            told = reason(result.status)
            assert told in ("OK", "OUTCOME_UNKNOWN", "DEPENDENCY_FAILED"), result
            if told != "DEPENDENCY_FAILED":
                # Between its mark and its first step a call may be killed as well.
                assert lines[result.call_id] == 1 or told == "OUTCOME_UNKNOWN"
            else:
                assert lines[result.call_id] == 0
        assert contents(results) == contents(answered.get(number, results))


async def test_what_waits_for_approval_survives(killable: Killable) -> None:
    request = batch(killable.call("pay", "pay"), killable.call("write", "other"))
    response = await killable.begin(request)
    asked = response.results[0].approval_id
    assert reasons(response.results) == ["APPROVAL_REQUIRED", "OK"]
    request.request_id = response.request_id
    await killable.restart()
    request.approvals.add(approval_id=asked, decision="DECISION_APPROVE", decided_by="someone")
    approved = await killable.send(request)
    await killable.restart()
    again = await killable.send(request)

    assert contents(approved) == contents(again) == ["did pay", "did other"]
    assert [flags(approved), flags(again)] == [[False, True], [True, True]]
    assert killable.lines() == {"pay": 1, "other": 1}


async def test_killed_while_what_was_approved_runs(killable: Killable, gate: Gate) -> None:
    request = batch(killable.call("pay", "pay", gate=gate.path))
    response = await killable.begin(request)
    request.request_id = response.request_id
    asked = response.results[0].approval_id
    request.approvals.add(approval_id=asked, decision="DECISION_APPROVE", decided_by="someone")
    rpc = killable.begin(request)
    await gate.arrived("pay")
    await killable.restart()
    await lost(rpc)
    (again,) = await killable.send(request)

    check_failure(again, "OUTCOME_UNKNOWN", grpc.StatusCode.UNKNOWN, UNKNOWN)
    assert killable.lines() == {"pay": 1}


async def test_streamed_results_are_durable_when_they_are_told(killable: Killable) -> None:
    turn = await Turn(killable.channel()).start(request_id="r")
    names = [f"w{index}" for index in range(30)]
    calls = [killable.call("write", name) for name in names]
    for index, item in enumerate(calls):
        await turn.call(index, item)
    held = killable.call("write", "held", after="$ref:never")
    await turn.call(len(calls), held)
    await turn.seal(len(calls) + 1)
    await turn.until("result", len(calls) - 1)
    killable.process.kill()
    told = set(turn.results())
    await killable.restart()
    again = await killable.send(batch(*calls, held, request_id="r"))

    assert all(again[index].content == f"did w{index}" for index in told if index < len(calls))
    assert max(killable.lines().values()) == 1


async def test_without_a_store_a_lost_approval_never_runs(
    start_process: StartProcess, folder: Path
) -> None:
    killable = Killable(start_process, folder, "memory")
    request = batch(killable.call("pay", "pay"))
    response = await killable.begin(request)
    asked = response.results[0].approval_id
    await killable.restart()
    request.request_id = response.request_id
    request.approvals.add(approval_id=asked, decision="DECISION_APPROVE")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await killable.send(request)
    await killable.close()

    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason(rpc_status(caught.value)) == "APPROVAL_UNKNOWN"
    assert killable.lines() == {}


async def test_a_drain_lets_calls_end_whose_client_has_gone(killable: Killable, gate: Gate) -> None:
    request = batch(killable.call("write", "a", gate=gate.path), request_id="r")
    rpc = killable.begin(request)
    visit = await gate.arrived("a")
    rpc.cancel()
    stub = stub_of(killable.channel())
    await stub.ExecuteBatch(batch(), timeout=WAIT_S)
    killable.process.process.terminate()
    await refused(stub)
    visit.release()
    assert await killable.process.ended() == 0
    await killable.restart()
    (again,) = await killable.send(request)

    assert (again.content, again.replayed) == ("did a", True)
    assert killable.lines() == {"a": 1}


async def test_results_survive_an_orderly_end(
    killable: Killable, connect: Callable[[str], grpc.aio.Channel]
) -> None:
    request = batch(killable.call("write", "a"), request_id="r")
    await killable.send(request)
    killable.process.process.terminate()
    assert await killable.process.ended() == 0
    await killable.restart()
    (again,) = await killable.send(request)

    assert (again.content, again.replayed) == ("did a", True)
    assert killable.lines() == {"a": 1}
