"""`sidecall call`."""

import click

from sidecall import is_ok, reason_of
from sidecall.v1.execution_pb2 import ToolResult
from sidecall_server.cli import results
from sidecall_server.cli.connection import Duration, connect, endpoint_options, run
from sidecall_server.cli.errors import TOOL_FAILED
from sidecall_server.cli.output import read_stdin, write_raw


@click.command("call")
@click.argument("name")
@click.argument("arguments", default="{}", metavar="[JSON|-]")
@endpoint_options
@click.option("--timeout", type=Duration(), help="Longest time for the call.")
def command(
    name: str,
    arguments: str,
    endpoint: str | None,
    tools: tuple[str, ...],
    timeout: float | None,
) -> None:
    """Call the tool NAME with a JSON object as its arguments; `-` reads them from stdin.

    Prints what a model would be given. Exit code 0: the tool returned; 1: it did not, and
    stderr says why; 69: no sidecar answers.
    """
    text = read_stdin() if arguments == "-" else arguments
    result = run(_call(endpoint, tools, name, text, timeout))
    write_raw(result.content)
    if not is_ok(result):
        told = f"{results.code_name(result)}/{reason_of(result)}"
        click.echo(f"{name}: {told}, execution state {results.state_name(result)}", err=True)
        if results.waits_for_approval(result):
            click.echo("to decide on it, send it with `sidecall batch`", err=True)
        raise SystemExit(TOOL_FAILED)


async def _call(
    endpoint: str | None,
    tools: tuple[str, ...],
    name: str,
    arguments: str,
    timeout: float | None,
) -> ToolResult:
    async with connect(endpoint, tools) as client:
        return await client.call(name, arguments, timeout=timeout)
