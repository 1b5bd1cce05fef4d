import io
import re
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from sidecall.v1.execution_pb2 import (
    EXECUTION_STATE_COMPLETED,
    EXECUTION_STATE_NOT_STARTED,
    EXECUTION_STATE_UNKNOWN,
    CallTiming,
    ToolResult,
)
from sidecall_server.cli.waterfall import BLOCKED, Waterfall, draw

MS = 1_000_000


def made(
    name: str, started_ms: int | None, finished_ms: int, *, received_ms: int = 0, **blocked_ms: int
) -> ToolResult:
    """A result that is OK if its call was started."""
    timing = CallTiming(
        received_unix_nanos=1_700_000_000_000_000_000 + received_ms * MS,
        finished_offset_ns=finished_ms * MS,
        **{f"blocked_on_{cause}_ns": time * MS for cause, time in blocked_ms.items()},
    )
    if started_ms is not None:
        timing.started_offset_ns = started_ms * MS
    return ToolResult(
        name=name, content="x", execution_state=EXECUTION_STATE_COMPLETED, timing=timing
    )


def failed(result: ToolResult, code: int, reason: str, state: Any) -> ToolResult:
    detail = AnyMessage()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="sidecall.dev"))
    result.status.code = code
    result.status.details.append(detail)
    result.execution_state = state
    return result


def batch() -> list[ToolResult]:
    return [
        made("find", 0, 400),
        made("weather", 400, 800, reference=400),
        made("slow", 600, 1000, tool_limit=600),
        failed(
            made("hangs", 0, 200),
            code_pb2.DEADLINE_EXCEEDED,
            "TOOL_TIMEOUT",
            EXECUTION_STATE_UNKNOWN,
        ),
        failed(
            made("wether", None, 0),
            code_pb2.NOT_FOUND,
            "TOOL_NOT_FOUND",
            EXECUTION_STATE_NOT_STARTED,
        ),
        failed(
            made("raises", 500, 600, order=250),
            code_pb2.UNKNOWN,
            "TOOL_FAILED",
            EXECUTION_STATE_COMPLETED,
        ),
    ]


PICTURE = """\
   call     0                                 1.00 s     start      ran outcome
@1 find    |================                        |     0 us   400 ms ok
@2 weather |rrrrrrrrrrrrrrrr================        |   400 ms   400 ms ok
@3 slow    |tttttttttttttttttttttttt================|   600 ms   400 ms ok
@4 hangs   |????????                                |     0 us   200 ms TOOL_TIMEOUT
@5 wether  |                                        |        -        - TOOL_NOT_FOUND
@6 raises  |oooooooooo..........!!!!                |   500 ms   100 ms TOOL_FAILED
total 1.00 s; one after the other 1.50 s; 1.5 times as fast
== running   !! running, failed   ?? running, end unknown
rr waits for another call's result   oo waits for its turn
tt waits for its tool's limit   .. queued"""


def test_what_waits_for_a_person_stands_in_no_queue() -> None:
    asked = failed(
        made("pay", None, 1000, reference=500),
        code_pb2.FAILED_PRECONDITION,
        "APPROVAL_REQUIRED",
        EXECUTION_STATE_NOT_STARTED,
    )
    picture = Waterfall([made("find", 0, 1000), asked]).plain(86)
    assert re.search(r"^@2 pay +\|r+ +\| ", picture, re.MULTILINE)
    assert "queued" not in picture


def test_what_waits_for_a_person_did_not_fail() -> None:
    asked = failed(
        made("pay", None, 1000),
        code_pb2.FAILED_PRECONDITION,
        "APPROVAL_REQUIRED",
        EXECUTION_STATE_NOT_STARTED,
    )
    assert "- waits for approval\n" in Waterfall([asked]).plain(86)


def test_what_was_kept_from_an_earlier_send_stood_in_no_queue() -> None:
    kept = made("find", None, 1)
    kept.replayed = True
    picture = Waterfall([kept, made("find", 0, 1000)]).plain(86)
    assert re.search(r"^@1 find +\|k +\|.* ok$", picture, re.MULTILINE)
    assert picture.endswith("== running   kk kept from an earlier send")


def test_picture() -> None:
    assert Waterfall(batch()).plain(86) == PICTURE


def test_a_terminal_gets_the_same_picture_in_blocks() -> None:
    out = io.StringIO()
    draw(Console(file=out, width=86, force_terminal=True, color_system=None), batch())
    drawn = [line.rstrip() for line in out.getvalue().splitlines()]
    letters = str.maketrans("█┄▒╌·", "=rto.")
    as_letters = [line.translate(letters) for line in drawn]
    assert as_letters[:4] == PICTURE.splitlines()[:4]
    assert "│" not in drawn[1]
    assert "████" in drawn[1]


