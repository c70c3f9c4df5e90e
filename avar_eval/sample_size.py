"""What a paired comparison can find: the smallest difference for a number of rows, and the rows for a difference.

Two models answer the same rows. With ψ the share of rows on which one is right and the other wrong, and δ the
difference of their accuracies, a row's difference has variance ψ where there is none and ψ − δ² where there is δ, so
that n independent rows find it with the power at which

    δ √n = z(1 − α/2) √ψ + z(power) √(ψ − δ²)

(Connor, Biometrics 43, 1987; Miettinen, Biometrics 24, 1968; for language models Sec. 5 of arXiv 2411.00640). Rows that
are not independent count as n over their design effect. All shares and differences are fractions, 0..1. Pure.
"""

from math import ceil, inf, sqrt
from statistics import NormalDist
from typing import Final

from avar_eval.statistics import Estimate

POWER: Final = 0.8
"""How probably the test finds the difference, where nothing else is asked for."""
ALPHA: Final = 0.05
"""Level of the two-sided test."""
DISCORDANT: Final = 0.2
"""Share of rows on which one model is right and the other wrong, where nothing is known of the two."""

_NORMAL: Final = NormalDist()


def detectable_difference(
    rows: float, discordant: float = DISCORDANT, design_effect: float = 1, power: float = POWER, alpha: float = ALPHA
) -> float | None:
    """The smallest true difference (0..1) that a comparison on `rows` rows finds with `power`.

    None where there is none: two models never differ by more than the share of rows on which they disagree. Raises
    ValueError for what is out of range.
    """
    _check(discordant, design_effect, power, alpha)
    if not rows > 0:
        raise ValueError(f"a comparison needs rows, and {rows} are none")
    n, level, found = rows / design_effect, _NORMAL.inv_cdf(1 - alpha / 2), _NORMAL.inv_cdf(power)
    # the equation above, squared, is quadratic in δ; this is its greater root
    root = discordant * (n + found**2 - level**2)
    if root < 0:
        return None
    difference = (level * sqrt(discordant * n) + found * sqrt(root)) / (n + found**2)
    return difference if difference <= discordant else None


def rows_needed(
    difference: float,
    discordant: float = DISCORDANT,
    design_effect: float = 1,
    power: float = POWER,
    alpha: float = ALPHA,
) -> int:
    """How many rows find a true difference (0..1, of either sign) with `power`.

    Raises ValueError for a difference of 0, for one above `discordant`, which cannot be, and for what is out of range.
    """
    _check(discordant, design_effect, power, alpha)
    check_possible(difference, discordant)
    if difference == 0:
        raise ValueError("no number of rows finds a difference of 0")
    level, found = _NORMAL.inv_cdf(1 - alpha / 2), _NORMAL.inv_cdf(power)
    half_widths = level * sqrt(discordant) + found * sqrt(discordant - difference**2)
    return ceil(design_effect * (half_widths / difference) ** 2)


def power_of(
    rows: float, difference: float, discordant: float = DISCORDANT, design_effect: float = 1, alpha: float = ALPHA
) -> float:
    """How probably (0..1) a comparison on `rows` rows finds a true difference (0..1, of either sign).

    Raises ValueError for a difference above `discordant`, which cannot be, and for what is out of range.
    """
    _check(discordant, design_effect, POWER, alpha)
    check_possible(difference, discordant)
    n, level = rows / design_effect, _NORMAL.inv_cdf(1 - alpha / 2)
    spread = sqrt(discordant - difference**2)
    if spread == 0:  # all rows that differ do so in one direction
        return float(sqrt(n) * abs(difference) > level * sqrt(discordant))
    shift, threshold = abs(difference) * sqrt(n), level * sqrt(discordant)
    return _NORMAL.cdf((shift - threshold) / spread) + _NORMAL.cdf((-shift - threshold) / spread)


def detectable_by_error(
    standard_error: float, degrees: float = inf, power: float = POWER, alpha: float = ALPHA
) -> float:
    """The smallest true difference that a comparison with this standard error finds, in the standard error's unit.

    (t(1 − α/2) + t(power)) · standard error, with Student's t of `degrees` degrees of freedom: for G clusters G − 1.
    The error is that which the comparison has measured, so that discordance and clusters are in it.
    """
    from scipy.special import ndtri, stdtrit

    level, found = (
        float(ndtri(share) if degrees == inf else stdtrit(degrees, share)) for share in (1 - alpha / 2, power)
    )
    return (level + found) * standard_error


def power_line(difference: Estimate, standard_error: float, degrees: float = inf) -> str:
    """What a comparison could have found, in one line: `difference` (0..1, of n rows), its error (0..1) and degrees.

    "80 % power from 4.0 points on; 1.5 points would need some 7,000 rows": the second part where the
    difference is too small to be found, with the rows that would find it if it were true. Without an error, where no
    row or every row changed, the power at DISCORDANT.
    """
    if standard_error == 0:
        assumed = detectable_difference(difference.n)
        found = "no difference at all" if assumed is None else f"differences from {100 * assumed:.1f} points on"
        return (
            f"every row changed alike, which says nothing of its power; of models that disagree on "
            f"{100 * DISCORDANT:.0f} % of the rows it finds {found} with {100 * POWER:.0f} %"
        )
    detectable = detectable_by_error(standard_error, degrees)
    line = f"{100 * POWER:.0f} % power from {100 * detectable:.1f} points on"
    if not difference.value or abs(difference.value) >= detectable:
        return line
    rows = difference.n * (detectable / difference.value) ** 2
    digits = 10 ** max(0, len(str(round(rows))) - 2)
    return f"{line}; {abs(100 * difference.value):.1f} points would need some {round(rows / digits) * digits:,} rows"


def check_possible(difference: float, discordant: float) -> None:
    """Raise ValueError for a difference (0..1, of either sign) above the share of rows on which two models disagree."""
    if not abs(difference) <= discordant:
        raise ValueError(
            f"two models that disagree on {100 * discordant:g} % of the rows cannot differ by "
            f"{100 * abs(difference):g} points"
        )


def _check(discordant: float, design_effect: float, power: float, alpha: float) -> None:
    for name, share in (("discordant", discordant), ("power", power), ("alpha", alpha)):
        if not 0 < share < 1 and not (name == "discordant" and share == 1):
            raise ValueError(f"{name} is a share between 0 and 1, not {share}")
    if not 0 < design_effect < inf:
        raise ValueError(f"a design effect is a positive number, not {design_effect}")
