"""Runs all benchmarks and prints the goals. `make bench`."""

import json
import platform
import random
import sys
import time
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version

import grpc
import uvloop

from benchmarks.client import Bench, Calls, bench, gather, request_bytes
from benchmarks.harness import Goal, Timing, measure, print_table, ratio
from benchmarks.server import GOVERNED, echo_of
from sidecall.v1 import execution_pb2, tool_service_pb2

_SIZES = (1, 10, 100, 1000)
_ROUNDS = {1: 300, 10: 300, 100: 100, 1000: 40}
_SEED = 20261122


async def batch_cost(server: Bench) -> list[Goal]:
    """Goals 1 to 3: what N no-op calls cost over the wire."""
    rows: dict[str, dict[str, Timing]] = {}
    by_size: dict[int, dict[str, Timing]] = {}
    for size in _SIZES:
        times = await measure(
            {
                "bare gather, json, in process": partial(gather, size),
                "gRPC echo, raw bytes": partial(server.raw, request_bytes(size)),
                "gRPC echo, same messages": partial(server.echo, size),
                "sidecall ExecuteBatch": partial(server.sidecar, size),
                "sidecall, policies on": partial(server.sidecar, size, "governed"),
                "sidecall, with a request_id": partial(server.sidecar_remembered, size),
            },
            _ROUNDS[size],
        )
        for name, timing in times.items():
            rows.setdefault(name, {})[f"N={size}"] = timing
        by_size[size] = times
    print_table("N no-op tool calls, unix socket", rows)
    print(f"policies on: {' '.join(GOVERNED.split())}")
    return [
        *_batch_goals(by_size, "sidecall ExecuteBatch", ""),
        *_batch_goals(by_size, "sidecall, policies on", ", policies on"),
    ]


def _batch_goals(by_size: Mapping[int, Mapping[str, Timing]], sidecar: str, how: str) -> list[Goal]:
    echo = "gRPC echo, same messages"
    large = by_size[1000]
    return [
        ratio(
            "1",
            f"ExecuteBatch(1000) / (bare gather + echo){how}",
            0.7,
            large[sidecar],
            [large["bare gather, json, in process"], large[echo]],
        ),
        ratio("2", f"ExecuteBatch(1000) / echo(1000){how}", 2.2, large[sidecar], [large[echo]]),
        *(
            ratio(
                "3",
                f"ExecuteBatch({size}) / echo({size}){how}",
                bound,
                by_size[size][sidecar],
                [by_size[size][echo]],
            )
            for size, bound in ((1, 1.2), (10, 1.3))
        ),
    ]


async def real_tools(server: Bench) -> list[Goal]:
    """Goal 7: tools that wait, and tools that block."""

    async def run(calls: Calls) -> None:
        results = await server.execute(calls)
        assert all(result.content == "ok" for result in results), results[0]

    waiting = [_call("wait", {"seconds": 0.5}) for _ in range(5)]
    blocking = [_call("block", {"seconds": 0.05}) for _ in range(100)]
    times = await measure({"wait": partial(run, waiting), "block": partial(run, blocking)}, 5)
    print_table(
        "Five tools of 0.5 s; 100 blocking tools of 0.05 s, limit 100",
        {name: {"time": timing} for name, timing in times.items()},
    )
    ideal = Timing(50.0, 50.0)
    wait_s = times["wait"]
    return [
        Goal("7", "five tools of 0.5 s", wait_s.median_ms / 1e3, wait_s.min_ms / 1e3, 0.505, "s"),
        ratio("7", "100 blocking tools / ideal", 2.0, times["block"], [ideal]),
    ]


async def dependencies(server: Bench) -> list[Goal]:
    """Goal 8: calls that wait for each other."""

    async def run(calls: Calls) -> None:
        results = await server.execute(calls)
        assert len(results) == len(calls)
        assert all(result.content == "x" for result in results), results[0]

    flat = [_call("pass_on", {"value": "x"}) for _ in range(100)]
    chain = [
        _call("pass_on", {"value": f"$ref:@{number}" if number else "x"}) for number in range(100)
    ]
    small = await measure({"flat": partial(run, flat), "chain": partial(run, chain)}, 50)
    rng = random.Random(_SEED)  # noqa: S311  the same DAG each time
    large_flat = [_call("pass_on", {"value": "x"}) for _ in range(10_000)]
    large_dag = [_dag_call(number, rng) for number in range(10_000)]
    large = await measure({"flat": partial(run, large_flat), "dag": partial(run, large_dag)}, 7)
    rows = {
        "100 independent": small["flat"],
        "chain of 100 references": small["chain"],
        "10 000 independent": large["flat"],
        "random DAG of 10 000": large["dag"],
    }
    print_table("Dependencies", {name: {"time": timing} for name, timing in rows.items()})
    return [
        ratio("8", "chain of 100 / 100 independent", 2.0, small["chain"], [small["flat"]]),
        ratio("8", "DAG of 10 000 / flat", 1.5, large["dag"], [large["flat"]]),
    ]


