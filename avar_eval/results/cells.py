"""A run's metrics as cells of tables."""

from avar_eval.attention.bands import Band
from avar_eval.number_format import percent, points, score
from avar_eval.results.schema import Metric


def percent_cell(metric: Metric | None) -> str:
    """A share in percent with its interval."""
    return percent(None) if metric is None else percent(metric.value, metric.ci95)


def points_cell(difference: Metric) -> str:
    """A difference of shares in percentage points with its interval."""
    return points(difference.value, difference.ci95)


def score_cell(metric: Metric, band: Band | None = None) -> str:
    """A VAS with its interval and, below them, the paper's band if it has one."""
    cell = score(metric.value, metric.ci95)
    return f"{cell}\n{band}" if band else cell
