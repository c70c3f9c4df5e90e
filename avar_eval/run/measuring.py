"""Where a model looked while it read and answered: measured by a transformers backend, kept beside the records."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from avar_eval.attention.record import AttentionRecord
from avar_eval.attention.sampling import AttentionSampling
from avar_eval.attention.summary import AttentionSummary
from avar_eval.models.backend import BackendError
from avar_eval.models.transformers_backend import TransformersBackend, check_prompts
from avar_eval.pictures import UNREADABLE
from avar_eval.records.attention import attention_line
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


def encode(observer: TransformersBackend, batch: Sequence[RenderedQuestion]) -> Any:
    """Model inputs of a batch. Raises BackendError if one of its questions cannot be read."""
    try:
        images = [question.images() for question in batch]
    except UNREADABLE as error:
        raise BackendError(f"a picture cannot be read: {error}") from error
    return observer.encode([question.prompt for question in batch], images)


def measure_recorded(
    observer: TransformersBackend, book: RecordBook, batch: Sequence[RenderedQuestion], records: Sequence[Record]
) -> list[Record]:
    """The batch's records with the attention that they lack, from one pass over each prompt and response."""
    inputs = encode(observer, batch)
    check_prompts(inputs, [record.prompt_token_ids for record in records])
    measured = observer.measure(inputs, [record.response_token_ids for record in records])
    summaries = keep_attention(book, [record.key for record in records], measured)
    return [record.model_copy(update={"attention": of}) for record, of in zip(records, summaries, strict=True)]


def keep_attention(
    book: RecordBook, keys: Sequence[str], measured: Sequence[AttentionRecord]
) -> list[AttentionSummary]:
    """Append a batch's attention to the journal beside the book; returns the summaries, which go into the records."""
    book.attention.append([attention_line(key, record) for key, record in zip(keys, measured, strict=True)])
    return [record.summary() for record in measured]
