"""What a comparison of two models on a benchmark can find: rows, design effect, smallest difference, rows needed."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from avar_eval.errors import UsageError
from avar_eval.sample_size import ALPHA, POWER, check_possible, detectable_difference, power_of, rows_needed
from avar_eval.tasks.catalog import catalog, find_tasks
from avar_eval.tasks.groups import groups

DESIGN_EFFECTS: Final[dict[str, float]] = {"dynamath": 5.5, "hallusion": 2.0, "hallusion_image": 2.0}
"""How many rows count as one where a benchmark's rows are not independent; 1 for all others.

dynamath: ten variants of a question; of the 5,010 verdicts that DynaMath publishes for Qwen2-VL-7B
the variance by question over that by row is 5.5, which is an intraclass correlation of 0.50. hallusion: its score is
the mean of three shares, of questions (951 with a picture), question pairs (455) and figures (346), in 167 sets. Both
are of one model's scores: of a difference of two models, whose hard questions are often the same, the effect is rather
smaller, so that these are on the cautious side. `avar-eval compare` measures it.
"""
DISCORDANT_SHARES: Final = (0.1, 0.2, 0.3)
"""Tried where the user does not say how often the two models disagree."""


@dataclass(frozen=True)
class Planned:
    """One benchmark at one share of discordant rows; shares and differences are fractions, 0..1.

    detectable: the smallest difference found with 80 % power at the 5 % level, two-sided; None where none is. needed:
    rows that find `difference` so; power: how probably `rows` find it. Both None without a difference, or where two
    models that disagree so rarely cannot differ by so much.
    """

    task: str
    rows: int
    design_effect: float
    discordant: float
    detectable: float | None
    difference: float | None = None
    needed: int | None = None
    power: float | None = None


ANY_TASK: Final = "any"
"""For rows of which nothing else is known."""


def plan(
    names: Sequence[str] | None,
    difference: float | None = None,
    discordant: float | None = None,
    rows: int | None = None,
    design_effect: float | None = None,
) -> list[Planned]:
    """Each benchmark at each share of discordant rows. Raises UsageError.

    names: tasks and groups; None for `rows` of any. rows, design_effect: instead of those of the benchmarks.
    difference, discordant: fractions.
    """
    if difference is not None and not 0 < abs(difference) < 1:
        raise UsageError("--difference is in points of accuracy, above 0 and below 100, such as 1.5")
    if discordant is not None and not 0 < discordant <= 1:
        raise UsageError("--discordant is a share of the rows, above 0 and at most 1, such as 0.2")
    if design_effect is not None and not 0 < design_effect < float("inf"):
        raise UsageError("--design-effect is how many rows count as one, above 0: 1 where rows are independent")
    if difference is not None and discordant is not None:
        try:
            check_possible(difference, discordant)
        except ValueError as error:
            raise UsageError(f"{error}: give a greater --discordant") from error
    return [
        _planned(task, rows or rows_of(task), design_effect or DESIGN_EFFECTS.get(task, 1.0), share, difference)
        for task in (_columns(names) if names is not None else [ANY_TASK])
        for share in ([discordant] if discordant else DISCORDANT_SHARES)
    ]


def _columns(names: Sequence[str]) -> list[str]:
    """Tasks by their own names, each once. Raises UsageError."""
    return list(dict.fromkeys(entry.name for entry in find_tasks(names)))


def rows_of(task: str) -> int:
    """A benchmark's rows; those of MMMU-Pro's two parts, whose questions are the same, are one. Raises UsageError."""
    if task in groups():
        return min(rows_of(part) for part in groups()[task].task_names())
    entry = catalog().get(task)
    if entry is None or entry.rows is None:
        raise UsageError(f"how many rows {task} has is not known here: give --n")
    return entry.rows


def _planned(task: str, rows: int, design_effect: float, discordant: float, difference: float | None) -> Planned:
    detectable = detectable_difference(rows, discordant, design_effect)
    if difference is None or abs(difference) > discordant:
        return Planned(task, rows, design_effect, discordant, detectable, difference)
    return Planned(
        task,
        rows,
        design_effect,
        discordant,
        detectable,
        difference,
        rows_needed(difference, discordant, design_effect),
        power_of(rows, difference, discordant, design_effect),
    )


def plan_to_json(planned: Sequence[Planned]) -> str:
    """{"power", "alpha", "plans"}: one object a benchmark and share of discordant rows."""
    data: dict[str, Any] = {"power": POWER, "alpha": ALPHA, "plans": [asdict(one) for one in planned]}
    return json.dumps(data, indent=2)
