"""What a human was asked about is what runs: changed arguments, ids, identities, time."""

import json
from typing import Any

import pytest
from tests.support.approving import asked, decide, decisions, refusal, resend
from tests.support.clock import settle
from tests.support.engines import Turn, bench, bound, echo, failure_of, reasons, text_of
from tests.support.runs import Runs

from sidecall_server.core.call import BatchOptions, Call, ToolCall
from sidecall_server.core.outcome import Code, ExecutionState, Failure, Reason, not_started
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.rejection import RejectionReason
from sidecall_server.core.tool import Effects, Lane, Retry
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.engine import Engine
from sidecall_server.engine.stream import StreamIntake

SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "count": {"type": "integer", "default": 5}},
    "required": ["text"],
    "additionalProperties": False,
}
RETENTION_S = 100.0


def approved(runs: Any, name: str = "pay", **spec: Any) -> BoundTool:
    spec.setdefault("input_schema", SCHEMA)
    return bound(name, runs, requires_approval=True, **spec)


def pay(text: str = "a", **fields: Any) -> ToolCall:
    return ToolCall("", "pay", json.dumps({"text": text}), **fields)


async def test_edited_arguments_are_used() -> None:
    async with bench(approved(echo)) as b:
        turn = await b.start([pay()])
        edited = decide(turn.calls()[0], arguments='{"text": "edited"}')
        (call,) = (await resend(b, [pay()], turn, edited)).calls()

        assert text_of(call) == "edited"
        assert call.arguments == {"text": "edited", "count": 5}


@pytest.mark.parametrize(
    "edited",
    [
        "",
        "{}",
        "{",
        "[]",
        "null",
        '{"text": 1}',
        '{"text": "a", "x": 1}',
        '{"text": "\\ud800", "count": null}',
    ],
)
async def test_edited_arguments_are_validated(edited: str) -> None:
    runs = Runs()
    async with bench(approved(runs)) as b:
        turn = await b.start([pay()])
        again = await resend(b, [pay()], turn, decide(turn.calls()[0], arguments=edited))

        asked = again.calls()[0]
        failure = failure_of(asked)
        assert failure.reason is Reason.APPROVAL_REQUIRED
        assert failure.state is ExecutionState.NOT_STARTED
        assert "The edited arguments were not taken" in failure.message
        assert len(runs) == 0
        assert asked.asked == turn.calls()[0].asked
        # A slip of the pen is no decision.
        last = await resend(b, [pay()], turn, decide(asked))
        await runs[0].finish("paid")
        assert text_of(last.calls()[0]) == "paid"
        b.assert_idle()


async def test_references_in_edited_arguments_are_text() -> None:
    async with bench(approved(echo), bound("echo", echo)) as b:
        calls = [ToolCall("secret", "echo", '{"text": "secret"}'), pay()]
        turn = await b.start(calls)
        edited = decide(turn.calls()[1], arguments='{"text": "$ref:secret ${ref:@1} $$ref:x"}')
        again = await resend(b, calls, turn, edited)

        assert text_of(again.calls()[1]) == "$ref:secret ${ref:@1} $$ref:x"


async def test_a_human_sees_what_references_stand_for() -> None:
    async with bench(approved(echo), bound("echo", echo)) as b:
        calls = [ToolCall("", "echo", '{"text": "to Ulm"}'), pay("go ${ref:@1}")]
        turn = await b.start(calls)
        assert json.loads(asked(turn.calls()[1]).arguments)["text"] == "go to Ulm"
        again = await resend(b, calls, turn, decide(turn.calls()[1]))

        assert text_of(again.calls()[1]) == "go to Ulm"


