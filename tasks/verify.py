"""How our verdicts agree with published ones: `python -m avar_eval.tasks.verify DATA_DIR TASK [--list] [--tagged]`.

`DATA_DIR/<data>/responses/*.jsonl` holds other people's model outputs, one a line: `id`, `response` and `verdict` (what
the benchmark's own script or authors said of it). `random_fallback` marks a line on which that script guessed: it is
left out of the official rule's comparison. For each file this prints on how many lines our `official` and `strict`
verdicts equal the published one, the accuracies side by side, and the benchmark's own metrics. With `--tagged` also
what both rules say of the same answers as a reasoning model writes them, the response as its thought.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avar_eval.answers import Judgement
from avar_eval.errors import AvarError
from avar_eval.tasks.catalog import TaskEntry, find_tasks, task_hooks
from avar_eval.tasks.files import DataError, Row, read_rows
from avar_eval.tasks.shares import share_values
from avar_eval.terminal import say


@dataclass(frozen=True)
class Line:
    """One published line and what we say of it; `judgement` is None if no response was published."""

    row: Row
    published: bool
    guessed: bool
    response: str | None
    judgement: Judgement | None


@dataclass
class Agreement:
    """The lines of one responses file that belong to the task; `left_out` counts the others."""

    name: str
    lines: list[Line] = field(default_factory=list)
    left_out: int = 0

    def compared(self, verdict: str) -> list[tuple[Line, bool]]:
        """The lines on which a verdict ("official" or "strict") can be compared, with that verdict."""
        pairs = [(line, _verdict(line.judgement, verdict)) for line in self.lines]
        return [
            (line, said) for line, said in pairs if said is not None and not (verdict == "official" and line.guessed)
        ]

    def differing(self, verdict: str) -> list[Line]:
        """The lines on which our verdict is not the published one."""
        return [line for line, said in self.compared(verdict) if said != line.published]


def _verdict(judgement: Judgement | None, name: str) -> bool | None:
    if judgement is None:
        return None
    return judgement.official if name == "official" else judgement.correct


def compute_agreement(entry: TaskEntry, data_dir: Path) -> Iterator[Agreement]:
    """Judge every published response of a task, file by file. Raises DataError without rows or responses."""
    rows = {entry.row_id(row): row for row in read_rows(entry, data_dir)}
    folder = data_dir / entry.data
    # A benchmark of several configurations has one folder of responses; `split` names a line's configuration.
    shared = not (folder / "responses").is_dir()
    paths = sorted(((folder.parent if shared else folder) / "responses").glob("*.jsonl"))
    if not paths:
        raise DataError(f"there are no responses with published verdicts beside {folder / 'rows.jsonl'}")
    judge = task_hooks(entry.name).judge
    for path in paths:
        found = Agreement(path.stem)
        for published in map(json.loads, path.read_text(encoding="utf-8").removesuffix("\n").split("\n")):
            row = rows.get(str(published["id"]))
            if row is None or (shared and published.get("split") != folder.name):
                found.left_out += 1
                continue
            response = published.get("response")
            judgement = None if response is None else judge(row, response, None)
            guessed = bool(published.get("random_fallback"))
            found.lines.append(Line(row, bool(published["verdict"]), guessed, response, judgement))
        if found.lines:
            yield found


def tagged_shares(entry: TaskEntry, agreement: Agreement) -> dict[str, float]:
    """The share of lines right by each rule when the answer that was found stands in tags, the response as thought.

    A response without an answer, or with one that the official rule would guess at, is not right.
    """
    judge = task_hooks(entry.name).judge
    right = {"official": 0, "strict": 0}
    for line in agreement.lines:
        found = line.judgement.extracted if line.judgement else None
        if found is not None:
            judgement = judge(line.row, f"<think>{line.response}</think>\n<answer>{found}</answer>", None)
            right["official"] += judgement.official is True
            right["strict"] += judgement.correct
    return {verdict: count / len(agreement.lines) for verdict, count in right.items()}


def print_agreement(entry: TaskEntry, agreement: Agreement, *, listing: bool) -> None:
    """Print a file's agreement, accuracies and metrics; with `listing` each line on which a verdict differs."""
    lines = agreement.lines
    say(f"{agreement.name}: {len(lines)} lines, {agreement.left_out} of other tasks")
    say(f"  published: {_share([line.published for line in lines])}")
    for verdict in ("official", "strict"):
        compared = agreement.compared(verdict)
        if compared:
            same = len(compared) - len(agreement.differing(verdict))
            accuracy = _share([said for _, said in compared])
            of_same_lines = _share([line.published for line, _ in compared])
            say(f"  {verdict}: {accuracy} (published on these lines {of_same_lines}), same verdict on {same}")
            say(f"    agreement {100 * same / len(compared):.2f} % of {len(compared)}")
    _print_metrics(entry, agreement)
    for verdict in ("official", "strict") if listing else ():
        for line in agreement.differing(verdict):
            say(f"  {verdict} differs: {json.dumps(_shown(entry, line), default=str)}")


def _share(values: Sequence[bool]) -> str:
    return f"{100 * sum(values) / len(values):.2f} % ({sum(values)}/{len(values)})"


def _print_metrics(entry: TaskEntry, agreement: Agreement) -> None:
    parts = getattr(task_hooks(entry.name), "parts", None)
    if parts is None:
        return

    def metrics(rows: Sequence[Row], right: Sequence[bool]) -> Mapping[str, float | None]:
        return share_values(parts(rows), right)

    rows, published = [line.row for line in agreement.lines], [line.published for line in agreement.lines]
    columns: dict[str, Mapping[str, float | None]] = {"published": metrics(rows, published)}
    for verdict in ("official", "strict"):
        compared = agreement.compared(verdict)
        if compared:
            columns[verdict] = metrics([line.row for line, _ in compared], [said for _, said in compared])
    for name in columns["published"]:
        values = (f"{column} {_percent(shares.get(name))}" for column, shares in columns.items())
        say(f"  {name}: {', '.join(values)}")


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.2f}"


def _shown(entry: TaskEntry, line: Line) -> dict[str, Any]:
    response = line.response or ""
    return {
        "id": entry.row_id(line.row),
        "gold": line.row.get("answer"),
        "published": line.published,
        "official": _verdict(line.judgement, "official"),
        "strict": _verdict(line.judgement, "strict"),
        "state": line.judgement.state if line.judgement else None,
        "extracted": line.judgement.extracted if line.judgement else None,
        "response": response if len(response) <= 200 else f"… {response[-200:]}",
    }


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m avar_eval.tasks.verify", description=__doc__.partition("\n")[0])
    parser.add_argument("data_dir", type=Path, help="folder with one sub-folder a benchmark")
    parser.add_argument("tasks", nargs="+", help="names of tasks")
    parser.add_argument("--tagged", action="store_true", help="judge the same answers in <answer> tags, too")
    parser.add_argument("--list", action="store_true", help="print every line on which a verdict differs")
    arguments = parser.parse_args()
    try:
        for entry in find_tasks(arguments.tasks):
            say(f"== {entry.name}")
            for agreement in compute_agreement(entry, arguments.data_dir):
                print_agreement(entry, agreement, listing=arguments.list)
                if arguments.tagged:
                    shares = (f"{verdict} {100 * of:.1f} %" for verdict, of in tagged_shares(entry, agreement).items())
                    say(f"  the same answers in tags: {', '.join(shares)}")
    except AvarError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
