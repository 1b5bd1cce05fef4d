"""A sidecar that has served many batches is as light as a new one."""

import asyncio
import gc
import random
import threading
from collections import Counter
from pathlib import Path

from tests.support.gate import WAIT_S
from tests.support.random_batches import Link, PlannedBatch, PlannedCall
from tests.support.recorded_tools import LIMITS, Recorder, recorded_tools
from tests.support.serving import Serving, is_idle, start_serving

from sidecall_server.core.call import Call
from sidecall_server.core.plan import Plan
from sidecall_server.engine.admission import Flow
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.resolver import Resolver
from sidecall_server.engine.runner import Worker
from sidecall_server.engine.stream import StreamIntake

TRACKED = (Call, Batch, Plan, Flow, Worker, Resolver, StreamIntake)
ROUNDS = 200
SLACK = 5
"""Tasks that gRPC may have more of at one moment than at another."""


def objects() -> Counter[str]:
    """How many objects of the engine exist, for types of which any do."""
    return Counter(type(o).__name__ for o in gc.get_objects() if type(o) in TRACKED)


def tracked_objects() -> Counter[str]:
    """As `objects`, without those that a garbage collection frees."""
    gc.collect()
    return objects()


def a_batch(source: random.Random) -> PlannedBatch:
    tools = ["text", "json", "write", "thread", "fails", "hangs", "unknown"]
    calls = []
    for index in range(source.randint(1, 12)):
        links = (Link(f"@{index}", "whole"),) if index and source.random() < 0.3 else ()
        valid = source.random() < 0.9
        calls.append(PlannedCall("", source.choice(tools), source.choice([0, 1]), links, valid))
    return PlannedBatch(calls, max_concurrency=source.choice([0, 2]))


async def serve_many(serving: Serving, source: random.Random, rounds: int) -> None:
    """Sends batches; every third is cancelled."""
    for number in range(rounds):
        rpc = serving.stub.ExecuteBatch(a_batch(source).request, timeout=WAIT_S)
        if number % 3:
            await rpc
        else:
            await asyncio.sleep(source.choice([0, 0.001]))
            rpc.cancel()
    await serving.until(is_idle)


async def test_nothing_is_left_of_batches_that_are_over(tmp_path: Path) -> None:
    recorder, source = Recorder(), random.Random(7)  # noqa: S311  repeatable on purpose
    settings = {"listen": f"unix:{tmp_path}/s"}
    before = tracked_objects()  # what other tests have left
    async with start_serving(settings, recorded_tools(recorder)) as serving:
        await serve_many(serving, source, 20)
        tasks, threads = len(asyncio.all_tasks()), threading.active_count()

        await serve_many(serving, source, ROUNDS)

        # An answer may still be on its way when its batch is closed.
        await serving.until(lambda _: tracked_objects() <= before)
        await serving.until(lambda _: len(asyncio.all_tasks()) <= tasks + SLACK)
        assert threading.active_count() <= threads + LIMITS["thread"]
        statistics = serving.app.served.statistics()
        assert statistics["thread_busy"] == 0
        assert max(recorder.starts().values()) == 1


async def test_a_large_batch_is_freed_without_a_garbage_collection(tmp_path: Path) -> None:
    """Its cycles are broken: with collections switched off, nothing of it stays."""
    settings = {"listen": f"unix:{tmp_path}/s"}
    async with start_serving(settings, recorded_tools(Recorder())) as serving:
        before = tracked_objects()
        gc.disable()
        try:
            batch = PlannedBatch([PlannedCall("", "text")] * 500)
            await serving.stub.ExecuteBatch(batch.request, timeout=WAIT_S)
            await serving.until(lambda _: objects()["Call"] <= before["Call"])
        finally:
            gc.enable()
