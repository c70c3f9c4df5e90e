"""The Python interface for notebooks: `evaluate`, `load_results`, and `Results` that pandas and people can read."""

import contextlib
import html
import inspect
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from avar_eval.command_line import check_choice
from avar_eval.console import UNFOLDED, InertConsole
from avar_eval.errors import UsageError, unknown_name
from avar_eval.judge.model import JudgeModel
from avar_eval.names import listed_names
from avar_eval.records.book import RECORDS_NAME, stream_records
from avar_eval.records.record import Record
from avar_eval.results.run_table import results_table
from avar_eval.results.schema import RESULTS_NAME, Metric, read_results, read_task_records
from avar_eval.results.schema import Results as ResultsFile
from avar_eval.results.stored import run_responses
from avar_eval.run.asking import Asking, asking_fields
from avar_eval.run.evaluate import RunConfig
from avar_eval.run.evaluate import evaluate as run
from avar_eval.run.folder import run_folder
from avar_eval.run.model import resolve
from avar_eval.tasks.folders import include_folders
from avar_eval.terminal import inert

if TYPE_CHECKING:
    import pandas as pd


class Results(ResultsFile):
    """What a run found: the content of its results.json, and the folder that it lies in.

    Shown as a table of its tasks. `results.tasks["shapes"].metrics["accuracy"]` is one number with its interval,
    `results.protocol` everything that decided the numbers.

    Attributes:
        folder: Where results.json and records.jsonl are.
    """

    folder: Path = Field(exclude=True)

    def to_dataframe(self, of: Literal["scores", "rows"] = "scores") -> "pd.DataFrame":
        """The run's scores, or its responses, as a pandas DataFrame.

        Args:
            of: "scores" has one row for each task (or group of tasks), metric and verdict: `value`, the 95 % interval
                from `low` to `high`, and `n`, the number of samples; `verdict` is None for metrics that bear it in
                their name, and "strict", "official" or "judge" for a benchmark's own. "rows" has one row for each
                response, in the order asked, with the columns of `ResponseRow`.

        Returns:
            The table; shares are 0..1, what was not measured is missing (NaN, None or pandas.NA).

        Raises:
            UsageError: `of` is neither of the two.
            ResultsError: The run's asked.json, which tells its records from other runs', cannot be read.
            RecordBookError: The run's records cannot be read, are damaged or incomplete.
        """
        import pandas as pd

        check_choice("of", of, ("scores", "rows"))
        if of == "scores":
            scores = pd.DataFrame(
                list(self._scores()), columns=["task", "metric", "verdict", "value", "low", "high", "n"]
            )
            return scores.astype({"value": float, "low": float, "high": float, "n": int})
        judge = (self.protocol.get("judge") or {}).get("model")
        own = {key for asked in read_task_records(self.folder, self.tasks).values() for key in asked.keys}
        book = stream_records(self.folder / RECORDS_NAME)  # may hold other runs' records, too
        rows = {record.key: ResponseRow.of(record, judge) for record in book if record.key in own}
        in_order = [row for task in run_responses(self.folder, self.tasks, rows).values() for row in task]
        table = pd.DataFrame(in_order, columns=[column.name for column in fields(ResponseRow)])
        verdicts = dict.fromkeys(("strict", "official", "judge"), "boolean")
        return table.astype(verdicts | {"vas": float, "vas_response": float})

    def _scores(self) -> Iterator[tuple[str, str, str | None, float | None, float | None, float | None, int]]:
        for name, task in self.tasks.items():
            for metric, found in task.metrics.items():
                yield name, metric, None, *_numbers(found)
            for verdict, own in task.benchmark.items():
                for metric, found in own.items():
                    yield name, metric, verdict, *_numbers(found)
        for name, group in self.groups.items():
            for verdict, mean in group.mean.items():
                yield name, "mean", verdict, *_numbers(mean)

    def __repr__(self) -> str:
        """The table that the command line prints, and the folder."""
        text = io.StringIO()
        console = InertConsole(file=text, width=UNFOLDED, markup=False, highlight=False)
        console.print(results_table(self))
        console.print(f"records and results: {self.folder}")
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """The same for notebooks. Names come from checkpoints and folders: no markup in them is obeyed."""
        table = results_table(self)
        head = "".join(f"<th>{_html(column.heading)}</th>" for column in table.columns)
        rows = table.rows
        body = "".join(f"<tr>{''.join(f'<td>{_html(cell)}</td>' for cell in row)}</tr>" for row in rows)
        return (
            f"<table><caption>{_html(table.title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<p>records and results: {_html(self.folder)}</p>"
        )


