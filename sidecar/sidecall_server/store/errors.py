"""What goes wrong with a store before it is in use."""

from pathlib import Path


class StoreError(Exception):
    """A store cannot be opened.

    Attributes:
        path: Its file.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path


class StoreInUseError(StoreError):
    """Another process has it."""
