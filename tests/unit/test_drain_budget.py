"""The drain and the stop after it fit into a pod's grace period."""

import pytest

from sidecall_server import config


@pytest.mark.parametrize(("grace_s", "drain_s"), [(30, 25), (60, 55), (10, 5), (5, 0), (1, 0)])
def test_drain_leaves_time_to_stop(grace_s: int, drain_s: float) -> None:
    settings = config.load({}, {"TERMINATION_GRACE_PERIOD_SECONDS": str(grace_s)})
    assert settings.drain_timeout_s == drain_s
    assert drain_s == 0 or drain_s + config.STOP_S <= grace_s


def test_an_explicit_drain_wins() -> None:
    environ = {"TERMINATION_GRACE_PERIOD_SECONDS": "30", "SIDECALL_DRAIN_TIMEOUT": "7s"}
    assert config.load({}, environ).drain_timeout_s == 7
    assert config.load({}, {}).drain_timeout_s == 25