@dataclass(frozen=True)
class ResponseRow:
    """One response of a run, a row of `Results.to_dataframe("rows")`.

    Attributes:
        task: The task's name.
        row_id: The row of its data set.
        sample: Number of the response to this row, from 0.
        prompt: The question as the model read it.
        image_sha256: SHA-256 (hex) of each of its pictures' pixels; None in files of earlier versions.
        response: The model's words.
        finish_reason: "stop", or "length" where the token limit cut it off.
        state: What became of its answer, such as "scored", "truncated" or "unparsed".
        extracted: The answer found in it.
        reference: The gold answer, if the task tells one; None in files of earlier versions.
        strict: Whether it is right by our rule.
        official: Whether it is right by the published rule, if that has a verdict.
        judge: Whether it is right by the run's judge model, if there is one and it could tell.
        vas: Visual Attention Score of the question's tokens, if it was measured, by this run or another in its folder.
        vas_response: The same of the response's tokens.
        protocol_id: Of the protocol by which it was first asked for; protocols.jsonl in the run's folder has it.
    """

    task: str
    row_id: str
    sample: int
    prompt: str
    image_sha256: list[str] | None
    response: str
    finish_reason: str
    state: str | None
    extracted: str | None
    reference: str | None
    strict: bool | None
    official: bool | None
    judge: bool | None
    vas: float | None
    vas_response: float | None
    protocol_id: str | None

    @classmethod
    def of(cls, record: Record, judge: str | None) -> "ResponseRow":
        """Make one from a record.

        Args:
            record: As it stands in the record book.
            judge: The run's judge model; a verdict of another one is another run's.

        Returns:
            The row.
        """
        judgement, attention = record.judgement, record.attention
        return cls(
            task=record.task,
            row_id=record.row_id,
            sample=record.sample,
            prompt=record.prompt,
            image_sha256=record.image_sha256,
            response=record.response,
            finish_reason=record.finish_reason,
            state=judgement.state if judgement else None,
            extracted=judgement.extracted if judgement else None,
            reference=record.reference,
            strict=judgement.correct if judgement else None,
            official=judgement.official if judgement else None,
            judge=record.judge.correct if record.judge and record.judge.model == judge else None,
            vas=attention.user.vas if attention and attention.user else None,
            vas_response=attention.response.vas if attention and attention.response else None,
            protocol_id=record.protocol_id,
        )


def evaluate(model: str | Path, tasks: str | Sequence[str], **asking: Any) -> Results:
    """Ask a model the questions of tasks: what `avar-eval --model MODEL --tasks TASKS` does.

    A run that was interrupted goes on where it was when it is called again; one that is finished is only read again.
    Nothing is printed on standard output; progress and notes are on standard error.

    Args:
        model: Registered name, local folder or hub repository; `avar-eval models` lists the registered ones.
        tasks: Names of tasks or groups, as a list or with commas; `avar-eval tasks` lists them.
        **asking: The options of the command line, such as `limit=100`, `temperature=0.6`, `api_url="http://…/v1"`.
            `output` is by default the command line's folder; paths may be strings, and `steering` a text of `--steer`,
            such as "image=0.15,system=0.4" or "avar"; `include_path` is a folder with tasks of your own or a list of
            them, and their tasks stay known to this process; a judge is what
            `avar_eval.judge.model.judge_from_options` makes; `backend_options` are fields of a backend's options that
            are no options of the command line, `name` is what the model is called in results.

    Returns:
        What the run found, each number with its interval.

    Raises:
        UsageError: A name is unknown or a value out of range; the message names the nearest that is known.
        AvarError: Anything else that the message says how to mend, such as a model that cannot be loaded.
    """
    names = listed_names(tasks) if isinstance(tasks, str) else list(tasks)
    for name in asking:
        if name not in _ARGUMENTS:
            raise unknown_name("argument", name, _ARGUMENTS)
    included = asking.get("include_path") or ()
    folders = [included] if isinstance(included, str | os.PathLike) else included
    include_folders([Path(os.path.expanduser(folder)) for folder in folders])
    own = {name: asking.pop(name) for name in _RUN_ARGUMENTS if name in asking}
    asked = Asking.of(model=os.fspath(model), **asking)
    judge = own.get("judge")
    if judge is not None and not isinstance(judge, JudgeModel):
        raise UsageError(f"judge: give an instance of JudgeModel, not {judge!r}")
    resolved = resolve(asked)
    output = Path(os.path.expanduser(own.pop("output", None) or run_folder(resolved)))
    # For the protocol: values as they were taken, and a judge that does not show its key.
    values = [f"{name}={getattr(asked, name, value)!r}" for name, value in (asking | own).items()]
    own.pop("include_path", None)
    command = f"avar_eval.evaluate({', '.join([repr(asked.model), repr(names), *values])})"
    more: dict[str, Any] = {"command": command, "resume": command} | own
    config = RunConfig(resolved, names, output, **more)
    with contextlib.redirect_stdout(sys.stderr):  # libraries print
        return _in_folder(run(config), config.output)


# Notebooks complete the names of arguments from a signature.
_RUN_ARGUMENTS: Final = ("output", "judge", "training", "command", "include_path")
_ARGUMENTS: Final = {
    name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
    for name, default in {
        **{name: field.default for name, field in asking_fields().items() if name != "model"},
        "backend_options": {},
        "name": None,
        **dict.fromkeys(_RUN_ARGUMENTS),
    }.items()
}
_named = list(inspect.signature(evaluate).parameters.values())[:2]
evaluate.__signature__ = inspect.signature(evaluate).replace(  # type: ignore[attr-defined]
    parameters=[*_named, *_ARGUMENTS.values()]
)


def load_results(path: str | Path) -> Results:
    """Read a finished run.

    Args:
        path: The run's folder, or the results.json in it.

    Returns:
        What the run found.

    Raises:
        ResultsError: There is no finished run, or its results.json cannot be read.
    """
    folder = Path(os.path.expanduser(path))
    folder = folder.parent if folder.name == RESULTS_NAME else folder
    return _in_folder(read_results(folder), folder)


def _in_folder(found: ResultsFile, folder: Path) -> Results:
    return Results(folder=folder.absolute(), **dict(found))  # absolute: a notebook may change its folder


def _numbers(metric: Metric) -> tuple[float | None, float | None, float | None, int]:
    low, high = metric.ci95 or (None, None)
    return metric.value, low, high, metric.n


def _html(text: object) -> str:
    return html.escape(inert(str(text))).replace("\n", "<br>")
