"""What `avar-eval compare` prints: the table, what it may not be held for, and the rows that changed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from avar_eval.console import wide_console
from avar_eval.number_format import UNKNOWN, coefficient, p_value, percent, points, score
from avar_eval.records.book import RECORDS_NAME
from avar_eval.results.compare import Comparison
from avar_eval.results.compared_run import ComparedRun
from avar_eval.results.prompting import prompting_differences
from avar_eval.results.stored import record_lines
from avar_eval.sample_size import power_line
from avar_eval.tables import Column, FittedTable

_LEVEL: Final = 0.05
_END: Final = 300
"""Characters of a response's end that are shown."""


def print_comparisons(a: Path, others: Sequence[Path], comparisons: Sequence[Comparison], shown: int = 0) -> None:
    """A table for each of the other runs beside the first, notes, and `shown` of the rows whose verdict changed."""
    console = wide_console()
    first = ComparedRun.read(a)
    letters = [chr(ord("B") + number) if number < 25 else f"run {number + 2}" for number in range(len(others))]
    console.print("\n".join(f"{letter}: {run}" for letter, run in zip(["A", *letters], [a, *others], strict=True)),
                  soft_wrap=True)  # fmt: skip
    for letter, folder in zip(letters, others, strict=True):
        second = ComparedRun.read(folder)
        of_run = [one for one in comparisons if one.run == str(folder)]
        console.print(_table(letter, of_run))
        for line in [*_reservations(of_run), *_asked_differently(first, second)]:
            console.print(line, soft_wrap=True)
        for one in of_run:
            if one.metric == "accuracy":
                for word, ids in (("better", one.gained), ("worse", one.lost)):
                    console.print(f"{one.task}: {letter} is {word} on {len(ids)} rows", end="")
                    console.print(f": {', '.join(ids)}" if ids else "", soft_wrap=True)
                for text in _changed_rows(one, first, second, letter, shown):
                    console.print(text, soft_wrap=True)
    console.print(
        "in brackets: 95 % intervals, beside 0 where p < .05; Holm: p adjusted for all "
        f"{len(comparisons)} comparisons here"
    )


def _table(letter: str, comparisons: Sequence[Comparison]) -> FittedTable:
    headings = ("n", "A", letter, f"{letter} − A", "p", "Holm")
    keys = [Column("task", text=True, key=True), Column("metric", text=True, key=True)]
    table = FittedTable([*keys, *map(Column, headings), Column("test", text=True)])
    for one in comparisons:
        value, ci95 = one.difference.value, one.difference.ci95
        if one.scale == "share":
            numbers = f"{percent(one.a)} %", f"{percent(one.b)} %", points(value, ci95)
        elif one.scale == "ratio":
            numbers = score(one.a), score(one.b), f"×{score(value, ci95)}"
        else:
            numbers = coefficient(one.a), coefficient(one.b), coefficient(value, ci95)
        name = f"{one.metric} (geometric mean)" if one.scale == "ratio" else one.metric
        metric = name if one.verdict is None or one.metric in ("accuracy", one.verdict) else f"{name}, {one.verdict}"
        table.add_row(
            one.task, metric, str(one.difference.n), *numbers, p_value(one.p), p_value(one.p_holm),
            "too few clusters" if one.too_few else one.test,
        )  # fmt: skip
    return table


def _reservations(comparisons: Sequence[Comparison]) -> list[str]:
    """What the numbers of a table do not say of themselves."""
    lines = []
    left_out: dict[str, tuple[int, int]] = {}
    for one in comparisons:
        if one.too_few:
            lines.append(
                f"{one.task} {one.metric}: {one.clusters} independent clusters are too few for p < .05, "
                "whatever the answers"
            )
        if one.only_a or one.only_b:
            left_out[one.task] = one.only_a, one.only_b
    for task, (only_a, only_b) in left_out.items():
        lines.append(f"{task}: {only_a} rows of the first run alone and {only_b} of the other alone are left out")
    for one in comparisons:
        if one.metric == "accuracy" and one.error is not None and not one.too_few:
            lines.append(f"{one.task}: {power_line(one.difference, one.error, one.dof)}")
    if significant := [one for one in comparisons if one.p is not None and one.p < _LEVEL <= (one.p_holm or 1.0)]:
        names = ", ".join(f"{one.task} {one.metric}" for one in significant)
        lines.append(f"p < .05 alone, but not after Holm for all that is compared: {names}")
    return lines


def _asked_differently(first: ComparedRun, second: ComparedRun) -> list[str]:
    """A line for each way in which the two were not asked alike, and for each task cut more often in one."""
    cards = first.results.protocol, second.results.protocol
    lines = [f"asked differently, {line}" for line in prompting_differences(*cards)]
    hashes: list[Mapping[str, Any]] = [card.get("prompt_sha256") or {} for card in cards]
    for task in first.rows:
        rows = [row for row in first.rows[task] if row in second.rows.get(task, {})]
        if not rows:
            continue
        # the hash is of every sample's prompt: of another number of samples it says nothing
        same_rows = {row: len(of) for row, of in first.rows[task].items()} == {
            row: len(of) for row, of in second.rows[task].items()
        }
        if same_rows and hashes[0].get(task) != hashes[1].get(task):
            lines.append(f"asked differently, {task}: the prompts are not the same")
        cut = [run.truncated(task, rows) for run in (first, second)]
        if any(cut):
            lines.append(
                f"{task}: responses that ended at the token limit: {percent(cut[0])} % and {percent(cut[1])} %"
            )
        graders = [(card.get("grader") or {}).get(task) for card in cards]
        if graders[0] != graders[1]:
            lines.append(
                f"{task}: judged by other rules, {graders[0]} and {graders[1]}: `avar-eval score` judges again"
            )
    if first.queries != second.queries:
        lines.append(
            f"VAS is not compared: it is over the tokens of {first.queries} in one run and of {second.queries} in "
            "the other"
        )
    return lines


def _changed_rows(one: Comparison, first: ComparedRun, second: ComparedRun, letter: str, shown: int) -> list[str]:
    """Question, reference and the ends of both responses, of the first rows that changed for the better and worse."""
    chosen = {row: word for word, ids in (("better", one.gained), ("worse", one.lost)) for row in ids[:shown]}
    if not chosen:
        return []
    contents = [_contents(run, one.task, chosen) for run in (first, second)]
    texts = []
    for row, word in chosen.items():
        a, b = contents[0][row], contents[1][row]
        texts += [
            "",
            f"{one.task} {row}: {letter} is {word}",
            f"  prompt: {_indented(a.get('prompt', ''))}",
            f"  reference: {_indented(a.get('reference') or b.get('reference') or UNKNOWN)}",
            f"  A: {_indented(_end(a['response']))}",
            f"  {letter}: {_indented(_end(b['response']))}",
        ]
    return texts


def _contents(run: ComparedRun, task: str, rows: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The records of a task's rows, of each the first sample."""
    keys = {run.rows[task][row][0].key: row for row in rows}
    found: dict[str, dict[str, Any]] = {}
    for _, line in record_lines(run.folder / RECORDS_NAME):
        record = json.loads(line)
        if record["key"] in keys:
            found[keys[record["key"]]] = record
    return found


def _end(response: str) -> str:
    return response if len(response) <= _END else f"… {response[-_END:]}"


def _indented(text: str) -> str:
    return text.strip().replace("\n", "\n     ")
