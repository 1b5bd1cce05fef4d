"""Digests of what must be the same where calls are sent again."""

import hashlib
import json

from sidecall_server.core.call import Arguments, BatchOptions, ToolCall


def call_digest(request: ToolCall) -> bytes:
    """Digest of what makes a call what it is; its time is none of that."""
    parts = (request.id, request.name, request.arguments, request.idempotency_key)
    return _digest(*parts, *request.depends_on)


def options_digest(options: BatchOptions) -> bytes:
    """Digest of what holds for all calls of a batch and decides on their results."""
    facts = (options.mode.value, options.on_failure.value, str(options.references))
    context = [text for item in sorted(options.context.items()) for text in item]
    return _digest(*facts, options.session_id, *context)


def arguments_digest(values: Arguments) -> bytes:
    """Digest of arguments; the order of keys does not matter."""
    return _digest(json.dumps(values, sort_keys=True, separators=(",", ":")))


def _digest(*texts: str) -> bytes:
    # Each with its length: otherwise texts could be cut elsewhere.
    data = [text.encode("utf-8", "surrogatepass") for text in texts]
    return hashlib.sha256(b"".join(b"%d:%b" % (len(item), item) for item in data)).digest()[:16]
