"""How a store is named in settings."""

import re
from pathlib import Path

MEMORY = "memory"
"""Names the store that dies with the process."""

SQLITE = "sqlite:///"
"""What stands before the path of a store's file."""

PATTERN = rf"{MEMORY}|{SQLITE}(?!:memory:$)[^\x00?]*[^\x00?/]"
"""What names a store; a path ends in a name, and takes no options."""


def store_file(url: str) -> Path | None:
    """The file that a store is kept in; None for the memory of the process.

    Raises:
        ValueError: The text names no store.
    """
    if re.fullmatch(PATTERN, url) is None:
        raise ValueError(f"is not a store: {MEMORY}, {SQLITE}relative.db or {SQLITE}/absolute.db")
    return None if url == MEMORY else Path(url.removeprefix(SQLITE))
