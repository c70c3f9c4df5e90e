"""What pydantic found wrong with a file, a line or an option, in the words of whoever wrote it. Light."""

import json
import re
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from avar_eval.user_files import decoded, parse_json

if TYPE_CHECKING:
    from pydantic import ValidationError

_WANTED: Final = {
    "string": "a text",
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "dict": "an object",
    "mapping": "an object",
    "model": "an object",
    "dataclass": "an object",
    "path": "a path",
}
"""The beginnings of pydantic's error types -> what should stand there."""
_BOUNDS: Final = {
    "greater_than": ("gt", "above {}"),
    "greater_than_equal": ("ge", "{} or more"),
    "less_than": ("lt", "below {}"),
    "less_than_equal": ("le", "{} or less"),
}
_BRANCH: Final = re.compile(r"(constrained|function|lax-or-strict|tagged|literal|is-instance)\b.*|[a-z]+\[.*\]")
"""A part of an error's place that names no key but one of several types that may stand there."""
_PLAIN: Final = ("str", "int", "float", "bool", "none")
"""The same where several such parts are of one value; a key may be called so, too."""
_MOST: Final = 60
"""Letters of a value that are shown, and of a key."""


def in_words(error: "ValidationError") -> str:
    """The first of what a validation found."""
    return problems_in_words(error)[0]


def problems_in_words(error: "ValidationError") -> list[str]:
    """All that a validation found: where, what stands there, and what should."""
    problems = error.errors(include_url=False)
    found: dict[str, list[Any]] = {}
    for problem in problems:
        *outer, last = problem["loc"] or ("",)
        alike = [of for of in problems if of is not problem and of["input"] == problem["input"]]
        branch = last in _PLAIN and _place(outer) in {_place(of["loc"][: len(outer)]) for of in alike}
        found.setdefault(_place(outer if branch else problem["loc"]), []).append(problem)
    return [_of_place(place, of) for place, of in found.items()]


def option_in_words(error: "ValidationError", flag: str | None = None) -> str:
    """What is wrong with an option's value, the option in front. flag: as it was given; by default the field's name."""
    name = str(error.errors(include_url=False)[0]["loc"][0])
    return (flag or f"--{name.replace('_', '-')}") + in_words(error).removeprefix(name)


def _of_place(place: str, problems: Sequence[Any]) -> str:
    """What is wrong at one place; several problems are of several types, any of which may stand there."""
    problem = problems[0]
    kind, message = problem["type"], problem["msg"]
    *outer, name = problem["loc"] or ("",)
    match kind:
        case "json_invalid":
            return _not_json(problem["input"], message.removeprefix("Invalid JSON: "))
        case "missing" | "missing_argument":
            return f"{_place(outer)} has no {_clipped(str(name))}"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{place} is not a field of it"
        case "too_short" | "too_long":
            few, told = kind == "too_short", problem["ctx"]
            bound = f"{told['min_length']} or more are needed" if few else f"at most {told['max_length']} are taken"
            return f"{place} has {told['actual_length']} entries, and {bound}"
    wanted = list(dict.fromkeys(filter(None, map(_wanted, problems))))
    if not wanted:
        said = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
        return f"{place}: {said}" if problem["loc"] else str(said)
    value = problem["input"]  # of a command line a text, of which a number was read where it is out of range
    stands = _clipped(value) if kind in _BOUNDS and isinstance(value, str) else shown(value)
    return f"{place} is {stands}, not {' or '.join(wanted)}"


def _wanted(problem: Any) -> str | None:
    """What should stand there; None where the message alone says it."""
    kind, told = problem["type"], problem.get("ctx", {})
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return words.format(f"{told[bound]:.15g}" if isinstance(told[bound], int | float) else told[bound])
    match kind:
        case "literal_error" | "enum":
            return str(told["expected"])
        case "none_required":
            return "null"
        case "string_too_short":
            return f"a text of {told['min_length']} or more letters"
        case "string_too_long":
            return f"a text of up to {told['max_length']} letters"
        case "string_pattern_mismatch" if told["pattern"].isprintable():
            return f"a text of the form {told['pattern']}"
        case "string_pattern_mismatch":  # what only names control characters, which cannot be shown
            return "a text without control characters"
    begin, _, of = problem["msg"].partition("Input should be ")
    return _WANTED.get(kind.partition("_")[0]) or (of if not begin else None)


def _place(parts: Sequence[int | str]) -> str:
    """`tasks.shapes.metrics`, positions of lists from 0; `it` for the whole."""
    if parts and parts[-1] == "[key]":
        return f"a key of {_place(parts[:-2])}"
    keys = (_clipped(str(part)) for part in parts if isinstance(part, int) or not _BRANCH.fullmatch(part))
    return ".".join(keys) or "it"


def shown(value: object) -> str:
    """A value in few letters: itself if it is short, else what it is."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple | set | frozenset):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, str):
        return json.dumps(_clipped(value), ensure_ascii=False)
    return _clipped(json.dumps(value, default=str))


def fault_in_words(error: Exception) -> str:
    """What reading a file or a row failed at, whether its form was declared or not."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return in_words(error)
    if isinstance(error, KeyError):
        return f"it has no {_clipped(str(error.args[0]))}"
    if isinstance(error, AttributeError | IndexError | TypeError):
        return "a part of it is of another kind than it should be"
    return getattr(error, "strerror", None) or str(error)


def code_fault(error: Exception) -> str:
    """What the code of a task failed at and where, in Python's words: its author reads them."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{error!r} in {place.filename}, line {place.lineno}"


def _clipped(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[:_MOST]}…"


def _not_json(data: str | bytes, message: str) -> str:
    """What pydantic's reader refuses; where Python's takes it, as half a surrogate pair, its place alone."""
    try:
        # decoded here: of bytes Python takes a byte order mark, and UTF-16
        parse_json(decoded(data) if isinstance(data, bytes) else data)
    except ValueError as error:
        return str(error)
    place = re.search(r"line (\d+) column (\d+)$", message)
    return f"it is no JSON{f' from line {place[1]}, column {place[2]} on' if place else ''}"
