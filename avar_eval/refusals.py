"""How many questions of a run may go without an answer before the fault is not theirs."""

from typing import Final

MOST_REFUSED: Final = 0.05
"""Share of a run's questions that may be refused: they are left out, and named. Beyond, the run stops."""


def may_refuse(questions: int) -> int:
    """Of so many questions, how many may be refused: one in twenty, and one of fewer, unless it is the only one."""
    return 0 if questions < 2 else max(1, int(MOST_REFUSED * questions))
