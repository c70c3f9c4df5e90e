"""Fuzz the free-form grader and MathVision's published rule: `python tests/answers/fuzz.py [INPUTS] [SEED]`.

Every input, hypothesis' own mixture of LaTeX, Python and noise, must be judged without an exception, by a worker that
was not left running, within the limits. 50,000 inputs unless told otherwise, in rounds of 5,000 with a seed each, after
each of which it prints what the judgements were and how long the slowest took. The test suite runs the same strategy on
fewer inputs (test_fuzz.py).
"""

import sys
import time
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from avar_eval.answers import Judgement
from avar_eval.answers.workers import CPU_SECONDS
from avar_eval.tasks.mathvision.task import judge

COMMANDS = (
    r"\frac{ \sqrt{ \sqrt[3]{ ^{ _{ \pi \infty \cdot \times \left( \right) \le \cup \{ \} \text{ \boxed{ \binom{"
    r" \sum_{n=1}^{ \int_{0}^{ \lim_{x\to \begin{pmatrix} \end{pmatrix} & \\ \neq \ge \in \pm"
    r" \sin \log_{ \mathit{ ! % \% $ ° √ π ² × ∞"
)
PYTHON = (
    "__import__('os') eval( exec( open('/etc/passwd') lambda: () .__class__ [x for x in range(9**9)] ** // % == or not"
)
NUMBERS = (
    "0",
    "1",
    "2",
    "3",
    "12",
    "0.5",
    "-7",
    "1/3",
    "9" * 300,
    "1e999",
    "99999999",
    "1:2",
    "x",
    "y",
    "e",
    "i",
    "d",
    "r",
    "c",
)
MARKS = (
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ",",
    ";",
    "=",
    "<",
    ">",
    "≠",
    "≤",
    "≈",
    "+",
    "-",
    "*",
    "/",
    "^",
    "_",
    "|",
    " ",
    "\n",
    "\x00",
    "\ud800",
    "\x0c",
)
WORDS = (
    "answer is ",
    "the answer is ",
    " A.",
    "(B)\n",
    "cm",
    "2 triangles",
    "答案是",
    "half of ",
    "negative ",
    "$45K",
    "万",
    " lakh",
    " and ",
    "x = ",
    "f(x) = ",
    "Area = ",
    "<answer>",
    "</answer>",
    "and",
    "True",
)
PIECES = st.one_of(
    st.sampled_from((*COMMANDS.split(" "), *PYTHON.split(" "))),
    st.sampled_from(NUMBERS),
    st.sampled_from((*MARKS, *WORDS)),
    st.text(max_size=4),
)
BODIES = st.lists(PIECES, min_size=1, max_size=14).map("".join)
FRAMES = st.sampled_from(("{}", "<answer>{}</answer>", "\\boxed{{{}}}", "So {}", "The answer is {}."))
RESPONSES = st.builds(lambda frame, body: frame.format(body), FRAMES, BODIES)

OPTIONS = ["$\\sqrt{2}$", "$2 \\sqrt{3}$", "(1,2)", "x^2", "blue"]
ROWS: list[dict[str, Any]] = [
    {"options": [], "answer": gold}
    for gold in (
        "7",
        "$2 \\sqrt{3}$",
        "(3,-4)",
        "1:2",
        "$\\frac{7^3}{2^{12} 13^2}$",
        "$\\frac{x^2}{9}+y^2=1$",
        "x \\ge 5",
        "4, 9",
    )
] + [{"options": OPTIONS, "answer": "B"}]
ROUND = 5_000
SECONDS = 4 * CPU_SECONDS
"""Processor time of this thread that one judgement may take; the workers' is limited by themselves."""


def judged(row: dict[str, Any], response: str) -> Judgement:
    start = time.thread_time()
    judgement = judge(row, response)
    assert time.thread_time() - start < SECONDS
    assert judgement.state in ("scored", "truncated", "unparsed", "timeout")
    (judgement.extracted or "").encode("utf-8")
    return judgement


def main(inputs: int, number: int) -> None:
    """Judge many inputs, round by round."""
    for start in range(0, inputs, ROUND):
        fuzz_round(min(ROUND, inputs - start), number)
        number += 1


def fuzz_round(inputs: int, number: int) -> None:
    """Judge the inputs of one seed and print what came of them."""
    states: Counter[str] = Counter()
    slowest = 0.0

    @seed(number)
    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(ROWS), RESPONSES)
    def fuzz(row: dict[str, Any], response: str) -> None:
        nonlocal slowest
        start = time.perf_counter()
        judgement = judged(row, response)
        slowest = max(slowest, time.perf_counter() - start)
        states[judgement.state + ("" if judgement.official is not None else ", official unknown")] += 1

    fuzz()
    print(f"{sum(states.values())} inputs, seed {number}: {dict(states)}; the slowest took {slowest:.1f} s", flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in (*sys.argv[1:], *("50000", "0")[len(sys.argv) - 1 :])))
