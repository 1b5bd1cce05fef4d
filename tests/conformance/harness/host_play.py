"""Plays a host: the runner offers tools, and the harness calls them."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from tests.conformance.harness.bench import Bench, until
from tests.conformance.harness.cases import Case, CaseError, Way
from tests.conformance.harness.chat_play import sidecar_of
from tests.conformance.harness.faults import Fault
from tests.conformance.harness.host_calls import HostCaller
from tests.conformance.harness.matching import differences
from tests.conformance.harness.outcomes import Outcome
from tests.conformance.harness.runner import Runner

Json = dict[str, Any]

_STEP_S = 45.0


async def play_host(case: Case, way: Way, bench: Bench, runner: Runner) -> Outcome:
    """Goes through the steps of a host."""
    bench.log.begin()
    bench.proxy.begin(Fault(**fault) for fault in case.data.get("faults", ()))
    async with AsyncExitStack() as resources:
        play = _Play(case, bench, runner)
        resources.push_async_callback(play.close)
        for number, step in enumerate(case.data["steps"]):
            try:
                async with asyncio.timeout(_STEP_S):
                    await play.step(step, f"steps[{number}]")
            except TimeoutError:
                play.problems.append(f"steps[{number}]: {step} took too long")
                break
    if "attach" in case.data["expect"]:
        play.problems += _check_attach(case.data["expect"]["attach"], bench)
    return Outcome(case.name, way.name, tuple(play.problems), {"steps": len(case.data["steps"])})


class _Play:
    def __init__(self, case: Case, bench: Bench, runner: Runner) -> None:
        self.problems: list[str] = []
        self._case = case
        self._bench = bench
        self._runner = runner
        self._caller = HostCaller(bench.sidecar)
        self._stopping: asyncio.Task[Json] | None = None
        self._started = False
        self._kinds: dict[str, Callable[[Any, Json, str], Awaitable[None]]] = {
            "start": self._start,
            "stop": self._stop,
            "begin_stop": self._begin_stop,
            "end_stop": self._stop,
            "call": self._call,
            "begin": self._begin,
            "progress": self._progress,
            "cancel": self._cancel,
            "end": self._end,
            "offers": self._offers,
            "until_ok": self._until_ok,
            "until_sent": self._until_sent,
            "cut": self._cut,
            "restart": self._restart,
        }

    async def step(self, step: Json, where: str) -> None:
        kind = next(iter(step))
        if kind not in self._kinds:
            raise CaseError(f"{self._case.name}: there is no step {kind}")
        await self._kinds[kind](step[kind], step, where)

    async def close(self) -> None:
        await self._caller.close()
        if self._stopping is not None:
            await asyncio.wait([self._stopping])
        elif self._started:
            await self._runner.ask({"kind": "host", "action": "stop"})

    async def _start(self, options: Json, step: Json, where: str) -> None:
        request = {
            "kind": "host",
            "action": "start",
            "host_name": "conformance",
            "sidecar": sidecar_of(self._case, self._bench),
            **(options or {}),
        }
        self._started = True
        answer = await self._runner.ask(request)
        if answer.get("outcome") != "attached":
            self._started = False
        self._compare(step.get("expect", {"outcome": "attached"}), answer, where)

    async def _begin_stop(self, _: Any, step: Json, where: str) -> None:
        del step, where
        request = self._runner.ask({"kind": "host", "action": "stop"})
        self._stopping = asyncio.create_task(request)

    async def _stop(self, _: Any, step: Json, where: str) -> None:
        if self._stopping is None:
            await self._begin_stop(None, step, where)
        assert self._stopping is not None
        answer = await self._stopping
        self._stopping, self._started = None, False
        self._compare(step.get("expect", {"outcome": "stopped"}), answer, where)

    async def _call(self, call: Json, step: Json, where: str) -> None:
        result = await self._caller.call(call, step)
        self._compare(step["expect"], result, where)

    async def _begin(self, calls: list[Json], step: Json, where: str) -> None:
        del step, where
        await self._caller.begin(calls)

    async def _progress(self, index: int, step: Json, where: str) -> None:
        events = await self._caller.until_progress(index)
        self._compare(step.get("expect", {}), events, where)

    async def _cancel(self, index: int, step: Json, where: str) -> None:
        del step, where
        await self._caller.cancel(index)

    async def _end(self, _: Any, step: Json, where: str) -> None:
        self._compare(step["expect"], await self._caller.end(), where)

    async def _offers(self, wanted: Json, step: Json, where: str) -> None:
        del step
        offered = await self._caller.offered()
        shown = {name: tool for name, tool in offered.items() if name in wanted}
        self._compare(wanted, shown, where)

    async def _until_ok(self, call: Json, step: Json, where: str) -> None:
        del where
        while (await self._caller.call(call, step))["code"] != "OK":  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.02)

    async def _until_sent(self, kind: str, step: Json, where: str) -> None:
        del where
        count: int = step.get("count", 1)

        def sent() -> bool:
            attachments = [rpc for rpc in self._bench.proxy.rpcs if rpc.method == "Attach"]
            messages = [message for rpc in attachments for message in rpc.messages]
            return sum(1 for message in messages if kind in message) >= count

        await until(sent)

    async def _cut(self, _: Any, step: Json, where: str) -> None:
        del step, where
        self._bench.proxy.cut()

    async def _restart(self, how: str, step: Json, where: str) -> None:
        del step, where
        await self._bench.restart(drain=how == "drain")

    def _compare(self, expected: Any, actual: Any, where: str) -> None:
        self.problems += differences(expected, actual, where, partly=True)


def _check_attach(expected: Json, bench: Bench) -> list[str]:
    attachments = [rpc for rpc in bench.proxy.rpcs if rpc.method == "Attach"]
    if not attachments:
        return ["nothing attached"]
    first = attachments[0]
    attach = (first.messages or [{}])[0].get("attach", {})
    names = sorted(tool["name"] for tool in attach.get("tools", ()))
    actual = {**attach, "tools": names, "metadata": first.metadata}
    return differences(expected, actual, "attach", partly=True)
