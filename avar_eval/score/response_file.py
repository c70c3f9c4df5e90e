"""Responses that were made elsewhere, judged by a task's rules: `avar-eval score --task NAME --responses FILE`."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from avar_eval.answers import FinishReason, Judgement
from avar_eval.atomic import write_atomically
from avar_eval.errors import AvarError
from avar_eval.in_words import fault_in_words
from avar_eval.judge.model import JudgeModel
from avar_eval.names import first_few
from avar_eval.outcomes import MISSING, JudgeOutcome, Outcome
from avar_eval.results.grading import Answered, grade_all
from avar_eval.results.metrics import Benchmark
from avar_eval.results.schema import LeftOut, TaskResult
from avar_eval.results.summary import task_result
from avar_eval.score.response_lines import UnreadableLineError, read_lines
from avar_eval.tasks.catalog import TaskEntry, gold_answer
from avar_eval.tasks.files import rows_by_id
from avar_eval.terminal import note

UNNAMED: Final = "responses"
"""The model of lines that name none."""


class ResponsesError(AvarError):
    """The file of responses cannot be scored; the message names file, line and cause.

    What to do: Mend the line of the file that the message names.
    """


@dataclass(frozen=True)
class GivenResponse:
    """One line of the file: as it stands there, and what of it is judged. response: None for what is no text.

    position: of the row in the benchmark, from 0, where the line tells that and no id.
    """

    number: int
    line: Mapping[str, Any]
    id: str
    model: str
    response: str | None
    finish_reason: FinishReason | None
    position: int | None = None


class ScoredModel(NamedTuple):
    """One model's numbers; left_out of the result are the rows without a response.

    grader: versions of the rules that judged. responses_sha256: of what they judged, by which runs are told apart.
    """

    model: str
    result: TaskResult
    grader: list[str]
    responses_sha256: str


def score_responses(
    entry: TaskEntry,
    responses: Path,
    data_dir: Path | None,
    output: Path | None,
    judge: JudgeModel | None = None,
    model: str = UNNAMED,
) -> Iterator[ScoredModel]:
    """Judge the responses of a file; write its lines with their judgements to `output` if it is given.

    Input lines: id (the row's), response, optionally model and finish_reason (stop, length); or another harness's, as
    `read_lines` takes them. model: of lines that name none. Output lines add
    extracted, state, correct (strict) and official; with a judge, judge_state, judge_extracted and judge_correct. A
    response that is no text (null, a number, a list) is left out as a row without a response is: its output line has
    the state no_text, and a warning names all of them. The judge's replies are kept beside the output, else beside the
    responses, in a file that ends in `.judge.jsonl`. The numbers of a model are worked out when it is its turn: those
    of thousands, each with the rows that it lacks, are never in memory together.

    Raises ResponsesError for a damaged line, an unknown row or a row answered twice, DataError for the rows.
    """
    lines = list(_read(responses, model))
    rows = rows_by_id(entry, data_dir)
    lines = _with_ids(responses, entry, lines, rows)
    _check(responses, entry, lines, rows)
    given = [one for one in lines if one.response is not None]
    _warn_about_missing_text(responses, [one for one in lines if one.response is None], len(given))
    judgements = grade_all(entry.name, [Answered(rows[one.id], one.response or "", one.finish_reason) for one in given])
    asked: Sequence[JudgeOutcome | None] = [None] * len(given)
    if judge is not None:
        from avar_eval.judge.verdict import Question, judge_responses

        questions = [
            Question.of(entry.name, rows[one.id], one.response or "", judgement.state)
            for one, judgement in zip(given, judgements, strict=True)
        ]
        asked = judge_responses(questions, judge, (output or responses).with_suffix(".judge.jsonl"))
    if output is not None:
        judged = {one.number: of for one, *of in zip(given, judgements, asked, strict=True)}
        write_atomically(output, (_output_line(one, *judged.get(one.number, (None, None))) for one in lines))
    outcomes: dict[str, list[Outcome]] = {}
    graders: dict[str, set[str]] = {}
    texts: dict[str, list[tuple[str, str | None, str | None]]] = {}
    for one, judgement, outcome in zip(given, judgements, asked, strict=True):
        outcomes.setdefault(one.model, []).append(Outcome.of(one.id, 0, judgement, one.finish_reason, outcome))
        graders.setdefault(one.model, set()).add(judgement.grader)
        texts.setdefault(one.model, []).append((one.id, one.response, one.finish_reason))
    benchmark = Benchmark(entry, rows)
    return (
        ScoredModel(name, _result(benchmark, of), sorted(graders[name]), _sha256(texts[name]))
        for name, of in outcomes.items()
    )


def _sha256(texts: Sequence[tuple[str, str | None, str | None]]) -> str:
    """The same for the same responses, whatever their order."""
    return hashlib.sha256(json.dumps(sorted(texts, key=lambda text: text[0])).encode()).hexdigest()


def _with_ids(
    path: Path, entry: TaskEntry, lines: Sequence[GivenResponse], rows: Mapping[str, Mapping[str, Any]]
) -> list[GivenResponse]:
    """The lines with the ids of the rows that they tell by position; says if their answers are not those rows'."""
    ids = list(rows)
    placed = [one for one in lines if one.position is not None]
    for one in placed:
        if not 0 <= (one.position or 0) < len(ids):
            raise ResponsesError(
                f"{path}, line {one.number}: {entry.name} has {len(ids)} rows, and no row {one.position} from 0"
            )
    found = [one if one.position is None else replace(one, id=ids[one.position]) for one in lines]
    told = [(one, one.line["target"]) for one in found if one.position is not None and "target" in one.line]
    same = sum(str(gold_answer(entry.name, rows[one.id])) == str(target) for one, target in told)
    if told and 2 * same < len(told):
        note(
            f"warning: {path}: only {same} of {len(told)} targets are the answers of the rows in these places; are the "
            f"rows of {entry.name} in the order in which they were asked?"
        )
    return found


def _result(benchmark: Benchmark, outcomes: Sequence[Outcome]) -> TaskResult:
    """A model's numbers. Rows without a response are left out, or not right where the benchmark counts them so."""
    answered = {outcome.row_id: outcome for outcome in outcomes}
    missing = [row_id for row_id in benchmark.rows if row_id not in answered]
    reason = "no response" if missing else ""
    if missing and benchmark.entry.missing_is_wrong:
        reason = "no response, counted as not right"
        official = False if any(outcome.official is not None for outcome in outcomes) else None
        judge = JudgeOutcome("unparsed", None, False) if any(outcome.judge for outcome in outcomes) else None
        answered |= {row_id: _not_right(row_id, official, judge) for row_id in missing}
    # in the order of the rows: neither the file's order nor what is missing changes the clusters' groups
    outcomes = [answered[row_id] for row_id in benchmark.rows if row_id in answered]
    return task_result(benchmark, outcomes, {}, LeftOut(n=len(missing), ids=missing, reason=reason))


@cache  # of thousands of models, nearly all rows of most may be missing
def _not_right(row_id: str, official: bool | None, judge: JudgeOutcome | None) -> Outcome:
    return Outcome(row_id, 0, MISSING, None, False, official, judge=judge)


def _warn_about_missing_text(path: Path, left_out: Sequence[GivenResponse], others: int) -> None:
    """Name all lines whose response is no text. Raises ResponsesError if no other line is left."""
    if not left_out:
        return
    places = "; ".join(
        f"line {one.number} (id {one.id!r}) has no text `response` but {_kind(one.line['response'])}"
        for one in left_out
    )
    said = f"{path}: {len(left_out)} of {len(left_out) + others} lines: {places}"
    if not others:
        raise ResponsesError(said)
    note(f"warning: {said}. They are left out, as rows without a response are")


def _kind(response: object) -> str:
    """What stands in the place of a text."""
    if response is None:
        return "null"
    names: dict[type, str] = {bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return names.get(type(response), "an object")


def _output_line(given: GivenResponse, judgement: Judgement | None, judge: JudgeOutcome | None) -> str:
    if judgement is None:
        return (
            json.dumps({**given.line, "extracted": None, "state": "no_text", "correct": None, "official": None}) + "\n"
        )
    added: dict[str, Any] = {
        "extracted": judgement.extracted,
        "state": judgement.state,
        "correct": judgement.correct,
        "official": judgement.official,
    }
    if judgement.reason is not None:
        added["reason"] = judgement.reason
    if judge is not None:
        added |= {"judge_state": judge.state, "judge_extracted": judge.extracted, "judge_correct": judge.correct}
    # ASCII: a response may hold half of a surrogate pair, which UTF-8 does not know.
    return json.dumps({**given.line, **added}) + "\n"


def _read(path: Path, model: str) -> Iterator[GivenResponse]:
    number = 0
    try:
        for number, line in read_lines(path):
            yield _given(f"{path}, line {number}", number, line, model)
    except (OSError, ValueError) as error:
        raise ResponsesError(f"{path} cannot be read: {fault_in_words(error)}") from error
    except UnreadableLineError as error:
        raise ResponsesError(f"{path}, {error}") from error
    if number == 0:
        raise ResponsesError(f"{path} is empty: give one JSON object a line, with `id` and `response`")


def _given(where: str, number: int, line: Any, model: str) -> GivenResponse:
    position = None
    if isinstance(line, dict) and "id" not in line and isinstance(line.get("doc_id"), int):  # lmms-eval's
        position, line = line["doc_id"], {"id": str(line["doc_id"]), **line}
    if not isinstance(line, dict) or not isinstance(line.get("id"), str | int) or isinstance(line["id"], bool):
        raise ResponsesError(f"{where} has no `id`: an object with the texts `id` and `response` is needed")
    if "response" not in line:
        raise ResponsesError(f"{where} (id {line['id']!r}) has no text `response`")
    if not isinstance(line.get("model", model), str):
        raise ResponsesError(f"{where} (id {line['id']!r}): `model` is no text")
    if line.get("finish_reason") not in ("stop", "length", None):
        raise ResponsesError(
            f"{where} (id {line['id']!r}): `finish_reason` is stop, length or null, not {line['finish_reason']!r}"
        )
    response = line["response"] if isinstance(line["response"], str) else None
    return GivenResponse(
        number, line, str(line["id"]), line.get("model", model), response, line.get("finish_reason"), position
    )


def _check(path: Path, entry: TaskEntry, given: Sequence[GivenResponse], rows: Mapping[str, object]) -> None:
    """Raise ResponsesError for ids that are no row's, and for rows that a model answers twice."""
    unknown = [one.id for one in given if one.id not in rows]
    if unknown:
        raise ResponsesError(
            f"{path}: {len(unknown)} of {len(given)} ids are no row of {entry.name}: {first_few(unknown)}; "
            f"its rows' ids look like {next(iter(rows))!r}"
        )
    lines: dict[tuple[str, str], int] = {}
    for number, one in enumerate(given, start=1):
        first = lines.setdefault((one.model, one.id), number)
        if first != number:
            raise ResponsesError(
                f"{path}, lines {first} and {number} both answer row {one.id!r} as {one.model!r}: leave one of them"
            )


def scores_to_json(scored: Iterable[ScoredModel]) -> Iterator[str]:
    """A JSON object: model -> its numbers, as `tasks.<task>` of a results.json has them; in parts, to be joined."""
    yield "{"
    for number, one in enumerate(scored):
        numbers = json.dumps(one.result.model_dump(mode="json"), indent=2).replace("\n", "\n  ")
        yield f"{',' if number else ''}\n  {json.dumps(one.model)}: {numbers}"
    yield "\n}\n"
