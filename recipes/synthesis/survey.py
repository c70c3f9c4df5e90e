"""How many rows came how far, what they cost, and what was thrown away: report.json and report.md."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from avar_eval.atomic import write_atomically
from avar_eval.recipes.synthesis.recipe import STAGES, Recipe
from avar_eval.recipes.synthesis.rows import ALL_STAGES, Finished, Rejected, Rows, Stage, Waiting
from avar_eval.recipes.synthesis.selection import Question, Selection, wanted
from avar_eval.terminal import inert

REPORT_NAME: Final = "report.json"
REPORT_PAGE: Final = "report.md"
_EXAMPLES: Final = 3
_SHOWN: Final = 600
"""Characters of a rejected reply."""


@dataclass
class Survey:
    """Counts of rows by stage and source, with a few rejected replies of each reason."""

    recipe: Recipe
    selection: Selection
    passed: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, Counter[str]] = field(default_factory=lambda: {stage: Counter() for stage in ALL_STAGES})
    waiting: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    dollars: dict[str, float] = field(default_factory=dict)

    def add(self, question: Question, outcome: Finished | Rejected | Waiting) -> None:
        """Count one question."""
        ended: Stage | None = outcome.stage if isinstance(outcome, (Rejected, Waiting)) else None
        before = ALL_STAGES if ended is None else ALL_STAGES[: ALL_STAGES.index(ended)]
        self.passed.update(before)
        if isinstance(outcome, Waiting):
            self.waiting[outcome.stage] += 1
        elif isinstance(outcome, Rejected):
            self.rejected[outcome.stage][outcome.reason] += 1
            shown = self.examples.setdefault((outcome.stage, outcome.reason), [])
            if len(shown) < _EXAMPLES:
                shown.append((inert(question.id), inert(outcome.text[:_SHOWN])))
        else:
            self.kept[question.source] += 1

    def spent(self, rows: Rows) -> None:
        """Count tokens and dollars of all replies, those that no row needs any more included: they were paid."""
        for stage, asker in rows.askers.items():
            self.tokens[stage], self.dollars[stage] = 0, 0.0
            for reply in asker.journal:
                self.tokens[stage] += (reply.prompt_tokens or 0) + (reply.completion_tokens or 0)
                self.dollars[stage] += reply.dollars

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json; `asked` are rows that have been through a stage, or were rejected in it."""
        drawn = sum(self.selection.drawn.values())
        left_out = sum(self.selection.rejected.values())
        stages: dict[str, Any] = {
            "select": {
                "asked": drawn,
                "finished": drawn - left_out,
                "rejected": self.selection.rejected,
                "tokens": 0,
                "dollars": 0.0,
            }
        }
        for stage in ALL_STAGES:
            rejected = dict(sorted(self.rejected[stage].items()))
            stages[stage] = {
                "asked": self.passed[stage] + sum(rejected.values()),
                "finished": self.passed[stage],
                "rejected": rejected,
                "tokens": self.tokens.get(stage, 0),
                "dollars": round(self.dollars.get(stage, 0.0), 6),
            }
            if self.waiting[stage]:
                stages[stage]["waiting"] = self.waiting[stage]
        counts = wanted(self.recipe, self.selection)
        return {
            "stages": stages,
            "sources": {name: {"wanted": counts[name], "kept": self.kept[name]} for name in counts},
            "benchmarks_compared": self.selection.benchmarks,
            "tokens_counted_by": self.recipe.target,
        }


def write_report(folder: Path, survey: Survey) -> dict[str, Any]:
    """report.json and report.md; returns what the first one holds."""
    report = survey.to_dict()
    write_atomically(folder / REPORT_NAME, [json.dumps(report, indent=2, ensure_ascii=False) + "\n"])
    write_atomically(folder / REPORT_PAGE, [line + "\n" for line in _page(report, survey)])
    return report


def _page(report: Mapping[str, Any], survey: Survey) -> Iterator[str]:
    yield "# What was made, and what was thrown away\n"
    yield "| stage | rows in | rows out | yield % | waiting | tokens | dollars |"
    yield "|---|---|---|---|---|---|---|"
    for name, stage in report["stages"].items():
        share = f"{100 * stage['finished'] / stage['asked']:.1f}" if stage["asked"] else "–"
        yield (
            f"| {name} | {stage['asked']:,} | {stage['finished']:,} | {share} | {stage.get('waiting', 0):,} "
            f"| {stage['tokens']:,} | {stage['dollars']:.2f} |"
        )
    yield "\n| source | wanted | kept |"
    yield "|---|---|---|"
    for name, counts in report["sources"].items():
        yield f"| {_cell(name)} | {counts['wanted']:,} | {counts['kept']:,} |"
    compared = ", ".join(report["benchmarks_compared"])
    yield f"\nCompared with benchmarks: {compared or 'none, for AVAR_DATA_DIR names no folder of them'}."
    target = survey.recipe.target
    counted = "not counted, for the recipe has no target" if target is None else f"counted by the processor of {target}"
    yield f"Tokens of rows: {counted}."
    yield "\n## Rejected"
    for stage, counts in (("select", survey.selection.rejected), *survey.rejected.items()):
        for reason, count in sorted(counts.items(), key=lambda entry: -entry[1]):
            yield f"\n### {stage}: {reason}, {count:,}\n"
            if stage == "select":
                yield "\n".join(f"- {inert(name)}" for name in survey.selection.examples.get(reason, []))
            for row, text in survey.examples.get((stage, reason), []):
                yield f"`{row}`\n"
                yield "\n".join(f"    {line}" for line in text.splitlines()) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def take_survey(rows: Rows, selection: Selection, asked: Iterator[Question]) -> Survey:
    """The survey of all questions as their replies stand, before anything is written."""
    survey = Survey(rows.recipe, selection)
    for question in asked:
        survey.add(question, rows.outcome(question))
    survey.spent(rows)
    return survey


def total_spent(rows: Rows) -> float:
    """Dollars of all stages."""
    return sum(rows.askers[stage].spent() for stage in STAGES)
