"""A task's causal columns from the `causal` of its records; see `avar_eval.causal` for what each one means.

    blind, swap                 share of right answers without the image, with another row's; of altered questions
    visual_gain                 accuracy minus blind on the same rows, paired
    mirage                      blind / accuracy on them
    stubborn                    share of answers that another row's image leaves as they are
    visual_dependence           mean dependence on the image, nats a token; visual_dependence_top: of the top decile
    information                 what the image adds to log p(reference), nats; information_after_thought
    knockout_answer, _response  change of log p when text cannot attend to images, nats
    knockout_windows            the same in each window of layers alone; a list of its own beside the columns

Rows without images are in none of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from avar_eval.answers.markup import plain
from avar_eval.records.causal import AlteredRecord, CausalRecord, KnockoutRecord
from avar_eval.records.record import Record
from avar_eval.results.schema import CausalCounts, KnockoutWindow, Metric
from avar_eval.statistics import Estimate, PairedTest, clustered_proportion, mean, paired_test, ratio_of_means

_MEANS: Final[Mapping[str, Callable[[CausalRecord], float | None]]] = {
    "visual_dependence": lambda causal: causal.dependence,
    "visual_dependence_top": lambda causal: causal.dependence_top,
    "information": lambda causal: causal.information,
    "information_after_thought": lambda causal: causal.information_after_thought,
    "knockout_answer": lambda causal: causal.knockout_answer,
    "knockout_response": lambda causal: causal.knockout_response,
}
PASSES: Final = tuple(_MEANS)
"""Columns that need no generation."""
BLIND: Final = ("blind", "visual_gain", "mirage")
SWAPPED: Final = ("swap", "stubborn")


def causal_metrics(
    records: Sequence[Record], cluster: Callable[[str], str], columns: Sequence[str]
) -> tuple[dict[str, Metric], CausalCounts]:
    """These columns of the records chosen for them, and how many rows they are of. cluster: of a row's id."""
    shown = [record for record in records if record.image_sha256]
    found = {name: _mean(shown, of, cluster) for name, of in _MEANS.items()}
    blind = [
        (record, of) for record in shown if record.causal and (of := record.causal.blind) and _is_judged(record, of)
    ]
    swapped = [
        (record, of) for record in shown if record.causal and (of := record.causal.swap) and _is_judged(record, of)
    ]
    gain = _gain(blind, cluster)
    found |= _blind_metrics(blind, cluster) | {"visual_gain": gain.difference}
    found |= {
        "swap": _share(swapped, lambda record, of: bool(of.correct), cluster),
        "stubborn": _share(swapped, is_unchanged, cluster),
    }
    counts = CausalCounts(
        rows=len(records),
        without_image=len(records) - len(shown),
        visual_gain_p=gain.p if "visual_gain" in columns else None,
    )
    return {name: Metric.of(found[name]) for name in columns}, counts


def knockout_windows(records: Sequence[Record], cluster: Callable[[str], str], windows: int) -> list[KnockoutWindow]:
    """The means in each window of layers of the records in which as many windows were knocked out, first layers first.

    cluster: of a row's id.
    """
    if not windows:
        return []
    known = [record for record in records if record.causal and record.causal.windows == windows]
    named = sorted({one.layers for record in known if record.causal for one in record.causal.knockout_windows})

    def of_window(layers: tuple[int, int], part: Callable[[KnockoutRecord], float | None]) -> Metric:
        def value(causal: CausalRecord) -> float | None:
            return next((part(one) for one in causal.knockout_windows if one.layers == layers), None)

        return Metric.of(_mean(known, value, cluster))

    return [
        KnockoutWindow(
            layers=layers,
            answer=of_window(layers, lambda one: one.answer),
            response=of_window(layers, lambda one: one.response),
        )
        for layers in named
    ]


def is_unchanged(record: Record, altered: AlteredRecord) -> bool:
    """Whether both answers are the same text, apart from case, markup and white space, or both are none."""
    own = record.judgement.extracted if record.judgement else None
    texts = [None if text is None else plain(text).casefold() for text in (own, altered.extracted)]
    return texts[0] == texts[1]


def _is_judged(record: Record, altered: AlteredRecord) -> bool:
    return record.judgement is not None and altered.correct is not None


def _right(record: Record) -> bool:
    return record.judgement is not None and record.judgement.correct


_Pairs = Sequence[tuple[Record, AlteredRecord]]


def _gain(pairs: _Pairs, cluster: Callable[[str], str]) -> PairedTest:
    """Accuracy against blind: McNemar's test where rows are independent, else a permutation test by cluster."""
    clusters = [cluster(record.row_id) for record, _ in pairs]
    return paired_test([bool(of.correct) for _, of in pairs], [_right(record) for record, _ in pairs], clusters)


def _blind_metrics(pairs: _Pairs, cluster: Callable[[str], str]) -> dict[str, Estimate]:
    clusters = [cluster(record.row_id) for record, _ in pairs]
    accuracy, blind = [float(_right(record)) for record, _ in pairs], [float(bool(of.correct)) for _, of in pairs]
    return {
        "blind": clustered_proportion(blind, clusters),
        "mirage": ratio_of_means(blind, accuracy, clusters),
    }


def _share(pairs: _Pairs, holds: Callable[[Record, AlteredRecord], bool], cluster: Callable[[str], str]) -> Estimate:
    clusters = [cluster(record.row_id) for record, _ in pairs]
    return clustered_proportion([holds(record, of) for record, of in pairs], clusters)


def _mean(
    records: Sequence[Record], of: Callable[[CausalRecord], float | None], cluster: Callable[[str], str]
) -> Estimate:
    values = {record.row_id: value for record in records if record.causal and (value := of(record.causal)) is not None}
    return mean(list(values.values()), [cluster(row) for row in values])
