"""A finished run as it is compared with another: what each of its rows is worth by each measure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from avar_eval.outcomes import Outcome, Verdict
from avar_eval.records.book import RECORDS_NAME
from avar_eval.results.schema import Results, read_results, read_task_records
from avar_eval.results.stored import StoredResponse, read_stored, run_responses
from avar_eval.results.summary import vas_queries
from avar_eval.tasks.catalog import catalog, task_hooks
from avar_eval.terminal import note

VERDICTS: Final[Mapping[str, Verdict]] = {"accuracy": "strict", "official": "official", "judge": "judge"}
"""The metrics that are a verdict's share of responses."""

ATTENTION: Final = ("ratio_of_sums", "vas")
"""Compared by their logarithms, so as ratios: a heavy tail would hide any difference of means."""

Scale = Literal["share", "ratio", "value"]
"""How a difference is told: of shares 0..1; as b over a; in the measure's own unit."""

CAUSAL: Final[Mapping[str, tuple[str, Scale]]] = {
    "blind": ("blind", "share"),
    "swap": ("swap", "share"),
    "visual_gain": ("blind", "share"),
    "visual_dependence": ("dependence", "value"),
    "information": ("information", "value"),
    "information_after_thought": ("information_after_thought", "value"),
    "knockout_answer": ("knockout_answer", "value"),
    "knockout_response": ("knockout_response", "value"),
}
"""Of each causal column: the part of a record's `causal` that it comes from (see `CausalRecord`), and its scale."""


@dataclass(frozen=True)
class ComparedRun:
    """A run's responses by row: task -> row -> samples, the cluster of each row, and what a guess on it is worth.

    strata: the group of each row, of tasks all of whose groups are always asked.
    """

    folder: Path
    results: Results
    rows: dict[str, dict[str, list[StoredResponse]]]
    clusters: dict[str, dict[str, str]]
    guess_chances: dict[str, dict[str, float | None]]
    strata: dict[str, dict[str, str]]

    @classmethod
    def read(cls, folder: Path) -> "ComparedRun":
        """Raises ResultsError and RecordBookError."""
        results = read_results(folder)
        tasks = results.tasks
        responses = run_responses(folder, tasks, read_stored(folder / RECORDS_NAME))
        asked = read_task_records(folder, tasks)
        rows: dict[str, dict[str, list[StoredResponse]]] = {task: {} for task in tasks}
        clusters: dict[str, dict[str, str]] = {task: {} for task in tasks}
        chances: dict[str, dict[str, float | None]] = {task: {} for task in tasks}
        strata: dict[str, dict[str, str]] = {}
        for task, of in responses.items():
            if (groups := asked[task].strata) is not None:
                strata[task] = {one.row_id: group for one, group in zip(of, groups, strict=True)}
            worth = asked[task].guess_chances or [None] * len(of)
            for response, cluster, chance in zip(of, asked[task].clusters, worth, strict=True):
                rows[task].setdefault(response.row_id, []).append(response)
                clusters[task][response.row_id] = cluster
                chances[task][response.row_id] = chance
        return cls(folder, results, rows, clusters, chances, strata)

    def value(self, task: str, row_id: str, metric: str) -> float | None:
        """What a row is worth: the mean over its samples of what is known; None where nothing is.

        A logarithm for measures of `ATTENTION`. Where the published rule guesses among k options, a sample is worth
        1/k.
        """
        samples = self.rows[task][row_id]
        if len(samples) == 1:
            return self._value(samples[0], metric)
        known = [found for one in samples if (found := self._value(one, metric)) is not None]
        return sum(known) / len(known) if known else None

    def _value(self, sample: StoredResponse, metric: str) -> float | None:
        if metric in VERDICTS:
            return self._right(sample, VERDICTS[metric])
        if metric in ATTENTION:
            queries = (sample.attention or {}).get(self.queries) or {}
            score = queries.get(metric)
            return math.log(score) if score else None
        found = (sample.causal or {}).get(CAUSAL[metric][0])
        if isinstance(found, Mapping):  # an altered question's answer
            found = found.get("correct")
            if metric == "visual_gain":
                right = self._right(sample, "strict")
                return None if found is None or right is None else right - found
        return None if found is None else float(found)

    @property
    def queries(self) -> str:
        """Over which of a question's tokens the run's VAS is, as `AttentionSummary` names them."""
        return "text" if vas_queries(self.results.protocol) == "text" else "user"

    def _right(self, sample: StoredResponse, verdict: Verdict) -> float | None:
        """1 or 0; where the published rule has no verdict, what its guess is worth; None without a guess."""
        if verdict == "judge":
            found = (sample.judge or {}).get("correct")
        else:
            found = (sample.judgement or {}).get("correct" if verdict == "strict" else "official")
        if found is None and verdict == "official" and sample.judgement:
            return self.guess_chances[sample.task][sample.row_id]
        return None if found is None else float(found)

    def has_attention(self, task: str) -> bool:
        """Whether any of the task's responses was measured."""
        return any(one.attention for samples in self.rows[task].values() for one in samples)

    def causal_columns(self, task: str) -> list[str]:
        """The causal columns that any of its records has a number for."""
        parts = {part for samples in self.rows[task].values() for one in samples if one.causal
                 for part, value in one.causal.items() if value is not None}  # fmt: skip
        return [name for name, (part, _) in CAUSAL.items() if part in parts]

    def outcomes(self, task: str, row_ids: Sequence[str]) -> list[Outcome]:
        """The verdicts of these rows as they stand in the records."""
        return [
            Outcome.of(one.row_id, one.sample, _Judged(one.judgement), one.finish_reason)
            for row_id in row_ids
            for one in self.rows[task][row_id]
            if one.judgement
        ]

    def truncated(self, task: str, row_ids: Sequence[str]) -> float:
        """The share (0..1) of the rows' responses that ended at the token limit."""
        responses = [one for row_id in row_ids for one in self.rows[task][row_id]]
        return sum(one.finish_reason == "length" for one in responses) / max(1, len(responses))

    def lacks_strata(self, task: str) -> bool:
        """Whether it is a run of before the groups of a task's rows were written down."""
        return task in catalog() and hasattr(task_hooks(task), "stratum") and task not in self.strata

    def note_guesses(self, task: str) -> None:
        """Say that a run of before guesses were written down is compared without them."""
        if (
            task not in catalog()
        ):  # of a folder that this command was not told of, or lmms-eval's: files say all there is
            return
        chances = self.guess_chances[task].values()
        if not hasattr(task_hooks(task), "guess_chance") or any(of is not None for of in chances):
            return
        samples = [one for of in self.rows[task].values() for one in of]
        if guessed := sum(self._right(one, "official") is None for one in samples):
            note(
                f"note: {self.folder} does not say what the published rule's guesses are worth, so official leaves out "
                f"{guessed} responses to {task}: run the evaluation again, it asks nothing twice"
            )


class _Judged:
    """A judgement as a line of records.jsonl has it."""

    def __init__(self, judgement: Mapping[str, Any]) -> None:
        self.state = judgement["state"]
        self.extracted = judgement.get("extracted")
        self.correct = bool(judgement["correct"])
        self.official = judgement.get("official")
