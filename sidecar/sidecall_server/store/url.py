"""How a store is named in settings."""

from pathlib import Path

MEMORY = "memory"
"""Names the store that dies with the process."""

_SCHEME = "sqlite:///"
_FORMS = "'memory', 'sqlite:///relative.db' or 'sqlite:////absolute.db'"


def parse_store_url(text: str) -> Path | None:
    """The file that a store is kept in; None for the memory of the process.

    Raises:
        ValueError: The text names no store.
    """
    if text == MEMORY:
        return None
    if text.startswith("sqlite:") and not text.startswith(_SCHEME):
        raise ValueError(f"store {text!r}: three slashes come before the path: {_FORMS}")
    if not text.startswith(_SCHEME):
        raise ValueError(f"store {text!r} is not known: expected {_FORMS}")
    path = text.removeprefix(_SCHEME)
    if not path or path.endswith("/"):
        raise ValueError(f"store {text!r} names no file: expected {_FORMS}")
    if path == ":memory:":
        raise ValueError(f"store {text!r}: say {MEMORY!r} for a store that dies with the process")
    if "\0" in path or "?" in path:
        raise ValueError(f"store {text!r}: a path without '?' is expected: it takes no options")
    return Path(path)
