"""Tools whose templates differ in the names of their arguments only."""

import pytest
from tests.support.clock import settle
from tests.support.engines import Gate, bench, bound, failure_of, reasons

from sidecall_server.core.call import ToolCall
from sidecall_server.core.tool import Lane


@pytest.mark.parametrize("skip_rest", [False, True])
async def test_one_account_of_two_tools_is_one_lane_in_emitted_order(skip_rest: bool) -> None:
    gate = Gate()
    tools = [
        bound("withdraw", gate, lane=Lane("account:{account_id}", skip_rest)),
        bound("transfer", gate, lane=Lane("account:{from.id}", skip_rest)),
    ]
    async with bench(*tools) as b:
        calls = [
            ToolCall("", "withdraw", '{"account_id": "a"}', timeout_s=5.0),
            ToolCall("", "transfer", '{"from": {"id": "a"}}'),
            ToolCall("", "withdraw", '{"account_id": "a"}'),
            ToolCall("", "transfer", '{"from": {"id": "b"}}'),
        ]
        turn = await b.start(calls)
        assert gate.started == [0, 3]
        await b.clock.advance(5)
        gate.open(1, 2, 3)
        await settle()

        others = "STOPPED" if skip_rest else "OK"
        assert reasons(turn.calls()) == ["CALL_DEADLINE", others, others, "OK"]
        assert gate.started == ([0, 3] if skip_rest else [0, 3, 1, 2])
        if skip_rest:
            assert "the call @1" in failure_of(turn.calls()[1]).message
        b.assert_idle()
