"""The one table of defaults. GetCapabilities, the documents and the command line show it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one sidecar.

    Attributes:
        max_calls_per_batch: Most calls that one batch may hold.
        max_open_batches: Most batches that may be open at a time.
        max_message_bytes: Largest message in bytes, received or sent.
        max_argument_depth: Deepest nesting of arrays and objects in arguments.
        max_concurrency: Most attempts that run at a time; one tool takes at most half.
        max_batch_concurrency: Most attempts of one batch that run at a time.
        max_queue: Most calls of one tool that are ready and wait.
        max_threads: Threads for tools that block.
        max_processes: Processes for tools with isolation "process".
        timeout_s: Seconds that an attempt may take.
        queue_timeout_s: Seconds that a ready call may wait.
        max_resolved_bytes: Bytes of the values that references of one batch stand for.
        stream_start_timeout_s: Seconds that the first message of a stream may take.
        stream_idle_timeout_s: Seconds without a message after which a turn that is not
            sealed is abandoned.
        max_response_bytes: Bytes that the results of one batch may take together.
        max_context_entries: Most entries of a batch's context.
        max_context_value_bytes: Largest key or value of a batch's context.
        request_retention_s: Seconds for which the outcomes of a batch with a request id are
            remembered after its end.
        session_retention_s: Seconds for which a session's results are kept after its last
            use.
        max_remembered_bytes: Bytes of the outcomes that are remembered by request id.
        max_session_bytes: Bytes of the results that sessions keep; one of them at most half.
        max_cache_bytes: Bytes of the results that answer identical calls.
        max_hosts: Most hosts of tools that may be attached at a time.
        host_silence_timeout_s: Seconds without a message after which a host is taken for
            gone; a third of it lies between heartbeats.
        host_retention_s: Seconds for which a tool stays known after its last host was
            detached.
    """

    max_calls_per_batch: int = 10_000
    max_open_batches: int = 1_024
    max_message_bytes: int = 16 * 1024 * 1024
    max_argument_depth: int = 128
    max_concurrency: int = 1_024
    max_batch_concurrency: int = 512
    max_queue: int = 10_000
    max_threads: int = 256
    max_processes: int = 2
    timeout_s: float = 60.0
    queue_timeout_s: float = 60.0
    max_resolved_bytes: int = 64 * 1024 * 1024
    stream_start_timeout_s: float = 10.0
    stream_idle_timeout_s: float = 60.0
    max_response_bytes: int = 3_670_016
    max_context_entries: int = 64
    max_context_value_bytes: int = 4_096
    request_retention_s: float = 600.0
    session_retention_s: float = 1_800.0
    max_remembered_bytes: int = 64 * 1024 * 1024
    max_session_bytes: int = 16 * 1024 * 1024
    max_cache_bytes: int = 64 * 1024 * 1024
    max_hosts: int = 256
    host_silence_timeout_s: float = 30.0
    host_retention_s: float = 600.0

    @property
    def max_tool_concurrency(self) -> int:
        """Share of the global bound that one tool takes at most."""
        return max(1, self.max_concurrency // 2)
