"""What has become of each question: read from the replies, checked, never stored."""

from array import array
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from avar_eval.folder_lock import FolderLock
from avar_eval.recipes.rewards import format_reward, judge
from avar_eval.recipes.synthesis.anchor import Anchored, check_anchored
from avar_eval.recipes.synthesis.describe import Description, check_description, objects, parts
from avar_eval.recipes.synthesis.engine import Asker, Reply, Request, open_journal
from avar_eval.recipes.synthesis.prompts import prompts_of
from avar_eval.recipes.synthesis.reason import Solution, check_sample, choose, format_response, written
from avar_eval.recipes.synthesis.recipe import STAGES, Recipe, StageName
from avar_eval.recipes.synthesis.selection import Question
from avar_eval.recipes.synthesis.wording import why_no_row
from avar_eval.records.key_numbers import KeyNumbers

Stage = Literal["describe", "reason", "anchor", "finish"]
ALL_STAGES: Final[tuple[Stage, ...]] = (*STAGES, "finish")
NO_REPLY: Final = "no_reply"


class Rejected(NamedTuple):
    """Where and why a row was left out. text: what was looked at."""

    stage: Stage
    reason: str
    text: str


class Waiting(NamedTuple):
    """A row that lacks replies of a stage; requests: those that are missing, of those that can be made."""

    stage: StageName
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Finished:
    """A row that passed everything but the look at the other rows and its length."""

    question: Question
    description: Description
    solution: Solution
    anchored: Anchored
    dollars: float

    @property
    def response(self) -> str:
        """What is trained on."""
        return format_response(self.anchored.reasoning, self.solution.answer)


class _Solved(NamedTuple):
    """A row with a solution that can be anchored."""

    description: Description
    solution: Solution
    dollars: float


Value = TypeVar("Value", bound=Hashable)


class _Findings(Generic[Value]):
    """What checks have found, by key, in some 30 bytes a key: there are few values."""

    def __init__(self) -> None:
        self._keys = KeyNumbers()
        self._found = array("i")
        self._values: list[Value] = []

    def find(self, key: str, check: Callable[[], Value]) -> Value:
        """What was found under a key; it is checked once."""
        number = self._keys.get(key)
        if number is None:
            value = check()
            if value not in self._values:
                self._values.append(value)
            number = self._keys.add(key)
            self._found.append(self._values.index(value))
        return self._values[self._found[number]]


