"""References to results of earlier turns, through the engine."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.clock import settle
from tests.support.engines import (
    Bench,
    Gate,
    bench,
    bound,
    echo,
    fail,
    failure_of,
    reasons,
    text_of,
)

from sidecall_server.core.call import BatchOptions, Call, ToolCall
from sidecall_server.core.outcome import ExecutionState, Outcome, Success
from sidecall_server.core.tool import Effects
from sidecall_server.engine.stream import StreamIntake


async def value(call: Call) -> Outcome:
    """Returns its argument `value` as a JSON value."""
    return Success(json.dumps(call.arguments["value"]), is_json=True)


class Conversation:
    """Turns of one session.

    Attributes:
        bench: The engine.
        gate: What the tool `gate` does.
    """

    def __init__(self, b: Bench, gate: Gate) -> None:
        self.bench = b
        self.gate = gate

    async def turn(self, *calls: ToolCall, **options: Any) -> list[Call]:
        options = {"identity": "alice", "session_id": "s1", **options}
        return await self.bench.run(calls, **options)


@pytest.fixture
async def talk() -> AsyncIterator[Conversation]:
    gate = Gate()
    tools = [
        bound("echo", echo, effects=Effects.READ_ONLY),
        bound("value", value),
        bound("fail", fail),
        bound("gate", gate),
    ]
    async with bench(*tools, session_retention_s=60.0, max_session_bytes=40_000) as b:
        yield Conversation(b, gate)


def say(text: str, call_id: str = "", *depends_on: str) -> ToolCall:
    return ToolCall(call_id, "echo", json.dumps({"text": text}), depends_on)


def make(content: object, call_id: str) -> ToolCall:
    return ToolCall(call_id, "value", json.dumps({"value": content}))


async def test_results_of_earlier_turns_can_be_used(talk: Conversation) -> None:
    await talk.turn(make({"city": "Ulm", "n": [1, 2]}, "a"), say("text", "b"))
    await talk.turn(say("nothing of interest", "c"))

    calls = await talk.turn(
        say("$ref:a#/city"), say("<${ref:a#/n}|${ref:b}>"), say("$ref:b", "", "a", "c")
    )

    assert [text_of(call) for call in calls] == ["Ulm", "<[1,2]|text>", "text"]
    assert all(not call.blocked_ns for call in calls)


async def test_the_turn_comes_before_the_session(talk: Conversation) -> None:
    await talk.turn(say("old", "a"), say("old", "echo"))
    calls = await talk.turn(say("$ref:a"), make("new", "a"), say("$ref:@1"))
    assert [text_of(call) for call in calls] == ["new", '"new"', "new"]

    calls = await talk.turn(make("x", "b"), say("$ref:a"), say("$ref:value"))
    assert text_of(calls[1]) == "new"
    assert text_of(calls[2]) == "x"


async def test_a_repeated_id_or_name_of_the_turn_does_not_fall_through(
    talk: Conversation,
) -> None:
    await talk.turn(say("old", "a"), say("old", "value"))

    calls = await talk.turn(
        make(1, "a"), make(2, "a"), say("$ref:a"), say("$ref:value"), say("$ref:@9")
    )

    assert reasons(calls)[2:] == ["REFERENCE_UNRESOLVED"] * 3
    assert "several calls have the id 'a'" in failure_of(calls[2]).message
    assert "'value' is called several times" in failure_of(calls[3]).message
    assert "this turn has 5 calls" in failure_of(calls[4]).message


async def test_positions_and_tool_names_never_mean_earlier_turns(talk: Conversation) -> None:
    await talk.turn(say("old", "a"), make("old", "b"))

    calls = await talk.turn(say("$ref:@3"), say("$ref:value"))

    assert reasons(calls) == ["REFERENCE_UNRESOLVED"] * 2
    assert failure_of(calls[1]).message == (
        "A reference in the call of 'echo' cannot be resolved: 'value' is neither the id of a call "
        "of this turn nor the name of a tool that it calls; use @1 to @2 for a call by its "
        "position; and no call with that id is remembered of the session's earlier turns: there "
        "was none, it was forgotten, or the session is over."
    )


async def test_an_id_in_depends_on_is_not_called_a_reference(talk: Conversation) -> None:
    calls = await talk.turn(say("text", "", "nobody"), say("$ref:nobody"))

    assert reasons(calls) == ["REFERENCE_UNRESOLVED"] * 2
    assert failure_of(calls[0]).message.startswith("depends_on in the call of 'echo' cannot be")
    assert failure_of(calls[1]).message.startswith("A reference in the call of 'echo' cannot be")


@pytest.mark.parametrize("call", [say("$ref:a"), say("text", "", "a"), say("<${ref:a#/x}>")])
async def test_a_call_that_failed_has_no_result(talk: Conversation, call: ToolCall) -> None:
    await talk.turn(ToolCall("a", "fail"))

    (refused,) = await talk.turn(call)

    failure = failure_of(refused)
    assert reasons([refused]) == ["REFERENCE_UNRESOLVED"]
    assert failure.state is ExecutionState.NOT_STARTED
    assert "the call 'a' of an earlier turn has no result (TOOL_FAILED)" in failure.message


@pytest.mark.parametrize(
    "options",
    [
        {"identity": "bob"},
        {"identity": ""},
        {"session_id": "s2"},
        {"session_id": ""},
        {"identity": "alices1", "session_id": ""},
    ],
)
async def test_nobody_else_can_read_it(talk: Conversation, options: dict[str, str]) -> None:
    await talk.turn(say("secret", "a"))

    calls = await talk.turn(say("$ref:a"), say("text", "", "a"), **options)

    assert reasons(calls) == ["REFERENCE_UNRESOLVED"] * 2
    assert reasons(await talk.turn(say("$ref:a"))) == ["OK"]


async def test_what_is_forgotten_meanwhile_was_kept_by_the_turn(talk: Conversation) -> None:
    await talk.turn(say("kept", "a"))
    calls = [ToolCall("g", "gate"), say("$ref:a", "", "g")]
    turn = await talk.bench.start(calls, identity="alice", session_id="s1")
    for number in range(10):
        await talk.turn(say("x" * 4_000, f"c{number}"))
    assert reasons(await talk.turn(say("$ref:a"))) == ["REFERENCE_UNRESOLVED"]

    talk.gate.open(0)
    await settle()

    assert text_of(turn.calls()[1]) == "kept"


async def test_a_session_is_forgotten_in_time(talk: Conversation) -> None:
    await talk.turn(say("old", "a"))
    await talk.bench.clock.advance(61)

    assert reasons(await talk.turn(say("$ref:a"))) == ["REFERENCE_UNRESOLVED"]


async def test_references_that_are_off_add_results_all_the_same(talk: Conversation) -> None:
    await talk.turn(say("$ref:nothing", "a"), references=False)

    (call,) = await talk.turn(say("$ref:a"))

    assert text_of(call) == "$ref:nothing"


async def test_all_results_of_a_large_turn_are_there_when_it_is_answered(
    talk: Conversation,
) -> None:
    b = talk.bench
    calls = [
        ToolCall(f"c{number % 30}", "echo", f'{{"text": "{number}"}}') for number in range(1500)
    ]
    turn = await b.start(calls, identity="alice", session_id="s1")
    find = b.engine.sessions.find
    assert turn.done

    found = [find("alice", "s1", f"c{number}") for number in range(30)]

    assert [kept.text for kept in found if isinstance(kept, Success)] == [
        str(number) for number in range(1470, 1500)
    ]


class Streamed:
    """A turn of the session that is sent call by call."""

    def __init__(self, talk: Conversation) -> None:
        options = BatchOptions(identity="alice", session_id="s1")
        self.engine = talk.bench.engine
        self.batch = self.engine.open(options)
        self.intake = StreamIntake(self.engine, self.batch)
        self.count = 0

    async def add(self, call: ToolCall) -> None:
        await self.intake.add(self.count, call)
        self.count += 1
        await settle()

    async def seal(self) -> list[Call]:
        await self.intake.seal(self.count)
        await settle()
        assert self.batch.done.done()
        self.engine.close(self.batch)
        return [self.batch.calls[index] for index in range(self.count)]


async def test_a_stream_looks_into_the_session_at_the_seal(talk: Conversation) -> None:
    await talk.turn(say("old a", "a"), say("old b", "b"))
    turn = Streamed(talk)
    await turn.add(say("$ref:a"))
    await turn.add(say("$ref:b"))
    assert turn.batch.calls[0].outcome is None
    await turn.add(say("new b", "b"))

    calls = await turn.seal()

    assert [text_of(call) for call in calls] == ["old a", "new b", "new b"]
    assert text_of((await talk.turn(say("$ref:b")))[0]) == "new b"


async def test_a_stream_adds_its_results_before_it_is_answered(talk: Conversation) -> None:
    turn = Streamed(talk)
    found: list[object] = []
    find = talk.bench.engine.sessions.find
    turn.batch.done.add_done_callback(lambda _: found.append(find("alice", "s1", "a")))
    await turn.add(say("text", "a"))
    await turn.seal()

    assert isinstance(found[0], Success)
