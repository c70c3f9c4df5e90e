"""How long runs of a suite took: `timings.jsonl`, what its estimates of hours are taken from."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from avar_eval.atomic import WriteError
from avar_eval.records.book import RECORDS_NAME
from avar_eval.user_files import parse_json, read_bytes

TIMINGS_NAME: Final = "timings.jsonl"
_BLOCK: Final = 1 << 20


def add_timing(folder: Path, run: str, seconds: float, responses: int) -> None:
    """Append that a run was at work for so long and has so many new responses, if it has any. Raises WriteError."""
    if responses > 0:
        line = {"run": run, "seconds": round(seconds, 1), "responses": responses}
        path = folder / TIMINGS_NAME
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise WriteError(path, error.strerror) from error


def seconds_a_response(folder: Path) -> Mapping[str, float]:
    """By run the mean time for a response, with loading and measuring; a line that cannot be read is left out."""
    try:
        lines = read_bytes(folder / TIMINGS_NAME).splitlines()
    except OSError:
        return {}
    seconds: dict[str, float] = defaultdict(float)
    responses: dict[str, int] = defaultdict(int)
    for line in lines:
        try:
            timing = parse_json(line)
            run, took, new = str(timing["run"]), float(timing["seconds"]), int(timing["responses"])
            if not (0 <= took < math.inf and new > 0):
                continue
        except (ValueError, TypeError, KeyError):  # torn, or somebody's own
            continue
        seconds[run] += took
        responses[run] += new
    return {run: seconds[run] / responses[run] for run in seconds}


def lines_of_book(folder: Path) -> int:
    """Lines of a run's record book, which after a finished run are as many as its responses; 0 without one."""
    try:
        with (folder / RECORDS_NAME).open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))
    except OSError:
        return 0
