"""Right answers written otherwise and made wrong: `python tests/answers/mutations.py [INPUTS] [SEED]`.

Each input is drawn with its right verdict: a number with a word that makes another of it, an equation with terms moved
or a coefficient changed, an inequality turned round or reversed, a list in another order or with another item, a small
number beside another. Nothing wrong may be credited and nothing right refused. 44,500 inputs unless told otherwise,
after each 2,500 of which it prints how many were judged and how long the slowest took. The test suite draws fewer
(test_fuzz.py).
"""

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from avar_eval.answers import Kind, judge_answer

FRAMES: Final = ("<answer>{}</answer>", r"\boxed{{{}}}", "<think>x = 1, no: 2</think>\n<answer>{}</answer>")
ROUND: Final = 2_500


@dataclass(frozen=True)
class Mutation:
    """A response and what a careful person says of it."""

    response: str
    kind: Kind
    gold: str
    right: bool


def quantity(draw: random.Random) -> Mutation:
    """A number with words beside it, against its value or against the bare digits."""
    number = draw.randrange(3, 90)
    said, value = draw.choice(
        [
            (f"negative {number}", Fraction(-number)),
            (f"minus {number}", Fraction(-number)),
            (f"half of {number}", Fraction(number, 2)),
            (f"one third of {number}", Fraction(number, 3)),
            (f"three quarters of {number}", Fraction(3 * number, 4)),
            (f"twice {number}", Fraction(2 * number)),
            (f"{number} squared", Fraction(number**2)),
            (f"{number} and a half", Fraction(2 * number + 1, 2)),
            (f"{number} hundred thousand", Fraction(number * 10**5)),
            (f"${number}K", Fraction(number * 1000)),
            (f"{number} lakh", Fraction(number * 10**5)),
            (f"{number}万", Fraction(number * 10**4)),
            (f"{number} dozen", Fraction(number * 12)),
            (f"{number} degrees below zero", Fraction(-number)),
            (f"the square root of {number**2}", Fraction(number)),
            (f"log {number}", None),
            (f"sin {number}", None),
            (f"the square root of {number**2 + 1}", None),
            (f"x ≠ {number}", None),
            (f"x \\neq {number}", None),
            (f"x \\geq {number}", None),
            (f"more than {number}", None),
        ]
    )
    frame = draw.choice((*FRAMES, "The answer is {}.")) if "\\" not in said else draw.choice(FRAMES)
    if value is None or draw.random() < 0.5:
        digits = "".join(character for character in said if character.isdecimal())
        gold = Fraction(int(digits))
        return Mutation(frame.format(said), "integer", str(gold), gold == value)
    return Mutation(frame.format(said), "float", str(value), True)


def equation(draw: random.Random) -> Mutation:
    """A line or a conic: multiplied, with terms moved, or with another coefficient, letter, sign, or side alone."""
    a, b, c = draw.randrange(2, 9), draw.randrange(2, 9), draw.randrange(2, 30)
    power = draw.choice(("", "^2"))
    gold = draw.choice((f"{a}x{power} + {b}y{power} = {c}", f"${a}x{power}+{b}y{power}={c}$"))
    k = draw.choice((-3, -2, 2, 5))
    other = c + draw.choice((-1, 1, 7))
    said, right = draw.choice(
        [
            (f"{k * a}x{power} + {k * b}y{power} = {k * c}".replace("+ -", "- "), True),
            (f"{c} = {b}y{power} + {a}x{power}", True),
            (f"{a}x{power} + {b}y{power} - {c} = 0", True),
            (rf"y{power} = \frac{{{c} - {a}x{power}}}{{{b}}}", True),
            (rf"\frac{{x{power}}}{{{b}}} + \frac{{y{power}}}{{{a}}} = \frac{{{c}}}{{{a * b}}}", True),
            (f"{a}x{power} + {b}y{power} = {other}", False),
            (f"{a + 1}x{power} + {b}y{power} = {c}", False),
            (f"{a}x{power} - {b}y{power} = {c}", False),
            (f"{a}x{power} + {b}z{power} = {c}", False),
            (f"{a}X{power} + {b}y{power} = {c}", False),
            (rf"{a}x{power} + {b}y{power} \leq {c}", False),
            (rf"{a}x{power} + {b}y{power} \neq {c}", False),
            (f"{a}x{power} + {b}y{power}", False),
            (f"{c}", False),
            (f"x = {c}", False),
        ]
    )
    return Mutation(draw.choice(FRAMES).format(said), "expression", gold, right)


