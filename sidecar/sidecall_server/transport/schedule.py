"""Why a batch took as long as it did, as a message."""

from sidecall.v1 import execution_pb2
from sidecall_server.core.critical_path import Happened, explain
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.bugs import internal_error


def fill_schedule(message: execution_pb2.Schedule, batch: Batch) -> None:
    """Writes the schedule of a batch whose calls are all final; nothing where that fails."""
    try:
        schedule = explain(
            Happened(batch.calls, batch.received_ns, batch.options.mode, batch.edges, batch.order)
        )
        message.duration_ns = schedule.duration_ns
        message.sequential_ns = schedule.sequential_ns
        message.speed_up = schedule.speed_up
        for step in schedule.critical_path:
            written = message.critical_path.add()
            written.index = step.index
            written.cause = execution_pb2.BlockCause.ValueType(step.cause)
            written.waiting_ns = step.waiting_ns
            written.running_ns = step.running_ns
    except Exception:
        message.Clear()
        internal_error("explaining a batch")
