"""Near-duplicates: of rows within a set, and of benchmarks that lie at hand."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from actors import Actors, playing, recipe
from PIL import Image, ImageFilter

from avar_eval.recipes.sources import TrainingDataError
from avar_eval.recipes.synthesis.likeness import Benchmarks, Questions, Seen, likeness, picture_bits, runs
from avar_eval.recipes.synthesis.pipeline import synthesize
from avar_eval.recipes.synthesis.recipe import parse_recipe
from avar_eval.recipes.synthesis.selection import questions, select

LONG = "A cylinder of height 10 stands in a cone of base radius 6. How long is the cone's slanted edge, in centimetres?"


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((224, 168), Image.Resampling.BICUBIC)


def test_pictures_keep_their_bits_when_they_are_scaled_blurred_or_saved_otherwise(tmp_path: Path) -> None:
    one = picture(0)
    one.save(tmp_path / "small.jpg", quality=70)
    others = [one.resize((640, 480)), one.filter(ImageFilter.GaussianBlur(1)), Image.open(tmp_path / "small.jpg")]
    bits = picture_bits(one)
    assert bits is not None
    for other in others:
        again = picture_bits(other)
        assert again is not None
        assert int(np.bitwise_count(bits ^ again).sum()) <= 10
    different = picture_bits(picture(1))
    assert different is not None
    assert int(np.bitwise_count(bits ^ different).sum()) > 60
    assert picture_bits(Image.new("RGB", (50, 50), "white")) is None


def test_alike_questions_are_found_by_their_runs_and_others_are_not() -> None:
    known = Questions(0.8)
    rng = random.Random(0)
    for number in range(200):
        known.add(" ".join(rng.choices(LONG.split(), k=20)) + f" {number}")
    place = known.add(LONG)
    assert known.alike(LONG.replace("How long", "how  long").replace("centimetres", "centimetres:")) == [place]
    assert known.alike(LONG.replace("10", "12")) == [place]
    assert known.alike("What colour is the bus?") == []
    assert likeness(runs("abcdef"), runs("abcdeg")) == pytest.approx(1 / 3)


def test_a_row_is_taken_unless_question_and_pictures_are_both_those_of_another() -> None:
    seen = Seen(0.8, 10)
    first, second = picture_bits(picture(0)), picture_bits(picture(1))
    assert seen.takes(LONG, [first])
    assert not seen.takes(LONG + " ", [first])
    assert seen.takes(LONG, [second])
    assert seen.takes(LONG, [first, second])
    assert seen.takes("Another question altogether", [first])


def benchmark(folder: Path) -> Path:
    """A folder with an invented row of MathVision, as `avar-eval data fetch` would lay it out."""
    place = folder / "mathvision"
    (place / "images").mkdir(parents=True)
    picture(5).save(place / "images" / "1.png")
    row = {
        "id": "1", "question": LONG + "\n<image1>", "options": [], "image": "images/1.png", "answer": "10",
        "decoded_image": "images/1.png", "level": 1, "subject": "solid geometry",
    }  # fmt: skip
    (place / "rows.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def test_rows_of_a_benchmark_are_told_by_picture_or_question(tmp_path: Path) -> None:
    known = Benchmarks(benchmark(tmp_path), 0.8, 10)
    assert "mathvision" in known.tasks
    other = picture_bits(picture(6))
    assert known.holds("How many?", [picture_bits(picture(5).resize((100, 75)))]) == "benchmark_picture"
    assert known.holds(f"{LONG}\n(A) 3 (B) 4", [other]) == "benchmark_question"
    assert known.holds("How many?", [other, None]) is None


def test_near_duplicates_and_rows_of_benchmarks_are_left_out_before_anything_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVAR_DATA_DIR", str(benchmark(tmp_path / "benchmarks")))
    data = tmp_path / "rows"
    data.mkdir()
    for seed in range(7):
        picture(seed).save(data / f"{seed}.png")
    wanted = [
        (0, "What is shown on the left?", "4", "integer"),
        (0, "What is shown on the left ?", "4", "integer"),  # the same
        (1, "What is shown on the left?", "4", "integer"),
        (5, "What is shown on the left?", "4", "integer"),  # a benchmark's picture
        (6, LONG, "10", "integer"),  # a benchmark's question
        (2, "What is shown on the right?", "4", "list"),
        (99, "What is shown above?", "4", "integer"),  # there is no such picture
    ]
    rows = [
        {"prompt": f"<image>{text}", "images": [f"{seed}.png"], "answer": answer, "answer_type": kind}
        for seed, text, answer, kind in wanted
    ]
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with playing(Actors(count=1)) as actors:
        content = recipe(actors.url, 1, sources=[{"source": str(data)}])
        selection = select(parse_recipe(content, "x"), tmp_path / "out")
    assert selection.rejected == {
        "near_duplicate": 1,
        "benchmark_picture": 1,
        "benchmark_question": 1,
        "unjudgeable": 1,
        "unreadable": 1,
    }
    assert selection.drawn == {str(data): 7}
    assert {question.images for question in questions(tmp_path / "out")}.__len__() == 2
    assert not actors.stages


def test_a_source_none_of_whose_rows_can_be_read_is_refused(tmp_path: Path) -> None:
    row = {"prompt": "<image>How many?", "images": ["none.png"], "answer": "4", "answer_type": "integer"}
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 60)
    content = recipe("http://localhost:1/v1", 1, sources=[{"source": str(tmp_path)}])
    with pytest.raises(TrainingDataError, match=r"the first 50 rows of .* cannot be read, such as .*none.png"):
        select(parse_recipe(content, "x"), tmp_path / "out")


def test_a_recipe_of_other_sources_makes_the_selection_anew_and_its_replies_stay(tmp_path: Path) -> None:
    with playing(Actors(count=6)) as actors:
        synthesize(parse_recipe(recipe(actors.url, 3), "x"), tmp_path, shown=False)
        first = [question.id for question in questions(tmp_path)]
        synthesize(parse_recipe(recipe(actors.url, 6), "x"), tmp_path, shown=False)
        assert actors.stages["describer"] == 6
    assert set(first) < {question.id for question in questions(tmp_path)}
