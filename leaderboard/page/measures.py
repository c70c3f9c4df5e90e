"""The measures that a row may have, as the page names them. The keys are the metrics' names in results.json."""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class Measure:
    """One measure.

    unit: "percent" of a share 0..1, "ratio" or nats as they are. suffix: what is written behind a value. kind: its
    colour. curve: drawn over the steps of a training. x: set against the score.
    """

    key: str
    label: str
    about: str
    unit: Literal["percent", "ratio"] = "percent"
    suffix: Literal["percent", "points", "nats", ""] = "percent"
    kind: Literal["score", "look", "cause", "state"] = "score"
    curve: bool = False
    x: bool = False


def _ratio(key: str, label: str, about: str) -> Measure:
    return Measure(key, label, about, "ratio", "", "look", curve=key == "vas", x=True)


def _nats(key: str, label: str, about: str) -> Measure:
    return Measure(key, label, about, "ratio", "nats", "cause", x=True, curve=key == "visual_dependence")


MEASURES: Final = (
    Measure("score", "score", "the benchmark's own score by the strict verdict", curve=True),
    Measure("official", "official", "the same score by the benchmark's published rule"),
    Measure("judge", "judge", "the same score by a judge model"),
    Measure("accuracy", "accuracy", "share of responses that are right by the strict verdict"),
    _ratio("vas", "VAS", "Eq. 2: attention on image over system tokens, a mean of ratios"),
    _ratio("ratio_of_sums", "image ÷ system", "ratio of sums: all attention on image over all on system tokens"),
    _ratio("vas_without_sink", "VAS without sink", "VAS without position 0, which holds half of all attention"),
    _ratio("vas_text", "VAS of text", "VAS over the question's text alone"),
    _ratio("vas_median", "VAS, median", "of the responses: a few cannot make it"),
    _ratio("vas_geometric_mean", "VAS, geometric mean", "of the responses: a few hardly make it"),
    _ratio("vas_response", "VAS of response", "VAS with the response's tokens as queries"),
    Measure(
        "visual_gain", "visual gain", "accuracy minus accuracy on grey images", "percent", "points", "cause", x=True
    ),
    Measure("blind", "blind", "accuracy with every image replaced by a grey one", kind="cause"),
    Measure("mirage", "mirage", "blind over accuracy: what of it needs no image", "ratio", "", "cause"),
    Measure("swap", "swap", "accuracy with another row's image, against the own answer", kind="cause"),
    Measure("stubborn", "stubborn", "share of answers that another row's image leaves as they are", kind="cause"),
    _nats("visual_dependence", "dependence", "mean KL divergence of a response's tokens with the image from without"),
    _nats("visual_dependence_top", "dependence, top decile", "of the tokens that depend most on the image"),
    _nats("information", "information", "what the image adds to the log-probability of the reference answer"),
    _nats("information_after_thought", "information after thought", "the same behind the response's own thought"),
    _nats(
        "knockout_answer", "knockout, answer", "change of the answer's log-probability when text cannot see the image"
    ),
    _nats("knockout_response", "knockout, response", "the same of the whole response"),
    Measure("vas_top_rows", "VAS in 1 % of rows", "part of the sum of VAS that 1 % of the rows hold", kind="state"),
    Measure("vas_top_terms", "VAS in 1 % of terms", "part that 1 % of layers, heads and queries hold", kind="state"),
    Measure("truncated", "truncated", "share of responses cut off at the token limit", kind="state"),
    Measure("unparsed", "unparsed", "share of responses without a readable answer", kind="state"),
    Measure("timeout", "timeout", "share of responses whose grading ran out of time", kind="state"),
    Measure("judge_error", "judge error", "share of responses that the judge model could not judge", kind="state"),
)
"""In the order of columns."""

PLACES: Final = {measure.key: place for place, measure in enumerate(MEASURES)}
