"""Files of responses, line by line: avar-eval's own JSON Lines, lmms-eval's samples, VLMEvalKit's tables."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from avar_eval.user_files import open_file, parse_json, read_text


class UnreadableLineError(ValueError):
    """A line that is none; the message begins with its number."""


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The lines of a file with their numbers from 1, as `avar-eval score --responses` takes them: id and response.

    - JSON Lines: as they stand there; of lmms-eval's `*_samples_*.jsonl` (`doc_id`, `resps` or `filtered_resps`) the
      first response before filters.
    - VLMEvalKit's .xlsx and .tsv: `index` is the id, `prediction` the response.

    Raises OSError and UnreadableLineError.
    """
    if path.suffix == ".xlsx":
        yield from ((number, _of_table(number, line)) for number, line in _sheet(path))
    elif path.suffix == ".tsv":
        csv.field_size_limit(2**31 - 1)  # pictures may stand in a column of their own
        table = csv.DictReader(io.StringIO(read_text(path)), delimiter="\t")
        yield from ((number, _of_table(number, line)) for number, line in enumerate(table, start=2))
    else:
        with open_file(path) as file:
            for number, data in enumerate(file, start=1):
                yield number, _of_lmms_eval(_json(number, data))


def _json(number: int, data: bytes) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        if not data.endswith(b"\n"):
            raise UnreadableLineError(
                f"line {number} breaks off: the file is not complete, make or copy it again"
            ) from error
        raise UnreadableLineError(
            f"line {number} cannot be read ({error}): one JSON object a line is needed"
        ) from error


def _of_lmms_eval(line: Any) -> Any:
    """A sample of lmms-eval with its first response; another line as it is."""
    if not isinstance(line, dict) or "response" in line or not line.keys() & {"resps", "filtered_resps"}:
        return line
    response = line.get("resps", line.get("filtered_resps"))
    while isinstance(response, list) and response:
        response = response[0]
    return {**line, "response": response}


def _of_table(number: int, line: Mapping[str, Any]) -> dict[str, Any]:
    """A row of VLMEvalKit's, its pictures left out."""
    if not {"index", "prediction"} <= line.keys():
        raise UnreadableLineError(f"line {number}: VLMEvalKit's tables have the columns `index` and `prediction`")
    index = line["index"]
    name = str(int(index)) if isinstance(index, float) and index.is_integer() else str(index)
    kept = {key: value for key, value in line.items() if key not in ("image", "prediction", "index") and key}
    plain = {
        key: value if isinstance(value, str | int | float | bool | None) else str(value) for key, value in kept.items()
    }
    prediction = line["prediction"]
    return {**plain, "id": name, "response": None if prediction is None else str(prediction)}


def _sheet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a workbook's first sheet by the names in its first row; formulas as the values they had."""
    import zipfile

    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    with open_file(path) as file:
        try:
            rows = load_workbook(file, read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True)
            names = [str(name) for name in next(rows, ())]
            for number, row in enumerate(rows, start=2):
                yield number, dict(zip(names, row, strict=False))
        except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, IndexError) as error:
            raise UnreadableLineError("line 1: it is no workbook of Excel, or a broken one: save it anew") from error
