import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.record_values import RECORDS, SCOPES, plain

from sidecall_server.core.outcome import Outcome, Reason, Success, TextPart, not_started
from sidecall_server.core.records import PendingApproval, Record, Scope
from sidecall_server.store.codec import (
    CodecError,
    Columns,
    decode_outcome,
    decode_record,
    encode_outcome,
    encode_record,
    encode_scope,
)


@given(RECORDS)
def test_records_come_back_as_they_were(record: Record) -> None:
    assert plain(decode_record(encode_record(record))) == plain(record)


@given(st.lists(SCOPES, min_size=2, max_size=2, unique=True))
def test_scopes_have_keys_of_their_own(scopes: list[Scope]) -> None:
    first, second = map(encode_scope, scopes)
    assert first != second


STOPPED = not_started(Reason.STOPPED, "Not run.")


def of_a_newer_version(outcome: Outcome = STOPPED, **changes: object) -> bytes:
    data = encode_outcome(outcome)
    end = 4 + int.from_bytes(data[:4], "big")
    head = json.dumps({**json.loads(data[4:end]), **changes}).encode()
    return len(head).to_bytes(4, "big") + head + data[end:]


NEWER = [
    of_a_newer_version(version=2),
    of_a_newer_version(kind="postponed"),
    of_a_newer_version(reason="TOO_HOT"),
    of_a_newer_version(state="HALF_WAY"),
    of_a_newer_version(code="LUKEWARM"),
    of_a_newer_version(Success("x", parts=(TextPart("x"),)), parts=[{"kind": "smell"}]),
]
BROKEN = [b"", b"\0\0\0\2{}", b"\0\0\0\2[]", b"\xff" * 20, NEWER[0][:-1], NEWER[0] + b"x"]


@pytest.mark.parametrize("data", NEWER + BROKEN)
def test_what_is_not_understood_may_have_run(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode_outcome(data)
    record = decode_record(Columns(b"d", 0, 2, data, None))
    assert record == Record(b"d", started=True, outcome=None, attempts=2)


def test_an_approval_that_is_not_understood_is_none() -> None:
    asked = encode_record(Record(b"d", approval=PendingApproval("a", b"\1"))).approval
    assert asked is not None
    for data in (asked.replace(b'"version": 1', b'"version": 2'), b"{}", b"[]", b"\xff"):
        assert decode_record(Columns(b"d", 0, 0, None, data)) == Record(b"d", started=True)


def test_the_bulk_is_not_escaped() -> None:
    text = '"\\\n' * 1000
    assert text.encode() in encode_outcome(Success(text))
