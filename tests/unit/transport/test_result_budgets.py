"""Results are cut so that they fit, parts included."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall import File, Image, Link, reason_of
from sidecall.v1.execution_pb2 import ResultPart, ToolResult
from sidecall_server.backends.rendering import success_of
from sidecall_server.core.call import Approval, Asked, BatchOptions, Call, FailedAttempt, ToolCall
from sidecall_server.core.outcome import (
    BlobPart,
    ExecutionState,
    Failure,
    JsonPart,
    LinkPart,
    Part,
    Reason,
    Success,
    TextPart,
)
from sidecall_server.policy.budget import MARKER_BYTES, Sizes
from sidecall_server.transport import result_budgets
from sidecall_server.transport.result_budgets import fit, fit_result
from sidecall_server.transport.result_parts import LEFT_OUT_BYTES, leave_out
from sidecall_server.transport.results import fill_result
from sidecall_server.transport.status import thin_status

PNG = b"\x89PNG\r\n\x1a\n"


def result_of(value: Any, max_bytes: int | None = None, **facts: Any) -> ToolResult:
    call = Call(0, ToolCall("call-1", "t"), BatchOptions(), None, 1_000)
    call.outcome = value if isinstance(value, Failure) else success_of(value)
    call.finished_ns = 9_000
    for name, fact in facts.items():
        setattr(call, name, fact)
    result = ToolResult()
    fill_result(result, call, 5, max_bytes)
    return result


def image(size: int, name: str = "") -> Image:
    return Image(PNG + bytes(size - len(PNG)), name=name)


def fitted(results: list[ToolResult], max_bytes: int) -> list[ToolResult]:
    for _ in fit(results, max_bytes):
        pass
    return results


def kinds(result: ToolResult) -> list[str | None]:
    return [part.WhichOneof("part") for part in result.parts]


def size_of(results: list[ToolResult]) -> int:
    """What a response takes that holds the results."""
    return sum(result.ByteSize() + 6 for result in results)


def test_a_result_within_the_budget_stays_whole() -> None:
    value = ["text", image(5_000), {"a": 1}]
    result = result_of(value)
    assert fitted([result], 6_000) == [result_of(value)]
    assert kinds(result) == ["text", "blob", "json"]
    assert not result.truncated


def test_the_largest_image_is_left_out_first() -> None:
    results = [
        result_of(["small", image(5_000, "a.png")]),
        result_of(["large", image(50_000, "b.png"), image(6_000, "c.png")]),
    ]
    fitted(results, 20_000)
    assert [kinds(result) for result in results] == [["text", "blob"], ["text", "text", "blob"]]
    note = "[image/png, 50000 bytes: b.png; left out because it is too large]"
    assert results[1].parts[1].text == note
    assert results[1].content == f"large\n{note}\n[image/png, 6000 bytes: c.png]"
    assert [result.truncated for result in results] == [False, True]


def test_of_equal_images_the_first_are_kept_that_fit() -> None:
    results = [result_of(image(10_000)) for _ in range(4)]
    fitted(results, 25_000)
    assert sorted(kinds(result) for result in results) == [["blob"], ["blob"], ["text"], ["text"]]


def test_a_large_text_is_cut_and_small_images_stay() -> None:
    result = result_of(["BEGIN" + "x" * 50_000 + "END", image(3_000), {"a": 1}])
    fitted([result], 20_000)
    assert kinds(result) == ["text", "blob"]
    assert result.parts[0].text == result.content
    assert result.content.startswith("BEGINx")
    assert result.content.endswith('{"a":1}')
    assert result.truncated
    assert size_of([result]) <= 20_000


def test_a_link_with_a_huge_address_is_left_out() -> None:
    result = result_of(Link("data:text/plain," + "x" * 50_000))
    fitted([result], 3_000)
    assert kinds(result) == ["text"]
    assert "left out" in result.content
    assert len(result.content) < 200


def test_earlier_attempts_go_where_nothing_else_helps() -> None:
    failure = Failure(Reason.TOOL_FAILED, "broken " * 100, ExecutionState.COMPLETED)
    attempts = (FailedAttempt(failure, 2_000, 3_000),) * 20
    results = [result_of("done", failed_attempts=attempts) for _ in range(20)]
    fitted(results, 200_000)
    assert all(len(result.failed_attempts) == 20 for result in results)
    fitted(results, 10_000)
    assert size_of(results) <= 10_000
    assert [result.content for result in results] == ["done"] * 20


def test_who_decided_goes_before_texts_do() -> None:
    by = Approval(approved=True, decided_by="b" * 256)
    results = [result_of("done", decision=by) for _ in range(20)]
    assert results[0].approval_decision.decided_by == by.decided_by
    fitted(results, 3_000)
    assert size_of(results) <= 3_000
    assert [result.content for result in results] == ["done"] * 20


def question(size: int, approval_id: str = "approval-1") -> ToolResult:
    asked = Asked(approval_id, json.dumps({"text": "x" * size}))
    pending = Failure(Reason.APPROVAL_REQUIRED, "Wait.", ExecutionState.NOT_STARTED)
    return result_of(pending, asked=asked)


def test_what_a_human_is_asked_is_never_cut() -> None:
    whole = question(4_000).approval_arguments
    results = [question(4_000), result_of(["x" * 50_000, image(3_000)])]
    fitted(results, 6_000)
    assert size_of(results) <= 6_000
    assert [result.truncated for result in results] == [False, True]
    assert (results[0].approval_id, results[0].approval_arguments) == ("approval-1", whole)
    fit_result(results[0], 100)
    assert results[0].approval_arguments == whole, "a tool's bound is for its results"


def test_questions_that_do_not_fit_are_not_asked_the_largest_first() -> None:
    results = [question(size, str(size)) for size in (3_000, 9_000, 1_000, 5_000, 2_000)]
    fitted(results, 9_000)
    assert size_of(results) <= 9_000
    assert [result.approval_id for result in results] == ["3000", "", "1000", "", "2000"]
    assert [bool(result.approval_arguments) for result in results] == [
        bool(result.approval_id) for result in results
    ]
    for result in (results[1], results[3]):
        assert result.truncated
        assert "larger max_response_bytes" in result.content
        assert reason_of(result) == "APPROVAL_REQUIRED"


@given(st.lists(st.integers(0, 9_000), min_size=1, max_size=8), st.integers(0, 40_000))
def test_a_question_is_asked_whole_or_not_at_all(sizes: list[int], spare_bytes: int) -> None:
    results = [question(size) for size in sizes]
    before = [ToolResult.FromString(result.SerializeToString()) for result in results]
    max_bytes = len(results) * 400 + spare_bytes
    fitted(results, max_bytes)
    assert size_of(results) <= max_bytes
    for result, original in zip(results, before, strict=True):
        arguments = original.approval_arguments if result.approval_id else ""
        assert result.approval_arguments == arguments
        assert result.truncated or result == original


def test_the_bound_of_a_tool_counts_content_and_images() -> None:
    result = result_of(["x" * 3_000, image(900), image(5_000)], 5_000)
    assert kinds(result) == ["text", "blob", "text"]
    assert result.truncated
    result = result_of(["x" * 3_000, image(900)], 5_000)
    assert not result.truncated
    result = result_of(list(range(10_000)), 500)
    assert result.truncated
    assert len(result.content) <= 500
    assert json.loads(result.content)[0] == 0


def test_the_bound_of_a_tool_holds_for_its_errors() -> None:
    result = result_of(Failure(Reason.TOOL_FAILED, "x" * 900, ExecutionState.COMPLETED), 300)
    assert len(result.content) <= 300
    assert result.truncated


def test_a_bound_that_is_kept_changes_nothing() -> None:
    result = result_of(["text", image(100)])
    fit_result(result, 200)
    assert result == result_of(["text", image(100)])


def test_history_is_written() -> None:
    failure = Failure(Reason.TOOL_TIMEOUT, "Too slow.", ExecutionState.UNKNOWN)
    attempts = (FailedAttempt(failure, 2_000, 3_000), FailedAttempt(failure, 0, 4_000))
    result = result_of("done", failed_attempts=attempts, replayed=True, coalesced=True)
    assert (result.replayed, result.coalesced, result.approval_id) == (True, True, "")
    first, second = result.failed_attempts
    assert (first.status.message, first.status.code) == ("Too slow.", 4)
    assert (first.started_offset_ns, first.finished_offset_ns) == (1_000, 2_000)
    assert not second.HasField("started_offset_ns")
    assert second.finished_offset_ns == 3_000


def test_attempts_of_a_call_that_was_joined_may_have_ended_before_the_receipt() -> None:
    failure = Failure(Reason.TOOL_TIMEOUT, "Too slow.", ExecutionState.UNKNOWN)
    attempts = (FailedAttempt(failure, 200, 300), FailedAttempt(failure, 900, 1_500))
    first, second = result_of("done", failed_attempts=attempts, replayed=True).failed_attempts
    assert (first.started_offset_ns, first.finished_offset_ns) == (0, 0)
    assert first.HasField("started_offset_ns")
    assert (second.started_offset_ns, second.finished_offset_ns) == (0, 500)


def test_sizes_are_arranged_once_however_many_parts_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arranged: list[int] = []

    class Counted(Sizes):
        def __init__(self, sizes: Iterable[int]) -> None:
            kept = list(sizes)
            arranged.append(len(kept))
            super().__init__(kept)

    monkeypatch.setattr(result_budgets, "Sizes", Counted)
    results = [result_of([image(2_000 + n), image(2_000 + n)]) for n in range(300)]
    fitted(results, 300_000)

    assert size_of(results) <= 300_000
    assert any(kinds(result) != ["blob", "blob"] for result in results)
    assert sum(arranged) <= 3 * 300


TEXTS = st.text(max_size=30) | st.integers(0, 4_000).map(lambda size: "x" * size)
PARTS: st.SearchStrategy[Part] = st.one_of(
    TEXTS.map(TextPart),
    TEXTS.map(JsonPart),
    st.builds(BlobPart, st.just("image/png"), st.integers(0, 9_000).map(bytes), TEXTS),
    st.builds(LinkPart, TEXTS, st.just("text/html"), TEXTS),
)
OUTCOMES = TEXTS | st.lists(PARTS, min_size=1, max_size=5)


def written(outcome: str | list[Part]) -> ToolResult:
    call = Call(0, ToolCall("call-1", "t"), BatchOptions(), None, 1_000)
    if isinstance(outcome, str):
        call.outcome = Success(outcome)
    else:
        call.outcome = Success("", False, tuple(outcome))
    result = ToolResult()
    fill_result(result, call, 5)
    if result.parts:
        result.content = "\n".join(_line(part) for part in result.parts) or "-"
    return result


def _line(part: ResultPart) -> str:
    return part.text or part.json or part.link.uri + part.link.name + part.blob.name + "x" * 60


@given(st.lists(OUTCOMES, min_size=1, max_size=12), st.integers(0, 40_000))
def test_results_fit_any_budget_that_leaves_room_for_markers(
    outcomes: list[str | list[Part]], spare_bytes: int
) -> None:
    results = [written(outcome) for outcome in outcomes]
    before = [ToolResult.FromString(result.SerializeToString()) for result in results]
    max_bytes = len(results) * 200 + spare_bytes
    fitted(results, max_bytes)
    assert size_of(results) <= max_bytes
    for result, original in zip(results, before, strict=True):
        assert result.content
        assert result.truncated or result == original
        whole = [part for part in original.parts if part.HasField("blob")]
        assert all(part in whole for part in result.parts if part.HasField("blob"))


@pytest.mark.parametrize("letter", ["a", "\U0001f600"])
def test_what_is_left_out_takes_no_more_than_is_planned_for(letter: str) -> None:
    name = letter * 60
    for part in (File(bytes(10_000), "a/" + "b" * 60, name), Link("https://" + name * 99)):
        result = result_of([part])
        bare = result.ByteSize() - len(result.content.encode()) - result.parts[0].ByteSize()
        leave_out(result, [0])
        assert result.ByteSize() - bare <= LEFT_OUT_BYTES
        assert "too large" in result.content


def dependants(count: int, message: str = "") -> list[ToolResult]:
    text = (
        message
        or "Not run: it depends on the call @1 of 'wire', which has no result (TOOL_FAILED)."
    )
    failure = Failure(
        Reason.DEPENDENCY_FAILED,
        text,
        ExecutionState.NOT_STARTED,
        metadata={"call_index": "0", "reason": "TOOL_FAILED"},
    )
    return [result_of(failure) for _ in range(count)]


def test_what_is_said_twice_goes_before_short_texts_are_cut() -> None:
    results = dependants(100, "It says what to do. " * 9)
    whole = results[0].content
    fitted(results, size_of(results) - 100 * 100)
    assert {result.content for result in results} == {whole}
    assert {reason_of(result) for result in results} == {"DEPENDENCY_FAILED"}


def test_a_status_that_is_thinned_still_begins_with_what_happened() -> None:
    results = dependants(100)
    fitted(results, size_of(results) - 100 * 10)
    for result in results:
        assert result.status.message.startswith("Not run: it depends on the call @1")
        assert result.status.message.endswith("...")
        assert len(result.status.message) <= 64


@pytest.mark.parametrize("room", [58, 64, 70])
def test_a_failure_that_has_little_room_says_its_reason(room: int) -> None:
    results = dependants(100, "It says what to do. " * 9)
    for result in results:
        thin_status(result.status)
    fixed = size_of(results) - 100 * len(results[0].content)
    fitted(results, fixed + 100 * (room + 16))
    assert size_of(results) <= fixed + 100 * (room + 16)
    contents = {result.content for result in results}
    assert contents == {"Not run: DEPENDENCY_FAILED; cut for lack of room."}
    assert all(result.truncated for result in results)


@pytest.mark.parametrize(
    ("state", "begin"),
    [
        (ExecutionState.NOT_STARTED, "Not run: "),
        (ExecutionState.COMPLETED, "Failed: "),
        (ExecutionState.UNKNOWN, "May have run: "),
    ],
)
@pytest.mark.parametrize("reason", Reason)
def test_what_a_failure_says_at_least(state: ExecutionState, begin: str, reason: Reason) -> None:
    result = result_of(Failure(reason, "x" * 500, state))
    fitted([result], 100)
    assert result.content == f"{begin}{reason.name}; cut for lack of room."
    assert len(result.content) <= MARKER_BYTES


def test_an_image_that_is_left_out_is_said_to_be_however_little_room_there_is() -> None:
    result = result_of(["Here it is", image(2_008), Link("https://example.org/x")])
    fitted([result], 300)
    assert kinds(result) == []
    assert result.truncated
    assert result.content == (
        "Here it is\n[image/png, 2008 bytes; left out because it is too large]\n"
        "[link: https://example.org/x]"
    )