async def test_what_a_human_has_not_seen_is_asked_again() -> None:
    """The call that it refers to had not completed, and returns something else now."""
    runs, sources = Runs(), Runs()
    source = bound("source", sources, effects=Effects.READ_ONLY)
    async with bench(approved(runs), source) as b:
        session: dict[str, Any] = {"session_id": "s"}
        first = await b.start([ToolCall("where", "source")], **session)
        await sources[0].finish("Ulm")
        turn = await b.start([pay("to ${ref:where}")], **session)
        assert first.done
        question = asked(turn.calls()[0])
        other = await b.start([ToolCall("where", "source")], **session)
        await sources[1].finish("Bonn")
        assert other.done
        yes = decide(turn.calls()[0])
        again = await resend(b, [pay("to ${ref:where}")], turn, yes, **session)

        assert reasons(again.calls()) == ["APPROVAL_REQUIRED"]
        assert asked(again.calls()[0]).approval_id != question.approval_id
        assert json.loads(asked(again.calls()[0]).arguments)["text"] == "to Bonn"
        assert len(runs) == 0
        old = await resend(b, [pay("to ${ref:where}")], turn, yes, **session)
        assert refusal(old) is RejectionReason.APPROVAL_UNKNOWN
        yes = decide(again.calls()[0])
        last = await resend(b, [pay("to ${ref:where}")], turn, yes, **session)
        await runs[0].finish()
        assert reasons(last.calls()) == ["OK"]
        assert runs[0].call.arguments["text"] == "to Bonn"


async def test_the_lane_is_that_of_the_edited_arguments() -> None:
    runs = Runs()
    async with bench(approved(runs, lane=Lane("account:{text}"))) as b:
        calls = [pay("a"), pay("b")]
        turn = await b.start(calls)
        edits = decisions(
            decide(turn.calls()[0], arguments='{"text": "c"}'),
            decide(turn.calls()[1], arguments='{"text": "c"}'),
        )
        again = await resend(b, calls, turn, edits)
        assert len(runs) == 1
        await runs[0].finish()
        await runs[1].finish()

        assert reasons(again.calls()) == ["OK", "OK"]
        b.assert_idle()


async def test_the_idempotency_key_goes_with_the_edited_arguments() -> None:
    runs = Runs()
    async with bench(approved(runs)) as b:
        first = await b.start([pay(idempotency_key="k")])
        edited = decide(first.calls()[0], arguments='{"text": "edited"}')
        await resend(b, [pay(idempotency_key="k")], first, edited)
        await runs[0].finish("paid")

        second = await b.start([pay(idempotency_key="k")])
        other = await resend(b, [pay(idempotency_key="k")], second, decide(second.calls()[0]))
        assert reasons(other.calls()) == ["IDEMPOTENCY_KEY_REUSED"]
        third = await b.start([pay("edited", idempotency_key="k")])
        yes = decide(third.calls()[0])
        same = await resend(b, [pay("edited", idempotency_key="k")], third, yes)
        assert text_of(same.calls()[0]) == "paid"
        assert same.calls()[0].replayed
        assert len(runs) == 1
        b.assert_idle()


async def test_retries_use_the_edited_arguments() -> None:
    runs = Runs()
    retry = Retry(2, 1.0, 1.0, 1.0, frozenset({Code.UNKNOWN}))
    async with bench(approved(runs, retry=retry, effects=Effects.IDEMPOTENT)) as b:
        turn = await b.start([pay()])
        edited = decide(turn.calls()[0], arguments='{"text": "edited"}')
        again = await resend(b, [pay()], turn, edited)
        runs[0].call.arguments["text"] = "changed by the tool"
        await runs[0].fail()
        await b.clock.advance(1)
        await runs[1].finish()

        assert runs[1].call.arguments == {"text": "edited", "count": 5}
        assert reasons(again.calls()) == ["OK"]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (ToolCall("", "pay", "{"), "ARGUMENTS_INVALID"),
        (ToolCall("", "pay", '{"text": 1}'), "ARGUMENTS_INVALID"),
        (ToolCall("", "pay", '{"text": "too much"}'), "ARGUMENTS_INVALID"),
        (ToolCall("", "pay", '{"text": "$ref:nobody"}'), "REFERENCE_UNRESOLVED"),
        (ToolCall("", "pay", '{"text": "a"}', ("nobody",)), "REFERENCE_UNRESOLVED"),
        (ToolCall("", "pays"), "TOOL_NOT_FOUND"),
    ],
)
async def test_nobody_is_asked_about_a_call_that_could_not_run(call: ToolCall, reason: str) -> None:
    def prepare(arguments: dict[str, Any]) -> dict[str, Any] | Failure:
        if arguments["text"] == "too much":
            return not_started(Reason.ARGUMENTS_INVALID, "too much")
        return arguments

    tool = approved(echo)
    async with bench(BoundTool(tool.spec, tool.handler, prepare)) as b:
        turn = await b.start([call])

        assert reasons(turn.calls()) == [reason]
        assert turn.task.result().request_id == ""


