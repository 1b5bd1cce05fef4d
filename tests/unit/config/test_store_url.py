from pathlib import Path

import pytest

from sidecall_server.config.store_url import store_file


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("memory", None),
        ("sqlite:///records.db", Path("records.db")),
        ("sqlite:///data/records.db", Path("data/records.db")),
        ("sqlite:////var/lib/sidecall/records.db", Path("/var/lib/sidecall/records.db")),
    ],
)
def test_what_names_a_store(url: str, path: Path | None) -> None:
    assert store_file(url) == path


@pytest.mark.parametrize(
    "url",
    [
        "",
        "Memory",
        "memory ",
        "redis://localhost",
        "/var/lib/records.db",
        "sqlite:records.db",
        "sqlite://records.db",
        "sqlite:///",
        "sqlite:////var/lib/",
        "sqlite:///:memory:",
        "sqlite:///records.db?mode=ro",
        "sqlite:///records\0.db",
    ],
)
def test_what_names_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"is not a store: memory, sqlite:///relative\.db or"):
        store_file(url)
