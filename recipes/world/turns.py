"""One turn of a conversation about a picture, and the forms in which it is asked and answered."""

import random
from dataclasses import dataclass
from typing import Final, Literal

from avar_eval.tasks.prompts import THINKING
from avar_eval.tasks.shapes.dataset import DIRECT

Thoughts = Literal["anchored", "plain", "none"]
"""Of solutions: with looking phrases (VARD), without them, or answers alone."""

SHORT: Final = (DIRECT, "Answer with one word, and nothing else.", "Answer briefly.", "")
"""What is asked for after a question that is answered at once; the first two are the benchmarks' own."""


@dataclass(frozen=True)
class Turn:
    """What a user asks, instruction included, and what the model is to answer."""

    question: str
    answer: str


def at_once(lines: list[str], answer: str, rng: random.Random) -> Turn:
    """A question that is answered at once. lines: of the question, options among them."""
    instruction = rng.choice(SHORT if len(lines) == 1 else (DIRECT, ""))
    return Turn("\n".join([*lines, instruction] if instruction else lines), answer)


def reasoned(lines: list[str], solution: str, answer: str) -> Turn:
    """A question that is thought about first; an empty solution is an empty thought."""
    return Turn("\n".join([*lines, THINKING]), f"<think>{solution}</think><answer>{answer}</answer>")


DESCRIBE: Final = (
    "Describe the picture.",
    "What do you see?",
    "What does the image show?",
    "Tell me what is in the picture.",
    "Say what this image shows, and where.",
)