async def test_unknown_ids_run_nothing() -> None:
    runs, others = Runs(), Runs()
    async with bench(approved(runs), bound("write", others)) as b:
        calls = [pay(), ToolCall("", "write")]
        yes: Any = decide((await b.run([pay()]))[0])
        new = await b.start(calls, request_id="new", approvals=yes)
        assert refusal(new) is RejectionReason.APPROVAL_UNKNOWN
        known = await b.start(calls, request_id="known")
        await others[0].finish()
        both = decisions(decide(known.calls()[0]), yes)
        mixed = await resend(b, calls, known, both)
        assert refusal(mixed) is RejectionReason.APPROVAL_UNKNOWN

        assert (len(runs), len(others)) == (0, 1)
        assert reasons((await resend(b, calls, known)).calls()) == ["APPROVAL_REQUIRED", "OK"]
        b.assert_idle()


async def test_a_question_that_was_forgotten_runs_nothing() -> None:
    runs, others = Runs(), Runs()
    tools = (approved(runs), bound("write", others))
    async with bench(*tools, request_retention_s=RETENTION_S) as b:
        calls = [pay(), ToolCall("", "write")]
        turn = await b.start(calls)
        await others[0].finish()
        await b.clock.advance(RETENTION_S + 1)
        late = await resend(b, calls, turn, decide(turn.calls()[0]))

        assert refusal(late) is RejectionReason.APPROVAL_UNKNOWN
        assert (len(runs), len(others)) == (0, 1)


async def test_questions_are_forgotten_in_the_end() -> None:
    async with bench(approved(echo), request_retention_s=RETENTION_S) as b:
        for _ in range(3):
            await b.start([pay()])
        assert b.engine.statistics().remembered == 3
        await b.clock.advance(RETENTION_S + 1)
        await b.start([pay()])
        assert b.engine.statistics().remembered == 1


async def test_each_send_gives_a_human_more_time() -> None:
    async with bench(approved(echo), request_retention_s=RETENTION_S) as b:
        turn = await b.start([pay()])
        for _ in range(3):
            await b.clock.advance(RETENTION_S - 1)
            await b.run([pay("other")])
            await resend(b, [pay()], turn)
        again = await resend(b, [pay()], turn, decide(turn.calls()[0]))
        assert reasons(again.calls()) == ["OK"]


async def test_another_identity_cannot_decide() -> None:
    runs = Runs()
    async with bench(approved(runs)) as b:
        turn = await b.start([pay()], identity="ann")
        yes = decide(turn.calls()[0])
        for identity in ("bob", ""):
            other = await resend(b, [pay()], turn, yes, identity=identity)
            assert refusal(other) is RejectionReason.APPROVAL_UNKNOWN
        assert len(runs) == 0
        await resend(b, [pay()], turn, yes, identity="ann")
        assert len(runs) == 1


@pytest.mark.parametrize(
    "others", [[pay("b")], [], [pay(), pay()], [pay(idempotency_key="k")], [pay(depends_on=("x",))]]
)
async def test_other_calls_are_not_what_was_approved(others: list[ToolCall]) -> None:
    runs = Runs()
    async with bench(approved(runs)) as b:
        turn = await b.start([pay()])
        again = await resend(b, others, turn, decide(turn.calls()[0]))

        assert refusal(again) is RejectionReason.REQUEST_ID_REUSED
        assert len(runs) == 0


