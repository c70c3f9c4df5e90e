"""A task of a run, in avar-eval's form or in lmms-eval's: its rows, its requests, and the numbers of its records."""

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.api.task import ConfigurableMessagesTask

from avar_eval.outcomes import JudgeOutcome, Outcome
from avar_eval.records.record import Record
from avar_eval.results.causal import causal_metrics, knockout_windows
from avar_eval.results.metrics import Benchmark
from avar_eval.results.schema import Headline, Metric, TaskRecords, TaskResult
from avar_eval.results.summary import VasQueries, attention_means, left_out_rows, task_result
from avar_eval.run.model import ResolvedModel
from avar_eval.statistics import clustered_proportion
from avar_eval.tasks.catalog import TaskEntry, gold_answer, task_config
from avar_eval.tasks.fingerprint import task_sha256
from avar_eval.tasks.lmms_eval_tasks import build_requests, load_lmms_eval_task, task_metrics
from avar_eval.tasks.rows import RowsTask


@dataclass(frozen=True)
class LoadedTask:
    """task: lmms-eval's object, with the rows. left_out: rows without a picture that can be read (id -> reason)."""

    task: ConfigurableMessagesTask
    benchmark: Benchmark
    left_out: Mapping[str, str]

    @classmethod
    def of(cls, entry: TaskEntry, model: ResolvedModel) -> "LoadedTask":
        """The task with its rows. Raises DataError, TaskFolderError.

        If it is in avar-eval's form, it is worded as the model is asked, and its rows may lie in a data folder.
        """
        if entry.form == "lmms-eval":
            theirs = load_lmms_eval_task(entry)
            rows = {str(number): row for number, row in enumerate(theirs.eval_docs_no_media)}
            return cls(theirs, Benchmark(entry, rows), {})
        ours = RowsTask(task_config(entry), model.asking.data_dir, model.asking.allow_outside)
        ours.lmms_eval_specific_kwargs = dict(model.prompt_settings(entry))
        return cls(
            ours, Benchmark(entry, {entry.row_id(row): row for row in ours.eval_docs_no_media}), dict(ours.left_out)
        )

    @property
    def entry(self) -> TaskEntry:
        """What the catalog says of it."""
        return self.benchmark.entry

    def requests(self, limit: int | None, samples: int) -> list[Instance]:
        """A request for each of the first `limit` rows, as often as it is sampled."""
        # lmms-eval draws a bar for building them, which takes milliseconds; ours is the one that counts questions
        with contextlib.redirect_stderr(io.StringIO()):
            return build_requests(self.task, limit, samples)

    def target(self, row: Mapping[str, Any]) -> str | None:
        """The gold answer of a row without its pictures; None where a task in lmms-eval's form tells none."""
        if self.entry.form == "avar-eval":
            return gold_answer(self.entry.name, row)
        try:
            target = self.task.doc_to_target(dict(row))
        except Exception:  # a function of the task's, which may fail in any way; its metrics may do without
            return None
        return target if isinstance(target, str) else json.dumps(target, default=str, ensure_ascii=False)

    def sha256(self, limit: int | None) -> str:
        """Of all that its questions and verdicts are made from, in its first `limit` rows: see `task_sha256`."""
        return task_sha256(self.entry, self.task.eval_docs, limit)

    def task_records(self, records: Sequence[Record]) -> TaskRecords:
        """Which records are the task's, and what compares them with another run's."""
        return TaskRecords(
            keys=[record.key for record in records],
            clusters=[self.benchmark.cluster(record.row_id) for record in records],
            strata=None if (of := self.benchmark.stratum) is None else [of(record.row_id) for record in records],
            guess_chances=[self.benchmark.guess_chance(record.row_id) for record in records],
            measured=[record.attention is not None for record in records],
            causal=[record.causal is not None for record in records],
        )

    def outcomes(self, records: Sequence[Record], judged: Mapping[str, JudgeOutcome]) -> list[Outcome]:
        """The judged records' outcomes. judged: a judge model's, by key."""
        return [record.outcome(judged.get(record.key)) for record in records if record.judgement]

    def result(
        self,
        records: Sequence[Record],
        refused: Mapping[str, str],
        judged: Mapping[str, JudgeOutcome],
        vas_queries: VasQueries,
        steered: bool,
    ) -> TaskResult:
        """The numbers of the task's records. refused: row's id -> reason. judged: a judge model's outcomes, by key."""
        measured = [record for record in records if record.attention]
        result = task_result(
            self.benchmark,
            self.outcomes(records, judged),
            attention_means(
                [record.attention for record in measured if record.attention],
                [self.benchmark.cluster(record.row_id) for record in measured],
                vas_queries,
            ),
            left_out_rows(self.left_out, refused),
            band=vas_queries == "turn" and not steered,
        )
        return self._with_lmms_eval_metrics(result, records) if self.entry.form == "lmms-eval" else result

    def with_causal(
        self, result: TaskResult, chosen: Sequence[Record], columns: Sequence[str], windows: int
    ) -> TaskResult:
        """With these causal columns of the records that were chosen for them; as it is where there are none.

        windows: of layers that were knocked out.
        """
        if not columns:
            return result
        metrics, counts = causal_metrics(chosen, self.benchmark.cluster, columns)
        by_layers = knockout_windows(chosen, self.benchmark.cluster, windows)
        return result.model_copy(
            update={"metrics": result.metrics | metrics, "causal": counts, "knockout_windows": by_layers}
        )

    def _with_lmms_eval_metrics(self, result: TaskResult, records: Sequence[Record]) -> TaskResult:
        """With lmms-eval's metrics as the benchmark's own under its published rule, and what needs no verdict."""
        responses: dict[int, dict[int, str]] = {}
        for record in records:
            responses.setdefault(record.sample, {})[int(record.row_id)] = record.response
        found = task_metrics(self.task, list(responses.values()), self.entry.file)
        own = {name: Metric.of(metric.estimate) for name, metric in found.items()}
        cut = clustered_proportion([one.finish_reason == "length" for one in records], [one.row_id for one in records])
        name = self.entry.headline
        scale = {"official": own[name]} if name in found and found[name].is_share else {}
        strict = {"strict": result.metrics["accuracy"]} if result.metrics["accuracy"].n else {}
        return result.model_copy(
            update={
                "metrics": result.metrics | {"truncated": Metric.of(cut)},
                "benchmark": result.benchmark | {"official": own},
                # A score is a share; a metric in another unit stands under `benchmark` alone.
                "headline": Headline(name="accuracy", values=strict) if strict else Headline(name=name, values=scale),
            }
        )
