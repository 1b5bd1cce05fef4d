"""Reads the values of settings that flags and variables give as text."""

import math
import re
from collections.abc import Sequence
from typing import Any

from sidecall._durations import MAX_DURATION_S, seconds_of_text
from sidecall_server.config.errors import ConfigError
from sidecall_server.config.store_url import store_file

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MAX_INT32 = 2**31 - 1
MASK = "***"

_MAX_SHOWN = 40
# The least and the largest value, where it is not 1 and what gRPC holds.
_BOUNDS = {
    "max_message_bytes": (64 * 1024, MAX_INT32),
    "max_threads": (1, 65_536),
    "max_processes": (1, 65_536),
}
# No time to drain, or no looks at files, is a wish; no time to run is a mistake.
_MAY_BE_ZERO = frozenset({"drain_timeout_s", "watch_interval_s"})
_BARE_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def read_setting(name: str, where: str, value: Any, default: Any, *, secret: bool = False) -> Any:
    """The value of a setting.

    Args:
        name: Name of the field of `Settings` or `Limits`.
        where: What to call it in messages.
        value: What was given.
        default: Its default, whose type it has.
        secret: Whether no message may show it.

    Raises:
        ConfigError: The value is wrong.
    """
    if isinstance(default, tuple):
        return _strings(value)
    if name == "log_level":
        return _log_level(where, str(value))
    if name == "store":
        return _store(where, str(value), secret=secret)
    if isinstance(default, str):
        return str(value)
    if isinstance(default, float):
        seconds = duration_s(where, value)
        if seconds == 0 and not may_be_zero(name):
            raise ConfigError(f"{where}: must be more than 0")
        return seconds
    return _whole_number(where, value, *bounds(name))


def bounds(name: str) -> tuple[int, int]:
    """The least and the largest value of a whole number."""
    return _BOUNDS.get(name, (1, MAX_INT32))


def may_be_zero(name: str) -> bool:
    """Whether a duration may be 0."""
    return name in _MAY_BE_ZERO


def duration_s(where: str, value: str | float) -> float:
    """Seconds of a number, or of text like `5s`, `250ms` or `1m30s`.

    Raises:
        ConfigError: It is none.
    """
    if isinstance(value, int | float):
        seconds = float(value) if abs(value) <= MAX_DURATION_S else math.inf
    else:
        seconds = _seconds(where, value.strip())
    if not math.isfinite(seconds) or not 0 <= seconds <= MAX_DURATION_S:
        raise ConfigError(f"{where}: must be between 0 and a year ({MAX_DURATION_S:.0f}s)")
    return seconds


def masked_url(text: str) -> str:
    """A URL without the user and the password in it."""
    return re.sub(r"://(?!/).*@", f"://{MASK}@", text)


def shown(value: Any) -> str:
    """A value in a message: short, and in quotes."""
    text = str(value)
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...")


def _seconds(where: str, text: str) -> float:
    if _BARE_NUMBER.fullmatch(text):
        return float(text)
    try:
        return seconds_of_text(text)
    except ValueError:
        raise ConfigError(
            f"{where}: {shown(text)} is not a duration like 5s, 250ms or 2m"
        ) from None


def _store(where: str, text: str, *, secret: bool) -> str:
    try:
        store_file(text)
    except ValueError as error:
        what = "its value" if secret else shown(masked_url(text))
        raise ConfigError(f"{where}: {what} {error}") from None
    return text


def _log_level(where: str, text: str) -> str:
    if text.upper() not in LOG_LEVELS:
        raise ConfigError(f"{where}: {shown(text)} is none of {', '.join(LOG_LEVELS)}")
    return text.upper()


def _whole_number(where: str, value: Any, least: int, most: int) -> int:
    try:
        number = int(value)
    except ValueError:
        raise ConfigError(f"{where}: {shown(value)} is not a whole number") from None
    if number < least:
        raise ConfigError(f"{where}: must be at least {least}")
    if number > most:
        raise ConfigError(f"{where}: must be at most {most}")
    return number


def _strings(value: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value)
