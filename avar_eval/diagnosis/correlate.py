"""Which measure goes with which over models: VAS against accuracy, as the paper's Figure 1a, and all against all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, log
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from avar_eval.diagnosis.correlate_points import Board, CorrelateError, Point
from avar_eval.errors import UsageError, unknown_name
from avar_eval.statistics import Correlation, Pairs, disattenuated, holm, pearson, spearman
from avar_eval.statistics.estimate import Z_95

FEWEST: Final = 3
"""Models; through two points there is always a line."""
HEAVY_TAILED: Final = 10.0
"""Greatest over least value from which a ratio or a divergence is correlated, and drawn, as its logarithm."""

Kind = Literal["share", "ratio", "nats"]


@dataclass(frozen=True)
class Axis:
    """What a measure is called, and its kind: a share of 1 (also a difference of shares), a ratio, or nats."""

    label: str
    kind: Kind


AXES: Final[dict[str, Axis]] = {
    "accuracy": Axis("accuracy", "share"),
    "vas": Axis("VAS (Eq. 2)", "ratio"),
    "vas_without_sink": Axis("VAS without position 0", "ratio"),
    "vas_text": Axis("VAS of the question's text", "ratio"),
    "vas_geometric_mean": Axis("VAS, geometric mean", "ratio"),
    "vas_median": Axis("VAS, median", "ratio"),
    "vas_response": Axis("VAS of the response", "ratio"),
    "ratio_of_sums": Axis("image ÷ system attention", "ratio"),
    "visual_dependence": Axis("visual dependence", "nats"),
    "information": Axis("information", "nats"),
    "knockout_answer": Axis("knockout, answer", "nats"),
    "knockout_response": Axis("knockout, response", "nats"),
    "visual_gain": Axis("visual gain", "share"),
    "blind": Axis("blind accuracy", "share"),
    "mirage": Axis("mirage", "ratio"),
    "swap": Axis("swap", "share"),
    "stubborn": Axis("stubborn", "share"),
}
"""The measures that are set against each other, by their names in results.json."""


class Coefficient(BaseModel):
    """r or ρ with its 95 % intervals and two-sided p, over families and over rows, as `Correlation` has them."""

    model_config = ConfigDict(extra="forbid")

    value: float | None
    ci95: tuple[float, float] | None
    p: float | None
    ci95_rows: tuple[float, float] | None

    @classmethod
    def of(cls, found: Correlation) -> "Coefficient":
        """From a correlation."""
        return cls(value=found.r, ci95=found.ci95, p=found.p, ci95_rows=found.ci95_rows)


class Disattenuated(BaseModel):
    """Pearson's r without the error of the points, and how reliable (0..1) they are along each axis."""

    model_config = ConfigDict(extra="forbid")

    r: float
    reliability_x: float
    reliability_y: float


class WithoutOne(BaseModel):
    """Pearson's r and Spearman's ρ of all models but one."""

    model_config = ConfigDict(extra="forbid")

    model: str
    r: float | None
    rho: float | None


class Pair(BaseModel):
    """Two measures over the n models that have both: Spearman's ρ, its interval, p, and p by Holm over all pairs."""

    model_config = ConfigDict(extra="forbid")

    x: str
    y: str
    n: int
    rho: float | None
    ci95: tuple[float, float] | None
    p: float | None
    p_holm: float | None


class Correlated(BaseModel):
    """The content of correlate.json: two measures over n models, and all pairs of measures.

    x, y: the measures. x_log, y_log: whether r is of its logarithm (ρ is the same). accuracy: what it is; measured_on:
    the task of all other measures. resampled: what is drawn for the intervals, `units` of them. left_out: models
    without a point, with the reason. Values are None where they are not defined.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[2] = 2
    source: str
    x: str
    y: str
    x_log: bool
    y_log: bool
    accuracy: str
    measured_on: str
    n: int
    resampled: Literal["families", "trainings"]
    units: int
    pearson: Coefficient
    spearman: Coefficient
    disattenuated: Disattenuated | None
    without: list[WithoutOne]
    points: list[Point]
    left_out: dict[str, str]
    notes: list[str]
    pairs: list[Pair] = Field(default_factory=list)

    def to_json(self) -> str:
        """The file's text."""
        data = self.model_dump(mode="json")
        return json.dumps({"schema": data.pop("schema_version"), **data}, indent=2, ensure_ascii=False) + "\n"

    @property
    def families(self) -> list[str]:
        """Those of the points, in alphabetical order."""
        return sorted({point.family for point in self.points})


