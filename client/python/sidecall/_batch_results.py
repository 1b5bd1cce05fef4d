"""The results of a batch, and what is told about the batch as a whole."""

from collections.abc import Iterable

from sidecall.v1.execution_pb2 import Schedule, ToolResult


class BatchResults(list[ToolResult]):
    """One result per call, in call order.

    Attributes:
        request_id: Key under which the batch may be sent again without running a call
            twice: that of the request, or one that the sidecar made because a call waits for
            approval. Empty where there is none.
        schedule: How long the batch took, and why.
    """

    def __init__(
        self,
        results: Iterable[ToolResult] = (),
        request_id: str = "",
        schedule: Schedule | None = None,
    ) -> None:
        """Takes the results."""
        super().__init__(results)
        self.request_id = request_id
        self.schedule = Schedule() if schedule is None else schedule
