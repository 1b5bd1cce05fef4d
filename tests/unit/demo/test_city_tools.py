import zoneinfo
from datetime import datetime

import pytest

from sidecall import ToolError
from sidecall_server.demo import city_tools
from sidecall_server.demo.city_tools import (
    find_contact,
    get_news,
    get_time,
    get_weather,
    send_postcard,
)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(city_tools, "LATENCY_S", 0)


@pytest.fixture
def no_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a time zone database."""

    def missing(name: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", missing)
    monkeypatch.setattr(zoneinfo, "available_timezones", set)


async def test_weather_says_that_it_is_a_sample() -> None:
    weather = await get_weather("tokyo")
    assert weather["location"] == "Tokyo"
    assert weather["source"] == city_tools.SAMPLE
    in_fahrenheit = await get_weather("Tokyo", "fahrenheit")
    assert in_fahrenheit["temperature"] == pytest.approx(weather["temperature"] * 9 / 5 + 32)


async def test_what_is_missing_has_near_names() -> None:
    with pytest.raises(ToolError, match="Did you mean Lisbon") as caught:
        await get_weather("Lissbon")
    assert caught.value.code == "NOT_FOUND"
    with pytest.raises(ToolError, match="Known are business, science, technology"):
        await get_news("xyz")


async def test_news_are_at_most_so_many() -> None:
    assert len((await get_news("technology"))["headlines"]) == 5
    assert len((await get_news("technology", 2))["headlines"]) == 2
    assert (await get_news("technology", -1))["headlines"] == []


async def test_contacts_lead_to_places_that_exist() -> None:
    contact = await find_contact("ann")
    assert (await get_weather(contact["city"]))["location"] == contact["city"]


async def test_postcards_are_not_sent() -> None:
    assert (await send_postcard("Ann", "hello"))["sent"] is False


@pytest.mark.usefixtures("no_zones")
def test_time_without_a_zone_database() -> None:
    result = get_time("Asia/Tokyo")
    assert "standard time" in result["source"]
    assert datetime.strptime(result["local_time"], "%H:%M")  # noqa: DTZ007  only its form
    with pytest.raises(ToolError, match="no time zone database") as caught:
        get_time("Europe/Oslo")
    assert caught.value.code == "UNAVAILABLE"


@pytest.mark.skipif(not zoneinfo.available_timezones(), reason="needs a time zone database")
def test_time_with_a_zone_database() -> None:
    assert get_time("Asia/Tokyo")["source"] == "system clock and time zone database"
    with pytest.raises(ToolError, match=r"Did you mean .*Asia/Tokyo"):
        get_time("Asia/Tokio")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../UTC", "a" * 500, "a\0b"])
def test_odd_zone_names_are_a_tools_error(name: str) -> None:
    with pytest.raises(ToolError):
        get_time(name)
