"""MMStar's published rule: eval/vlmeval/evaluate/mmstar.py of MMStar-Benchmark/MMStar. First characters decide."""

from typing import Final

_OPENINGS: Final = ("", "(", "option ", "the answer is ")


def choice_right(response: str, letter: str) -> bool:
    """Whether the response opens with the gold letter, alone or after one of the known openings; case is ignored.

    Nothing has to follow the letter: "A bond is …" answers A, "Answer: A" answers nothing.
    """
    opening = response.lower().strip().replace("\n", " ")
    return any(opening.startswith(known + letter.lower()) for known in _OPENINGS)
