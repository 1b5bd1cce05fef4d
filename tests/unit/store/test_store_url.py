from pathlib import Path

import pytest

from sidecall_server.store.url import parse_store_url


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
    assert parse_store_url(url) == path


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "is not known"),
        ("Memory", "is not known"),
        ("redis://localhost", "is not known"),
        ("/var/lib/records.db", "is not known"),
        ("sqlite:records.db", "three slashes"),
        ("sqlite://records.db", "three slashes"),
        ("sqlite:///", "names no file"),
        ("sqlite:////var/lib/", "names no file"),
        ("sqlite:///:memory:", "say 'memory'"),
        ("sqlite:///records.db?mode=ro", "takes no options"),
    ],
)
def test_what_names_none(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_store_url(url)
