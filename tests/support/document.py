"""docs/writing-a-client.md, for tests that hold it to what it says."""

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "docs" / "writing-a-client.md"
TEXT = PATH.read_text(encoding="utf-8")

_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: its language, and its text."""

    language: str
    text: str


def sections() -> dict[str, list[Block]]:
    """The blocks of each section by its title; those before the first under ""."""
    parts = re.split(r"^## (.+)$", TEXT, flags=re.MULTILINE)
    texts = {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}
    found = {
        title: [Block(kind, textwrap.dedent(body)) for _, kind, body in _FENCE.findall(text)]
        for title, text in texts.items()
    }
    return {title: blocks for title, blocks in found.items() if blocks}


def table(heading: str) -> list[list[str]]:
    """The rows of the table whose first column has a heading, cell by cell."""
    (rows,) = re.findall(
        rf"^ *\| {re.escape(heading)} \|.*\n *\|[-|]+\|\n((?: *\|.*\n)+)", TEXT, re.MULTILINE
    )
    return [
        [cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows.splitlines()
    ]


def quoted(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)