class Rows:
    """The journals of an output folder, and what they make of each question. Use it as a context."""

    def __init__(self, recipe: Recipe, folder: Path, lock: FolderLock) -> None:
        self.recipe, self.folder = recipe, folder
        self.prompts = prompts_of(recipe)
        self.askers: dict[StageName, Asker] = {}
        # every stage passes over all rows: what the checks have found is remembered, the texts are not
        self._verdicts = _Findings[str | None]()
        self._choices = _Findings[tuple[str | float, int]]()
        try:
            for stage in STAGES:
                journal = open_journal(folder, stage, lock)
                self.askers[stage] = Asker(stage, recipe.stage(stage), recipe.seed, journal)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Rows":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Put the journals on the disk and let go of them."""
        for asker in self.askers.values():
            asker.journal.close()

    def outcome(self, question: Question) -> Finished | Rejected | Waiting:
        """What has become of a question."""
        before = self._before_anchor(question)
        if not isinstance(before, _Solved):
            return before
        described, solution = before.description, before.solution
        found = self._anchors(question, before)
        if not isinstance(found, list):
            return found
        (reply,) = found
        filters, row = self.recipe.filters, question.judged_by()
        anchored = check_anchored(
            reply.response, reply.finish_reason, solution, question.text, described.objects, filters
        )
        if isinstance(anchored, str):
            return Rejected("anchor", anchored, reply.response)
        finished = Finished(question, described, solution, anchored, before.dollars + reply.dollars)
        if not format_reward(finished.response):
            return Rejected("finish", "format", finished.response)
        if not judge(row, finished.response, "stop").correct:
            return Rejected("finish", "wrong", finished.response)
        if reason := why_no_row(anchored.reasoning, question.text, filters):
            return Rejected("finish", reason, finished.response)
        return finished

    def requests(self, stage: StageName, asked: Iterator[Question]) -> Iterator[Request]:
        """The requests of one stage that are still to be sent; rows that wait for an earlier one are passed over."""
        for question in asked:
            found: object
            if stage == "anchor":
                found = self._before_anchor(question)
                if isinstance(found, _Solved):
                    found = self._anchors(question, found)
            else:
                found = self._descriptions(question)
                if stage == "reason" and isinstance(found, list):
                    found = self._described(question, found)
                    if isinstance(found, Description):
                        found = self._solutions(question, found)
            if isinstance(found, Waiting) and found.stage == stage:
                yield from found.requests

    def _before_anchor(self, question: Question) -> "_Solved | Rejected | Waiting":
        replies = self._descriptions(question)
        if not isinstance(replies, list):
            return replies
        described = self._described(question, replies)
        if isinstance(described, Rejected):
            return described
        samples = self._solutions(question, described)
        if not isinstance(samples, list):
            return samples
        solution = self._solved(question, samples)
        if isinstance(solution, Rejected):
            return solution
        return _Solved(described, solution, sum(reply.dollars for reply in (*replies, *samples)))

    def _descriptions(self, question: Question) -> list[Reply] | Waiting | Rejected:
        return self._replies("describe", question, {"question": question.text}, question.images)

    def _described(self, question: Question, replies: list[Reply]) -> Description | Rejected:
        samples = [(reply.response, reply.finish_reason) for reply in replies]

        def why_not() -> str | None:
            checked = check_description(
                samples, question.text, question.answer, question.answer_type, question.choices, self.recipe.filters
            )
            return checked if isinstance(checked, str) else None

        if (reason := self._verdicts.find(replies[0].key + question.answer, why_not)) is not None:
            return Rejected("describe", reason, samples[0][0])
        whole = parts(samples[0][0])
        assert whole is not None  # it has passed
        return Description(samples[0][0], objects(whole[1]))

    def _solutions(self, question: Question, described: Description) -> list[Reply] | Waiting | Rejected:
        return self._replies("reason", question, {"question": question.text, "description": described.text})

    def _solved(self, question: Question, samples: list[Reply]) -> Solution | Rejected:
        row = question.judged_by()

        def choice() -> tuple[str | float, int]:
            checked = [
                check_sample(reply.response, reply.finish_reason, row, self.recipe.filters, reply.reasoning_content)
                for reply in samples
            ]
            chosen = choose(checked, self.recipe.seed, question.id)
            if isinstance(chosen, str):
                return chosen, checked.index(chosen)
            return chosen.difficulty, chosen.sample

        found, sample = self._choices.find(samples[0].key + question.answer, choice)
        text = samples[sample].response
        if isinstance(found, str):
            return Rejected("reason", found, text)
        whole = written(text, samples[sample].reasoning_content)
        assert whole is not None  # it has passed
        return Solution(*whole, sample, found)

    def _anchors(self, question: Question, solved: "_Solved") -> list[Reply] | Waiting | Rejected:
        names = "\n".join(f"- {name}" for name in solved.description.objects)
        return self._replies("anchor", question, {"objects": names, "reasoning": solved.solution.reasoning})

    def _replies(
        self, stage: StageName, question: Question, values: Mapping[str, str], images: tuple[str, ...] = ()
    ) -> list[Reply] | Waiting | Rejected:
        """All samples of one stage; what waits if one is missing and can still be asked for."""
        asker, prompt = self.askers[stage], self.prompts[stage, question.domain]
        text = prompt.render(**values)
        keys = [asker.key(prompt.digest, text, images, sample) for sample in range(asker.model.samples)]
        found = [asker.journal.get(key) for key in keys]
        known = [reply for reply in found if reply is not None]
        if len(known) == len(keys):
            return known
        if failed := [asker.failed[key] for key in keys if key in asker.failed]:
            return Rejected(stage, NO_REPLY, failed[0])
        pictures = tuple(self.folder / image for image in images)
        missing = [
            Request(key, question.id, sample, text, prompt.digest, pictures)
            for sample, (key, reply) in enumerate(zip(keys, found, strict=True))
            if reply is None
        ]
        return Waiting(stage, tuple(missing))
