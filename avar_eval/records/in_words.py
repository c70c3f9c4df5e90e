"""What is wrong with a line or a file of ours, in the words of its reader instead of pydantic's."""

from typing import Final

from pydantic import ValidationError

_NOT: Final = {
    "string": "a text",
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "an object",
    "model": "an object",
    "dataclass": "an object",
}
"""The beginnings of pydantic's error types -> what should stand there."""


def in_words(error: ValidationError) -> str:
    """The first of what a validation found, without the value: it may be long."""
    problem = error.errors(include_url=False, include_input=False)[0]
    kind, message = problem["type"], problem["msg"]
    place = ".".join(map(str, problem["loc"])) or "it"
    if kind == "json_invalid":
        return "it is no JSON: " + message.removeprefix("Invalid JSON: ")
    if kind == "missing":
        *outer, name = map(str, problem["loc"])
        return f"{'.'.join(outer) or 'it'} has no {name}"
    if kind == "extra_forbidden":
        return f"{place} is not a field of it"
    if kind == "literal_error":
        return f"{place} is not {problem['ctx']['expected']}"
    if (wanted := _NOT.get(kind.partition("_")[0])) and kind.endswith(("_type", "_parsing", "_number", "_from_float")):
        return f"{place} is not {wanted}"
    return f"{place}: {message.removeprefix('Value error, ')}"
