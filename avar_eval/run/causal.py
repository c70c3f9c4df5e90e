"""Causal measures within a run: which questions are asked with other images, and what passes add to records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, cast

from PIL.Image import Image

from avar_eval.answers.extract import Wanted, reads_as
from avar_eval.attention.steering import Steering
from avar_eval.causal.altered import blurred, derangement, grey
from avar_eval.causal.measures import Measures
from avar_eval.cluster.jobs import Passes, Steps
from avar_eval.records.attention import float16
from avar_eval.records.book import RecordBook
from avar_eval.records.causal import AlteredRecord, CausalRecord, Images, KnockoutRecord
from avar_eval.records.record import Record
from avar_eval.run.questions import Chat, Question, RenderedQuestion, load_pictures

_KINDS: Final[tuple[Wanted, ...]] = ("yes_no", "choice", "number")


def add_passes(
    steering: Steering | None,
    book: RecordBook,
    asked: Sequence[RenderedQuestion],
    records: Sequence[Record],
    windows: int,
) -> Steps[list[Record]]:
    """A batch's records with what passes measure of them; those without images or token ids stay as they are."""
    rows = {
        number: (one, record)
        for number, (one, record) in enumerate(zip(asked, records, strict=True))
        if one.image_sha256 and record.response_token_ids
    }
    found: list[Measures] = (yield Passes(list(rows.values()), windows, steering)) if rows else []
    measured = dict(zip(rows, found, strict=True))
    curves = {records[number].key: of.dependence for number, of in measured.items()}
    known = {key for key in curves if key in book.causal}  # of a run that was killed before it had the records
    book.causal.append(
        [{"key": key, "dependence_by_token": float16(of)} for key, of in curves.items() if key not in known]
    )
    return [
        record.model_copy(update={"causal": _causal_record(record, measured[number], windows)})
        if number in measured
        else record
        for number, record in enumerate(records)
    ]


def _causal_record(record: Record, of: Measures, windows: int) -> CausalRecord:
    before = record.causal or CausalRecord()
    return CausalRecord(
        tokens=len(of.dependence),
        dependence=of.mean_dependence,
        dependence_top=of.top_dependence,
        information=of.information,
        information_after_thought=of.information_after_thought,
        knockout_answer=of.knockout.answer if of.knockout else None,
        knockout_response=of.knockout.response if of.knockout else None,
        windows=windows,
        knockout_windows=[
            KnockoutRecord(layers=one.layers, answer=one.answer, response=one.response)
            for one in of.windows
            if one.layers is not None
        ],
        blind=before.blind,
        swap=before.swap,
    )


@dataclass(frozen=True)
class Altered:
    """A question that is asked with other images, or none. of: the key of the question's own record, or its row.

    images: what it has, which tells its record from others. image_of: the row whose images it has.
    """

    of: str
    images: str
    question: Question
    image_of: str | None = None

    def record(self, answered: Record) -> AlteredRecord:
        """What the question's own record keeps of the answer."""
        judgement = answered.judgement
        return AlteredRecord(
            key=answered.key,
            images=cast(Images, self.images),
            state=judgement.state if judgement else None,
            extracted=judgement.extracted if judgement else None,
            correct=judgement.correct if judgement else None,
            image_of=self.image_of,
        )


def altered_questions(asked: Sequence[RenderedQuestion], blind: Images, swaps: bool, seed: int) -> list[Altered]:
    """The questions with an image, without it as `blind` says, and with another row's of the same kind of answer."""
    shown = [one for one in asked if one.image_sha256]
    found = [Altered(one.key, blind, _without_images(one.question, blind)) for one in shown]
    for task in dict.fromkeys(one.question.task for one in shown) if swaps else ():
        rows = {one.question.row_id: one for one in shown if one.question.task == task}
        kinds = {row: _kind_of_answer(one.question.reference()) for row, one in rows.items()}
        pictures = {row: one.image_sha256 for row, one in rows.items()}
        for row, giver in derangement(list(rows), kinds, pictures, seed).items():
            chat = partial(_swapped_chat, rows[row].question, rows[giver].question)
            question = replace(rows[row].question, chat=chat, measured=False, causal=False)
            found.append(Altered(rows[row].key, "swapped", question, giver))
    return found


def blurred_question(question: Question, level: float) -> Altered:
    """A question with its images blurred; see `avar_eval.causal.altered.blurred`."""
    chat = partial(altered_chat, question, lambda _, picture: blurred(picture, level))
    return Altered(question.row_id, f"blurred {level:g}", replace(question, chat=chat, measured=False, causal=False))


def _kind_of_answer(reference: str | None) -> str:
    return next((kind for kind in _KINDS if reference is not None and reads_as(reference, kind, ())), "text")


def _without_images(question: Question, blind: Images) -> Question:
    replaced: Callable[[int, Image], Image | None] = (
        (lambda _, picture: grey(picture)) if blind == "grey" else (lambda _, __: None)
    )
    return replace(question, chat=partial(altered_chat, question, replaced), measured=False, causal=False)


def _swapped_chat(question: Question, giver: Question) -> Chat:
    pictures = load_pictures(giver)
    return altered_chat(question, lambda number, _: pictures[number])


def altered_chat(question: Question, replaced: Callable[[int, Image], Image | None]) -> Chat:
    """A question's chat with another picture in the place of each, by its number; None leaves it out."""
    number, chat = 0, []
    for turn in question.chat():
        content = []
        for part in turn["content"]:
            if part["type"] == "image":
                picture, number = replaced(number, part["image"]), number + 1
                if picture is not None:
                    content.append(part | {"image": picture})
            else:
                content.append(part)
        chat.append(turn | {"content": content})
    return chat
