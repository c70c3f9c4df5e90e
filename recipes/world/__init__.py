"""The English world: pictures with conversations about them, for training models that know English.

`lesson(index)` is a picture with questions and answers about it: of `shapes` and `shapes_prior` in several wordings, of
`language_priors`, and of one shape on a pale ground, as easy-VQA has it, in words that easy-VQA does not use. What is
asked in a test split is not in it: neither a scene nor a wording of `shapes_english` or `language_priors`, and nothing
of easy-VQA.
"""

from avar_eval.recipes.world.lessons import SHARES, Lesson, lesson
from avar_eval.recipes.world.turns import Thoughts, Turn

__all__ = ["SHARES", "Lesson", "Thoughts", "Turn", "lesson"]
