"""Arguments on which a person decides: all of them, with nothing hidden."""

import json
import re
from collections.abc import Iterator

from rich.cells import cell_len, chop_cells

from sidecall_server.cli.output import printable

_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+|"', re.DOTALL)
_WORDS = re.compile(r"[^ ]+ ?| ")
_INDENT = "  "
_MAX_INDENTS = 8
"""Of deeper values, the lines would have no room."""

_MIN_WIDTH = 20


def laid_out(text: str, width: int) -> list[str]:
    """The arguments in lines of at most `width` cells.

    Numbers, strings and their spaces stand as they are in `text`; what a terminal would
    not show, or would move the cursor with, stands as its escape.
    """
    width = max(width, _MIN_WIDTH)
    whole = printable(text)
    is_one_line = cell_len(whole) <= width or problem(text) is not None
    lines = [whole] if is_one_line else map(printable, _indented(text))
    return [part for line in lines for part in _folded(line, width)]


def _indented(text: str) -> Iterator[str]:
    """Lines of JSON text; read by its tokens, since values that are parsed may change."""
    line, depth, before = "", 0, ""
    for token in _TOKENS.findall(text):
        opens, closes = token in ("{", "["), token in ("}", "]")
        depth -= closes
        is_empty = closes and before in ("{", "[")
        if before in ("{", "[", ",") or closes:
            if not is_empty:
                yield line
                line = _INDENT * min(depth, _MAX_INDENTS)
        elif before == ":":
            line += " "
        line += token
        depth += opens
        before = token
    yield line


def _folded(line: str, width: int) -> Iterator[str]:
    """Parts of a line, broken after words where possible; spaces stay."""
    indent = line[: len(line) - len(line.lstrip(" "))]
    part = indent
    for word in _WORDS.findall(line[len(indent) :]):
        if cell_len(part + word.rstrip(" ")) <= width:
            part += word
            continue
        if part.strip(" ") or len(part) > len(indent):
            yield part
        *full, rest = chop_cells(word, width - len(indent))
        yield from (indent + piece for piece in full)
        part = indent + rest
    yield part


def problem(text: str) -> str | None:
    """Why the text cannot be arguments; None where it can."""
    try:
        return None if isinstance(json.loads(text), dict) else "it is no object"
    except (RecursionError, ValueError) as error:
        return str(error)
