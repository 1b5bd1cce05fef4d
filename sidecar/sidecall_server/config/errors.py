"""What is wrong with the configuration."""

from collections.abc import Sequence

_MAX_TOLD = 50


class ConfigError(Exception):
    """Settings are wrong; the text names each, and where it comes from, up to fifty.

    Attributes:
        mistakes: What is wrong, a line for each.
    """

    def __init__(self, *mistakes: str) -> None:
        """Takes what is wrong."""
        self.mistakes: Sequence[str] = mistakes
        count = len(mistakes)
        head = [f"{count} mistakes:"] * (count > 1)
        rest = [f"and {count - _MAX_TOLD} more"] * (count > _MAX_TOLD)
        super().__init__("\n".join([*head, *mistakes[:_MAX_TOLD], *rest]))