def _dag_call(number: int, rng: random.Random) -> execution_pb2.ToolCall:
    """Depends on up to three earlier calls."""
    call = _call("pass_on", {"value": "x"})
    if number:
        earlier = {rng.randrange(number) for _ in range(rng.randrange(4))}
        call.depends_on.extend(f"@{position + 1}" for position in sorted(earlier))
    return call


async def stalls(server: Bench) -> list[Goal]:
    """Goal 12: how long a large batch keeps the event loop from others."""
    await server.longest_stall_ms(10_000)
    times = sorted([await server.longest_stall_ms(10_000) for _ in range(7)])
    empty = sorted([await server.longest_stall_ms(0) for _ in range(7)])
    message_ms = _message_ms(10_000)
    print(
        f"\nLongest stall in a batch of 10 000: {times[3]:.2f} ms (min {times[0]:.2f}), of which "
        f"parsing and serialising the messages {message_ms:.2f}; "
        f"in an empty batch {empty[3]:.2f} ms"
    )
    return [
        Goal(
            "12",
            "longest loop stall in a batch of 10 000, messages apart",
            max(0.0, times[3] - message_ms),
            max(0.0, times[0] - message_ms),
            10,
            "ms",
        )
    ]


def _message_ms(count: int) -> float:
    """Time to parse the request or to serialise the response, whichever takes longer."""
    data = request_bytes(count)
    response = echo_of(tool_service_pb2.ExecuteBatchRequest.FromString(data))
    best = [1e9, 1e9]
    for _ in range(5):
        start = time.perf_counter()
        tool_service_pb2.ExecuteBatchRequest.FromString(data)
        parsed = time.perf_counter()
        response.SerializeToString()
        best = [
            min(best[0], parsed - start),
            min(best[1], time.perf_counter() - parsed),
        ]
    return max(best) * 1e3


async def linear(server: Bench) -> list[Goal]:
    """Goal 13: cost per call at more calls, and at more tools."""
    times = await measure(
        {"1000": partial(server.sidecar, 1000), "10000": partial(server.sidecar, 10_000)}, 11
    )
    async with bench(extra_tools=10_000) as crowded, bench(extra_tools=6) as small:
        tools = await measure(
            {"few": partial(small.sidecar, 1000), "many": partial(crowded.sidecar, 1000)}, 21
        )
    rows = {
        "1000 calls": times["1000"],
        "10 000 calls": times["10000"],
        "1000 calls, 10 tools": tools["few"],
        "1000 calls, 10 000 tools": tools["many"],
    }
    print_table("Growth", {name: {"time": timing} for name, timing in rows.items()})
    return [
        ratio("13", "per call: 10 000 / 1000 calls", 1.3, times["10000"], [times["1000"]], 10),
        ratio("13", "10 000 / 10 registered tools", 1.1, tools["many"], [tools["few"]]),
    ]


def _call(name: str, arguments: dict[str, object]) -> execution_pb2.ToolCall:
    return execution_pb2.ToolCall(name=name, arguments=json.dumps(arguments))


async def main(wanted: list[str]) -> None:
    """Runs some sections, or all, in one process pair."""
    print(
        f"Python {platform.python_version()}, grpcio {grpc.__version__}, uvloop "
        f"{version('uvloop')}; validation, limits and timeouts on; client and server are two "
        "processes"
    )
    sections = {
        "batch_cost": batch_cost,
        "real_tools": real_tools,
        "dependencies": dependencies,
        "stalls": stalls,
        "linear": linear,
    }
    goals: list[Goal] = []
    async with bench() as server:
        for name in wanted or sections:
            goals += await sections[name](server)
    print("\nGoals: ratio of medians (of minima)")
    for goal in goals:
        print(goal)
    reached = sum(goal.reached for goal in goals)
    print(f"\n{reached} of {len(goals)} goals reached in this run")


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