async def stream(engine: Engine, calls: list[ToolCall], **options: Any) -> Batch:
    """A turn that was sent call by call, until it is answered."""
    known = await engine.look_up(BatchOptions(**options), None)
    batch = engine.open(BatchOptions(**options), None, known)
    intake = StreamIntake(engine, batch)
    for index, call in enumerate(calls):
        await intake.add(index, call)
    await settle()
    await intake.seal(len(calls))
    await settle()
    assert batch.done.done()
    await engine.remember(batch)
    engine.close(batch)
    return batch


@pytest.mark.parametrize("request_id", ["", "mine"])
async def test_a_streamed_turn_is_decided_as_a_batch(request_id: str) -> None:
    runs = Runs()
    async with bench(approved(runs), bound("echo", echo)) as b:
        calls = [ToolCall("", "echo"), pay()]
        batch = await stream(b.engine, calls, request_id=request_id)
        assert reasons(list(batch.calls.values())) == ["OK", "APPROVAL_REQUIRED"]
        assert batch.request_id == request_id or not request_id
        again = await b.start(calls, request_id=batch.request_id, approvals=decide(batch.calls[1]))
        await runs[0].finish("streamed, then approved")

        assert [text_of(call) for call in again.calls()] == ["done", "streamed, then approved"]
        assert [call.replayed for call in again.calls()] == [True, False]
        b.assert_idle()


async def test_nobody_is_asked_before_the_seal() -> None:
    """Not about a call of a turn that breaks off either."""
    async with bench(approved(echo), approved(echo, "look", effects=Effects.READ_ONLY)) as b:
        batch = b.engine.open(BatchOptions())
        intake = StreamIntake(b.engine, batch)
        await intake.add(0, pay())
        await intake.add(1, ToolCall("", "look", '{"text": "a"}'))
        await settle()
        assert [call.asked for call in batch.calls.values()] == [None, None]
        intake.abandon("gone")
        await settle()

        assert reasons(list(batch.calls.values())) == ["CANCELLED", "CANCELLED"]
        assert batch.request_id == ""
        b.engine.close(batch)
        b.assert_idle()


async def test_a_drained_sidecar_serves_what_it_knows_and_runs_nothing() -> None:
    runs = Runs()
    async with bench(approved(runs), bound("echo", echo)) as b:
        calls = [pay(), ToolCall("", "echo")]
        turn = await b.start(calls)
        b.engine.refuse_batches()
        again = await resend(b, calls, turn, decide(turn.calls()[0]))

        assert reasons(again.calls()) == ["DRAINING", "OK"]
        assert len(runs) == 0


async def test_what_a_human_sees_is_text_whatever_is_in_it() -> None:
    async with bench(approved(echo)) as b:
        raw = '{"text": "\\ud800 \\u0000 é $ref:"}'
        turn = await b.start([ToolCall("", "pay", raw)])
        shown = asked(turn.calls()[0]).arguments
        shown.encode()

        assert json.loads(shown) == {"text": "\ud800 \x00 é $ref:", "count": 5}


async def test_a_large_turn_is_remembered_in_short_steps() -> None:
    calls = [pay(), *(ToolCall("", "echo") for _ in range(2_000))]
    async with bench(approved(echo), bound("echo", echo)) as b:
        turn: Turn = await b.start(calls)
        while not turn.done:
            await settle()
        again = await resend(b, calls, turn, decide(turn.calls()[0]))
        while not again.done:
            await settle()

        assert sum(call.replayed for call in again.calls()) == 2_000
        assert text_of(again.calls()[0]) == "a"


async def test_arguments_are_those_of_the_question_and_not_of_the_tool() -> None:
    kept: list[Call] = []

    async def spoil(call: Call) -> str:
        kept.append(call)
        call.arguments["text"] = "spoilt"
        return "ran"

    async with bench(approved(spoil)) as b:
        turn = await b.start([pay()])
        await resend(b, [pay()], turn, decide(turn.calls()[0]))
        third = await resend(b, [pay()], turn)

        assert reasons(third.calls()) == ["OK"]
        assert len(kept) == 1
