"""Groups of tasks (`_groups_yaml`) and the means that are published for them. Light and pure.

A group's mean is the unweighted mean of its columns, as the tables of papers have it: a benchmark of 200 questions
counts as much as one of 3,000.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, field_validator

GROUPS_FILE: Final = Path(__file__).parent / "_groups_yaml"
"""Without the ending .yaml, by which lmms-eval takes a file for a task."""

Metrics = Mapping[str, float | None]
"""name of a metric -> its value in the unit of the metric; None if it was not measured"""


class Term(BaseModel):
    """One column of a mean: a task with the metric that counts (None: its headline), or a group, by its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    metric: str | None = None

    @property
    def label(self) -> str:
        """What the column is called."""
        return self.task if self.metric is None else f"{self.task} {self.metric}"


class Group(BaseModel):
    """One group. mean: the columns of its mean, none for a group without one. tasks: what it asks, if that is more."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str
    mean: list[Term] = []
    tasks: list[str] = []

    @field_validator("mean", mode="before")
    @classmethod
    def _task_alone(cls, terms: list[Any]) -> list[Any]:
        return [{"task": term} if isinstance(term, str) else term for term in terms]

    def task_names(self) -> list[str]:
        """The tasks to ask, each once; a group inside a mean contributes what its mean needs."""
        return self.tasks or self._needed()

    def weights(self) -> dict[Term, float]:
        """The tasks that the mean is made of, with the share of each; a group inside is spread over its own columns."""
        shares: dict[Term, float] = {}
        for term in self.mean:
            inner = groups().get(term.task)
            parts = inner.weights() if inner else {term: 1.0}
            for part, share in parts.items():
                shares[part] = shares.get(part, 0.0) + share / len(self.mean)
        return shares

    def _needed(self) -> list[str]:
        needed: dict[str, None] = {}
        for term in self.mean:
            inner = groups().get(term.task)
            needed |= dict.fromkeys(inner._needed() if inner else [term.task])
        return list(needed)


@dataclass(frozen=True)
class GroupMean:
    """A group's columns, in its order, and their mean; None where something was not measured."""

    columns: dict[str, float | None]
    mean: float | None


@cache
def groups() -> dict[str, Group]:
    """All groups by name."""
    entries = yaml.safe_load(GROUPS_FILE.read_text(encoding="utf-8"))
    return {name: Group(name=name, **entry) for name, entry in entries.items()}


def group_mean(group: Group, metrics: Mapping[str, Metrics], headline: Mapping[str, str]) -> GroupMean:
    """A group's columns and mean.

    metrics: by task, what was measured. headline: by task, the metric that is its score. A mean over fewer columns than
    the group has would be another number: it is None as soon as one column is.
    """
    columns = {term.label: _column(term, metrics, headline) for term in group.mean}
    known = [value for value in columns.values() if value is not None]
    return GroupMean(columns, sum(known) / len(known) if known and len(known) == len(columns) else None)


def _column(term: Term, metrics: Mapping[str, Metrics], headline: Mapping[str, str]) -> float | None:
    inner = groups().get(term.task)
    if inner is not None:
        return group_mean(inner, metrics, headline).mean
    measured = metrics.get(term.task)
    return None if measured is None else measured.get(term.metric or headline[term.task])
