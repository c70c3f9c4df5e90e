"""Within one model: does VAS tell right answers from wrong ones, and does it tell how much an answer owes to its image?

    avar-eval run --model avar-tiny --tasks shapes --causal full --causal-samples 200 --output RUN
    python tests/benchmarks/what_vas_tells.py RUN

For each measure of a response's attention the area under the ROC curve of right against wrong, and Spearman's rank
correlation with the response's dependence on its image and with what the image adds to the reference answer. Numbers of
docs/measures.md are from here.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from scipy.stats import rankdata, spearmanr

from avar_eval.attention.summary import AttentionSummary
from avar_eval.records.book import RECORDS_NAME, stream_records

MEASURES: dict[str, Callable[[AttentionSummary], float | None]] = {
    "vas": lambda looked: looked.user and looked.user.vas,
    "vas_response": lambda looked: looked.response and looked.response.vas,
    "ratio_of_sums of the question": lambda looked: looked.user and looked.user.ratio_of_sums,
    "ratio_of_sums of the response": lambda looked: looked.response and looked.response.ratio_of_sums,
}


def area(values: list[float], right: list[bool]) -> float:
    """How often (0..1) a right answer has the greater value of a pair of one right and one wrong."""
    ranks, count = rankdata(values), sum(right)
    above = sum(rank for rank, is_right in zip(ranks, right, strict=True) if is_right) - count * (count + 1) / 2
    return float(above / count / (len(right) - count))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    book = {record.key: record for record in stream_records(parser.parse_args().run / RECORDS_NAME)}
    records = [record for record in book.values() if record.attention and record.causal and record.judgement]
    right = [bool(record.judgement and record.judgement.correct) for record in records]
    print(f"{len(records)} responses, {right.count(False)} of them wrong\n")
    print("| measure | AUC, right | Spearman, dependence | Spearman, information after thought |\n|---|---:|---:|---:|")
    for name, of in MEASURES.items():
        values = [(record.attention and of(record.attention)) or 0.0 for record in records]
        dependence = [(record.causal and record.causal.dependence) or 0.0 for record in records]
        information = [(record.causal and record.causal.information_after_thought) or 0.0 for record in records]
        correlations = [float(spearmanr(values, other).statistic) for other in (dependence, information)]
        print(f"| {name} | {area(values, right):.2f} | {correlations[0]:.2f} | {correlations[1]:.2f} |")
