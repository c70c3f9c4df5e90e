"""New records of questions that a model has not answered yet, as they are finished."""

from collections.abc import Iterator, Sequence
from typing import Any

from avar_eval.attention.summary import AttentionSummary
from avar_eval.models.backend import BackendError, Refusal, StreamingBackend
from avar_eval.models.decoding import Decoding
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.records.book import RecordBook
from avar_eval.records.journal import Journal
from avar_eval.records.record import Record
from avar_eval.run.causal import add_passes
from avar_eval.run.measuring import encode, keep_attention
from avar_eval.run.questions import RenderedQuestion
from avar_eval.run.responses import Refusals, new_record


def answer_batches(
    backend: TransformersBackend,
    decoding: Decoding,
    batches: Sequence[Sequence[RenderedQuestion]],
    book: RecordBook,
    answers: Journal[Record],
    refusals: Refusals,
    windows: int = 0,
) -> Iterator[list[Record]]:
    """A batch's records at a time, with their attention and what causal passes measure.

    Responses wait in `book.waiting` for the passes of their batch: a run that is killed in one of them, and started
    again, makes the passes of that batch and asks none of it again.

    answers: where records go, the book or a journal of it; what of a batch is there is computed with the others, unless
    all of it is known. windows: of layers that are knocked out. Raises BackendError if more questions than may be
    cannot be read.
    """
    for batch in batches:
        readable, inputs = _readable(backend, batch, refusals)
        refusals.left()
        if not readable:
            continue
        known = {asked.key: of for asked in readable if (of := answers.get(asked.key) or book.waiting.get(asked.key))}
        if len(known) < len(readable):
            known = _generated(backend, decoding, readable, inputs, book) | known
        new = [asked.key for asked in readable if asked.key not in answers]
        causal = [asked for asked in readable if asked.question.causal]
        if any(asked.key in new for asked in causal):
            book.waiting.append([known[key] for key in new if key not in book.waiting])
            passed = add_passes(backend, book, causal, [known[asked.key] for asked in causal], windows)
            known |= {record.key: record for record in passed}
            yield [known[key] for key in new]
            book.drop_waiting()  # by now who asked has them in the book
        else:
            yield [known[key] for key in new]


def _generated(
    backend: TransformersBackend,
    decoding: Decoding,
    batch: Sequence[RenderedQuestion],
    inputs: Any,
    book: RecordBook,
) -> dict[str, Record]:
    """What the model answers to a batch, by key, with the attention of those that are to be measured."""
    keys = [asked.key for asked in batch]
    attention: dict[int, AttentionSummary] = {}
    if measured := [index for index, asked in enumerate(batch) if asked.question.measured]:
        generations, found = backend.generate_measured(inputs, decoding, keys, measured)
        kept = keep_attention(book, [keys[index] for index in measured], found)
        attention = dict(zip(measured, kept, strict=True))
    else:
        generations = backend.generate(inputs, decoding, keys)
    return {
        asked.key: new_record(asked, generation, attention.get(index))
        for index, (asked, generation) in enumerate(zip(batch, generations, strict=True))
    }


def _readable(
    backend: TransformersBackend, batch: Sequence[RenderedQuestion], refusals: Refusals
) -> tuple[Sequence[RenderedQuestion], Any]:
    """The questions of a batch that the model's processor can read, with their model inputs; others are refused."""
    try:
        return batch, encode(backend, batch)
    except BackendError as error:
        if len(batch) == 1:
            refusals.add(batch[0].question.task, batch[0].question.row_id, str(error))
            return [], None
    readable = [asked for asked in batch if _readable(backend, [asked], refusals)[0]]
    return readable, encode(backend, readable) if readable else None


def answer_streaming(
    backend: StreamingBackend, decoding: Decoding, questions: Sequence[RenderedQuestion], refusals: Refusals
) -> Iterator[list[Record]]:
    """One record at a time, without attention, in the order in which a backend that takes all at once finishes them.

    The backend keeps the memory that it answers with until it is released.
    """
    if not questions:
        return
    for number, answer in backend.answer(questions, decoding, refusals.left()):
        asked = questions[number]
        if isinstance(answer, Refusal):
            refusals.add(asked.question.task, asked.question.row_id, answer.reason)
        else:
            yield [new_record(asked, answer, None)]
