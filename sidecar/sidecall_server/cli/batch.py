"""`sidecall batch`."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
from rich.cells import cell_len, set_cell_size

from sidecall import AsyncClient, BatchResults, SidecallError, ToolCall, ToolResult, is_ok
from sidecall._requests import ExecuteOptions
from sidecall_server.cli import explanation, results
from sidecall_server.cli.batch_file import BatchFileError, read_batch
from sidecall_server.cli.connection import Duration, connect, endpoint_options, run
from sidecall_server.cli.decisions import Decisions, Sent, ask, decision_options
from sidecall_server.cli.errors import TOOL_FAILED
from sidecall_server.cli.live_batch import BatchView, CallView, Request, run_live
from sidecall_server.cli.output import clip, console, read_stdin, write_raw
from sidecall_server.cli.waterfall import draw


@dataclass(frozen=True, slots=True)
class _Job:
    endpoint: str | None
    tools: tuple[str, ...]
    calls: Sequence[ToolCall]
    timeout_s: float | None
    options: ExecuteOptions
    view: BatchView | None


@click.command("batch")
@click.argument("file", metavar="FILE|-")
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
@click.option(
    "--request-id",
    help="Id to send the batch again under: what the sidecar remembers of it does not run twice.",
)
@click.option(
    "--sent-to-instance",
    metavar="ID",
    help="Sidecar that was sent it before (`sent_to_instance` in --explain --json): another one "
    "that cannot know what has run refuses.",
)
@click.option("--session-id", help="Session whose earlier results may be referred to.")
@decision_options
@click.option("--explain", is_flag=True, help="Say what calls waited for, and what would help.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON, nothing else.")
def command(
    file: str,
    endpoint: str | None,
    tools: tuple[str, ...],
    timeout: float | None,
    **flags: Any,
) -> None:
    """Run the calls in FILE (`-` for stdin) as one batch and draw its waterfall.

    FILE is JSON: a list of calls like {"name": "get_time", "arguments": {"timezone":
    "$ref:@1#/timezone"}, "id": "t1", "depends_on": ["c1"], "timeout": "5s"}, an object with
    such "calls", or what a model answered: a message with "tool_calls", or the whole
    answer of the Chat Completions or Responses API. Beside "calls" an object may have
    "mode", "on_failure", "max_concurrency", "timeout", "context", "request_id",
    "sent_to_instance" and "session_id"; options win over them.

    Where calls wait for approval, they are shown with their arguments and the command that
    decides: the same file and options, the request id and the approval ids.

    With --explain the calls that decided when the batch ended are marked, and --json prints
    an object with "results", "schedule", "request_id" and "sent_to_instance".

    Exit code 0: every call ended OK; 1: one did not; 69: no sidecar answers.
    """
    try:
        batch = read_batch(_read(file))
    except BatchFileError as error:
        raise click.UsageError(f"{file}: {error}") from None
    explain, as_json = flags.pop("explain"), flags.pop("as_json")
    decisions = Decisions(*map(flags.pop, ("approve", "edit", "reject", "by", "comment")))
    edited = [approval_id for approval_id, _ in decisions.edit]
    sent = Sent(file, tools, edited, {**flags, "endpoint": endpoint, "timeout": timeout})
    said = {**batch.options, **{name: value for name, value in flags.items() if value is not None}}
    timeout_s = said.pop("timeout", None) if timeout is None else timeout
    said.pop("timeout", None)
    live = sys.stdout.isatty() and not as_json
    view = BatchView([CallView(call.name) for call in batch.calls]) if live else None
    options = cast("ExecuteOptions", said)
    if approvals := decisions.approvals():
        options["approvals"] = approvals
    done, instance_id = _run(_Job(endpoint, tools, batch.calls, timeout_s, options, view))
    if as_json:
        value = explanation.as_json(done, instance_id) if explain else results.batch_as_json(done)
        write_raw(json.dumps(value, indent=2))
    else:
        _print(dict(enumerate(done)))
        _draw(done, explain=explain)
        ask(sent, done)
    if not all(map(is_ok, done)):
        raise SystemExit(TOOL_FAILED)


def _read(file: str) -> str:
    if file == "-":
        return read_stdin()
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file}: {error}") from None


def _run(job: _Job) -> tuple[BatchResults, str]:
    """The results, and the sidecar that they must be asked of again."""
    try:
        return run(_execute(job))
    except (SystemExit, click.ClickException):
        if job.view is not None:
            _print(job.view.results)
            ended = len(job.view.results)
            click.echo(f"stopped: {ended} of {len(job.calls)} calls had ended", err=True)
        raise


async def _execute(job: _Job) -> tuple[BatchResults, str]:
    async with connect(job.endpoint, job.tools) as client:
        # Answers within seconds where there is no sidecar; a stream would wait.
        capabilities = await client.get_capabilities()
        instance_id = job.options.get("sent_to_instance") or capabilities.instance_id
        request_id = job.options.get("request_id")
        try:
            return await _send(client, job), instance_id
        except SidecallError as error:
            if request_id and not error.not_started and error.reason != "REQUEST_FORGOTTEN":
                again = ("--request-id", request_id, "--sent-to-instance", instance_id)
                click.echo(f"to send it again: {shlex.join(again)}", err=True)
            raise


async def _send(client: AsyncClient, job: _Job) -> BatchResults:
    if job.view is not None:
        request = Request(job.calls, job.timeout_s, job.options)
        return await run_live(client, request, job.view, console())
    return await client.execute_batch(job.calls, timeout=job.timeout_s, **job.options)


def _print(done: Mapping[int, ToolResult]) -> None:
    """Prints results by the index of their call: in a line for a terminal, else whole."""
    out = console()
    marks = {index: _mark(item) for index, item in done.items()}
    room_for_mark = max([6, *map(len, marks.values())])
    names = {index: clip(item.name, 24) for index, item in done.items()}
    widest = max(map(cell_len, names.values()), default=0)
    for index, item in sorted(done.items()):
        mark = marks[index].ljust(room_for_mark)
        head = f"@{index + 1:<3} {mark} {set_cell_size(names[index], widest)}"
        if out.is_terminal:
            room = out.width - cell_len(head) - 2
            out.print(f"{head}  {clip(item.content, room)}", soft_wrap=True)
        else:
            between = "\n" if "\n" in item.content else "  "
            write_raw(head + between + item.content)


def _mark(result: ToolResult) -> str:
    if results.waits_for_approval(result):
        return "waits for approval"
    mark = "ok" if is_ok(result) else "failed"
    return f"{mark}, kept from an earlier send" if result.replayed else mark


def _draw(done: BatchResults, *, explain: bool) -> None:
    out = console()
    out.print()
    draw(out, done)
    if explain:
        out.print()
        explanation.draw(out, done)
