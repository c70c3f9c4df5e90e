"""Texts that could take for ever: towers of powers, deep brackets, endless words; none takes long, none is credited."""

import time
from collections.abc import Iterator

import hostile_functions
import pytest

from avar_eval.answers import Kind, judge_answer
from avar_eval.answers.workers import WORKERS, Workers

WORKER_SECONDS = 0.3
"""Processor time that a worker may take here, a tenth of what it may take elsewhere, so that the test is quick."""

SECONDS = 1.0
"""Processor time of this thread for one judgement."""

GOLDS: tuple[tuple[Kind, str], ...] = (
    ("expression", r"\frac{x^2}{36}+\frac{y^2}{4}=1"),
    ("expression", r"\sin(2^{x}), \sin(3^{x}), 7x^3"),
    ("expression", r"(-\infty,1)\cup(3,\infty)"),
    ("integer", "6"),
    ("choice", r"y = 2x+5"),
)
CHOICES = (r"y = 2x+5", r"y \ge x^3", r"\frac{1}{2}x")


def tower(height: int) -> str:
    return "^{".join(["9"] * height) + "}" * (height - 1)


BOMBS = (
    tower(30),
    "10**10**10",
    "10^{10^{10}}",
    "x=10^{10^{10}}",
    "999999999^{999999999}",
    "((99999!)!)!",
    "(x+y+z)^{99}=1",
    r"\cdot ".join(["(x+y+z)^{99}"] * 12) + "=0",
    "y=(x+1)^{9999}",
    "y=x^{x^{x^{x}}}",
    "y=\\sum_{n=1}^{99999999} n^{n}x",
    "\\int_{0}^{x} e^{\\sin(t^{t})} dt = y",
    "\\frac{1}{1+" * 12 + "x" + "}" * 12 + "=y",
    "\\sqrt{2+" * 25 + "x" + "}" * 25 + "=y",
    "(" * 140 + "1" + ")" * 140,
    "(" * 100 + "x" + ")" * 100 + "=0",
    "{" * 140 + "1" + "}" * 140,
    "x=" * 140 + "1",
    "1<" * 140 + "x",
    "a," * 140,
    "\\pm " * 100,
    "x=\\pm " * 40 + "1",
    "[1,2)\\cup " * 30 + "[3,4)",
    "\\{" * 70 + "1" + "\\}" * 70,
    ";".join(["p=1,q=2"] * 30),
    ",".join(f"(x+{i})^{{50}}" for i in range(18)),
    ",".join(f"\\sin({i}^{{x}})" for i in range(20)),
    "\\begin{pmatrix}" + " & ".join(["1"] * 60) + "\\end{pmatrix}",
    "\\begin{pmatrix} x^x & 1 \\\\ 2 & 3\\end{pmatrix}^{99}",
    "\\begin{pmatrix}" * 20 + "\\end{pmatrix}" * 20,
    "9" * 290,
    "0." + "9" * 280,
    "1e99999",
    "half of " * 100 + "4",
    "minus " * 200 + "5",
    "one hundred " * 150,
    "twenty-" * 200,
    "three and a half and a half " * 50,
    "million " * 200 + "5",
    "5 " + "million " * 240,
    "5" + "万亿" * 900,
    "the square root of " * 80 + "16",
    "99999999999999999999 cubed squared squared",
    "square of " * 90 + "9",
    "\\boxed{" * 3000 + "1" + "}" * 3000,
    "\\boxed{1}, " * 5000,
    "\\boxed{1} and \\boxed{2} " * 3000,
    "$x>" * 300,
    "x \\geq " * 80 + "5",
    "\\neq" * 100 + "5",
    "\\left(" * 100 + "x",
    "y=\\log_{" * 30 + "2" + "}" * 30,
    "y=\\tan(\\tan(\\tan(\\tan(\\tan(\\tan(x^9))))))",
    "y=x!" + "!" * 100,
    "\\binom{1000000}{500000}",
    "\\Gamma(10^{9})",
    "\\prod_{n=1}^{10^{9}} n",
    "\\lim_{x\\to\\infty} x^{x^{x}}",
    "y=\\int\\int\\int x^{x} dx dx dx",
    "f(" * 90 + "x" + ")" * 90 + "=1",
    "x_{" * 60 + "1" + "}" * 60 + "=2",
    "|" * 150 + "x" + "|" * 150,
    "\\frac" * 100 + "12",
    "1/" * 140 + "3=x",
    "x=y," * 70,
    "x=1 or " * 60 + "x=2",
    "A" * 290 + "=5",
    "A B " * 70 + "=5",
    "the area of " * 24 + "=5",
    "\\overline{" * 30 + "A" + "}" * 30 + "=4",
    "(x," * 90 + "y)=1",
    "S:S:" * 60 + "S=3",
    "2:" * 140 + "3",
    "\\text{" * 60 + "x" + "}" * 60,
    "\\mathrm{d}x/" * 40,
    "\\$" * 200 + "45K",
    "$45K " * 300,
    "-" * 280 + "5",
    "+" * 280 + "5",
    "(-" * 140 + "5" + ")" * 140,
    "1," * 145 + "000",
    "1" + ",000" * 70,
    "1 000 " * 70,
    "\ue000" * 200,
    "\\\\" * 140,
    "&" * 250,
    "e^{e^{e^{e^{e^{9}}}}}",
    "\\sqrt[99999]{x}=y",
    "x^{1/99999999}=y",
    "y=(1+x)^{-9999999}",
    "y=\\cos(10^{99}x)",
    "\\sin^{999}(x)=y",
    "x^2+" * 60 + "1=0",
    "(x+1)(x+2)(x+3)(x+4)(x+5)(x+6)(x+7)(x+8)(x+9)(x+10)(x+11)(x+12)(x+13)(x+14)=0",
    "y=\\frac{(x+1)^{40}}{(x+2)^{40}}+\\frac{(z+1)^{40}}{(w+2)^{40}}",
    "1.5e-7" * 40,
    "0x" * 100,
    "∞" * 200,
    "π" * 250,
    "½" * 250,
    "²" * 250,
    "=≈≠<>≤≥∈" * 30,
)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    workers = Workers(1, cpu_seconds=WORKER_SECONDS)
    workers.prepare(hostile_functions.warm_up)
    yield workers
    workers.close()


@pytest.mark.parametrize("number", range(len(BOMBS)))
def test_no_bomb_takes_long_or_is_credited(number: int, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WORKERS, "ask", workers.ask)
    monkeypatch.setattr(WORKERS, "one_limit", workers.one_limit)
    for kind, gold in GOLDS:
        choices = CHOICES if kind == "choice" else ()
        start = time.thread_time()
        judgement = judge_answer(f"<answer>{BOMBS[number]}</answer>", answer=gold, kind=kind, choices=choices)
        assert time.thread_time() - start < SECONDS
        assert judgement.state in ("scored", "timeout", "unparsed", "truncated")
        assert not judgement.correct