def correlate(of: Board, x: str = "vas", y: str = "accuracy") -> Correlated:
    """Two measures over models, what single models contribute, and all pairs. Raises CorrelateError and UsageError."""
    _check_axes(of, x, y)
    points = [point for point in of.points if point.value(x) is not None and point.value(y) is not None]
    left_out = of.left_out | {
        point.model: f"no finite {_missing(point, (x, y))} of {of.measured_on}"
        for point in of.points
        if point not in points
    }
    if len(points) < FEWEST:
        reasons = "".join(f"; {model}: {reason}" for model, reason in left_out.items())
        raise CorrelateError(
            f"a correlation needs {FEWEST} models with both {_short(x)} and {_short(y)}, and there are {len(points)} "
            f"in {of.source}{reasons}"
        )
    points.sort(key=lambda point: (point.value(x), point.value(y), point.model))
    measured, x_log, y_log = _measured(points, x, y)
    found = pearson(measured)
    without = [measured.without(place) for place in range(len(points))] if len(points) > FEWEST else []
    of_error = None if found.r is None else disattenuated(found.r, measured)
    return Correlated(
        source=of.source,
        x=x,
        y=y,
        x_log=x_log,
        y_log=y_log,
        accuracy=of.accuracy,
        measured_on=of.measured_on,
        n=len(points),
        resampled=_units(points)[0],
        units=found.families,
        pearson=Coefficient.of(found),
        spearman=Coefficient.of(spearman(measured)),
        disattenuated=None
        if of_error is None
        else Disattenuated(r=of_error[0], reliability_x=of_error[1], reliability_y=of_error[2]),
        without=[
            WithoutOne(model=point.model, r=pearson(rest).r, rho=spearman(rest).r)
            for point, rest in zip(points, without, strict=False)
        ],
        points=points,
        left_out=left_out,
        notes=of.notes,
        pairs=_pairs(of.points),
    )


def predictors(found: Correlated, of: str) -> list[Pair]:
    """The pairs of a measure with the others, turned so that it is y, the closest first."""
    turned = [
        pair if pair.y == of else pair.model_copy(update={"x": pair.y, "y": pair.x})
        for pair in found.pairs
        if of in (pair.x, pair.y) and pair.rho is not None
    ]
    return sorted(turned, key=lambda pair: (-abs(pair.rho or 0), pair.x))


def _check_axes(of: Board, x: str, y: str) -> None:
    """Raise UsageError for a measure that none of the models has, and for twice the same one."""
    if x == y:
        raise UsageError(f"--x and --y are both {x}: name two measures")
    measured = {name for point in of.points for name in point.measures}
    for name in (x, y):
        if name not in measured and of.points:
            if name in AXES:
                raise CorrelateError(
                    f"none of these models has {name} of {of.measured_on}: they have "
                    f"{', '.join(other for other in AXES if other in measured)}"
                )
            raise unknown_name("measure", name, {*AXES, *measured})


def _missing(point: Point, axes: Sequence[str]) -> str:
    return " and ".join(_short(axis) for axis in axes if point.value(axis) is None)


def _short(axis: str) -> str:
    return "VAS" if axis == "vas" else axis


def _units(points: Sequence[Point]) -> tuple[Literal["families", "trainings"], list[str]]:
    """What is resampled, and each point's: of one family alone nothing is left but its trainings."""
    families = [point.family for point in points]
    if len(set(families)) > 1:
        return "families", families
    return "trainings", [point.training or point.model.partition(", steered")[0].partition("@")[0] for point in points]


def _measured(points: Sequence[Point], x: str, y: str) -> tuple[Pairs, bool, bool]:
    """The points with their errors, and along which axis as logarithms."""
    (xs, x_errors, x_log), (ys, y_errors, y_log) = (_along(points, axis) for axis in (x, y))
    return Pairs(xs, ys, x_errors, y_errors, _units(points)[1]), x_log, y_log


def _along(points: Sequence[Point], axis: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Values and errors along an axis, and whether they are logarithms."""
    values = [point.value(axis) or 0.0 for point in points]
    kind = AXES[axis].kind if axis in AXES else None
    heavy = kind in ("ratio", "nats") and min(values) > 0 and max(values) / min(values) >= HEAVY_TAILED
    errors = []
    for point in points:
        low, high = point.measures[axis].ci95 or (np.nan, np.nan)
        if heavy:
            low, high = (log(end) if end > 0 else np.nan for end in (low, high))
        error = (high - low) / 2 / Z_95
        errors.append(0.0 if isnan(error) else error)
    return np.array([log(value) for value in values] if heavy else values), np.array(errors), heavy


def _pairs(points: Sequence[Point]) -> list[Pair]:
    """All pairs of the measures that enough models have."""
    found: list[dict[str, Any]] = []
    names = list(AXES)
    for place, x in enumerate(names):
        for y in names[place + 1 :]:
            both = [point for point in points if point.value(x) is not None and point.value(y) is not None]
            if len(both) >= FEWEST:
                of = spearman(_measured(both, x, y)[0])
                found.append({"x": x, "y": y, "n": of.n, "rho": of.r, "ci95": of.ci95, "p": of.p, "p_holm": None})
    tested = [pair for pair in found if pair["p"] is not None]
    for pair, p in zip(tested, holm([pair["p"] for pair in tested]), strict=True):
        pair["p_holm"] = p
    return [Pair(**pair) for pair in found]
