"""The command line. Each command is a module of its own, imported when it is used."""

import importlib
import io
import os
import sys
from pathlib import Path

import click

from sidecall import __version__
from sidecall_server.cli import marks

COMMANDS = {
    "serve": "Serve tools over gRPC until SIGTERM.",
    "check": "Check settings and tools without serving.",
    "config": "Show the configuration file's schema, or the values in force.",
    "tools": "List the tools of a sidecar.",
    "call": "Call one tool.",
    "batch": "Run a batch of calls and draw its waterfall.",
    "chat": "Chat with a model whose tool calls run in a sidecar.",
    "demo": "Watch a chat turn's tool calls run in parallel.",
    "bench": "Compare the sidecar with its alternatives.",
}
"""The commands and what they do in a line."""


class LazyGroup(click.Group):
    """Imports the module of a command when the command is wanted, not to list its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"sidecall_server.cli.{cmd_name}").command
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


_EPILOG = """\b
Exit codes:
  0    all went well; `serve` was stopped by a signal
  1    a call has no OK result, a request was refused, or the sidecar cannot start
  2    wrong usage of the command line
  64   a setting or a file of tools is wrong, or a package is missing
  69   no sidecar answers
  70   internal error; SIDECALL_DEBUG=1 shows the traceback
  74   reading or writing failed
  128+ ended by a signal: 130 after Ctrl-C, 143 after SIGTERM
"""


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
@click.version_option(__version__, prog_name="sidecall")
def group() -> None:
    """Sidecall executes the tool calls of language models.

    Start with `sidecall demo`. To serve tools of your own, mark functions with @tool and
    run `sidecall serve --tools FILE`.
    """


def main() -> int:
    """Runs the command line and returns its exit code."""
    # gRPC reads these when it is imported. Nothing here forks after that, and what goes
    # wrong is told in words of our own.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    _fill_closed_streams()
    marks.register()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=marks.ERRORS)
    try:
        code = group.main(prog_name="sidecall", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else 0


def _fill_closed_streams() -> None:
    """Keeps files and sockets out of the places of standard streams that are closed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
