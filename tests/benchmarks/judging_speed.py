"""How fast responses are judged: `python tests/benchmarks/judging_speed.py DATA_DIR [--official-rows N]`.

Judges the published MathVision responses of `DATA_DIR/mathvision` by both rules (`strict` and `official`) as `avar-eval
score` does, on all cores, without the start of any process, as often as `--repeat` says; no verdict is kept from one
pass to the next. In the same run, on the same rows, it times the published evaluator's `is_equal`, as lmms-eval ships
it (lmms_eval/tasks/mathvision/eval_utils.py: evaluation/utils.py of mathllm/MATH-V but for its layout), on the answers
that the published rule extracts. That function gives model text to `eval`: run this on responses that you trust.
"""

import argparse
import contextlib
import io
import json
import time
from pathlib import Path
from typing import Any

from avar_eval.results.grading import Answered, grade_in_parallel
from avar_eval.tasks.catalog import find_tasks
from avar_eval.tasks.files import read_rows
from avar_eval.tasks.mathvision import official

Pair = tuple[dict[str, Any], str]


def read_pairs(data_dir: Path) -> list[Pair]:
    """The rows with their published responses, of all models."""
    (entry,) = find_tasks(["mathvision"])
    rows = {entry.row_id(row): row for row in read_rows(entry, data_dir)}
    lines = [
        json.loads(line)
        for path in sorted((data_dir / entry.data / "responses").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return [(rows[line["id"]], line["response"]) for line in lines if line["id"] in rows]


def rate_of_ours(pairs: list[Pair]) -> float:
    """Responses a second by the clock, judged in new processes, which remember nothing."""
    _, seconds = grade_in_parallel("mathvision", [Answered(row, response, None) for row, response in pairs])
    return len(pairs) / seconds


def seconds_of_published(pairs: list[Pair]) -> float:
    """Seconds of this process's processor for the published `is_equal` on the same answers."""
    from lmms_eval.tasks.mathvision.eval_utils import is_equal

    answers = [(row, official.official_answer(response)) for row, response in pairs]
    processor = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        for row, answer in answers:
            gold, options = row["answer"], row["options"]
            is_equal(gold, answer) or is_equal(options[ord(gold) - ord("A")] if options else "", answer)
    return time.process_time() - processor


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--official-rows", type=int, default=200, help="rows for the published is_equal")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    pairs = read_pairs(arguments.data_dir)
    rates = [rate_of_ours(pairs) for _ in range(arguments.repeat)]
    print(f"strict and official: {', '.join(f'{rate:,.0f}' for rate in rates)} responses/s ({len(pairs)} responses)")
    sample = pairs[:: max(1, len(pairs) // arguments.official_rows)][: arguments.official_rows]
    published = len(sample) / seconds_of_published(sample)
    print(f"published is_equal alone: {published:,.0f} responses/s of one processor ({len(sample)} rows)")
    print(f"strict and official on these rows: {rate_of_ours(sample):,.0f} responses/s")


if __name__ == "__main__":
    main()
