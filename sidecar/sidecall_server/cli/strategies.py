"""The same calls run in four ways."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import click
from rich.table import Table
from rich.text import Text

from sidecall import AsyncClient
from sidecall_server.cli.output import plain_table
from sidecall_server.demo.wait_tool import answer, wait

TOOLS = "sidecall_server.demo.wait_tool"
"""What the sidecar must serve."""

_THREADS = 10
_BAR_CELLS = 16
_BAR = "="


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one strategy took.

    Attributes:
        name: The strategy.
        described: How it runs the calls.
        took_s: Seconds.
    """

    name: str
    described: str
    took_s: float


async def compare(client: AsyncClient, count: int, seconds: float) -> list[Timing]:
    """Runs `count` calls that take `seconds` each, in each way, and checks the results.

    Raises:
        ClickException: A strategy gave other results than the tool's.
        SidecallError: The sidecar cannot be asked.
    """
    jobs = [(seconds, number) for number in range(count)]
    loop = asyncio.get_running_loop()
    strategies: list[tuple[str, str, Callable[[], Awaitable[Sequence[str]]]]] = [
        (
            "sequential",
            "one after the other",
            lambda: loop.run_in_executor(None, partial(_one_by_one, jobs)),
        ),
        (
            "threads",
            f"a pool of {_THREADS} threads",
            lambda: loop.run_in_executor(None, partial(_in_threads, jobs)),
        ),
        ("gather", "asyncio.gather", lambda: _gathered(jobs)),
        ("sidecar", "one ExecuteBatch", lambda: _in_sidecar(client, jobs)),
    ]
    expected = [answer(number) for _, number in jobs]
    timings = []
    for name, described, run in strategies:
        began = time.perf_counter()
        results = await run()
        took_s = time.perf_counter() - began
        if list(results) != expected:
            raise click.ClickException(f"{name} gave wrong results: {results}")
        timings.append(Timing(name, described, took_s))
    return timings


def table(timings: Sequence[Timing]) -> Table:
    """The timings beside each other; the first one is what the others are compared with."""
    slowest = max(timing.took_s for timing in timings)
    rows = [
        (
            timing.name,
            f"{timing.took_s:.3f} s",
            f"{timings[0].took_s / timing.took_s:.1f}x",
            Text(_BAR * max(1, round(_BAR_CELLS * timing.took_s / slowest)), style="green"),
            timing.described,
        )
        for timing in timings
    ]
    return plain_table(("strategy", "time", "speed", "", "how"), rows)


def _blocking_wait(seconds: float, number: int) -> str:
    time.sleep(seconds)
    return answer(number)


def _one_by_one(jobs: Sequence[tuple[float, int]]) -> list[str]:
    return [_blocking_wait(*job) for job in jobs]


def _in_threads(jobs: Sequence[tuple[float, int]]) -> list[str]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda job: _blocking_wait(*job), jobs))


async def _gathered(jobs: Sequence[tuple[float, int]]) -> list[str]:
    return list(await asyncio.gather(*(wait(*job) for job in jobs)))


async def _in_sidecar(client: AsyncClient, jobs: Sequence[tuple[float, int]]) -> list[str]:
    results = await client.execute_batch(
        {"name": wait.name, "arguments": {"seconds": seconds, "number": number}}
        for seconds, number in jobs
    )
    return [result.content for result in results]
