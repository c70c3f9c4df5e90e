"""A question as a backend is given it."""

from dataclasses import dataclass, field

from PIL import Image


@dataclass(frozen=True)
class Question:
    """A rendered question."""

    prompt: str
    key: str = "00ff" * 16
    pictures: list[Image.Image] = field(default_factory=list)

    def images(self) -> list[Image.Image]:
        return self.pictures
