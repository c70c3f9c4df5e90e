"""Groups: which tasks they stand for, and the means that are published for them."""

import pytest

from avar_eval.tasks.catalog import find_tasks
from avar_eval.tasks.groups import Group, group_mean, groups

HEADLINE = dict.fromkeys(
    ["mathvista", "mathvision", "mathverse_vo", "mmmu", "mmmu_pro_standard10", "mmmu_pro_vision", "mmstar", "dynamath"],
    "accuracy",
) | {"hallusion_image": "mean"}


def scored(**accuracies: float | None) -> dict[str, dict[str, float | None]]:
    return {name: {"accuracy": value} for name, value in accuracies.items()}


def test_the_papers_table_is_in_its_order_and_asks_what_it_needs() -> None:
    names = groups()["avar7"].task_names()
    assert names[:4] == ["mathvista", "mathvision", "mathverse_vo", "mmmu"]
    assert names[4:] == ["mmmu_pro_standard10", "mmmu_pro_vision", "mmstar", "hallusion_image"]


def test_the_average_is_the_papers() -> None:
    """AVAR-Thinker's row, with an MMMU-Pro of 42.9 as the mean of two settings."""
    metrics = scored(
        mathvista=74.7, mathvision=37.4, mathverse_vo=50.4, mmmu=63.8, mmmu_pro_standard10=44.0, mmmu_pro_vision=41.8,
        mmstar=64.1,
    )  # fmt: skip
    metrics["hallusion_image"] = {"accuracy": 0.0, "mean": 59.5}
    found = group_mean(groups()["avar7"], metrics, HEADLINE)
    names = ["mathvista", "mathvision", "mathverse_vo", "mmmu", "mmmu_pro", "mmstar", "hallusion_image"]
    assert list(found.columns) == names
    assert found.columns["mmmu_pro"] == pytest.approx(42.9)
    assert found.mean == pytest.approx(56.1, abs=0.05)


def test_figure_1a_takes_the_worst_case_of_dynamath() -> None:
    metrics = scored(mathvista=0.8, mathvision=0.4, mathverse_vo=0.6)
    metrics["dynamath"] = {"accuracy": 0.9, "worst": 0.2}
    found = group_mean(groups()["avar_vas"], metrics, HEADLINE)
    assert found.columns == {"mathvista": 0.8, "mathvision": 0.4, "mathverse_vo": 0.6, "dynamath worst": 0.2}
    assert found.mean == pytest.approx(0.5)


@pytest.mark.parametrize("dynamath", [{"accuracy": 0.9, "worst": None}, {"accuracy": 0.9}, None])
def test_a_mean_over_fewer_columns_is_no_mean(dynamath: dict[str, float | None] | None) -> None:
    metrics = scored(mathvista=0.8, mathvision=0.4, mathverse_vo=0.6)
    if dynamath is not None:
        metrics["dynamath"] = dynamath
    found = group_mean(groups()["avar_vas"], metrics, HEADLINE)
    assert (found.columns["dynamath worst"], found.mean) == (None, None)


def test_a_group_may_ask_more_than_its_mean_needs_or_have_no_mean() -> None:
    assert groups()["mmmu_pro"].task_names() == ["mmmu_pro_standard4", "mmmu_pro_standard10", "mmmu_pro_vision"]
    found = group_mean(groups()["mmmu_pro"], scored(mmmu_pro_standard10=0.5, mmmu_pro_vision=0.3), HEADLINE)
    assert found.mean == pytest.approx(0.4)
    assert group_mean(Group(name="none", description="", tasks=["shapes"]), {}, {}).mean is None


def test_the_weights_of_a_mean_spread_an_inner_group_over_its_columns() -> None:
    weights = {term.label: share for term, share in groups()["avar7"].weights().items()}
    assert weights["mathvista"] == pytest.approx(1 / 7)
    assert weights["mmmu_pro_standard10"] == weights["mmmu_pro_vision"] == pytest.approx(1 / 14)
    assert sum(weights.values()) == pytest.approx(1)


def test_a_group_is_found_beside_tasks_each_once() -> None:
    found = [entry.name for entry in find_tasks(["mathverse_vo", "MathVerse", "math_vista"])]
    assert found[0] == "mathverse_vo"
    assert found[-1] == "mathvista"
    assert len(found) == len(set(found)) == 7


def test_every_task_of_a_group_is_in_the_catalog() -> None:
    for name in groups():
        assert find_tasks([name])
