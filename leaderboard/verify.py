"""A run's records judged again, and what results.json says held against them: what makes a row `verified`.

Verified is: every number follows from the records, each record is of the question, the weights and the decoding that
the protocol names (its key is their hash), and the rows are the benchmark's own, none picked out. Not: that the model
gave these responses, which only asking it again can show.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from avar_eval.answers import Judgement
from avar_eval.attention.sampling import AttentionSampling
from avar_eval.in_words import in_words
from avar_eval.leaderboard.consistency import CLOSE, ContradictionError
from avar_eval.models.decoding import Decoding
from avar_eval.outcomes import JudgeOutcome, Outcome
from avar_eval.records.book import PROTOCOLS, PROTOCOLS_NAME, RECORDS_NAME, stream_records
from avar_eval.records.causal import ALTERED_NAME
from avar_eval.records.journal import read_lines
from avar_eval.records.record import Record, protocol_id, record_key
from avar_eval.results.causal import BLIND, PASSES, SWAPPED, causal_metrics, knockout_windows
from avar_eval.results.grading import Answered, grade_all
from avar_eval.results.metrics import Benchmark
from avar_eval.results.schema import (
    CausalCounts,
    Metric,
    Results,
    TaskRecords,
    TaskResult,
    asked_by,
    prompt_sha256,
    read_task_records,
)
from avar_eval.results.stored import run_responses
from avar_eval.results.summary import attention_means, group_results, has_band, task_result, vas_queries
from avar_eval.tasks.catalog import TaskEntry, find_tasks, gold_answer
from avar_eval.tasks.files import DataError, rows_by_id


@dataclass(frozen=True)
class JustJudged:
    """What a caller has just done with a run: the rows of its tasks, and the judgements of its records by key."""

    benchmarks: Mapping[str, Benchmark]
    judgements: Mapping[str, Judgement]


def verified_tasks(
    folder: Path, results: Results, data_dir: Path | None, judged: JustJudged | None = None
) -> list[str]:
    """The tasks of a finished run whose numbers follow from its records: all that are in avar-eval's form.

    Raises ContradictionError, which says which number or record does not fit, DataError where the benchmark's rows
    cannot be had, and what reading raises.
    """
    records = {
        record.key: record.model_copy(update={"prompt_token_ids": [], "response_token_ids": []})
        for record in stream_records(folder / RECORDS_NAME)
    }
    of_tasks = run_responses(folder, results.tasks, records)
    asked = read_task_records(folder, results.tasks)
    _check_protocols(folder, results, [record for of_task in of_tasks.values() for record in of_task])
    verified: dict[str, TaskResult] = {}
    outcomes: dict[str, tuple[Benchmark, list[Outcome]]] = {}
    for entry in find_tasks(results.tasks):
        if entry.form == "lmms-eval":
            continue
        benchmark = judged.benchmarks[entry.name] if judged else _benchmark(folder, entry, data_dir)
        check = _Check(folder, results, benchmark, of_tasks[entry.name], asked[entry.name])
        check.keys()
        check.rows()
        of_task = check.outcomes(judged.judgements if judged else None)
        outcomes[entry.name] = benchmark, of_task
        verified[entry.name] = check.numbers(of_task)
    groups = group_results(results.tasks | verified, outcomes)
    for name, group in results.groups.items():
        for verdict, mean in group.mean.items():
            _check_metric(folder, f"the mean of {name} ({verdict})", mean, groups[name].mean[verdict])
    return list(verified)


def _check_protocols(folder: Path, results: Results, records: Sequence[Record]) -> None:
    """Records were asked for by this model, as far as the folder says by whom."""
    if results.protocol_id is None and not any(record.protocol_id for record in records):
        return  # a run of before protocols were kept
    path = folder / PROTOCOLS_NAME
    lines = read_lines(path, PROTOCOLS)
    for line in lines.values():
        if protocol_id(line.protocol) != line.protocol_id:
            raise ContradictionError(path, f"the protocol {line.protocol_id} is not what its name is the hash of")
    # A run that asked nothing new, because its records were there, has left no line of its own.
    named = {record.protocol_id for record in records} | ({results.protocol_id} & lines.keys())
    for name in filter(None, named):
        if name not in lines:
            raise ContradictionError(path, f"it lacks the protocol {name}, by which records were asked for")
        before = lines[name].protocol
        same = before if name == results.protocol_id else {part: before.get(part) for part in ("model", "revision")}
        for part, value in same.items():
            now = results.protocol.get(part)
            if part == "backend" and isinstance(now, dict):
                now = {of: one for of, one in now.items() if of != "changed"}
            if now != value:
                raise ContradictionError(
                    folder, f"its records were asked for with {part} {value!r}, and results.json says {now!r}"
                )
    if results.protocol_id != (own := protocol_id(asked_by(results.protocol))):
        raise ContradictionError(
            folder, f"its protocol_id is {results.protocol_id}, and that of its protocol is {own}: one was changed"
        )


def _benchmark(folder: Path, entry: TaskEntry, data_dir: Path | None) -> Benchmark:
    try:
        return Benchmark(entry, rows_by_id(entry, data_dir))
    except DataError as error:
        raise DataError(
            f"{error}; without them {folder} cannot be judged again: its {folder / 'results.json'} can be added, as "
            "reported"
        ) from error


class _Check:
    """One task of a run: its records and rows, and what results.json says of it."""

    def __init__(
        self,
        folder: Path,
        results: Results,
        benchmark: Benchmark,
        records: Sequence[Record],
        asked: TaskRecords,
    ) -> None:
        self.folder, self.benchmark, self.entry = folder, benchmark, benchmark.entry
        self.records, self.asked = records, asked
        self.protocol, self.judge_model = results.protocol, (results.protocol.get("judge") or {}).get("model")
        self.result = results.tasks[self.entry.name]

    def refuse(self, problem: str) -> ContradictionError:
        return ContradictionError(self.folder, f"{self.entry.name}: {problem}")

    def decoding(self) -> Decoding:
        """How the task's responses were drawn, by the protocol."""
        of_task = (self.protocol.get("tasks") or {}).get(self.entry.name, {}).get("decoding")
        card = of_task or self.protocol.get("decoding") or {}
        try:
            return Decoding(**card | {"stop": tuple(card.get("stop", ()))})
        except ValidationError as error:
            raise self.refuse(f"its protocol's decoding cannot be read ({in_words(error)})") from error
        except TypeError as error:  # a field that Decoding has not
            raise self.refuse(
                f"its protocol's decoding is none that this avar-eval knows: {', '.join(card)}"
            ) from error

    def keys(self) -> None:
        """Each record is of the prompt, picture, weights and decoding that the protocol names."""
        if len({record.key for record in self.records}) < len(self.records):
            raise self.refuse("asked.json counts a record twice")
        decoding = self.decoding().identity()
        backend = {name: of for name, of in self.protocol["backend"].items() if name not in ("backend", "changed")}
        for record in self.records:
            if record.image_sha256 is None:  # of before pictures were told
                continue
            key = record_key(
                task=record.task,
                row=record.row_id,
                sample=record.sample,
                prompt=record.prompt,
                images=record.image_sha256,
                weights=self.protocol.get("weights_sha256"),
                dtype=self.protocol.get("dtype"),
                decoding=decoding,
                steering=self.protocol.get("steering"),
                **backend,
            )
            if key != record.key:
                raise self.refuse(
                    f"the record {record.key[:12]} of row {record.row_id!r} is of another prompt, picture, model or "
                    "decoding than the protocol's"
                )
        prompts, told = prompt_sha256(self.records), self.protocol["prompt_sha256"].get(self.entry.name)
        if prompts != told:
            raise self.refuse(f"the prompts of its records have the hash {prompts[:12]}, and the protocol has {told}")

    def rows(self) -> None:
        """The records are of the benchmark's first rows, none left out but those that are named, with their answers."""
        rows, left_out = self.benchmark.rows, set(self.result.left_out.ids)
        samples: dict[str, set[int]] = {}
        for record in self.records:
            if record.row_id not in rows:
                raise DataError(
                    f"{self.folder} answers the row {record.row_id!r} of {self.entry.name}, which its data lacks: give "
                    "--data-dir the folder that the run was made with"
                )
            drawn = samples.setdefault(record.row_id, set())
            if record.sample in drawn:
                raise self.refuse(f"two records are of the row {record.row_id!r}, sample {record.sample}")
            drawn.add(record.sample)
            reference = gold_answer(self.entry.name, rows[record.row_id])
            if record.reference is not None and record.reference != reference:
                raise self.refuse(
                    f"a record says that the answer to row {record.row_id!r} is {record.reference!r}, and the "
                    f"benchmark says {reference!r}"
                )
        expected = [row for row in rows if row in samples or row not in left_out]
        if missing := next((row for row in expected[: len(samples)] if row not in samples), None):
            raise self.refuse(f"it has no record of the row {missing!r}, and does not name it as left out")
        limit = self.protocol.get("limit")
        wanted = len(expected) if limit is None else min(limit, len(expected))
        if not wanted - len(left_out) <= len(samples) <= wanted or (limit is None and len(samples) < wanted):
            raise self.refuse(f"it has records of {len(samples)} rows, and its protocol asks for {wanted}")
        drawn_each = self.decoding().samples
        self._check_left_out({row for row, drawn in samples.items() if len(drawn) == drawn_each})
        for row, drawn in samples.items():
            if drawn != set(range(drawn_each)) and row not in left_out:
                raise self.refuse(f"row {row!r} has {len(drawn)} responses, and the protocol draws {drawn_each}")

    def _check_left_out(self, answered: set[str]) -> None:
        """Rows that are named as left out are the benchmark's, have no answer, and were to be asked."""
        # of rows from a folder all without a picture are named, beyond the limit too
        limit = self.protocol.get("limit") if self.entry.embedded else None
        asked = set(list(self.benchmark.rows)[:limit])
        for row in self.result.left_out.ids:
            if row not in asked or row in answered:
                why = "has records of it" if row in answered else "was never to ask it"
                raise self.refuse(f"it names the row {row!r} as left out, and {why}")

    def outcomes(self, judged: Mapping[str, Judgement] | None) -> list[Outcome]:
        """The records judged again; recorded judgements have to be the same."""
        if judged is None:
            answered = [
                Answered(self.benchmark.rows[record.row_id], record.response, record.finish_reason)
                for record in self.records
            ]
            judgements = grade_all(self.entry.name, answered)
            for record, judgement in zip(self.records, judgements, strict=True):
                self._check_judgement(record, judgement)
        else:
            judgements = [judged[record.key] for record in self.records]
        return [
            Outcome.of(record.row_id, record.sample, judgement, record.finish_reason, self._judge_outcome(record))
            for record, judgement in zip(self.records, judgements, strict=True)
        ]

    def numbers(self, outcomes: Sequence[Outcome]) -> TaskResult:
        """The task's numbers by its records; results.json has to have the same."""
        measured = self.asked.measured or [True] * len(self.records)
        known = [of for of, in_run in zip(self.records, measured, strict=True) if in_run and of.attention]
        again = task_result(
            self.benchmark,
            outcomes,
            attention_means(
                [of.attention for of in known if of.attention],
                [self.benchmark.cluster(of.row_id) for of in known],
                vas_queries(self.protocol),
            ),
            self.result.left_out,
            band=has_band(self.protocol),
        )
        again = again.model_copy(update=self._causal(again.metrics))
        self._compare(again)
        return again

    def _causal(self, metrics: Mapping[str, Metric]) -> dict[str, Any]:
        """The causal columns that results.json has, by the records, beside the other metrics, and what they are of."""
        columns = [name for name in (*PASSES, *BLIND, *SWAPPED) if name in self.result.metrics]
        if not columns:
            return {}
        by_protocol = self._chosen()
        own = self.asked.causal or [True] * len(self.records)
        named = [of for of, in_run in zip(self.records, own, strict=True) if in_run and of.causal and of.sample == 0]
        chosen = named if by_protocol is None else by_protocol
        if {*BLIND, *SWAPPED} & {*columns}:
            self._check_altered(chosen)
        found, counts = causal_metrics(chosen, self.benchmark.cluster, columns)
        if by_protocol is None and self.result.causal:
            told = self.result.causal
            counts = counts.model_copy(update={"rows": told.rows, "without_image": told.without_image})
        windows = int((self.protocol.get("causal") or {}).get("knockout_windows") or 0)
        by_layers = knockout_windows(chosen, self.benchmark.cluster, windows)
        return {"metrics": {**metrics, **found}, "causal": counts, "knockout_windows": by_layers}

    def _chosen(self) -> list[Record] | None:
        """The records that the protocol chooses for causal columns; None where rows that are left out hide which."""
        if self.result.left_out.ids:
            return None
        card = self.protocol.get("causal")
        samples, seed = card.get("samples") if isinstance(card, dict) else None, self.protocol.get("seed")
        if not isinstance(samples, int) or not isinstance(seed, int):
            raise self.refuse("it has causal columns, and its protocol does not say of how many rows")
        answered = {record.row_id for record in self.records}
        numbers = {row: str(number) for number, row in enumerate(self.benchmark.rows) if row in answered}
        chosen = AttentionSampling(samples, seed).chosen(list(numbers.values()))
        return [of for of in self.records if of.sample == 0 and numbers[of.row_id] in chosen]

    def _check_altered(self, chosen: Sequence[Record]) -> None:
        """What the records say of answers to altered questions is what the rules say of these answers."""
        path = self.folder / ALTERED_NAME
        answers = {of.key: of for of in stream_records(path)} if path.exists() else {}
        told = [
            (record, of)
            for record in chosen
            if record.causal
            for of in (record.causal.blind, record.causal.swap)
            if of is not None
        ]
        if missing := next((of for _, of in told if of.key not in answers), None):
            raise self.refuse(f"{ALTERED_NAME} lacks the answer {missing.key[:12]} to an altered question")
        responses = [answers[of.key] for _, of in told]
        judgements = grade_all(
            self.entry.name,
            [
                Answered(self.benchmark.rows[record.row_id], answer.response, answer.finish_reason)
                for (record, _), answer in zip(told, responses, strict=True)
            ],
        )
        for (record, of), answer, judgement in zip(told, responses, judgements, strict=True):
            if answer.row_id != record.row_id or (of.correct, of.extracted) != (judgement.correct, judgement.extracted):
                raise self.refuse(
                    f"the answer to the altered question of row {record.row_id!r} is recorded as "
                    f"{_verdict(of)}, and the rules say {_verdict(judgement)}"
                )

    def _check_judgement(self, record: Record, judgement: Judgement) -> None:
        """The recorded judgement, if the same rules made it; a time limit may have ended either."""
        before = record.judgement
        if before is None or before.grader != judgement.grader or "timeout" in (before.state, judgement.state):
            return
        if (before.correct, before.extracted, before.state) != (
            judgement.correct,
            judgement.extracted,
            judgement.state,
        ):
            raise self.refuse(
                f"the response to row {record.row_id!r} is recorded as {_verdict(before)}, and the same rules say "
                f"{_verdict(judgement)}: the record was changed"
            )

    def _judge_outcome(self, record: Record) -> JudgeOutcome | None:
        """What the run's judge model said, as it stands in the record: nobody asks it again."""
        of = record.judge
        if of is None or self.judge_model is None or of.model != self.judge_model:
            return None
        return JudgeOutcome(of.state, of.extracted, of.correct)

    def _compare(self, again: TaskResult) -> None:
        known = self.protocol.get("grader", {}).get(self.entry.name)
        rules = sorted({record.judgement.grader for record in self.records if record.judgement})
        if rules != known:
            raise self.refuse(f"its records were judged by {rules}, and the protocol says {known}")
        for name, metric in self.result.metrics.items():
            _check_metric(self.folder, f"{name} of {self.entry.name}", metric, again.metrics.get(name))
        if self.result.vas_band != again.vas_band:
            raise self.refuse(f"its band of VAS is {self.result.vas_band}, and by its records {again.vas_band}")
        if self.result.causal is not None:
            self._compare_counts(self.result.causal, again.causal)
        by_layers = {of.layers: of for of in again.knockout_windows}
        for window in self.result.knockout_windows:
            where = "{} to {}".format(*window.layers)
            for part in ("answer", "response"):
                found = getattr(by_layers.get(window.layers), part, None)
                name = f"knockout of layers {where}, {part}, of {self.entry.name}"
                _check_metric(self.folder, name, getattr(window, part), found)
        for verdict, own in self.result.benchmark.items():
            for name, metric in own.items():
                found = again.benchmark.get(verdict, {}).get(name)
                _check_metric(self.folder, f"{name} ({verdict}) of {self.entry.name}", metric, found)
        if self.result.headline is not None and again.headline is not None:
            if self.result.headline.name != again.headline.name:
                raise self.refuse(
                    f"its score is {self.result.headline.name}, and the benchmark's {again.headline.name}"
                )
            for verdict, score in self.result.headline.values.items():
                found = again.headline.values.get(verdict)
                _check_metric(self.folder, f"the score ({verdict}) of {self.entry.name}", score, found)

    def _compare_counts(self, told: CausalCounts, found: CausalCounts | None) -> None:
        if found is None:
            raise self.refuse("it says what its causal columns are of, and has none")
        if (told.rows, told.without_image) != (found.rows, found.without_image):
            raise self.refuse(
                f"its causal columns are of {told.rows} rows, {told.without_image} without an image, and by its "
                f"records of {found.rows}, {found.without_image} without"
            )
        if told.visual_gain_p is not None and not _close(told.visual_gain_p, found.visual_gain_p):
            raise self.refuse(
                f"its visual_gain_p is {told.visual_gain_p}, and by its records judged again {found.visual_gain_p}"
            )


def _check_metric(folder: Path, name: str, told: Metric, found: Metric | None) -> None:
    """Raise ContradictionError for a number that is another one by the records."""
    anew = f"`avar-eval score {folder}` writes results.json anew from the records"
    if found is None:
        if told.n:
            raise ContradictionError(folder, f"{name} is {told.value} in results.json, and the records give none")
        return
    if told.n != found.n or not _close(told.value, found.value):
        raise ContradictionError(
            folder,
            f"{name} is {told.value} of {told.n} in results.json, and by its records judged again {found.value} of "
            f"{found.n}; {anew}",
        )
    ends = zip(told.ci95 or (None, None), found.ci95 or (None, None), strict=True)
    if not all(_close(one, other) for one, other in ends):
        raise ContradictionError(
            folder,
            f"the interval of {name} is {told.ci95} in results.json, and by its records {found.ci95} (earlier versions "
            f"may have made others); {anew}",
        )


def _close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= CLOSE * max(1.0, abs(one), abs(other))


def _verdict(of: Any) -> str:
    return f"{'right' if of.correct else 'not right'} ({of.state}, {of.extracted!r})"
