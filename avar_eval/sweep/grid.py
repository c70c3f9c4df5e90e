"""The grid of a sweep: lists of values from the command line, and their product as steerings."""

from collections.abc import Sequence
from itertools import product

from avar_eval.attention.steering import Steering, parse_steering
from avar_eval.errors import UsageError

MOST_POINTS = 200


def steering_grid(
    system: str, image: str = "0.15", modes: str = "logit", rows: str = "after-image", layers: Sequence[str] = ()
) -> list[Steering]:
    """The steerings of a grid: every combination once, in order, without those that change nothing.

    Values are separated by commas: strengths of system and image, modes. layers: one text for each choice, as --steer
    takes it, or `all`. Raises UsageError for a value that --steer would refuse, and for an empty or too large grid.
    """
    columns = [
        [f"image={value}" for value in _values("--image", image)],
        [f"mode={value}" for value in _values("--mode", modes)],
        [f"rows={value}" for value in _values("--rows", rows)],
        ["" if value == "all" else f",layers={value}" for value in layers or ("all",)],
        [f"system={value}" for value in _values("--system", system)],
    ]
    size = 1
    for column in columns:
        size *= len(column)
    if size > MOST_POINTS:
        raise UsageError(f"this grid has {size} points: sweep at most {MOST_POINTS} at a time")
    points = [
        parse_steering(f"{strength},{suppressed},{mode},{which}{depth}")
        for strength, mode, which, depth, suppressed in product(*columns)
    ]
    active = [point for point in dict.fromkeys(points) if point.active]
    if not active:
        raise UsageError("nothing is steered at any point of this grid: give --system or --image a value that is not 0")
    return active


def _values(option: str, text: str) -> list[str]:
    values = [value.strip() for value in text.split(",")]
    if not all(values) or len(set(values)) < len(values):
        raise UsageError(f"{option} takes different values separated by commas, not {text!r}")
    return values
