"""What to steer and how strongly: `Steering`, its text on the command line, and the presets of published methods.

Steering changes what a running model attends to, without training. With Z the pre-softmax scores of arXiv 2603.03825
Eq. 3, A = softmax(Z) its attention, and for each key j a strength

    c_j = image for image tokens, -system for system tokens, 0 for all others,

the modes are

    logit   Z_ij (1 + c_j)         the paper's Eq. 3: a negative score moves the other way
    log     Z_ij + log(1 + c_j)    A_ij (1 + c_j), renormalised
    prob    A_ij (1 + c_j)         not renormalised
    abs     Z_ij + c_j |Z_ij|      PAI: every score moves the way of its strength

for the queries i that `rows` names: `after-image` (the paper) is every position after the last image token, generated
ones included (all positions of a sequence without an image); `all` is every position; `last` is the last position of
the prompt and every position after it. Published methods:

    avar  Eq. 3 of the paper at the edge of its redundancy zone
    vaf   ClearSight, arXiv 2503.13107, github.com/ustc-hyin/ClearSight: visaug/inference/{AttnAdapter,infer_pope}.py
          multiplies the scores of queries after the image by 1.15 (image) and 0.95 (system) in layers 9 to 14
          (8 < l < 15) and all heads; the restriction to some heads that the paper adds is not in its code
    pai   arXiv 2407.21771, github.com/LALBJ/PAI: attention.py adds 0.2 |Z| to the image scores of the last query in
          layers 2 to 31; its second part, contrastive decoding ("logits refine"), is no steering and is left out

The layers of vaf and pai are those published for a model of 32 layers; `vaf,layers=8-12` moves them.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from avar_eval.errors import UsageError, unknown_name

Mode = Literal["logit", "log", "prob", "abs"]
Rows = Literal["after-image", "all", "last"]

_MOST = 100.0
"""The greatest strength: beyond, scores overflow."""
_MOST_LAYERS = 1000


def _ascending(numbers: Any) -> Any:
    return tuple(sorted(set(numbers))) if isinstance(numbers, Iterable) and not isinstance(numbers, str) else numbers


def _positive_zero(strength: float) -> float:
    return strength + 0.0


Numbers = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=_MOST_LAYERS)], ...], BeforeValidator(_ascending), Field(min_length=1)
]
_Strength = Annotated[float, AfterValidator(_positive_zero)]


class Steering(BaseModel):
    """How attention is steered. Strengths are relative: image=0.15 is 15 % more, system=0.4 is 40 % less.

    Negative strengths do the opposite, and 0 does nothing. layers, heads: decoder layers and query heads of each of
    them, counted from 0; None is all. Raises pydantic's ValidationError; `parse_steering` a UsageError.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    image: Annotated[_Strength, Field(ge=-1, le=_MOST)] = 0.0
    system: Annotated[_Strength, Field(ge=-_MOST, le=1)] = 0.0
    mode: Mode = "logit"
    rows: Rows = "after-image"
    layers: Numbers | None = None
    heads: Numbers | None = None

    @model_validator(mode="after")
    def _has_logarithms(self) -> Self:
        if self.mode == "log" and (self.image == -1 or self.system == 1):
            raise ValueError("mode log cannot take image=-1 or system=1: the logarithm of 0 is infinite")
        return self

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self.image != 0 or self.system != 0

    def identity(self) -> dict[str, Any]:
        """All fields as JSON knows them: part of the record key and of the protocol."""
        return self.model_dump(mode="json")

    def __str__(self) -> str:
        """The text that `parse_steering` reads; both strengths, and what else is not the default."""
        parts = [f"image={_number(self.image)}", f"system={_number(self.system)}"]
        parts += [f"{name}={getattr(self, name)}" for name in ("mode", "rows") if getattr(self, name) != _default(name)]
        lists = (("layers", self.layers), ("heads", self.heads))
        return ",".join(parts + [f"{name}={_runs(numbers)}" for name, numbers in lists if numbers is not None])


UNSTEERED = Steering()
"""Strengths of 0."""

