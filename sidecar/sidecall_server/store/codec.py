"""Records as columns of a database, and back.

An outcome is one blob: the length of its header, the header as JSON, then the texts and
bytes that the header gives the sizes of. Those are the bulk, and JSON would copy them
character by character.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from sidecall_server.core.call import Approval
from sidecall_server.core.outcome import (
    BlobPart,
    Code,
    ExecutionState,
    Failure,
    JsonPart,
    LinkPart,
    Outcome,
    Part,
    Reason,
    Success,
    TextPart,
    Violation,
)
from sidecall_server.core.records import PendingApproval, Record, Scope

T = TypeVar("T")

_VERSION = 1
_LENGTH_BYTES = 4


class CodecError(ValueError):
    """Bytes that this version does not understand."""


class Columns(NamedTuple):
    """A record as columns.

    Attributes:
        digest: See Record.
        started: 1 or 0.
        attempts: See Record.
        outcome: The outcome; None where it is not known.
        approval: The human's part; None where none is asked.
    """

    digest: bytes
    started: int
    attempts: int
    outcome: bytes | None
    approval: bytes | None


def encode_scope(scope: Scope) -> str:
    """A scope as a key; in ASCII, whatever its ids hold."""
    return json.dumps([scope.kind.value, scope.identity, scope.tool, scope.id])


def encode_record(record: Record) -> Columns:
    """A record as columns."""
    return Columns(
        record.digest,
        int(record.started),
        record.attempts,
        None if record.outcome is None else encode_outcome(record.outcome),
        None if record.approval is None else _encode_approval(record.approval),
    )


def decode_record(columns: Columns) -> Record:
    """The record of columns.

    What a newer version wrote and this one does not understand may have run: it comes
    back as started, without an outcome.
    """
    digest, started, attempts, outcome, approval = columns
    try:
        return Record(
            digest,
            bool(started),
            None if outcome is None else decode_outcome(outcome),
            attempts,
            None if approval is None else _decode_approval(approval),
        )
    except CodecError:
        return Record(digest, started=True, attempts=attempts)


def encode_outcome(outcome: Outcome) -> bytes:
    """An outcome as bytes."""
    header: dict[str, Any]
    if isinstance(outcome, Success):
        described, pieces = _describe(outcome.parts)
        header = {"kind": "success", "is_json": outcome.is_json, "parts": described}
        return _pack(header, [_utf8(outcome.text), *pieces])
    header = {
        "kind": "failure",
        "reason": outcome.reason.name,
        "state": outcome.state.name,
        "violations": [[item.field, item.message] for item in outcome.violations],
        "retry_after_s": outcome.retry_after_s,
        "metadata": dict(outcome.metadata),
    }
    if outcome.code is not None:
        header["code"] = outcome.code.name
    return _pack(header, [_utf8(outcome.message)])


def decode_outcome(data: bytes) -> Outcome:
    """The outcome of bytes.

    Raises:
        CodecError: A newer version wrote them, or nobody did.
    """
    return _understood(_decode_outcome, data)


def _decode_outcome(data: bytes) -> Outcome:
    header, pieces = _unpack(data)
    if header["version"] != _VERSION:
        raise CodecError(f"version {header['version']}")
    if header["kind"] == "success":
        described = zip(header["parts"], pieces[1:], strict=True)
        parts = tuple(_part(fields, piece) for fields, piece in described)
        return Success(_text(pieces[0]), header["is_json"], parts)
    if header["kind"] == "failure":
        return Failure(
            Reason[header["reason"]],
            _text(pieces[0]),
            ExecutionState[header["state"]],
            Code[header["code"]] if "code" in header else None,
            tuple(Violation(field, message) for field, message in header["violations"]),
            header["retry_after_s"],
            header["metadata"],
        )
    raise CodecError(f"kind {header['kind']}")


def _describe(parts: Sequence[Part]) -> tuple[list[dict[str, str]], list[bytes]]:
    """What the header says about each part, and the bulk of each."""
    described: list[dict[str, str]] = []
    pieces = []
    for part in parts:
        match part:
            case TextPart(text):
                described.append({"kind": "text"})
                pieces.append(_utf8(text))
            case JsonPart(text):
                described.append({"kind": "json"})
                pieces.append(_utf8(text))
            case BlobPart(media_type, data, name):
                described.append({"kind": "blob", "media_type": media_type, "name": name})
                pieces.append(data)
            case LinkPart(uri, media_type, name):
                described.append({"kind": "link", "media_type": media_type, "name": name})
                pieces.append(_utf8(uri))
    return described, pieces


def _part(fields: dict[str, str], piece: bytes) -> Part:
    match fields["kind"]:
        case "text":
            return TextPart(_text(piece))
        case "json":
            return JsonPart(_text(piece))
        case "blob":
            return BlobPart(fields["media_type"], piece, fields["name"])
        case "link":
            return LinkPart(_text(piece), fields["media_type"], fields["name"])
        case kind:
            raise CodecError(f"kind {kind} of a part")


def _encode_approval(approval: PendingApproval) -> bytes:
    said: dict[str, Any] = {
        "version": _VERSION,
        "id": approval.id,
        "digest": approval.digest.hex(),
    }
    decision = approval.decision
    if decision is not None:
        said["decision"] = {
            "approved": decision.approved,
            "decided_by": decision.decided_by,
            "decided_unix_ns": decision.decided_unix_ns,
            "arguments": decision.arguments,
            "comment": decision.comment,
        }
    return json.dumps(said).encode()


def _decode_approval(data: bytes) -> PendingApproval:
    return _understood(_read_approval, data)


def _read_approval(data: bytes) -> PendingApproval:
    said = json.loads(data)
    if said["version"] != _VERSION:
        raise CodecError(f"version {said['version']}")
    decision = Approval(**said["decision"]) if "decision" in said else None
    return PendingApproval(said["id"], bytes.fromhex(said["digest"]), decision)


def _understood(read: Callable[[bytes], T], data: bytes) -> T:
    try:
        return read(data)
    except (LookupError, TypeError, ValueError) as error:
        raise CodecError(f"not understood: {error!r}") from error


def _pack(header: dict[str, Any], pieces: Sequence[bytes]) -> bytes:
    said = {"version": _VERSION, "sizes": [len(piece) for piece in pieces], **header}
    head = json.dumps(said).encode()
    return b"".join((len(head).to_bytes(_LENGTH_BYTES, "big"), head, *pieces))


def _unpack(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
    header = json.loads(data[_LENGTH_BYTES:start])
    pieces = []
    for size in header["sizes"]:
        pieces.append(data[start : start + size])
        start += size
    if start != len(data):
        raise CodecError("the sizes do not add up")
    return header, pieces


def _utf8(text: str) -> bytes:
    # Tools may return lone surrogates.
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
