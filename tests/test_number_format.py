"""One form for each kind of value."""

import pytest

from avar_eval.number_format import UNKNOWN, duration, gigabytes, in_line, p_equals, p_value, percent, points, score

SCORES = {
    0.0: "0.00", 0.054: "0.05", 7.516: "7.52", 99.994: "99.99", 99.996: "100", 123.4: "123", 999.4: "999",
    999.6: "1.00k", 1234.0: "1.23k", 45_649.0: "45.6k", 123_456.0: "123k", 999_960.0: "1.00M", 45.6e6: "45.6M",
    999.6e6: "1.00e9", 4.2e9: "4.20e9", 1.5e23: "1.50e23",
}  # fmt: skip


@pytest.mark.parametrize(("value", "text"), SCORES.items())
def test_a_score_has_the_digits_that_matter(value: float, text: str) -> None:
    assert score(value) == text


def test_intervals_have_a_dash_and_signed_ones_a_word() -> None:
    assert in_line(percent(0.7132, (0.65, 0.772))) == "71.3 [65.0–77.2]"
    assert in_line(points(0.021, (-0.004, 0.046))) == "+2.1 [-0.4 to +4.6]"
    assert in_line(score(7.5, (6.1, 123.4))) == "7.50 [6.10–123]"
    assert in_line(score(0.0, (-0.001, 0.001))) == "0.00 [0.00–0.00]"
    assert in_line(points(-0.0001, (-0.02, 0.0))) == "0.0 [-2.0 to +0.0]"
    assert percent(0.5, (None, 0.6)) == percent(0.5) == "50.0"
    assert percent(None, (0.1, 0.2)) == score(None) == points(None) == p_value(None) == UNKNOWN


def test_p_values_durations_and_sizes() -> None:
    assert [p_value(p) for p in (0.0, 0.000999, 0.001, 0.0124, 1.0)] == [
        "< 0.001",
        "< 0.001",
        "0.001",
        "0.012",
        "1.000",
    ]
    assert [p_equals(p) for p in (0.0, 0.0124)] == ["p < 0.001", "p = 0.012"]
    times = {0.4: "0 s", 59.4: "59 s", 59.6: "1 min 0 s", 200: "3 min 20 s", 7500: "2 h 5 min", 90_000: "1 d 1 h"}
    assert {seconds: duration(seconds) for seconds in times} == times
    assert [gigabytes(number) for number in (3.21e9, 0, 120.4e9, 1234e9)] == ["3.2 GB", "0.0 GB", "120 GB", "1,234 GB"]
