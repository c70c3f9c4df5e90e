"""Where a model looked while it read and answered: measured by a transformers backend, kept beside the records."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from avar_eval.attention.sampling import AttentionSampling
from avar_eval.attention.steering import Steering
from avar_eval.attention.summary import AttentionSummary
from avar_eval.cluster.jobs import Measure, Seen, Steps
from avar_eval.records.book import RecordBook
from avar_eval.records.record import Record
from avar_eval.run.questions import RenderedQuestion

if TYPE_CHECKING:
    from avar_eval.run.session import Session


def causal_sampling(session: "Session") -> AttentionSampling:
    """Whose causal columns are measured: the first of those whose attention is to be; none where there are no columns.

    The same hash ranks both, so that of fewer rows those are left that more rows begin with.
    """
    asking = session.model.asking
    most = (
        asking.causal_samples
        if asking.attention_samples is None
        else min(asking.causal_samples, asking.attention_samples)
    )
    return AttentionSampling(most if session.causal_columns() else 0, session.model.decoding.seed)


def measure_recorded(
    book: RecordBook, batch: Sequence[RenderedQuestion], records: Sequence[Record], steering: Steering | None
) -> Steps[list[Record]]:
    """The batch's records with the attention that they lack, from one pass over each prompt and response."""
    seen: list[Seen] = yield Measure(list(zip(batch, records, strict=True)), steering)
    keys = [record.key for record in records]
    summaries = keep_attention(book, dict(zip(keys, seen, strict=True)))
    return [record.model_copy(update={"attention": summaries[record.key]}) for record in records]


def keep_attention(book: RecordBook, seen: Mapping[str, Seen]) -> dict[str, AttentionSummary]:
    """Append a batch's attention, by key, to the journal beside the book; returns what goes into the records."""
    book.attention.append([one.line for one in seen.values()])
    return {key: one.summary for key, one in seen.items()}
