"""Places are given among rows that were asked alike only, and what sets others apart is said."""

from dataclasses import replace

import pytest
from test_table import FULL, printed

from avar_eval.leaderboard.ranking import ranked, told


def test_places_go_by_score_and_equal_scores_share_one() -> None:
    scores = {"a": 0.5, "b": 0.9, "c": 0.5, "d": 0.4, "e": None}
    (part,) = ranked([replace(FULL, model=name, score=score) for name, score in scores.items()])
    assert [(place.row.model, place.rank) for place in part.rows] == [
        ("b", 1), ("a", 2), ("c", 2), ("d", 4), ("e", None)
    ]  # fmt: skip
    assert told(part.differs) == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": 12, "limit": 12}, "n 12, first 12"),
        ({"left_out": 3, "n": 497}, "n 497, left out 3"),
        ({"temperature": 0.6}, "temperature 0.6, top p 1, top k 0, seed 0"),
        ({"samples": 4, "n": 2000}, "n 2000, samples 4"),
        ({"max_new_tokens": 4096}, "token limit 4096"),
        ({"repetition_penalty": 1.1}, "repetition penalty 1.1"),
        ({"protocol": "vlmevalkit"}, "protocol vlmevalkit"),
        ({"prompting_sha256": "9f" * 32}, "prompting 9f9f9f9"),
        ({"max_pixels": 1_000_000}, "largest picture 1000000"),
        ({"backend": "vllm"}, "backend vllm"),
        ({"grader": "strict-4"}, "grader strict-4"),
        ({"judge_model": "gpt"}, "judge gpt"),
        ({"task_version": 2.0}, "version 2"),
        ({"data_revision": "cd" * 20}, "data cdcdcdc"),
        ({"split": "train"}, "split train"),
        ({"score_name": "mean"}, "score mean"),
    ],
)
def test_what_was_asked_otherwise_is_ranked_apart(changes: dict[str, object], words: str) -> None:
    better = replace(FULL, score=0.99, **changes)  # type: ignore[arg-type]
    parts = ranked([better, FULL])
    assert [[place.rank for place in part.rows] for part in parts] == [[1], [1]]
    (of_better,) = [part for part in parts if part.rows[0].row is better]
    assert told(of_better.differs) == words
    assert f"shapes: {words}" in printed(better, FULL)


@pytest.mark.parametrize(
    "changes",
    [{"model": "b"}, {"revision": "step-2"}, {"dtype": "float32"}, {"steering": '{"mode": "prob"}'}, {"seed": 7},
     {"top_p": 0.5}],
)  # fmt: skip
def test_models_are_ranked_together_and_what_changes_nothing_of_greedy_decoding_is_nothing(
    changes: dict[str, object],
) -> None:
    (part,) = ranked([FULL, replace(FULL, score=0.99, **changes)])  # type: ignore[arg-type]
    assert [place.rank for place in part.rows] == [1, 2]


def test_the_whole_benchmark_stands_above_its_first_questions_and_more_of_them_above_fewer() -> None:
    few = replace(FULL, score=1.0, n=12, limit=12)
    more = replace(FULL, score=0.95, n=100, limit=100)
    assert [part.rows[0].row.n for part in ranked([few, more, FULL])] == [500, 100, 12]


def test_a_model_that_was_trained_on_the_task_has_no_place() -> None:
    (part,) = ranked([FULL, replace(FULL, score=0.99, trained_on=True)])
    assert [place.rank for place in part.rows] == [None, 1]
