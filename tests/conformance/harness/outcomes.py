"""What came of one case in one language."""

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case.

    Attributes:
        case: Name of the case.
        way: Name of the way in which it was run.
        problems: What did not fit; nothing where it passed.
        recorded: What is compared with the case's recording.
    """

    case: str
    way: str
    problems: tuple[str, ...] = ()
    recorded: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Names the case and the way."""
        return f"{self.case}[{self.way}]"


@dataclass(slots=True)
class Report:
    """What came of all cases in one language.

    Attributes:
        language: Name of the language.
        skipped: Why nothing was run; empty where it was.
        failed: Why nothing could be run, although it should; empty where it was.
        outcomes: One per case and way.
        took_s: Seconds that the cases took.
    """

    language: str
    skipped: str = ""
    failed: str = ""
    outcomes: list[Outcome] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def failures(self) -> list[Outcome]:
        """What did not pass."""
        return [outcome for outcome in self.outcomes if outcome.problems]

    @property
    def is_good(self) -> bool:
        """Whether nothing failed."""
        return not self.failed and not self.failures