PRESETS = {
    "avar": Steering(image=0.15, system=0.4),
    "vaf": Steering(image=0.15, system=0.05, layers=range(9, 15)),
    "pai": Steering(image=0.2, mode="abs", rows="last", layers=range(2, 32)),
}
"""Published methods; see the module's text for their sources."""


def parse_steering(text: str) -> Steering:
    """Read `image=0.15,system=0.4[,mode=...][,rows=...][,layers=8-14][,heads=0+3]`, or a preset and changes to it.

    A strength that is not named is 0, but one of the two must be, and a preset's name may be in any case of letters.
    Layers and heads are numbers and ranges (last one included) joined by "+". Raises UsageError, which names what is
    wrong.
    """
    words = [word.strip() for word in text.split(",")]
    if not any(words):
        raise UsageError(f"--steer is empty: name one of {', '.join(PRESETS)}, {_OR_STRENGTHS}")
    start = PRESETS.get(words[0].lower())
    if start is None and "=" not in words[0] and words[0] not in Steering.model_fields:
        raise unknown_name("steering", words[0], PRESETS, f"({_OR_STRENGTHS})")
    fields: dict[str, Any] = {}
    for word in words[start is not None :]:
        name, equals, value = word.partition("=")
        name = name.strip()
        _check_part(name, text)
        if not equals or name in fields:
            raise UsageError(f"--steer: {name} needs one value, as in {name}={_EXAMPLES[name]}")
        fields[name] = _read(name, value.strip())
    if start is None and not {"image", "system"} & set(fields):
        raise UsageError(f"--steer {text} has no strength: name one of {', '.join(PRESETS)} first, {_OR_STRENGTHS}")
    try:
        return Steering(**({} if start is None else start.model_dump()) | fields)
    except ValidationError as error:
        raise UsageError(f"--steer: {_explain(error)}") from None


_OR_STRENGTHS = "or give strengths, such as image=0.15,system=0.4"
_EXAMPLES = {
    "image": "0.15",
    "system": "0.4",
    "mode": "logit",
    "rows": "after-image",
    "layers": "8-14",
    "heads": "0+3",
}


def _check_part(name: str, text: str) -> None:
    """Raise UsageError if no part of a steering is called that."""
    if name in Steering.model_fields:
        return
    if not name:
        raise UsageError(f"--steer {text} has a comma too many")
    if re.fullmatch(r"[0-9-]+", name):
        raise UsageError(
            f"--steer: commas separate its parts, and {name} is none: a decimal point is written as in system=0.4, "
            "several layers or heads as in layers=8+9"
        )
    raise unknown_name("part of --steer", name, Steering.model_fields)


def _read(name: str, value: str) -> Any:
    if name in ("image", "system"):
        try:
            return float(value)
        except ValueError:
            raise UsageError(f"--steer: {name} takes a number, such as {_EXAMPLES[name]}, not {value!r}") from None
    return _numbers(name, value) if name in ("layers", "heads") else value


def _numbers(name: str, text: str) -> list[int]:
    """`0+2+8-14` as numbers."""
    numbers: list[int] = []
    for part in text.split("+"):
        found = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last:
            raise UsageError(f"--steer: {name} takes numbers and ascending ranges, such as 0+2+8-14, not {text!r}")
        numbers += range(first, last + 1)
    return numbers


def _explain(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    if not problem["loc"]:
        return problem["msg"].removeprefix("Value error, ")
    name, value = problem["loc"][0], problem["input"]
    if name in ("mode", "rows"):
        return f"{name} takes {', '.join(get_args(Mode if name == 'mode' else Rows))}, not {value!r}"
    ranges = {"image": f"a number from -1 to {_MOST:g}", "system": f"a number from -{_MOST:g} to 1"}
    return f"{name} takes {ranges.get(str(name), f'numbers below {_MOST_LAYERS}')}, not {value!r}"


def _default(name: str) -> Any:
    return Steering.model_fields[name].default


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _runs(numbers: Iterable[int]) -> str:
    """Ascending numbers as `0+2+8-14`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return "+".join("-".join(map(str, run)) for run in runs)
