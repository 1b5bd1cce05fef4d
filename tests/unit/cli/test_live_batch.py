import io

from google.rpc import error_details_pb2
from rich.console import Console

from sidecall import ToolResult
from sidecall.v1 import tool_service_pb2 as pb
from sidecall.v1.execution_pb2 import (
    BLOCK_CAUSE_GLOBAL_LIMIT,
    BLOCK_CAUSE_REFERENCE,
    CallTiming,
)
from sidecall_server.cli.live_batch import BatchView, CallView


def view(count: int = 3) -> BatchView:
    now = iter(range(100))
    return BatchView([CallView(f"tool_{n}") for n in range(count)], clock=lambda: float(next(now)))


def finished(index: int, result: ToolResult) -> pb.BatchEvent:
    return pb.BatchEvent(result=pb.CallFinished(index=index, result=result))


def test_states() -> None:
    batch = view()
    batch.take(
        pb.BatchEvent(
            queued=pb.CallQueued(index=1, cause=BLOCK_CAUSE_REFERENCE, waiting_for=[0, 2])
        )
    )
    batch.take(pb.BatchEvent(queued=pb.CallQueued(index=2, cause=BLOCK_CAUSE_GLOBAL_LIMIT)))
    batch.take(pb.BatchEvent(started=pb.CallStarted(index=0, attempt=1)))
    assert [call.state for call in batch.calls] == [
        "running",
        "waits for @1, @3",
        "waits for the sidecar's limit",
    ]
    batch.take(pb.BatchEvent(started=pb.CallStarted(index=0, attempt=2)))
    assert batch.calls[0].state == "running, attempt 2"


def test_the_time_of_a_running_call_goes_on() -> None:
    batch = view()
    assert batch.elapsed_s(batch.calls[0]) is None
    batch.take(pb.BatchEvent(started=pb.CallStarted(index=0, attempt=1)))
    assert batch.elapsed_s(batch.calls[0]) == 1.0
    assert batch.elapsed_s(batch.calls[0]) == 2.0


def test_a_result_says_how_long_it_ran() -> None:
    batch = view()
    timing = CallTiming(started_offset_ns=500_000_000, finished_offset_ns=2_000_000_000)
    batch.take(finished(0, ToolResult(content="fine", timing=timing)))
    assert batch.calls[0].state == "ok"
    assert batch.calls[0].note == "fine"
    assert batch.elapsed_s(batch.calls[0]) == 1.5


def test_a_call_that_never_started_has_no_time() -> None:
    batch = view()
    result = ToolResult(content="no such tool")
    result.status.code = 5
    batch.take(finished(0, result))
    assert batch.calls[0].state == "NOT_FOUND"
    assert batch.elapsed_s(batch.calls[0]) is None


def test_progress_and_output() -> None:
    batch = view()
    batch.take(
        pb.BatchEvent(progress=pb.CallProgress(index=0, progress=3, total=7, message="files"))
    )
    batch.take(pb.BatchEvent(partial_output=pb.CallPartialOutput(index=1, text="first\nsecond\n")))
    assert [call.note for call in batch.calls] == ["3/7 files", "second", ""]


def test_unknown_events_are_ignored() -> None:
    batch = view()
    batch.take(pb.BatchEvent())
    batch.take(pb.BatchEvent(accepted=pb.BatchAccepted()))
    assert [call.state for call in batch.calls] == ["sent", "sent", "sent"]


def test_of_many_calls_the_running_ones_are_drawn() -> None:
    batch = view(500)
    batch.take(pb.BatchEvent(started=pb.CallStarted(index=400, attempt=1)))
    out = io.StringIO()
    Console(file=out, width=100).print(batch)
    assert "tool_400" in out.getvalue()
    assert len(out.getvalue().splitlines()) < 40
    assert "0 of 500 done" in out.getvalue()


def test_what_waits_for_a_person_is_done_for_now() -> None:
    batch = view(2)
    asked = ToolResult(content="Not run: a person has to approve this.")
    asked.status.code = 9
    detail = error_details_pb2.ErrorInfo(reason="APPROVAL_REQUIRED", domain="sidecall.dev")
    asked.status.details.add().Pack(detail)
    batch.take(finished(0, asked))
    batch.take(finished(1, ToolResult(content="did it", replayed=True)))
    assert [(call.state, call.style) for call in batch.calls] == [
        ("waits for approval", "cyan"),
        ("ok, kept", "green"),
    ]
    out = io.StringIO()
    Console(file=out, width=80).print(batch)
    assert "2 of 2 done" in out.getvalue()
