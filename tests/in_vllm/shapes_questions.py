"""Questions of `shapes` as a backend is given them."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.records.record import record_key
from avar_eval.tasks.shapes.dataset import Row, prompt


@dataclass(frozen=True)
class Question:
    """A rendered question of `shapes`."""

    key: str
    prompt: str
    picture: Image.Image

    def images(self) -> list[Image.Image]:
        return [self.picture]


def rendered(backend: TransformersBackend, rows: Sequence[Row]) -> list[Question]:
    """One for each row."""
    questions = []
    for row in rows:
        content = [{"type": "image"}, {"type": "text", "text": prompt(row)}]
        text = backend.render([{"role": "user", "content": content}])
        questions.append(Question(record_key(question=text, row=row["id"]), text, row["image"].convert("RGB")))
    return questions
