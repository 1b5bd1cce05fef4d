"""Tools that return more than text, and tools that bound their results."""

from collections.abc import AsyncIterator
from typing import Any

from sidecall import File, Image, Link, tool

PNG = b"\x89PNG\r\n\x1a\n"


def chart(size: int) -> list[Any]:
    """A caption, an image of so many bytes, a value and a link."""
    image = Image(PNG + bytes(size - len(PNG)), name="chart.png")
    return ["Sales:", image, {"total": 7}, Link("https://example.org/sales", name="source")]


@tool(effects="read_only")
async def draw(size: int = 100) -> list[Any]:
    """Draws a chart."""
    return chart(size)


@tool(effects="read_only")
def draw_in_thread(size: int = 100) -> list[Any]:
    """Draws a chart in a thread."""
    return chart(size)


@tool(effects="read_only", isolation="process")
def draw_in_process(size: int = 100) -> list[Any]:
    """Draws a chart in a worker process."""
    return chart(size)


@tool(effects="read_only")
async def draw_in_pieces(size: int = 100) -> AsyncIterator[Any]:
    """Draws a chart and shows its progress."""
    caption, *rest = chart(size)
    yield caption[:3]
    yield caption[3:]
    for item in rest:
        yield item


@tool(effects="read_only")
async def nest() -> dict[str, Any]:
    """Hides an image in a value."""
    return {"image": Image(PNG)}


@tool(effects="read_only")
async def report() -> File:
    """Writes a report."""
    return File(b"%PDF-1.7 ...", name="report.pdf")


@tool
async def draw_and_save() -> list[Any]:
    """Draws a chart, and counts as an effect."""
    return ["Saved.", *chart(50)[1:2]]


@tool(effects="read_only", max_result_bytes=600)
async def numbers_bounded(count: int) -> list[int]:
    """Counts, in a result of bounded size."""
    return list(range(count))


@tool(effects="read_only", max_result_bytes=600, large_result="refuse")
async def numbers_or_nothing(count: int) -> list[int]:
    """Counts, and fails where the result would be too large."""
    return list(range(count))


@tool(effects="read_only")
async def numbers(count: int) -> dict[str, list[int]]:
    """Counts."""
    return {"numbers": list(range(count))}


@tool(effects="read_only")
async def total(numbers: list[int]) -> int:
    """Adds up."""
    return sum(numbers)


@tool(effects="read_only")
async def repeat(text: str) -> str:
    """Returns the text."""
    return text
