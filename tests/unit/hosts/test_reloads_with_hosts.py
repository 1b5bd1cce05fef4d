"""Settings and tools that change while hosts are attached, or have left."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.clock import settle
from tests.support.engines import failure_of, text_of
from tests.support.hosted import HOUR_S, HostedWorld, hosted_world

from sidecall_server.config import ConfigError, Settings
from sidecall_server.config.policies import PolicyEntry, PolicyTable
from sidecall_server.core.outcome import ExecutionState, Success
from sidecall_server.core.tool import Group

OWN = """
from sidecall import tool


@tool
async def pay() -> str:
    return "the sidecar's own"
"""


@pytest.fixture
async def world() -> AsyncIterator[HostedWorld]:
    async with hosted_world() as world:
        yield world


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "tools.py"
    path.write_text(OWN)
    return str(path)


async def test_a_tool_moves_into_the_sidecar_once_its_host_has_left(
    world: HostedWorld, own: str
) -> None:
    host = world.attach("pay")
    with pytest.raises(ConfigError, match="two tools are named 'pay'"):
        await world.served.put_in_force(Settings(tools=(own,)))
    world.pool.detach(host)
    await world.served.put_in_force(Settings(tools=(own,)))
    assert world.bench.clock.armed == 0
    turn = await world.call("pay")
    assert text_of(turn.calls()[0]) == "the sidecar's own"
    await world.bench.clock.advance(2 * HOUR_S)
    assert list(world.bench.engine.registry.tools) == ["pay"]


async def test_a_refused_reload_does_not_make_a_call_repeatable(world: HostedWorld) -> None:
    one, other = world.attach("pay"), world.attach("pay")
    repeatable = PolicyEntry("pay", {"effects": "idempotent"})
    wrong = Settings(
        policies=PolicyTable((repeatable,)), groups={"threads": Group(max_concurrency=1)}
    )
    with pytest.raises(ConfigError):
        await world.served.put_in_force(wrong)
    turn = await world.call("pay")
    had, has_not = (one, other) if one.in_hand else (other, one)
    assert world.send(had) == ["pay"]
    world.pool.detach(had)
    assert world.send(has_not) == []
    await settle()
    assert failure_of(turn.calls()[0]).state is ExecutionState.UNKNOWN


async def test_a_pool_that_is_closed_keeps_no_timers(world: HostedWorld) -> None:
    one, other = world.attach("a"), world.attach("b")
    world.pool.detach(one)
    assert world.bench.clock.armed == 1
    world.pool.close()
    world.pool.detach(other)
    assert world.bench.clock.armed == 0


async def test_settings_that_change_leave_running_calls_alone(world: HostedWorld) -> None:
    host = world.attach("pay")
    turn = await world.call("pay")
    assert world.send(host) == ["pay"]
    slow = PolicyEntry("pay", {"max_concurrency": 1})
    await world.served.put_in_force(Settings(policies=PolicyTable((slow,))))
    world.answer(host, Success("paid"))
    await settle()
    assert text_of(turn.calls()[0]) == "paid"
