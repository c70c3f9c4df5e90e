"""The paper's published rows as data: `paper.yaml`, checked."""

from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field


class PaperRow(BaseModel):
    """One row as printed. scores: task -> accuracy in percent. average: the printed one, which may contradict them.

    trained_on: tasks whose data set the paper says the model was trained on. registered: its name in the registry.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    registered: str | None = None
    scores: dict[str, float]
    average: float | None = None
    vas: float | None = None
    trained_on: list[str] = []
    notes: str | None = None

    def mean_of(self, tasks: tuple[str, ...]) -> float | None:
        """The mean of some columns in percent, computed, not printed; None as soon as one of them is not printed."""
        values = [self.scores[task] for task in tasks if task in self.scores]
        return sum(values) / len(tasks) if len(values) == len(tasks) else None


class PublishedCorrelation(BaseModel):
    """Figure 1a as printed: Pearson's r of VAS and accuracy over n models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: float
    p: float
    n: int
    accuracy: str


class Paper(BaseModel):
    """All that is printed. ablations: rows that are no model of the main table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    models: list[PaperRow] = Field(min_length=1)
    ablations: list[PaperRow]
    correlation: PublishedCorrelation


@cache
def paper() -> Paper:
    """The published rows of arXiv 2603.03825."""
    return Paper.model_validate(yaml.safe_load(Path(__file__).with_name("paper.yaml").read_text(encoding="utf-8")))
