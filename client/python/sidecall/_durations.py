"""Durations as people write them: seconds, or text such as "250ms", "5s" or "1m30s"."""

import math
import re

MAX_DURATION_S = 365 * 24 * 3600.0
"""What a setting or a policy may say at most: a year."""

_BEYOND_FLOAT = 10**308
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_WHOLE = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")


Timeout = float | str
"""Seconds, or text such as "5s"."""


def optional_duration_s(value: Timeout | None) -> float | None:
    """Turns a duration that may be left out into seconds; None stays None.

    Raises:
        ValueError: It is not a positive, finite duration.
    """
    return None if value is None else parse_duration(value)


def parse_duration(value: Timeout) -> float:
    """Turns a duration into seconds.

    Args:
        value: Seconds, or numbers with the units ms, s, m and h, for example "1m30s".

    Raises:
        ValueError: It is not a positive, finite duration.
    """
    if isinstance(value, str):
        seconds = seconds_of_text(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) < _BEYOND_FLOAT else math.inf
    else:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds <= 0:
        raise ValueError(f"a duration must be positive and finite, not {value!r}")
    return seconds


def seconds_of_text(text: str) -> float:
    """Turns the text of a duration into seconds, which may be 0, or infinite.

    Raises:
        ValueError: It is not such text.
    """
    bare = text.strip()
    if _WHOLE.fullmatch(bare) is None:
        raise ValueError(f'{text!r} is not a duration; write seconds or text like "5s"')
    # Divided, not multiplied by 0.001: 1900 ms are 1.9 s.
    return sum(
        float(number) / 1000 if unit == "ms" else float(number) * _UNIT_S[unit]
        for number, unit in _PART.findall(bare)
    )
