"""Asks at the terminal whether a call may run."""

import getpass
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from sidecall import Approval, approve, reject
from sidecall.chat import ApprovalRequested
from sidecall_server.cli.arguments import problem
from sidecall_server.cli.connection import stop_signals
from sidecall_server.cli.output import printable, stdout

_QUESTION = "@{} {}: [y]es, [n]o, n REASON, [e]dit, or Enter to leave it open? "


def can_ask() -> bool:
    """Whether somebody sees what is printed and can answer."""
    return sys.stdin is not None and sys.stdin.isatty() and stdout().isatty()


def ask(request: ApprovalRequested) -> Approval | None:
    """Asks one question; an approve hook for the chat loop.

    The event loop stands still meanwhile, so a signal ends the prompt by an exception:
    KeyboardInterrupt, or SystemExit for those that end a command.
    """
    question = _QUESTION.format(request.index + 1, printable(request.tool_name))
    with _signals_raise() as signalled:
        while answer := _answer(question, signalled):
            word, _, reason = answer.partition(" ")
            match word.lower():
                case "y" | "yes" if not reason:
                    return approve(request, by=_user())
                case "n" | "no":
                    return reject(request, by=_user(), comment=reason.strip())
                case "e" | "edit" if not reason:
                    arguments = _edited(request.arguments)
                    if arguments is not None:
                        return approve(request, by=_user(), arguments=arguments)
                case _:
                    click.echo(f"{printable(answer)!r} is no answer", err=True)
    return None


def _edited(arguments: str) -> str | None:
    """The arguments as they are wanted; None: as if nobody had asked to edit them."""
    while answer := _prompt("arguments> ", arguments):
        wrong = problem(answer)
        if wrong is None:
            return answer
        click.echo(f"arguments are a JSON object: {wrong}", err=True)
        arguments = answer
    return None


def _answer(question: str, signalled: socket.socket) -> str:
    """What the user answers; empty at the end of the input."""
    click.echo(question, file=stdout(), nl=False)
    # Reading itself would overlook a signal that comes just before it blocks.
    select.select([sys.stdin, signalled], [], [])
    line = sys.stdin.readline()
    if not line:
        click.echo(file=stdout())
    return line.strip()


def _prompt(text: str, prefilled: str) -> str:
    """A line that the user edits; empty at the end of the input."""
    try:
        with _prefilled(prefilled):
            return input(text).strip()
    except EOFError:
        click.echo(file=stdout())
        return ""


@contextmanager
def _prefilled(text: str) -> Iterator[None]:
    """Lets the user edit the text, where the terminal can."""
    try:
        import readline  # noqa: PLC0415  not everywhere
    except ImportError:
        yield
        return
    if text:
        readline.set_startup_hook(lambda: readline.insert_text(text))
    try:
        yield
    finally:
        readline.set_startup_hook()


@contextmanager
def _signals_raise() -> Iterator[socket.socket]:
    """Signals raise at once in the block, and the event loop does not hear of them.

    Yields what is readable once one has come.
    """
    stops = stop_signals()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *stops)}
    told, tells = socket.socketpair()
    with told, tells:
        tells.setblocking(False)
        wakeup = signal.set_wakeup_fd(tells.fileno())
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number in stops:
                signal.signal(number, _stop)
            yield told
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)


def _stop(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _user() -> str:
    try:
        return getpass.getuser()
    except OSError:
        return ""
