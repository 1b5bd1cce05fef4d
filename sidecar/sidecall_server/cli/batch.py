"""`sidecall batch`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Literal

import click
from rich.cells import cell_len, set_cell_size

from sidecall import ToolCall, ToolResult
from sidecall._requests import ExecuteOptions
from sidecall_server.cli import results
from sidecall_server.cli.batch_file import BatchFileError, read_calls
from sidecall_server.cli.connection import Duration, connect, endpoint_options, run
from sidecall_server.cli.errors import TOOL_FAILED
from sidecall_server.cli.live_batch import run_live
from sidecall_server.cli.output import clip, console, write_raw
from sidecall_server.cli.waterfall import Waterfall


@dataclass(frozen=True, slots=True)
class _Job:
    endpoint: str | None
    tools: tuple[str, ...]
    calls: Sequence[ToolCall]
    timeout_s: float | None
    options: ExecuteOptions
    live: bool


@click.command("batch")
@click.argument("file", type=click.File(encoding="utf-8"), metavar="FILE|-")
@endpoint_options
@click.option("--mode", type=click.Choice(["parallel", "sequential"]), help="Order of the calls.")
@click.option(
    "--on-failure",
    type=click.Choice(["continue", "stop"]),
    help="What a failed call means for the rest.",
)
@click.option(
    "--max-concurrency", type=click.IntRange(min=1), help="Most calls that run at a time."
)
@click.option("--timeout", type=Duration(), help="Longest time for the whole batch.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON, nothing else.")
def command(
    file: IO[str],
    endpoint: str | None,
    tools: tuple[str, ...],
    mode: Literal["parallel", "sequential"] | None,
    on_failure: Literal["continue", "stop"] | None,
    max_concurrency: int | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Run the calls in FILE (`-` for stdin) as one batch and draw its waterfall.

    FILE is JSON: a list of calls like {"name": "get_time", "arguments": {"timezone":
    "$ref:@1#/timezone"}, "id": "t1", "depends_on": ["c1"], "timeout": "5s"}, an object with
    such "calls", or what a model answered: a message with "tool_calls", or the whole
    answer of the Chat Completions or Responses API.

    Exit code 0: every call ended OK; 1: one did not; 69: no sidecar answers.
    """
    try:
        calls = read_calls(file.read())
    except (BatchFileError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file.name}: {error}") from None
    options = ExecuteOptions(mode=mode, on_failure=on_failure, max_concurrency=max_concurrency)
    live = sys.stdout.isatty() and not as_json
    done = run(_execute(_Job(endpoint, tools, calls, timeout, options, live)))
    if as_json:
        write_raw(json.dumps([results.as_json(item) for item in done], indent=2))
    else:
        _print(done)
    if not all(map(results.is_ok, done)):
        raise SystemExit(TOOL_FAILED)


async def _execute(job: _Job) -> list[ToolResult]:
    async with connect(job.endpoint, job.tools) as client:
        if job.live:
            # Answers within seconds where there is no sidecar; a stream would wait.
            await client.get_capabilities()
            return await run_live(client, job.calls, job.timeout_s, job.options, console())
        return await client.execute_batch(job.calls, timeout=job.timeout_s, **job.options)


def _print(done: Sequence[ToolResult]) -> None:
    out = console()
    names = [clip(item.name, 24) for item in done]
    widest = max(map(cell_len, names), default=0)
    for position, (name, item) in enumerate(zip(names, done, strict=True), 1):
        mark = "ok" if results.is_ok(item) else "failed"
        head = f"@{position:<3} {mark:6} {set_cell_size(name, widest)}  "
        out.print(head + clip(item.content, out.width - cell_len(head)), soft_wrap=True)
    out.print()
    waterfall = Waterfall(done)
    if out.is_terminal:
        out.print(waterfall)
    else:
        click.echo(waterfall.plain(out.width))
