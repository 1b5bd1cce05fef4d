import copy
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2

from sidecall import BatchResults, ToolResult, approve, pending_approvals, reject
from sidecall.v1 import DECISION_APPROVE, DECISION_REJECT, Schedule


def waiting(approval_id: str, reason: str = "APPROVAL_REQUIRED") -> ToolResult:
    result = ToolResult(approval_id=approval_id)
    result.status.code = 9
    info = AnyMessage()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="sidecall.dev"))
    result.status.details.append(info)
    return result


def test_what_waits_for_a_human_is_found() -> None:
    first, second = waiting("a"), waiting("b")
    later_in_order, decided = waiting(""), waiting("c", "APPROVAL_REJECTED")
    results = [ToolResult(), first, later_in_order, decided, second]
    assert pending_approvals(results) == [first, second]


def test_an_approval() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    approval = approve(waiting("a"), by="ada")
    assert approval.decision == DECISION_APPROVE
    assert (approval.approval_id, approval.decided_by) == ("a", "ada")
    assert not approval.HasField("arguments")
    assert before <= approval.decide_time.ToDatetime(UTC) <= datetime.now(UTC)


def test_a_rejection_by_id() -> None:
    when = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
    approval = reject("a", by="ada", comment="Too \ud800 much.", when=when)
    assert approval.decision == DECISION_REJECT
    assert approval.comment == "Too \\ud800 much."
    assert approval.decide_time.ToDatetime(UTC) == when


@pytest.mark.parametrize("arguments", ['{"x": 1}', {"x": 1}])
def test_edited_arguments(arguments: Any) -> None:
    assert approve("a", arguments=arguments).arguments == '{"x": 1}'


def test_what_makes_no_sense_is_refused() -> None:
    number: Any = 3
    with pytest.raises(ValueError, match="does not wait"):
        approve(ToolResult())
    with pytest.raises(ValueError, match="does not wait"):
        reject("")
    with pytest.raises(ValueError, match="time zone"):
        approve("a", when=datetime(2026, 11, 22))  # noqa: DTZ001  that is the point
    with pytest.raises(TypeError, match="arguments"):
        approve("a", arguments=number)
    with pytest.raises(TypeError, match="by must be text"):
        reject("a", by=number)


def test_batch_results_are_a_list_that_knows_its_batch() -> None:
    results = BatchResults([ToolResult(call_id="a")], "r", Schedule(duration_ns=7))
    assert results == [ToolResult(call_id="a")]
    for same in (copy.copy(results), pickle.loads(pickle.dumps(results))):  # noqa: S301  our own
        assert (same, same.request_id, same.schedule.duration_ns) == (results, "r", 7)
    assert BatchResults().schedule == Schedule()
