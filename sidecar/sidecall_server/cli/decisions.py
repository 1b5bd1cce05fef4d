"""What a person decides on calls of a batch, and how to say it with a command."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from sidecall import Approval, BatchResults, approve, pending_approvals, reject
from sidecall_server.cli.arguments import laid_out, problem
from sidecall_server.cli.output import console, counted, printable

_MARGIN = 6
_F = TypeVar("_F", bound=Callable[..., Any])
_REPEATED = ("endpoint", "mode", "on_failure", "max_concurrency", "timeout", "session_id")
"""Options that the command that decides needs as they were."""


class Edit(click.ParamType[tuple[str, str]]):
    """An approval id and the arguments to run its call with."""

    name = "edit"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Reads it."""
        approval_id, equals, arguments = str(value).partition("=")
        if not approval_id or not equals:
            self.fail("expected ID=JSON", param, ctx)
        if wrong := problem(arguments):
            self.fail(f"arguments are a JSON object: {wrong}", param, ctx)
        return approval_id, arguments


def decision_options(function: _F) -> _F:
    """Adds --approve, --edit, --reject, --by and --comment."""
    for option in (
        click.option("--comment", default="", help="What to tell the model about --reject."),
        click.option("--by", metavar="NAME", default="", help="Who decides."),
        click.option(
            "--reject", multiple=True, metavar="ID", help="Keep a call from running that waits."
        ),
        click.option(
            "--edit",
            multiple=True,
            type=Edit(),
            metavar="ID=JSON",
            help="Let a call run that waits for a person, with these arguments instead.",
        ),
        click.option(
            "--approve", multiple=True, metavar="ID", help="Let a call run that waits for a person."
        ),
    ):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class Decisions:
    """The options of `decision_options`."""

    approve: Sequence[str]
    edit: Sequence[tuple[str, str]]
    reject: Sequence[str]
    by: str
    comment: str

    def approvals(self) -> list[Approval]:
        """What was decided.

        Raises:
            UsageError: An id is empty or decided on twice, or nothing is decided.
        """
        ids = [*self.approve, *(approval_id for approval_id, _ in self.edit), *self.reject]
        if not all(ids):
            raise click.UsageError("an approval id is empty")
        if twice := sorted({item for item in ids if ids.count(item) > 1}):
            raise click.UsageError(f"decided on twice: {', '.join(twice)}")
        if self.by and not ids:
            raise click.UsageError("--by goes with --approve, --edit or --reject")
        if self.comment and not self.reject:
            raise click.UsageError("--comment goes with --reject")
        return [
            *(approve(item, by=self.by) for item in self.approve),
            *(approve(item, by=self.by, arguments=arguments) for item, arguments in self.edit),
            *(reject(item, by=self.by, comment=self.comment) for item in self.reject),
        ]


@dataclass(frozen=True, slots=True)
class Sent:
    """The command that sent a batch.

    Attributes:
        file: Its argument.
        tools: Its --tools.
        edited: Approval ids of its --edit.
        options: Its other options, by name; None for those that were not given.
    """

    file: str
    tools: Sequence[str]
    edited: Sequence[str]
    options: Mapping[str, Any]

    def again(self, request_id: str) -> list[str]:
        """The words that send it again."""
        file = f"./{self.file}" if self.file.startswith("-") and self.file != "-" else self.file
        words = ["sidecall", "batch", file]
        for name in _REPEATED:
            value = self.options.get(name)
            if name == "endpoint":
                # Who decides may do so where the variable is not set.
                value = value or os.environ.get("SIDECALL_ENDPOINT")
            if value is not None:
                words += [f"--{name.replace('_', '-')}", _word(value)]
        return [*words, "--request-id", request_id]


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.9f}".rstrip("0").rstrip(".") + "s"
    return str(value)


def ask(sent: Sent, done: BatchResults) -> None:
    """Prints the calls that wait for a person, and how to decide on them."""
    pending = pending_approvals(done)
    if not pending:
        return
    out = console()
    lines = [f"\n{counted(len(pending), 'call')} to be approved or rejected by a person"]
    if sent.tools:
        lines.append(
            "With --tools the question is gone with this command: to decide, start a sidecar\n"
            "(sidecall serve --tools FILE) and send the batch to it, without --tools."
        )
    else:
        lines.append(
            "To decide, run the command; --reject ID instead of --approve ID keeps the call from\n"
            "running, --edit ID=JSON runs it with other arguments."
        )
        if sent.file == "-":
            lines.append("Give it the same input on stdin again.")
    again = sent.again(done.request_id)
    positions = {id(item): position for position, item in enumerate(done, 1)}
    for item in pending:
        lines.append(f"  @{positions[id(item)]} {printable(item.name)}")
        if item.approval_id in sent.edited:
            # It still waits, so it says what is wrong with the edited arguments.
            lines.append(" " * _MARGIN + printable(item.content))
        shown = laid_out(item.approval_arguments, out.width - _MARGIN)
        lines.extend(" " * _MARGIN + line for line in shown)
        if not sent.tools:
            lines.append(f"  {shlex.join([*again, '--approve', item.approval_id])}")
    for line in lines:
        out.print(line, soft_wrap=True)
