"""`sidecall bench`."""

import click

from sidecall_server.cli import strategies
from sidecall_server.cli.connection import run
from sidecall_server.cli.output import console, counted
from sidecall_server.cli.sidecar_process import sidecar_process


@click.group("bench")
def command() -> None:
    """Compare the sidecar with its alternatives."""


@command.command("strategies", short_help="Run the same calls in four ways.")
@click.option(
    "--tools-count",
    type=click.IntRange(1, 500),
    default=5,
    show_default=True,
    help="Number of tool calls.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, max=30),
    default=0.5,
    show_default=True,
    help="Seconds that each of them takes.",
)
def strategies_command(tools_count: int, seconds: float) -> None:
    """Run the same calls sequentially, in threads, with gather and in a sidecar.

    The sidecar is a process of its own, reached over a unix socket. The results of each
    strategy are checked.
    """
    timings = run(_compare(tools_count, seconds))
    out = console()
    out.print(f"{counted(tools_count, 'tool call')} of {seconds:g} s each:\n")
    out.print(strategies.table(timings))


async def _compare(count: int, seconds: float) -> list[strategies.Timing]:
    async with sidecar_process([strategies.TOOLS]) as sidecar:
        return await strategies.compare(sidecar.client, count, seconds)
