"""Smallest differences and rows needed: against statsmodels, against each other, and against simulated comparisons."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import TTestPower, normal_power_het, normal_sample_size_one_tail

from avar_eval.sample_size import detectable_by_error, detectable_difference, power_line, power_of, rows_needed
from avar_eval.statistics import Estimate, Linear, mcnemar


@pytest.mark.parametrize(
    ("rows", "discordant", "points"), [(1000, 0.2, 4.0), (1000, 0.1, 2.8), (3040, 0.2, 2.3), (788, 0.3, 5.5)]
)
def test_smallest_differences(rows: int, discordant: float, points: float) -> None:
    found = detectable_difference(rows, discordant)
    assert found is not None
    assert round(100 * found, 1) == points


@pytest.mark.parametrize("difference", [0.005, 0.015, 0.04, 0.1, 0.19])
@pytest.mark.parametrize("discordant", [0.2, 0.35, 1.0])
def test_rows_and_power_are_those_of_statsmodels(difference: float, discordant: float) -> None:
    null, alternative = sqrt(discordant), sqrt(discordant - difference**2)
    assert rows_needed(difference, discordant) == np.ceil(
        normal_sample_size_one_tail(difference, 0.8, 0.025, null, alternative)
    )
    theirs = normal_power_het(difference, 700, 0.05, null, alternative, alternative="two-sided")
    assert power_of(700, difference, discordant) == pytest.approx(theirs, abs=1e-12)
    assert power_of(700, -difference, discordant) == power_of(700, difference, discordant)


def test_the_difference_of_a_measured_error_is_that_of_statsmodels_for_paired_t() -> None:
    found = detectable_by_error(0.45 / sqrt(40), degrees=39)
    assert TTestPower().power(found / 0.45, 40, 0.05) == pytest.approx(0.8, abs=2e-3)  # noncentral t, not shifted
    assert detectable_by_error(0.01) == pytest.approx(0.01 * (1.959964 + 0.841621))


@given(
    rows=st.integers(50, 10**6),
    discordant=st.floats(0.02, 1),
    design_effect=st.floats(1, 10),
    power=st.floats(0.6, 0.99),
)
def test_rows_and_difference_are_inverse(rows: int, discordant: float, design_effect: float, power: float) -> None:
    difference = detectable_difference(rows, discordant, design_effect, power)
    if difference is None:  # too few rows for any difference that could be
        assert power_of(rows, discordant, discordant, design_effect) < 1
        return
    assert rows_needed(difference, discordant, design_effect, power) == pytest.approx(rows, abs=1.001)
    assert power_of(rows, difference, discordant, design_effect) == pytest.approx(power, abs=1e-3)


def test_few_rows_find_no_difference() -> None:
    assert detectable_difference(5, 0.2) is None
    assert detectable_difference(1000, 0.001) is None
    with pytest.raises(ValueError, match="disagree on 10 % of the rows cannot differ by 20 points"):
        rows_needed(0.2, 0.1)
    with pytest.raises(ValueError, match="difference of 0"):
        rows_needed(0.0)
    with pytest.raises(ValueError, match="discordant is a share"):
        detectable_difference(1000, 0.0)


def test_simulated_comparisons_find_the_smallest_difference_in_80_of_100() -> None:
    """MathVista's 1,000 rows at 20 % discordant: mcnemar finds 4.0 points so often, and 1.5 points need 7,000 rows."""
    generator = np.random.default_rng(0)
    for rows, difference in ((1000, detectable_difference(1000, 0.2)), (rows_needed(0.015, 0.2), 0.015)):
        assert difference is not None
        shares = [(0.2 + difference) / 2, (0.2 - difference) / 2, 0.8]
        drawn = generator.multinomial(rows, shares, size=2000)
        gained, lost = drawn[:, 0], drawn[:, 1]
        statistic = abs(gained - lost) / np.sqrt(gained + lost)
        assert (statistic > 1.959964).mean() == pytest.approx(0.8, abs=0.03)
    assert mcnemar(120, 80) < 0.05  # 4.0 points: the test agrees on the observed one


def test_simulated_clusters_count_as_the_design_effect_says() -> None:
    """501 questions with ten variants of which half share their fate: design effect 1 + 9 · 0.5."""
    generator, found, groups = np.random.default_rng(1), [], np.repeat(np.arange(501), 10)
    difference = detectable_difference(5010, 0.2, 1 + 9 * 0.5)
    assert difference is not None
    for _ in range(300):
        values = np.array([1.0, -1.0, 0.0])
        shares = [(0.2 + difference) / 2, (0.2 - difference) / 2, 0.8]
        own = generator.choice(values, size=5010, p=shares)
        common = generator.choice(values, size=501, p=shares)[groups]
        # a variant follows its question with probability √0.5: two do so, and are equal, with 0.5
        drawn = np.where(generator.random(5010) < sqrt(0.5), common, own)
        found.append(abs(drawn.mean()) > Linear.mean(drawn, groups).half_width())
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)


def test_a_line_under_a_comparison() -> None:
    error = sqrt(0.2 / 1000)
    said = power_line(Estimate(0.015, (-0.013, 0.043), 1000), error, 999)
    assert said == "80 % power from 4.0 points on; 1.5 points would need some 7,000 rows"
    assert power_line(Estimate(0.065, (0.037, 0.093), 1000), error, 999) == "80 % power from 4.0 points on"
    of_equals = power_line(Estimate(0.0, (-0.01, 0.01), 1000), 0.0, 999)
    assert of_equals.endswith("disagree on 20 % of the rows it finds differences from 4.0 points on with 80 %")
    assert "no difference at all" in power_line(Estimate(0.0, (-0.4, 0.4), 6), 0.0, 5)
    assert power_line(Estimate(0.0, None, 1000), error, 999) == "80 % power from 4.0 points on"
    assert (
        power_line(Estimate(0.2, None, 10), 0.13, 9)
        == "80 % power from 40.9 points on; 20.0 points would need some 42 rows"
    )
