"""The rows of a benchmark in a local folder (`--data-dir`). Light: imports neither lmms-eval nor datasets."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from avar_eval.answers import Judgement
from avar_eval.errors import AvarError
from avar_eval.in_words import code_fault, fault_in_words, shown
from avar_eval.pictures import UNREADABLE, OutsideError, open_picture, picture_fault, picture_path, whole_pictures_only
from avar_eval.refusals import may_refuse
from avar_eval.tasks.catalog import TaskEntry, get_judge, load_function, question_and_target, task_hooks
from avar_eval.user_files import parse_json, read_text

Row = dict[str, Any]


class DataError(AvarError):
    """A benchmark's rows cannot be had or are damaged.

    What to do: `avar-eval data verify NAME --data-dir DIR` says what is missing; `data fetch` gets it.
    """


def rows_by_id(entry: TaskEntry, data_dir: Path | None) -> dict[str, Row]:
    """The task's rows by id, without their pictures; of embedded tasks without `data_dir`. Raises DataError."""
    if entry.embedded is not None:
        rows = load_function(entry, entry.embedded)(entry.split)
    elif data_dir is None:
        raise DataError(f"give --data-dir a folder with {entry.data}/rows.jsonl in it: the rows of {entry.name}")
    else:
        rows = read_rows(entry, data_dir)
    return {entry.row_id(row): {name: row[name] for name in row if name not in entry.images} for row in rows}


def read_rows(entry: TaskEntry, data_dir: Path) -> list[Row]:
    """The task's rows from `data_dir/<entry.data>/rows.jsonl`, image columns as they stand there: path or null.

    Raises DataError for a missing folder, a damaged line, a row that cannot be asked and judged, two rows of one id, or
    when none of the rows belongs to the task.
    """
    path = data_dir / entry.data / "rows.jsonl"
    rows: list[Row] = []
    lines: dict[str, int] = {}
    for number, row in _read_lines(path, entry):
        if not entry.selects(row):
            continue
        name = entry.row_id(row)
        if lines.setdefault(name, number) != number:
            raise DataError(
                f"{path}, line {number}: the id {name} is that of line {lines[name]}: give each row its own"
            )
        _check_row(entry, row, f"{path}, line {number}")
        rows.append(row)
    if not rows:
        raise DataError(f"{path} has no row of the task {entry.name}: fetch the benchmark again")
    return rows


def _check_row(entry: TaskEntry, row: Row, where: str) -> None:
    """Raise DataError for a row that cannot be asked or judged: found now, it costs no answers."""
    for column in entry.images:
        if not isinstance(row[column], str | None):
            raise DataError(f"{where}: `{column}` holds the path of a picture, or null, not {row[column]!r}")
    plain = {name: value for name, value in row.items() if name not in entry.images}
    try:
        asked = task_hooks(entry.name).doc_to_text(plain)
        _, target = question_and_target(entry.name, plain)
        judgement = get_judge(entry.name)(plain, "", None)
    except KeyError as error:
        raise DataError(f"{where} is no row of {entry.name}: {error} is missing or unknown") from error
    except ValueError as error:
        raise DataError(f"{where} is no row of {entry.name}: {error}") from error
    except (AttributeError, IndexError, TypeError) as error:
        fields = ", ".join(f"{name} is {shown(value)}" for name, value in plain.items())
        raise DataError(f"{where} is no row of {entry.name}, whose fields are of other kinds: {fields}") from error
    except AvarError:
        raise
    except Exception as error:  # the code of a task, which anyone may write
        raise DataError(f"{where} cannot be asked or judged: {code_fault(error)}") from error
    if not isinstance(asked, str):
        raise DataError(f"{where}: doc_to_text of {entry.name} gives {shown(asked)}, not a text")
    if not isinstance(judgement, Judgement):
        raise DataError(f"{where}: judge of {entry.name} gives {shown(judgement)}, not what judge_answer gives")
    if target in ("", str(None)):
        raise DataError(f"{where}: the row has no answer to judge by: take a split whose answers are published")


def with_pictures(entry: TaskEntry, data_dir: Path, allow_outside: bool = False) -> tuple[list[Row], dict[str, str]]:
    """The rows whose pictures are there and can be read, each picture's path made whole; of the others, id -> reason.

    Raises DataError as `read_rows` does, for a picture outside of `data_dir` (unless that is allowed), when more
    pictures are broken than a run may leave out, and when no row is left.
    """
    folder = data_dir / entry.data
    complete: list[Row] = []
    left_out: dict[str, str] = {}
    rows, broken = read_rows(entry, data_dir), 0
    for row in rows:
        paths = {
            column: row[column] and str(checked_path(entry, data_dir, row, column, allow_outside))
            for column in entry.images
        }
        if all(paths[column] and Path(paths[column]).is_file() for column in load_pictures(entry, row)):
            try:
                for path in filter(None, paths.values()):
                    check_picture(Path(path))
                complete.append(row | paths)
            except DataError:
                broken += 1
                if broken > may_refuse(len(rows)):
                    raise
                left_out[entry.row_id(row)] = "its picture is broken"
        else:
            left_out[entry.row_id(row)] = "its picture is missing"
    if not complete:
        raise DataError(f"{folder / 'rows.jsonl'} has no row with its picture: put the image files beside it")
    return complete, left_out


def checked_path(entry: TaskEntry, data_dir: Path, row: Row, column: str, allow_outside: bool) -> Path:
    """The picture that a row names, inside of `data_dir` if not allowed otherwise. Raises DataError."""
    folder = data_dir / entry.data
    try:
        return picture_path(folder, str(row[column]), allow_outside, within=data_dir)
    except OutsideError as error:
        raise DataError(f"row {entry.row_id(row)} of {folder / 'rows.jsonl'}: {error}") from error


def load_pictures(entry: TaskEntry, row: Mapping[str, Any]) -> list[str]:
    """The columns whose pictures a row cannot be asked without: the task's `needed_pictures`, by default all."""
    needed = getattr(task_hooks(entry.name), "needed_pictures", None)
    return entry.images if needed is None else list(needed(row))


def _read_lines(path: Path, entry: TaskEntry) -> Iterator[tuple[int, Row]]:
    """The lines with their numbers, from 1."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise DataError(f"there is no {path}: --data-dir takes a folder with one sub-folder a benchmark") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {fault_in_words(error)}") from error
    if not text.strip():
        raise DataError(f"{path} is empty: fetch the file again")
    needed = {*entry.id_columns, *entry.images, *entry.where}
    # Not splitlines(), which also breaks at U+2028 and U+0085: JSON strings may hold those as they are.
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        try:
            row = parse_json(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number} is damaged ({error}): fetch the file again") from error
        if not isinstance(row, dict) or not needed <= row.keys():
            raise DataError(f"{path}, line {number} is no row with the fields {', '.join(sorted(needed))}")
        yield number, row


def check_picture(path: Path) -> None:
    """Read a picture to its end. Raises DataError if it is broken."""
    try:
        with whole_pictures_only(), open_picture(path) as picture:
            picture.load()
    except UNREADABLE as error:
        raise DataError(f"the picture {path} is broken ({picture_fault(error)}): fetch it again") from error
