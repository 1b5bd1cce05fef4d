"""Tools about cities, with about half a second of delay so that one sees them overlap.

Times are real. Weather, news and contacts come from a small data file beside this one,
and their results say so.
"""

import asyncio
import difflib
import json
import time
import zoneinfo
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any, Literal

from sidecall import ToolError, tool

LATENCY_S = 0.5
SAMPLE = "sample data, not live"
_DATA: Mapping[str, Mapping[str, Any]] = json.loads(
    Path(__file__).with_name("sample_data.json").read_text(encoding="utf-8")
)


@tool(effects="read_only", timeout="5s")
async def get_weather(
    location: str, unit: Literal["celsius", "fahrenheit"] = "celsius"
) -> dict[str, Any]:
    """Returns the weather in a city.

    Args:
        location: Name of the city, for example "Tokyo".
        unit: Unit of the temperature.
    """
    await asyncio.sleep(LATENCY_S)
    name, city = _find("cities", location)
    celsius: float = city["temperature_c"]
    degrees = celsius if unit == "celsius" else celsius * 9 / 5 + 32
    return {
        "location": name,
        "temperature": round(degrees, 1),
        "unit": unit,
        "condition": city["condition"],
        "source": SAMPLE,
    }


# Not a coroutine: it runs in a thread, as tools that block do.
@tool(effects="read_only", timeout="5s")
def get_time(timezone: str) -> dict[str, str]:
    """Returns the current time in a time zone.

    Args:
        timezone: IANA name of the zone, for example "Asia/Tokyo".
    """
    time.sleep(LATENCY_S)
    zone, source = _zone(timezone)
    now = datetime.now(UTC).astimezone(zone)
    return {
        "timezone": timezone,
        "local_time": now.strftime("%H:%M"),
        "date": now.strftime("%A, %d %B %Y"),
        "source": source,
    }


@tool(effects="read_only", timeout="5s")
async def get_news(topic: str, count: int = 5) -> dict[str, Any]:
    """Returns headlines on a topic.

    Args:
        topic: business, science or technology.
        count: Most headlines to return.
    """
    await asyncio.sleep(LATENCY_S)
    name, headlines = _find("news", topic)
    return {"topic": name, "headlines": headlines[: max(0, count)], "source": SAMPLE}


@tool(effects="read_only", timeout="5s")
async def find_contact(name: str) -> dict[str, Any]:
    """Looks up where one of the user's friends lives.

    Args:
        name: First name of the friend.
    """
    await asyncio.sleep(LATENCY_S)
    found, contact = _find("contacts", name)
    return {"name": found, **contact, "source": SAMPLE}


@tool(effects="non_idempotent", timeout="5s")
async def send_postcard(to: str, text: str) -> dict[str, Any]:
    """Sends a postcard to one of the user's friends.

    Args:
        to: First name of the friend.
        text: What to write.
    """
    await asyncio.sleep(LATENCY_S)
    return {"to": to, "text": text, "sent": False, "note": "demonstration: nothing was sent"}


def _find(kind: str, wanted: str) -> tuple[str, Any]:
    entries = _DATA[kind]
    for name, entry in entries.items():
        if name.casefold() == wanted.strip().casefold():
            return name, entry
    near = difflib.get_close_matches(wanted.title(), entries, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(entries)}."
    raise ToolError(f"There is nothing about {wanted!r}. {hint}", code="NOT_FOUND")


def _zone(name: str) -> tuple[tzinfo, str]:
    """The zone and where it comes from; machines without a zone database know a few."""
    try:
        return zoneinfo.ZoneInfo(name), "system clock and time zone database"
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = zoneinfo.available_timezones()
    if known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ' Names look like "Asia/Tokyo".'
        raise ToolError(f"There is no time zone {name!r}.{hint}", code="NOT_FOUND")
    for city in _DATA["cities"].values():
        if city["timezone"] == name:
            offset = timedelta(hours=city["utc_offset_hours"])
            return timezone(offset), "system clock; standard time, as zones are missing here"
    raise ToolError(
        f"This machine has no time zone database and {name!r} is not among the samples.",
        code="UNAVAILABLE",
    )
