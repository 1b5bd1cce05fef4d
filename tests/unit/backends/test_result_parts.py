"""Results in parts, wherever a tool runs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.handler_calls import failure, find, run
from tests.unit.backends import isolated_tools

from sidecall import Image, Link, tool
from sidecall_server.backends.process_frames import (
    FrameError,
    encode,
    read_frame,
    result_frame,
    success_from,
)
from sidecall_server.backends.python import PythonBackend
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import (
    BlobPart,
    JsonPart,
    LinkPart,
    Outcome,
    Part,
    Success,
    TextPart,
)
from sidecall_server.observability.clock import SystemClock

PNG = b"\x89PNG\r\n\x1a\n" + bytes(5)
TEXT = 'Seen ä:\n[image/png, 13 bytes: a.png]\n{"size":5}\n[link: https://example.org]'
PARTS = (
    TextPart("Seen ä:"),
    BlobPart("image/png", PNG, "a.png"),
    JsonPart('{"size":5}'),
    LinkPart("https://example.org"),
)


def seen() -> list[Any]:
    return ["Seen ä:", Image(PNG, name="a.png"), {"size": 5}, Link("https://example.org")]


async def in_a_coroutine() -> list[Any]:
    return seen()


async def from_an_async_generator() -> AsyncIterator[Any]:
    first, *rest = seen()
    yield first[:3]
    yield first[3:]
    for item in rest:
        yield item


def from_a_generator() -> Iterator[Any]:
    yield from seen()


async def outcome_of(function: Callable[..., Any]) -> Outcome:
    clock = SystemClock(asyncio.get_running_loop())
    backend = PythonBackend((), Limits(), clock, [tool(function, name="t")])
    try:
        return await run(await backend.start(), "t")
    finally:
        await backend.stop(1.0)


@pytest.mark.parametrize(
    "function", [in_a_coroutine, from_an_async_generator, seen, from_a_generator]
)
async def test_in_this_process(function: Callable[..., Any]) -> None:
    outcome = await outcome_of(function)
    assert isinstance(outcome, Success)
    assert (outcome.text, outcome.is_json, outcome.parts) == (TEXT, False, PARTS)


async def test_in_a_worker_process() -> None:
    clock = SystemClock(asyncio.get_running_loop())
    backend = PythonBackend((str(Path(isolated_tools.__file__)),), Limits(), clock)
    try:
        bound = await backend.start()
        outcome = await run([find(bound, "picture")], "picture", size=5)
        large = await run([find(bound, "picture")], "picture", size=5_000_000)
    finally:
        await backend.stop(1.0)
    assert isinstance(outcome, Success)
    assert (outcome.text, outcome.is_json, outcome.parts) == (TEXT, False, PARTS)
    assert isinstance(large, Success)
    assert isinstance(large.parts[1], BlobPart)
    assert len(large.parts[1].data) == 5_000_008


async def test_a_part_inside_a_value_says_what_to_do() -> None:
    async def t() -> Any:
        return {"image": Image(PNG)}

    outcome = failure(await outcome_of(t))
    assert "inside another value" in outcome.message
    assert "in a list" in outcome.message


WORDS = st.text(max_size=20)
ANY_PART: st.SearchStrategy[Part] = st.one_of(
    st.builds(TextPart, WORDS),
    st.builds(JsonPart, WORDS),
    st.builds(BlobPart, WORDS, st.binary(max_size=50), WORDS),
    st.builds(LinkPart, WORDS, WORDS, WORDS),
)


@given(WORDS, st.booleans(), st.lists(ANY_PART, max_size=6).map(tuple))
async def test_frames_keep_results(text: str, is_json: bool, parts: tuple[Part, ...]) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(encode(*result_frame(Success(text, is_json, parts))))
    reader.feed_eof()
    result = success_from(*await read_frame(reader))
    assert (result.text, result.is_json, result.parts) == (text, is_json, parts)


def test_a_frame_with_an_unknown_part_is_refused() -> None:
    header = {"type": "result", "is_json": False, "text_bytes": 0, "parts": [["sound", 0]]}
    with pytest.raises(FrameError, match="sound"):
        success_from(header, b"")
