"""Which questions a model is asked together, by which process, and again after a kill."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from avar_eval.ranks import Ranks
from avar_eval.records.journal import Journal
from avar_eval.records.record import Record
from avar_eval.run.questions import RenderedQuestion

Batch = list[RenderedQuestion]


@dataclass(frozen=True)
class Batching:
    """size: questions a batch. equal_images: whether those of a batch need equal numbers of images, as some families'
    cross-attention does. ranks: the processes among which batches are shared out."""

    size: int
    equal_images: bool
    ranks: Ranks

    def batches(self, questions: Sequence[RenderedQuestion]) -> list[Batch]:
        """Batches of similar prompt length, longest first; the same whichever questions are to be measured."""

        def images(asked: RenderedQuestion) -> int:
            return len(asked.image_sha256) if self.equal_images else 0

        ordered = sorted(questions, key=lambda asked: (images(asked), -len(asked.prompt), asked.key))
        groups = [list(alike) for _, alike in groupby(ordered, key=images)]
        return [alike[start : start + self.size] for alike in groups for start in range(0, len(alike), self.size)]

    def shard(self, questions: Sequence[RenderedQuestion]) -> list[Batch]:
        """This process's batches."""
        return self.ranks.shard(self.batches(questions))

    def unanswered(self, questions: Sequence[RenderedQuestion], book: Journal[Record]) -> list[Batch]:
        """This process's batches with questions that are not recorded.

        After a kill they are the same as before it, so that a batch may be begun: the one whose records were being
        written, of each rank one. The rest of such a batch is computed together with what is recorded of it: in a batch
        of another make-up the padding changes attention in the last digits, and results would differ from those of an
        uninterrupted run.
        """
        batches = self.batches(questions)
        if all(sum(_is_begun(batch, book) for batch in shard) <= 1 for shard in self.ranks.shards(batches)):
            return [batch for batch in self.ranks.shard(batches) if any(asked.key not in book for asked in batch)]
        return self.shard([asked for asked in questions if asked.key not in book])


def _is_begun(batch: Batch, book: Journal[Record]) -> bool:
    """Whether some of it is recorded, and some is not."""
    return len({asked.key in book for asked in batch}) == 2
