"""New records of questions that a model has not answered yet, as they are finished."""

from collections.abc import Collection, Iterator, Sequence

from avar_eval.attention.steering import Steering
from avar_eval.cluster.jobs import Ask, Generate, Generated, JobLostError, Steps
from avar_eval.models.backend import Generation, Refusal, StreamingBackend
from avar_eval.models.decoding import Decoding
from avar_eval.records.book import RecordBook
from avar_eval.records.journal import Journal
from avar_eval.records.record import Record
from avar_eval.run.causal import add_passes
from avar_eval.run.measuring import keep_attention
from avar_eval.run.questions import RenderedQuestion
from avar_eval.run.responses import Refusals, new_record


def answer_batch(
    batch: Sequence[RenderedQuestion],
    decoding: Decoding,
    steering: Steering | None,
    book: RecordBook,
    answers: Journal[Record],
    refusals: Refusals,
    windows: int = 0,
) -> Steps[list[Record]]:
    """A batch's new records, with their attention and what causal passes measure.

    Responses wait in `book.waiting` for the passes of their batch: a run that is killed in one of them, and started
    again, makes the passes of that batch and asks none of it again. Whoever has the records in the book calls
    `book.drop_waiting()`.

    answers: where records go, the book or a journal of it; what of a batch is there is computed with the others, unless
    all of it is known. windows: of layers that are knocked out. Raises BackendError if more questions than may be
    cannot be read.
    """
    known = {asked.key: of for asked in batch if (of := answers.get(asked.key) or book.waiting.get(asked.key))}
    if len(known) < len(batch):
        known |= yield from _generated(batch, known.keys(), decoding, steering, book, refusals)
    new = [key for key in known if key not in answers]
    causal = [asked for asked in batch if asked.question.causal and asked.key in known]
    if any(asked.key in new for asked in causal):
        book.waiting.append([known[key] for key in new if key not in book.waiting])
        passed = yield from add_passes(steering, book, causal, [known[asked.key] for asked in causal], windows)
        known |= {record.key: record for record in passed}
    return [known[key] for key in new]


def _generated(
    batch: Sequence[RenderedQuestion],
    known: Collection[str],
    decoding: Decoding,
    steering: Steering | None,
    book: RecordBook,
    refusals: Refusals,
) -> Steps[dict[str, Record]]:
    """What the model answers to a batch, by key, with the attention of those that are to be measured.

    known: keys of answers that there are, which stay as they are. Questions that its processor cannot read are refused.
    """
    measured = frozenset(number for number, asked in enumerate(batch) if asked.question.measured)
    try:
        made: Generated = yield Generate(batch, decoding, steering, measured)
    except JobLostError as error:
        made = Generated({}, {}, dict.fromkeys(range(len(batch)), str(error)))
    for number, reason in made.refused.items():
        refusals.add(batch[number].question.task, batch[number].question.row_id, reason)
    refusals.left()
    attention = keep_attention(book, {batch[number].key: seen for number, seen in made.seen.items()})
    return {
        batch[number].key: new_record(batch[number], generation, attention.get(batch[number].key))
        for number, generation in made.generations.items()
        if batch[number].key not in known
    }


def answer_question(asked: RenderedQuestion, decoding: Decoding, refusals: Refusals) -> Steps[list[Record]]:
    """A question's record, without attention, from an engine that batches by itself; none if it is refused."""
    try:
        answer: Generation | Refusal = yield Ask(asked, decoding)
    except JobLostError as error:
        answer = Refusal(str(error))
    if isinstance(answer, Refusal):
        refusals.add(asked.question.task, asked.question.row_id, answer.reason)
        refusals.left()
        return []
    return [new_record(asked, answer, None)]


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