def test_a_pipe_gets_the_plain_picture() -> None:
    out = io.StringIO()
    draw(Console(file=out, width=86), batch())
    assert out.getvalue() == PICTURE + "\n"


def test_calls_that_were_received_later_begin_later() -> None:
    results = [made("a", 0, 500), made("b", 0, 500, received_ms=500)]
    first, second = Waterfall(results).plain(100).splitlines()[1:3]
    assert first.index("=") < first.rindex("=") < second.index("=")
    assert Waterfall(results).total_ns == 1000 * MS
    assert Waterfall(results).sequential_ns == 1000 * MS


def test_ids_are_shown_where_there_is_room() -> None:
    result = made("a", 0, 1)
    result.call_id = "call_7"
    assert "call_7" in Waterfall([result]).plain(120)
    assert "call_7" not in Waterfall([result]).plain(60)


@pytest.mark.parametrize("field", list(BLOCKED))
def test_each_cause_has_a_letter_and_a_legend(field: str) -> None:
    cause = field.removeprefix("blocked_on_").removesuffix("_ns")
    picture = Waterfall([made("a", 500, 1000, **{cause: 500})]).plain()
    phase = BLOCKED[field]
    assert phase.letter * 5 in picture
    assert f"{phase.letter * 2} {phase.meaning}" in picture


def test_causes_cover_the_contract() -> None:
    fields = {f.name for f in CallTiming.DESCRIPTOR.fields if f.name.startswith("blocked_on_")}
    assert fields == set(BLOCKED)
    letters = [phase.letter for phase in BLOCKED.values()]
    assert len(set(letters)) == len(letters)


def test_attempts_that_failed_are_shown_where_they_were() -> None:
    result = made("a", 750, 1000, tool_limit=250, backoff=125)
    result.failed_attempts.add(started_offset_ns=250 * MS, finished_offset_ns=500 * MS)
    result.failed_attempts.add(finished_offset_ns=500 * MS)
    bar = Waterfall([result]).plain(80).splitlines()[1].split("|")[1]
    size = len(bar) // 8
    marks = "".join(bar[size * eighth + size // 2] for eighth in range(8))
    assert marks == "tt!!a.=="


def test_no_calls() -> None:
    assert Waterfall([]).plain() == "no calls"


def test_instant_calls() -> None:
    assert "ok" in Waterfall([made("a", 0, 0)]).plain()


def test_of_many_calls_the_first_and_the_last_are_shown() -> None:
    lines = Waterfall([made(f"tool_{n}", 0, 10) for n in range(1000)]).plain().splitlines()
    assert len(lines) < 70
    assert any("940 more calls" in line for line in lines)
    assert any("tool_0 " in line for line in lines)
    assert any("tool_999 " in line for line in lines)


ODD_NAMES = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    [
        "天気を取得する",
        "e\u0301te\u0301",
        "👩‍👩‍👧 family",
        "a\tb\nc",
        "\x1b[31mred",
        "\u200f\u05e9\u05dc\u05d5\u05dd",
        "x" * 200,
        "",
    ]
)


@given(st.lists(ODD_NAMES, min_size=1, max_size=8), st.integers(64, 200))
def test_odd_names_do_not_break_the_alignment(names: list[str], width: int) -> None:
    results = [made(name, number * 10, number * 10 + 5) for number, name in enumerate(names)]
    for number, result in enumerate(results):
        result.call_id = names[-number]
    head, *rows = Waterfall(results).plain(width).splitlines()[: len(names) + 1]
    edges = set()
    for row in rows:
        assert cell_len(row) <= width
        left, bar, right = _split(row)
        edges.add((cell_len(left), cell_len(bar)))
        assert right.split()[-1] == "ok"
    assert len(edges) == 1
    assert head.endswith("outcome")
    assert cell_len(head) <= width


def _split(row: str) -> tuple[str, str, str]:
    """Left of the bar, the bar, right of it; a name may hold a bar of its own."""
    rest, _, right = row.rpartition("|")
    left, _, bar = rest.rpartition("|")
    return left, bar, right


def test_what_never_ran_has_no_speed() -> None:
    picture = Waterfall([failed(made("a", None, 5), 5, "NOT_FOUND", 0)]).plain()
    assert "total 5 ms\n" in picture + "\n"
    assert "as fast" not in picture
