"""Which questions a model is asked together, by which process, and again after a kill."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from avar_eval.ranks import Ranks
from avar_eval.records.book import RecordBook
from avar_eval.run.questions import RenderedQuestion


@dataclass(frozen=True)
class Batching:
    """size: questions a batch. equal_images: whether those of a batch need equal numbers of images, as some families'
    cross-attention does. ranks: the processes among which batches are shared out."""

    size: int
    equal_images: bool
    ranks: Ranks

    def batches(self, questions: Sequence[RenderedQuestion]) -> list[list[RenderedQuestion]]:
        """Batches of similar prompt length, longest first; the same whichever questions are to be measured."""
        return list(self._batches(questions))

    def share(self, questions: Sequence[RenderedQuestion]) -> list[list[RenderedQuestion]]:
        """This process's share of the batches."""
        return self.ranks.lane(self.batches(questions))

    def unanswered(self, questions: Sequence[RenderedQuestion], recorded: RecordBook) -> list[list[RenderedQuestion]]:
        """This process's batches with questions that are not recorded.

        After a kill they are the same as before it, so that the last batch may be begun. The rest of such a batch is
        computed together with what is recorded of it: in a batch of another make-up the padding changes attention in
        the last digits, and results would differ from those of an uninterrupted run. Of several ranks each has its own
        lane of batches, after a kill the same one.
        """
        batches = self.batches(questions)
        if all(_is_begun(lane, recorded) for lane in self.ranks.lanes(batches)):
            return [
                batch for batch in self.ranks.lane(batches) if any(question.key not in recorded for question in batch)
            ]
        return self.share([question for question in questions if question.key not in recorded])

    def _batches(self, questions: Sequence[RenderedQuestion]) -> Iterator[list[RenderedQuestion]]:
        ordered = sorted(questions, key=lambda one: (self._kind(one), -len(one.prompt), one.key))
        for _, group in groupby(ordered, key=self._kind):
            alike = list(group)
            for start in range(0, len(alike), self.size):
                yield alike[start : start + self.size]

    def _kind(self, question: RenderedQuestion) -> int:
        """What the questions of a batch must share."""
        return len(question.image_sha256) if self.equal_images else 0


def _is_begun(lane: Sequence[Sequence[RenderedQuestion]], recorded: RecordBook) -> bool:
    """Whether all that is recorded of these batches comes before all that is not."""
    present = [question.key in recorded for batch in lane for question in batch]
    return all(present[: sum(present)])
