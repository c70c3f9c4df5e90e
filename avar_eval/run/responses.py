"""What a session gives back: a record for each question, or why it was refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from avar_eval.attention.summary import AttentionSummary
from avar_eval.errors import AvarError
from avar_eval.in_words import code_fault
from avar_eval.models.backend import Generation
from avar_eval.models.concurrency import too_many_refused
from avar_eval.ranks import Ranks
from avar_eval.records.record import JudgementRecord, Record
from avar_eval.refusals import may_refuse
from avar_eval.run.questions import Question, RenderedQuestion


class JudgingError(AvarError):
    """The code that judges a question's responses has failed.

    What to do: Mend `judge` of the benchmark and run the same command: nothing is asked again.
    """


@dataclass(frozen=True)
class Responses:
    """What became of the questions of one `Session.ask`.

    by_question: the record of each, in their order, without token ids; None where it was refused. refused: task ->
    row's id -> reason.
    """

    by_question: Sequence[Record | None]
    refused: Mapping[str, Mapping[str, str]]

    @property
    def records(self) -> list[Record]:
        """Those that there are, each once, in the order asked."""
        return list({record.key: record for record in self.by_question if record}.values())

    def of_task(self, task: str) -> list[Record]:
        """The same, of one task."""
        return [record for record in self.records if record.task == task]


@dataclass
class Refusals:
    """Questions of one `ask` that cannot be read or that the model's server refuses.

    questions: how many are asked in all. reasons: task -> row's id -> reason.
    """

    questions: int
    reasons: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, task: str, row_id: str, reason: str) -> None:
        """One more."""
        self.reasons.setdefault(task, {})[row_id] = reason

    def left(self) -> int:
        """How many more may be refused. Raises BackendError if too many are."""
        reasons = [reason for of_task in self.reasons.values() for reason in of_task.values()]
        left = may_refuse(self.questions) - len(reasons)
        if left < 0:
            raise too_many_refused(len(reasons), reasons[-1])
        return left

    def gather(self, ranks: Ranks) -> None:
        """Those of all processes. Raises BackendError if they are too many."""
        for reasons in ranks.all_gather(self.reasons):
            for task, of_task in reasons.items():
                self.reasons.setdefault(task, {}).update(of_task)
        self.left()


def new_record(asked: RenderedQuestion, generation: Generation, attention: AttentionSummary | None) -> Record:
    """The record of a response that has just been given, judged."""
    question = asked.question
    record = Record(
        key=asked.key,
        task=question.task,
        row_id=question.row_id,
        sample=question.sample,
        prompt=asked.prompt,
        prompt_token_ids=generation.prompt_token_ids,
        response_token_ids=generation.token_ids,
        response=generation.text,
        finish_reason=generation.finish_reason,
        attention=attention,
        usage=generation.usage,
        changed=dict(generation.changed) if generation.changed else None,
        protocol_id=asked.protocol_id,
        reference=question.reference(),
        image_sha256=list(asked.image_sha256),
    )
    return judged(record, question)


def judged(record: Record, question: Question) -> Record:
    """The record with the judgement of today's rules: the one that it has, where they have made it.

    It is made anew where the row's gold answer is another one now. Raises JudgingError, which names the place, if the
    rules fail.
    """
    before, judging = record.judgement, question.judging
    if judging is None:
        return record if before is None else record.model_copy(update={"judgement": None})
    reference = question.reference()
    same_row = record.reference in (None, reference)  # None: of before references were written
    if before is not None and before.grader == judging.grader and same_row:
        return record
    try:
        judgement = judging.judge(judging.row(), record.response, record.finish_reason)
    except Exception as error:  # the code of a task, which anyone may write
        raise JudgingError(
            f"a response to row {record.row_id} of {record.task} cannot be judged: {code_fault(error)}; mend that, or "
            "the row, and run the same command again to go on"
        ) from error
    return record.model_copy(update={"judgement": JudgementRecord(**judgement.to_json()), "reference": reference})
