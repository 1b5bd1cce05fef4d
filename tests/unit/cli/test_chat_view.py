import io
import json
from collections.abc import Sequence

import pytest
from rich.console import Console

from sidecall import ToolCall, ToolResult, approve, reject
from sidecall.chat import (
    ApprovalDecided,
    ApprovalRequested,
    CallFinished,
    CallProgress,
    CallQueued,
    CallReady,
    CallStarted,
    ChatEvent,
    EarlyStartAbandoned,
    TextDelta,
    TurnFinished,
    TurnStarted,
    Usage,
)
from sidecall_server.cli.chat_view import ChatView


def shown(events: Sequence[ChatEvent], *, waterfalls: bool = False) -> list[str]:
    """What the view prints, without the times."""
    out = io.StringIO()
    view = ChatView(Console(file=out, width=60), waterfalls=waterfalls)
    for event in events:
        view(event)
    return [line[9:].rstrip() for line in out.getvalue().splitlines()]


def call(index: int, name: str, **arguments: object) -> CallReady:
    return CallReady(1, index, ToolCall(name=name, arguments=json.dumps(arguments)))


def failure() -> ToolResult:
    result = ToolResult(content="no such city")
    result.status.code = 5
    return result


def test_calls_are_counted_from_one() -> None:
    assert shown([call(0, "a", x=1), CallStarted(1, 0, 1), call(1, "b")]) == [
        '→ @1 a {"x": 1}',
        "▸ @1 started",
        "→ @2 b {}",
    ]


def test_results() -> None:
    events = [CallFinished(1, 0, ToolResult(content="fine")), CallFinished(1, 1, failure())]
    assert shown(events) == ["✓ @1 fine", "✗ @2 NOT_FOUND: no such city"]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (CallQueued(1, 2, "BLOCK_CAUSE_REFERENCE", (0, 1)), "◦ @3 waits for @1 and @2"),
        (
            CallQueued(1, 0, "BLOCK_CAUSE_SEAL", ()),
            "◦ @1 has effects, so it waits for the model's end",
        ),
        (CallProgress(1, 0, 3, 7, "copying"), "… @1 3 copying"),
        (EarlyStartAbandoned(1, "why"), "↺ calls are sent again: why"),
        (ApprovalDecided(1, 0, None), "· @1 left open"),
        (ApprovalDecided(1, 0, approve("a")), "✓ @1 approved"),
        (ApprovalDecided(1, 0, approve("a", arguments="{}")), "✓ @1 approved with {}"),
        (ApprovalDecided(1, 1, reject("a")), "✗ @2 rejected"),
        (ApprovalDecided(1, 1, reject("a", comment="No.")), "✗ @2 rejected: No."),
    ],
)
def test_other_events(event: ChatEvent, line: str) -> None:
    assert shown([event]) == [line]


def test_what_a_human_decides_on_is_shown_whole_and_harmless() -> None:
    arguments = json.dumps({"text": "x" * 90 + "\u202e"}, ensure_ascii=False)
    head, *lines = shown([ApprovalRequested(1, 0, "a", "pay", arguments, "id")])
    assert head == "? @1 pay needs approval to run with"
    assert "".join(lines).replace(" ", "") == '{"text":"' + "x" * 90 + '\\u202e"}'


def test_a_call_that_waits_is_told_of_once() -> None:
    events = [
        CallQueued(1, 0, "BLOCK_CAUSE_SEAL", ()),
        CallQueued(1, 0, "BLOCK_CAUSE_REFERENCE", (1,)),
    ]
    assert len(shown(events)) == 1


def test_long_lines_are_cut_and_stay_one_line() -> None:
    (line,) = shown([CallFinished(1, 0, ToolResult(content="one\ntwo\x1b[2J " + "x" * 100))])
    assert line.startswith("✓ @1 one\\ntwo\\x1b[2J xxx")
    assert len(line) == 51


def test_text_comes_in_pieces_and_is_folded_between_words() -> None:
    text = "In Tokyo it rains, in Lisbon the sun shines, and nobody knows why at all."
    pieces = [TextDelta(1, text[start : start + 3]) for start in range(0, len(text), 3)]
    lines = shown([TurnStarted(1), *pieces, TurnFinished(1, text, 0, Usage())])
    assert len(lines) == 2
    assert " ".join(lines) == text


def test_text_ends_before_a_call() -> None:
    assert shown([TextDelta(1, "I look"), TextDelta(1, " it up."), call(0, "a")]) == [
        "I look it up.",
        "→ @1 a {}",
    ]


def test_paragraphs_stay() -> None:
    assert shown([TextDelta(1, "one\n\ntwo"), TurnFinished(1, "", 0, Usage())])[-1] == "two"


def test_the_waterfall_follows_the_turn() -> None:
    events: list[ChatEvent] = [TurnStarted(1), CallFinished(1, 0, ToolResult(name="a"))]
    without = shown([*events, TurnFinished(1, "", 1, Usage())])
    lines = shown([*events, TurnFinished(1, "", 1, Usage())], waterfalls=True)
    assert len(lines) > len(without)
    assert any("outcome" in line for line in lines)
    assert (
        shown([*events, TurnStarted(2), TurnFinished(2, "", 0, Usage())], waterfalls=True)
        == without
    )