def label(draw: random.Random) -> Mutation:
    """A value behind a label: the same label, none, another, and another value."""
    name, others = draw.choice((("y", "xz"), ("f(x)", ("g(x)", "f(y)")), ("AB", ("AC", "CD")), ("Area", ("Volume",))))
    value = draw.choice((r"2\sqrt{7}", r"\frac{5}{8}", "19", r"6\pi", "3t+4", r"\sqrt{t}-1"))
    wrong = rf"{value} + 1"
    other = draw.choice(others)
    said, right = draw.choice(
        (
            (f"{name} = {value}", True),
            (value, True),
            (f"{value} = {name}", True),
            (f"{other} = {value}", False),
            (f"{name} = {wrong}", False),
            (wrong, False),
            (rf"{name} \neq {value}", False),
            (rf"{name} > {value}", False),
        )
    )
    return Mutation(draw.choice(FRAMES).format(said), "expression", f"{name} = {value}", right)


def inequality(draw: random.Random) -> Mutation:
    """A bound, turned round, as an interval, or reversed."""
    bound = draw.randrange(-20, 20)
    sign, turned, strict, closing = draw.choice(((r"\geq", r"\leq", ">", "["), (r">", "<", r"\geq", "(")))
    opposite = "(" if closing == "[" else "["
    said, right = draw.choice(
        (
            (f"{bound} {turned} x", True),
            (f"x {sign} {bound}", True),
            (rf"{closing}{bound}, \infty)", True),
            (rf"x \in {closing}{bound}, +\infty)", True),
            (rf"2x {sign} {2 * bound}", True),
            (rf"-x {turned} {-bound}", True),
            (f"{bound} {sign} x", False),
            (f"x {strict} {bound}", False),
            (rf"{opposite}{bound}, \infty)", False),
            (f"x {sign} {bound + 1}", False),
            (f"y {sign} {bound}", False),
            (f"x = {bound}", False),
            (f"{bound}", False),
        )
    )
    return Mutation(draw.choice(FRAMES).format(said), "expression", f"x {sign} {bound}", right)


def listing(draw: random.Random) -> Mutation:
    """Several values: in another order, as a set, in boxes, with one of them changed, missing or added."""
    values = draw.sample(range(-30, 30), draw.randrange(2, 5))
    gold = ", ".join(map(str, values))
    mixed = draw.sample(values, len(values))
    wrong = [*values[:-1], next(value for value in range(40) if value not in values)]
    joined = draw.choice((", ", "; ", " and "))
    said, right = draw.choice(
        (
            (joined.join(map(str, mixed)), True),
            (rf"\{{{joined.join(map(str, mixed))}\}}", True),
            (joined.join(map(str, wrong)), False),
            (joined.join(map(str, values[:-1])), False),
            (joined.join(map(str, [*values, wrong[-1]])), False),
        )
    )
    boxes = draw.choice((", ", " and ", r" \text{ and } ", r" \quad "))
    if joined == ", " and not said.startswith("\\"):
        numbers = said.split(", ")
        return Mutation(boxes.join(rf"\boxed{{{number}}}" for number in numbers), "expression", gold, right)
    return Mutation(draw.choice(FRAMES).format(said), "expression", gold, right)


def small(draw: random.Random) -> Mutation:
    """Numbers near nothing."""
    digits, power = draw.randrange(11, 99), draw.randrange(6, 40)
    other = digits + draw.choice((-1, 1, 5))
    gold = rf"{digits / 10} \times 10^{{-{power}}}"
    said, right = draw.choice(
        (
            (f"{digits / 10}e-{power}", True),
            (rf"{digits} \times 10^{{-{power + 1}}}", True),
            (rf"{other / 10} \times 10^{{-{power}}}", False),
            (rf"{digits / 10} \times 10^{{-{power + 1}}}", False),
            ("0", False),
            (rf"-{digits / 10} \times 10^{{-{power}}}", False),
        )
    )
    return Mutation(draw.choice(FRAMES).format(said), draw.choice(("expression", "float")), gold, right)


KINDS: Final[tuple[Callable[[random.Random], Mutation], ...]] = (quantity, equation, label, inequality, listing, small)


def judged_wrong(mutation: Mutation) -> str | None:
    """What is wrong with the judgement of a mutation; None if it is right."""
    found = judge_answer(mutation.response, answer=mutation.gold, kind=mutation.kind, finish_reason="stop")
    if found.correct == mutation.right and found.state != "timeout":
        return None
    return f"{mutation}: {found.state}, {found.extracted!r}, {found.correct}"


def main(inputs: int, seed: int) -> None:
    """Draw and judge many inputs; ends with status 1 if one was judged wrong."""
    draw, faults, slowest = random.Random(seed), 0, 0.0
    for number in range(1, inputs + 1):
        mutation = draw.choice(KINDS)(draw)
        start = time.perf_counter()
        fault = judged_wrong(mutation)
        slowest = max(slowest, time.perf_counter() - start)
        if fault is not None:
            faults += 1
            print(fault, flush=True)
        if number % ROUND == 0 or number == inputs:
            print(f"{number} inputs, {faults} judged wrong; the slowest took {slowest:.1f} s", flush=True)
    sys.exit(faults > 0)


if __name__ == "__main__":
    main(*(int(argument) for argument in (*sys.argv[1:], *("44500", "0")[len(sys.argv) - 1 :])))
