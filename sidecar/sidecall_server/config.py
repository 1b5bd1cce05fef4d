"""Settings: flag before environment before default. The only place that reads either."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sidecall_server.core.defaults import Limits

ENV_PREFIX = "SIDECALL_"
DEFAULT_LISTEN = ("127.0.0.1:50071",)
_DEFAULT_DRAIN_S = 25.0

# What a stop may take after the drain where everything hangs, so that an orchestrator which
# gives its grace period and then kills finds the process ended. Servers get their seconds
# twice (streams to end, then handlers to clean up), attempts once, backends twice (threads,
# then lifespans) and half a second for lifespans that are cancelled, and tasks that are left
# once.
SERVERS_STOP_S = 0.5
ATTEMPTS_STOP_S = 0.5
BACKENDS_STOP_S = 1.0
TASKS_STOP_S = 0.5
STOP_S = 2 * SERVERS_STOP_S + ATTEMPTS_STOP_S + 2 * BACKENDS_STOP_S + 0.5 + TASKS_STOP_S
"""Seconds after the drain at which the process ends in any case."""

_EXIT_MARGIN_S = 0.5
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_MAX_DURATION_S = 365 * 24 * 3600.0
_MAX_SHOWN = 40
_MAX_INT32 = 2**31 - 1
# The least and the largest value, where it is not 1 and what gRPC holds.
_BOUNDS = {
    "max_message_bytes": (64 * 1024, _MAX_INT32),
    "max_threads": (1, 65_536),
    "max_processes": (1, 65_536),
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class ConfigError(Exception):
    """A setting is wrong; the text names it, and where it comes from."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a sidecar is started with.

    Attributes:
        listen: Addresses of the API: `host:port` or `unix:/path`.
        health_listen: Further addresses that serve health checks alone; these need not be
            loopback.
        tools: Python files and modules whose tools are served.
        drain_timeout_s: Seconds that running batches may take after SIGTERM.
        log_level: What is logged at least: debug, info, warning, error or critical.
        limits: Bounds of the sidecar.
    """

    listen: tuple[str, ...] = DEFAULT_LISTEN
    health_listen: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    drain_timeout_s: float = _DEFAULT_DRAIN_S
    log_level: str = "INFO"
    limits: Limits = field(default_factory=Limits)


def load(flags: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Combines flags, environment and defaults.

    Args:
        flags: Values by the names of `Settings` and `Limits`; None means not given.
        environ: The environment; that of the process where None.

    Raises:
        ConfigError: A value is wrong.
    """
    environ = os.environ if environ is None else environ
    settings = Settings(drain_timeout_s=_drain_default_s(environ))
    chosen = {
        item.name: _choose(item.name, getattr(settings, item.name), flags, environ)
        for item in fields(Settings)
        if item.name != "limits"
    }
    limits = {
        item.name: _choose(item.name, getattr(settings.limits, item.name), flags, environ)
        for item in fields(Limits)
    }
    if not chosen["listen"]:
        raise ConfigError("--listen: at least one address is needed")
    _fit_batch_limit(limits, _given("max_batch_concurrency", flags, environ)[0])
    return replace(settings, **chosen, limits=Limits(**limits))


def _fit_batch_limit(limits: dict[str, Any], where: str | None) -> None:
    """A default gives way to a smaller bound of the sidecar; what was given does not."""
    bound = limits["max_concurrency"]
    if limits["max_batch_concurrency"] > bound and where is not None:
        raise ConfigError(
            f"{where}: {limits['max_batch_concurrency']} is more than --max-concurrency, {bound}"
        )
    limits["max_batch_concurrency"] = min(limits["max_batch_concurrency"], bound)


def _drain_default_s(environ: Mapping[str, str]) -> float:
    """Derived from the pod's grace period where the environment tells it."""
    text = environ.get("TERMINATION_GRACE_PERIOD_SECONDS", "")
    if not text.isdecimal():
        return _DEFAULT_DRAIN_S
    return min(_MAX_DURATION_S, max(0.0, float(text) - STOP_S - _EXIT_MARGIN_S))


def _choose(name: str, default: Any, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    where, value = _given(name, flags, environ)
    return default if where is None else _read(name, where, value, default)


def _given(
    name: str, flags: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[str | None, Any]:
    """The flag or variable that gives a setting, and its value; None where none does."""
    flag = flags.get(name)
    if flag is not None and flag != ():
        return f"--{name.removesuffix('_s').replace('_', '-')}", flag
    variable = ENV_PREFIX + name.removesuffix("_s").upper()
    return (variable, environ[variable]) if environ.get(variable) else (None, None)


def _read(name: str, where: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        return _strings(value)
    if name == "log_level":
        return _log_level(where, str(value))
    if isinstance(default, float):
        seconds = duration_s(where, value)
        # No time to drain is a wish; no time to run is a mistake.
        if seconds == 0 and name != "drain_timeout_s":
            raise ConfigError(f"{where}: must be more than 0")
        return seconds
    return _whole_number(where, value, *_BOUNDS.get(name, (1, _MAX_INT32)))


def _log_level(where: str, text: str) -> str:
    if text.upper() not in LOG_LEVELS:
        raise ConfigError(f"{where}: {_shown(text)} is none of {', '.join(LOG_LEVELS)}")
    return text.upper()


def _whole_number(where: str, value: Any, least: int, most: int) -> int:
    try:
        number = int(value)
    except ValueError:
        raise ConfigError(f"{where}: {_shown(value)} is not a whole number") from None
    if number < least:
        raise ConfigError(f"{where}: must be at least {least}")
    if number > most:
        raise ConfigError(f"{where}: must be at most {most}")
    return number


def _shown(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...")


def _strings(value: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value)


def duration_s(where: str, value: str | float) -> float:
    """Seconds of a number, or of text like `5s`, `250ms` or `2m`.

    Raises:
        ConfigError: It is none.
    """
    if isinstance(value, int | float):
        seconds = float(value)
    else:
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ConfigError(f"{where}: {_shown(value)} is not a duration like 5s, 250ms or 2m")
        seconds = float(match[1]) * _UNITS[match[2] or "s"]
    if not math.isfinite(seconds) or not 0 <= seconds <= _MAX_DURATION_S:
        raise ConfigError(f"{where}: must be between 0 and a year ({_MAX_DURATION_S:.0f}s)")
    return seconds
