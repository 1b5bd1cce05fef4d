"""What the commands print with."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import IO

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_kept: list[IO[str]] = []


def stdout() -> IO[str]:
    """Where the command itself prints."""
    return _kept[-1] if _kept else sys.stdout


@contextmanager
def tools_print_to_stderr() -> Iterator[None]:
    """Leaves stdout to the command: what else prints in the block, prints to stderr."""
    original = sys.stdout
    original.flush()
    with ExitStack() as stack:
        own: IO[str] = original
        if _is_descriptor(original, 1):
            copy = os.dup(1)
            own = stack.enter_context(
                open(copy, "w", encoding=original.encoding, errors=original.errors)  # noqa: PTH123
            )
            stack.callback(os.dup2, copy, 1)
            stack.callback(original.flush)
            os.dup2(2, 1)
        _kept.append(own)
        stack.callback(_kept.pop)
        stack.enter_context(redirect_stdout(sys.stderr))
        yield


def _is_descriptor(stream: IO[str], number: int) -> bool:
    try:
        return stream.fileno() == number
    except OSError:
        return False


def console(file: IO[str] | None = None) -> Console:
    """A console that neither guesses at markup nor paints numbers."""
    return Console(file=file or stdout(), highlight=False, markup=False, emoji=False)


def printable(text: str) -> str:
    """The text on one line, with what would move the cursor replaced by its escape."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def counted(number: int, what: str) -> str:
    """`1 call`, `2 calls`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def clip(text: str, width: int) -> str:
    """The text on one line, cut to a number of terminal cells."""
    shown = Text(printable(text))
    shown.truncate(max(1, width), overflow="ellipsis")
    return shown.plain


def write_raw(text: str) -> None:
    """Writes a tool's content to stdout as it is, with a line's end."""
    out = stdout()
    out.write(text if text.endswith("\n") else text + "\n")
    out.flush()


def read_stdin() -> str:
    """All of stdin.

    Raises:
        UsageError: It is closed, or not UTF-8.
    """
    if sys.stdin is None:
        raise click.UsageError("-: stdin is closed")
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"-: {error}") from None


def plain_table(heads: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A table of texts without lines between the rows; cells are folded, not cut."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return table
